//! Sizes of the input.

use crate::core::shape::Shape;

/// Numbers of images, channels, and pixels of a channel plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub n: usize,
    pub c: usize,
    pub pixels: usize,
}

impl Sizes {
    pub fn of(x: &Shape) -> Self {
        Sizes { n: x[0], c: x[1], pixels: x[2..].iter().product() }
    }

    /// Number of elements of a channel.
    pub fn count(&self) -> usize {
        self.n * self.pixels
    }
}
