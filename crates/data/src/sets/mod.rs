//! The data sets that are registered here.

mod idx_files;
mod identity;
