//! Image data sets for neocog: reading, fetching, resizing, and batches ready for a network.
//!
//! - [`idx`] reads IDX files, gzip or plain, and trusts nothing in them.
//! - [`known`] is the table of data sets with a name: `digits` is compiled in, `mnist` and
//!   `fashion-mnist` lie in a folder.
//! - [`Dataset`] holds 8-bit images and their labels; [`load`] gives the train and test part of a known one.
//! - [`resize`] enlarges and reduces 8-bit images with Pillow's bilinear filter, bit for bit.
//! - [`transform`] changes images at random and normalises them: a [`Pipeline`](transform::Pipeline) of steps.
//! - [`Loader`] shuffles, resizes, transforms and packs batches in threads of its own.
//! - `fetch` (feature `fetch`, on by default) downloads data sets, resumes, and checks them.
//!
//! Pixels are bytes until a batch is made: memory does not grow with the size of the network's input
//! times the number of images.
//!
//! # Example
//!
//! The embedded digits, 8x8, enlarged to 28x28, in batches of 64, shuffled:
//!
//! ```
//! use neocog_data::{Loader, LoaderOptions, load};
//!
//! let digits = load("digits", "data".as_ref())?;
//! assert_eq!(digits.train.len(), 1437);
//!
//! let options = LoaderOptions { batch: 64, size: (28, 28), shuffle: Some(1), ..Default::default() };
//! let loader = Loader::new(digits.train, options)?;
//! for batch in loader.epoch(0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.shape(), [64, 1, 28, 28]);
//!     assert_eq!(batch.labels.len(), 64);
//!     assert!(batch.pixels.iter().all(|p| (0.0..=1.0).contains(p)));
//!     break; // the thread ends with the iterator
//! }
//! # Ok::<(), neocog_base::Error>(())
//! ```

pub mod dataset;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod idx;
pub mod known;
pub mod loader;
pub mod resize;
pub mod shuffle;
pub mod transform;

pub use dataset::{Dataset, DatasetParts, Split, load};
#[cfg(feature = "fetch")]
pub use fetch::{FetchOptions, fetch};
pub use known::Known;
pub use loader::{Augment, Batch, Epoch, Loader, LoaderOptions, SampleId, Transform};
pub use resize::Resizer;
