//! The data sets that are registered here.

mod cifar;
mod emnist;
mod identity;
mod idx_files;
