#![doc = include_str!("../README.md")]

pub mod catalog;
pub mod dataset;
#[cfg(feature = "fetch")]
pub mod fetch;
mod identity;
pub mod idx;
pub mod loader;
pub mod resize;
pub mod shuffle;
pub mod transform;

pub use catalog::DatasetInfo;
pub use dataset::{Dataset, DatasetParts, Split, load};
#[cfg(feature = "fetch")]
pub use fetch::{FetchOptions, fetch};
pub use loader::{Augment, Batch, Epoch, Loader, LoaderOptions, SampleId, Transform};
pub use resize::Resizer;
