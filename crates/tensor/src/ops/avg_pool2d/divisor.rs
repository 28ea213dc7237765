//! Divisor of average pooling.

use crate::ops::pooling::Axis;

/// What the sum of each window is divided by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Divisor {
    /// A fixed number.
    Fixed(usize),
    /// The number of elements within the padded image.
    WithPadding,
    /// The number of elements within the image.
    PixelsOnly,
}

impl Divisor {
    /// Returns the divisor of window `(r, s)`.
    #[inline(always)]
    pub fn of(self, [rows, columns]: [&Axis; 2], r: usize, s: usize) -> usize {
        match self {
            Divisor::Fixed(divisor) => divisor,
            Divisor::WithPadding => rows.padded_taps(r) * columns.padded_taps(s),
            Divisor::PixelsOnly => rows.taps(r).len() * columns.taps(s).len(),
        }
    }
}
