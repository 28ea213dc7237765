//! Image data sets: reading, downloading, augmentation, and batches that are ready for a network.
//!
//! This crate does not depend on tensors: a [`Batch`] holds plain vectors of `f32` pixels `[n, c, h, w]` and `u32` labels.
//!
//! | module | content |
//! |---|---|
//! | [`catalog`] | the data sets that can be loaded by name: `digits` (compiled in), `fashion-mnist`, `mnist` |
//! | [`dataset`] | [`Dataset`], 8-bit images with labels; [`load`] returns the training and the test set |
//! | [`loader`] | [`Loader`], batches that are shuffled, resized, transformed and prefetched by worker threads |
//! | [`transform`] | preprocessing and augmentation with the transforms of torchvision: [`Pipeline`](transform::Pipeline) |
//! | [`resize`] | bilinear resizing of 8-bit images, bit-identical to Pillow |
//! | [`shuffle`] | the order of the samples in an epoch, and the random numbers of the transforms |
//! | [`idx`] | the IDX file format of MNIST, plain or gzip-compressed |
//! | `fetch` | downloads that are resumed and verified (feature `fetch`, on by default) |
//!
//! Images are stored as bytes and converted to `f32` when a batch is built, so memory usage does not depend on the input
//! size of the network. Everything random is a function of seed, epoch and sample index: batches are bit-identical for any
//! number of worker threads, and an interrupted epoch can be resumed at any batch.
//!
//! # Example
//!
//! Load the embedded 8x8 digits, resized to 28x28, in shuffled batches of 64:
//!
//! ```
//! use neocog_data::{Loader, LoaderOptions, load};
//!
//! let digits = load("digits", "data".as_ref())?;
//! assert_eq!(digits.train.len(), 1437);
//!
//! let options = LoaderOptions::new().batch_size(64).image_size((28, 28)).shuffle(Some(1));
//! let loader = Loader::new(digits.train, options)?;
//! for batch in loader.epoch(0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.shape(), [64, 1, 28, 28]);
//!     assert_eq!(batch.labels.len(), 64);
//!     assert!(batch.pixels.iter().all(|p| (0.0..=1.0).contains(p)));
//!     break; // dropping the iterator stops its worker thread
//! }
//! # Ok::<(), neocog_base::Error>(())
//! ```
//!
//! # Other data sets
//!
//! Build a [`Dataset`] from your own pixels with [`DatasetParts`], or fetch your own files with a
//! [`Manifest`](catalog::Manifest):
//!
//! ```
//! use neocog_data::{Dataset, DatasetParts};
//!
//! let names = vec!["cat".to_string(), "dog".to_string()];
//! let parts = DatasetParts::new("pets", [3, 2, 2], vec![128; 2 * 12], vec![0, 1], names);
//! let pets = Dataset::new(parts)?;
//! assert_eq!((pets.len(), pets.shape()), (2, [3, 2, 2]));
//! # Ok::<(), neocog_base::Error>(())
//! ```

pub mod catalog;
pub mod dataset;
#[cfg(feature = "fetch")]
pub mod fetch;
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
