//! Gaussian blur.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::image::ByteImage;
use crate::shuffle::SplitMix64;

/// Blurs an image with a Gaussian of a random standard deviation; torchvision's `GaussianBlur`. Borders are reflected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// Height and width of the window, odd.
    pub kernel_size: usize,
    /// Minimum and maximum of the standard deviation, in pixels.
    pub sigma: [f32; 2],
}

impl GaussianBlur {
    pub(crate) fn check(&self) -> Result<()> {
        let [min, max] = self.sigma;
        if self.kernel_size % 2 == 1 && self.kernel_size < 256 && min > 0.0 && min <= max && max.is_finite() {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "the window must be odd and below 256, and sigma a minimum above 0 and a maximum, not {} and {:?}",
            self.kernel_size, self.sigma
        )))
    }

    pub(crate) fn apply(&self, image: &mut ByteImage, random: &mut SplitMix64) -> Result<()> {
        gaussian_blur(image, self.kernel_size, random.uniform(self.sigma[0], self.sigma[1]))
    }
}

/// Blurs an image with a Gaussian of the standard deviation `sigma` in a window of `kernel_size` pixels.
///
/// # Errors
/// `Shape` if the image is not larger than half of the window.
pub fn gaussian_blur(image: &mut ByteImage, kernel_size: usize, sigma: f32) -> Result<()> {
    let half = kernel_size / 2;
    let (h, w, c) = (image.height(), image.width(), image.channels());
    if half >= h || half >= w {
        return Err(Error::shape(format!(
            "a window of {kernel_size} pixels is too large to blur an image of {h}x{w}"
        )));
    }
    let weights: Vec<f32> = (0..kernel_size)
        .map(|i| {
            let x = (i as f32 - half as f32) / sigma;
            (-0.5 * x * x).exp()
        })
        .collect();
    let sum: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.into_iter().map(|weight| weight / sum).collect();
    let reflected = |i: usize, k: usize, n: usize| {
        let at = (i + k).abs_diff(half);
        if at < n { at } else { 2 * (n - 1) - at }
    };
    let source: Vec<f32> = image.pixels().iter().map(|&p| f32::from(p)).collect();
    let mut rows = vec![0.0f32; source.len()];
    for (y, row) in rows.chunks_exact_mut(w * c).enumerate() {
        for (i, out) in row.iter_mut().enumerate() {
            let (x, channel) = (i / c, i % c);
            *out = (0..kernel_size)
                .map(|k| weights[k] * source[(y * w + reflected(x, k, w)) * c + channel])
                .sum();
        }
    }
    for (y, row) in image.pixels_mut().chunks_exact_mut(w * c).enumerate() {
        for (i, out) in row.iter_mut().enumerate() {
            let value: f32 =
                (0..kernel_size).map(|k| weights[k] * rows[reflected(y, k, h) * w * c + i]).sum();
            *out = value.round_ties_even() as u8;
        }
    }
    Ok(())
}
