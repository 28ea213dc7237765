//! Flips and translations by whole pixels, which do not change any value.

use neocog_base::{Error, Result};

const MAX_PADDING: usize = 1 << 16;

pub(crate) fn check_padding(padding: usize) -> Result<()> {
    if padding <= MAX_PADDING {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("padding must be at most {MAX_PADDING}, not {padding}")))
}

/// Reverses each row of `w` pixels.
pub(crate) fn flip_horizontally(pixels: &mut [f32], w: usize) {
    pixels.chunks_exact_mut(w).for_each(<[f32]>::reverse);
}

/// Reverses the order of the rows in each channel `[h, w]`.
pub(crate) fn flip_vertically(pixels: &mut [f32], h: usize, w: usize) {
    for channel in pixels.chunks_exact_mut(h * w) {
        for y in 0..h / 2 {
            let (above, below) = channel.split_at_mut((h - 1 - y) * w);
            above[y * w..][..w].swap_with_slice(&mut below[..w]);
        }
    }
}

/// Moves the content of each channel `[h, w]` up by `dy` and left by `dx` pixels; fills with 0.
pub(crate) fn translate(pixels: &mut [f32], h: usize, w: usize, dy: isize, dx: isize) {
    if (dy, dx) == (0, 0) {
        return;
    }
    for channel in pixels.chunks_exact_mut(h * w) {
        let source = channel.to_vec();
        for (y, row) in channel.chunks_exact_mut(w).enumerate() {
            let from = y.checked_add_signed(dy).filter(|&y| y < h).map(|y| &source[y * w..][..w]);
            for (x, pixel) in row.iter_mut().enumerate() {
                let x = x.checked_add_signed(dx);
                *pixel = from.and_then(|row| row.get(x?)).copied().unwrap_or(0.0);
            }
        }
    }
}
