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
    /// Returns the divisor of window `(r, s)`. The padding of a window may have more elements than 64 bits can count.
    #[inline(always)]
    pub fn of(self, [rows, columns]: [&Axis; 2], r: usize, s: usize) -> f64 {
        match self {
            Divisor::Fixed(divisor) => divisor as f64,
            Divisor::WithPadding => rows.padded_taps(r) as f64 * columns.padded_taps(s) as f64,
            Divisor::PixelsOnly => rows.taps(r).len() as f64 * columns.taps(s).len() as f64,
        }
    }
}
