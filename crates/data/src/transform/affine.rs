//! Images that are turned, shifted and scaled.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::shuffle::SplitMix64;

/// Turns, scales and shifts an image at random, about its centre; black comes in from outside. torchvision's
/// `RandomAffine` with bilinear interpolation; with `degrees` alone it is `RandomRotation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomAffine {
    /// The largest turn, either way.
    pub degrees: f32,
    /// The largest shift, either way and in each direction, as a share of the image's size.
    pub translate: f32,
    /// The largest change of the size, either way: 0.1 for 0.9 to 1.1 times.
    pub scale: f32,
}

impl RandomAffine {
    /// What suits handwriting.
    pub const HANDWRITING: RandomAffine = RandomAffine { degrees: 10.0, translate: 0.1, scale: 0.1 };

    pub(super) fn check(&self) -> Result<()> {
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
            "degrees, translate and scale of an augmentation must not be negative, and scale below 1: {self:?}"
        )))
    }

    pub(super) fn apply(&self, pixels: &mut [f32], [_, h, w]: [usize; 3], random: &mut SplitMix64) {
        let mut up_to = |most: f32| random.uniform(-most, most);
        let degrees = up_to(self.degrees);
        let zoom = 1.0 + up_to(self.scale);
        let shift = [up_to(self.translate) * h as f32, up_to(self.translate) * w as f32];
        Affine { degrees, zoom, shift }.apply(pixels, [h, w]);
    }
}

/// A turn, clockwise, a scaling, and a shift `[down, to the right]`.
pub(super) struct Affine {
    pub degrees: f32,
    pub zoom: f32,
    pub shift: [f32; 2],
}

impl Affine {
    /// Changes channels `[h, w]`.
    pub(super) fn apply(&self, pixels: &mut [f32], [h, w]: [usize; 2]) {
        let (sin, cos) = sin_cos(self.degrees);
        let [dy, dx] = self.shift;
        let (middle_y, middle_x) = ((h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0);
        for channel in pixels.chunks_exact_mut(h * w) {
            let source = Plane { pixels: channel.to_vec(), h, w };
            for (i, pixel) in channel.iter_mut().enumerate() {
                // Where this pixel came from: shifted, turned and scaled back.
                let y = ((i / w) as f32 - middle_y - dy) / self.zoom;
                let x = ((i % w) as f32 - middle_x - dx) / self.zoom;
                *pixel = source.at(cos * y - sin * x + middle_y, sin * y + cos * x + middle_x);
            }
        }
    }
}

/// Quarter turns are exact.
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
struct Plane {
    pixels: Vec<f32>,
    h: usize,
    w: usize,
}

impl Plane {
    /// The value between four pixels; 0 outside.
    fn at(&self, y: f32, x: f32) -> f32 {
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
