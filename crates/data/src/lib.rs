#![doc = include_str!("../README.md")]

mod cache;
pub mod catalog;
pub mod dataset;
mod duplicates;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod folder;
pub mod idx;
pub mod image;
pub mod loader;
mod loader_options;
pub mod memory;
pub mod preprocessing;
pub mod resize;
pub mod sample;
mod sets;
mod share;
pub mod shuffle;
pub mod source;
pub mod split;
pub mod transform;

/// Used by [`register_dataset!`].
#[doc(hidden)]
pub use inventory;

pub use catalog::{DatasetInfo, load};
pub use dataset::{Dataset, Subset};
#[cfg(feature = "fetch")]
pub use fetch::{FetchOptions, fetch};
pub use image::ByteImage;
pub use loader::{Augment, Batch, Epoch, Loader, LoaderOptions};
pub use memory::{DatasetParts, MemoryDataset};
pub use preprocessing::{Inversion, Preprocessed, Preprocessing};
pub use resize::Resizer;
pub use sample::{SampleId, Transform};
pub use share::{Share, shard_ranges};
pub use source::{DataOptions, DataSource};
pub use split::{Part, Split, SplitOptions};
