//! [`Transform`]: what a loader does to one sample, and [`SampleId`], what its random choices depend on.

use neocog_base::{Error, Result};

use crate::image::ByteImage;
use crate::resize::{Filter, ResizeCache};
use crate::shuffle::SplitMix64;

/// A transformation of one sample, run in the worker threads of a [`Loader`](crate::Loader).
///
/// The result must depend on the arguments only, so that resumed runs are reproducible. A transform of numbers implements
/// [`apply`](Self::apply) alone; one of 8-bit images, which may change their size, the other methods too.
pub trait Transform: Send + Sync {
    /// Transforms `pixels` in place: `[c, h, w]` with the extents `shape`, values from 0 to 1.
    ///
    /// # Errors
    /// An error ends the epoch and is returned to the caller of [`Epoch::next`](crate::Epoch).
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], sample: SampleId) -> Result<()>;

    /// Starts with an image as it was read: what is the same in every epoch, and may be cached. By default, resizes it to
    /// `size`, `(h, w)`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn start(&self, image: &mut ByteImage, size: (usize, usize), resizer: &mut ResizeCache) -> Result<()> {
        resizer.resize(image, size, Filter::Bilinear)
    }

    /// Returns the size `(h, w)` below which an image need not be read, if it is only resized: to `size`, or another one. `None` if
    /// every pixel may count, such as for crops; the default.
    fn least_size(&self, size: (usize, usize)) -> Option<(usize, usize)> {
        let _ = size;
        None
    }

    /// Finishes a sample that [`start`](Self::start) has started, and writes it to `pixels`, `[c, h, w]` with the extents
    /// `shape`. By default, divides by 255 and [applies](Self::apply) the transform.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn finish(
        &self,
        image: &mut ByteImage,
        pixels: &mut [f32],
        shape: [usize; 3],
        sample: SampleId,
        _resizer: &mut ResizeCache,
    ) -> Result<()> {
        write_unit(image, pixels, shape)?;
        self.apply(pixels, shape, sample)
    }
}

/// Writes an image of the extents `shape`, `[c, h, w]`, divided by 255.
///
/// # Errors
/// `Shape` if it has other extents.
pub(crate) fn write_unit(image: &ByteImage, pixels: &mut [f32], shape: [usize; 3]) -> Result<()> {
    let [c, h, w] = shape;
    if (image.channels(), image.size()) != (c, (h, w)) {
        let (height, width) = image.size();
        return Err(Error::shape(format!(
            "the transforms give an image of {}x{height}x{width} (channels, height, width), the network needs {c}x{h}x{w}",
            image.channels()
        )));
    }
    image.write_unit(pixels);
    Ok(())
}

/// Identifies one use of a sample: everything that the random choices of a transform may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SampleId {
    /// Seed of the [`Augment`](crate::Augment).
    pub seed: u64,
    /// Epoch, counted from 0.
    pub epoch: u64,
    /// Index of the sample in the data set, independent of the order.
    pub index: usize,
}

impl SampleId {
    /// Returns the random number generator of this sample. Checkpoints depend on its numbers: they must never change.
    pub fn random(self) -> SplitMix64 {
        let mut of_epoch = SplitMix64::new(self.seed, self.epoch);
        SplitMix64::new(of_epoch.next_u64(), self.index as u64)
    }
}
