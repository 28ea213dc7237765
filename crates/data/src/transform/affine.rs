//! Random rotation, translation and scaling.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::shuffle::SplitMix64;

/// Rotates, scales and translates an image at random about its center, with bilinear interpolation and a fill value of 0;
/// torchvision's `RandomAffine`. With `degrees` alone it is `RandomRotation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomAffine {
    /// Maximum rotation in degrees, in either direction.
    pub degrees: f32,
    /// Maximum translation in each direction, as a fraction of height and width.
    pub translate: f32,
    /// Maximum relative change of scale: 0.1 for factors from 0.9 to 1.1.
    pub scale: f32,
}

impl RandomAffine {
    /// Parameters for handwritten digits.
    pub const HANDWRITING: RandomAffine = RandomAffine { degrees: 10.0, translate: 0.1, scale: 0.1 };

    pub(crate) fn check(&self) -> Result<()> {
        let RandomAffine { degrees, translate, scale } = *self;
        if degrees.is_finite()
            && degrees >= 0.0
            && translate.is_finite()
            && translate >= 0.0
            && (0.0..1.0).contains(&scale)
        {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "degrees, translate and scale must not be negative, and scale must be below 1: {self:?}"
        )))
    }

    pub(crate) fn apply(&self, pixels: &mut [f32], [_, h, w]: [usize; 3], random: &mut SplitMix64) {
        let mut symmetric = |limit: f32| random.uniform(-limit, limit);
        let degrees = symmetric(self.degrees);
        let scale = 1.0 + symmetric(self.scale);
        let translation = [symmetric(self.translate) * h as f32, symmetric(self.translate) * w as f32];
        Affine { degrees, scale, translation }.apply(pixels, [h, w]);
    }
}

/// Clockwise rotation by `degrees`, scaling, and translation by `[dy, dx]` pixels (down, right).
pub(crate) struct Affine {
    pub degrees: f32,
    pub scale: f32,
    pub translation: [f32; 2],
}

impl Affine {
    /// Transforms each channel `[h, w]` of `pixels`.
    pub(crate) fn apply(&self, pixels: &mut [f32], [h, w]: [usize; 2]) {
        let (sin, cos) = sin_cos(self.degrees);
        let [dy, dx] = self.translation;
        let (center_y, center_x) = ((h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0);
        for channel in pixels.chunks_exact_mut(h * w) {
            let source = Channel { pixels: channel.to_vec(), h, w };
            for (i, pixel) in channel.iter_mut().enumerate() {
                // Inverse mapping: the position in the source.
                let y = ((i / w) as f32 - center_y - dy) / self.scale;
                let x = ((i % w) as f32 - center_x - dx) / self.scale;
                *pixel = source.sample(cos * y - sin * x + center_y, sin * y + cos * x + center_x);
            }
        }
    }
}

/// Returns sine and cosine, exact for multiples of 90 degrees.
fn sin_cos(degrees: f32) -> (f32, f32) {
    match degrees.rem_euclid(360.0) {
        0.0 => (0.0, 1.0),
        90.0 => (1.0, 0.0),
        180.0 => (0.0, -1.0),
        270.0 => (-1.0, 0.0),
        _ => degrees.to_radians().sin_cos(),
    }
}

/// One channel of an image, `[h, w]`.
struct Channel {
    pixels: Vec<f32>,
    h: usize,
    w: usize,
}

impl Channel {
    /// Interpolates bilinearly; pixels outside the channel are 0.
    fn sample(&self, y: f32, x: f32) -> f32 {
        let (top, left) = (y.floor(), x.floor());
        let (below, right) = (y - top, x - left);
        let pixel = |y: f32, x: f32| {
            if y < 0.0 || x < 0.0 || y >= self.h as f32 || x >= self.w as f32 {
                return 0.0;
            }
            self.pixels[y as usize * self.w + x as usize]
        };
        (1.0 - below) * ((1.0 - right) * pixel(top, left) + right * pixel(top, left + 1.0))
            + below * ((1.0 - right) * pixel(top + 1.0, left) + right * pixel(top + 1.0, left + 1.0))
    }
}
