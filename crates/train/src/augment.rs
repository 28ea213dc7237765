//! Augmentation: a small data set becomes a large one when each image is seen a little differently every time.

use neocog_data::shuffle::SplitMix64;
use neocog_data::{SampleId, Transform};
use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

/// Turns, enlarges and shifts an image at random, about its centre; black comes in from outside. PyTorch's
/// `RandomAffine` with bilinear interpolation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

    /// Checks all numbers.
    ///
    /// # Errors
    /// For a number that is negative or not finite, and for a scale of 1 or more.
    pub fn check(&self) -> Result<()> {
        let RandomAffine { degrees, translate, scale } = *self;
        if degrees.is_finite()
            && degrees >= 0.0
            && translate.is_finite()
            && translate >= 0.0
            && (0.0..1.0).contains(&scale)
        {
            return Ok(());
        }
        Err(Error::argument(format!(
            "degrees, translate and scale of an augmentation must not be negative, and scale below 1: {self:?}"
        )))
    }
}

impl Transform for RandomAffine {
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], sample: SampleId) -> Result<()> {
        let [_, h, w] = shape;
        let mut random = SplitMix64::new(sample.seed, sample.epoch);
        let mut random = SplitMix64::new(random.next_u64(), sample.index as u64);
        let mut up_to = |most: f32| (random.next_u64() >> 40) as f32 / (1 << 23) as f32 * most - most;
        let (sin, cos) = up_to(self.degrees).to_radians().sin_cos();
        let zoom = 1.0 + up_to(self.scale);
        let (dy, dx) = (up_to(self.translate) * h as f32, up_to(self.translate) * w as f32);
        let (middle_y, middle_x) = ((h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0);
        for channel in pixels.chunks_exact_mut(h * w) {
            let source = Plane { pixels: channel.to_vec(), h, w };
            for (i, pixel) in channel.iter_mut().enumerate() {
                // Where this pixel came from: shifted, turned and scaled back.
                let y = ((i / w) as f32 - middle_y - dy) / zoom;
                let x = ((i % w) as f32 - middle_x - dx) / zoom;
                *pixel = source.at(cos * y - sin * x + middle_y, sin * y + cos * x + middle_x);
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Vec<f32> {
        (0..72).map(|i| ((i * 37) % 64) as f32 / 64.0).collect()
    }

    fn changed(affine: RandomAffine, sample: SampleId) -> Vec<f32> {
        let mut pixels = picture();
        affine.apply(&mut pixels, [2, 6, 6], sample).unwrap();
        pixels
    }

    #[test]
    fn no_change_is_the_identity() {
        let none = RandomAffine { degrees: 0.0, translate: 0.0, scale: 0.0 };
        assert_eq!(changed(none, SampleId { seed: 1, epoch: 2, index: 3 }), picture());
    }

    #[test]
    fn seed_epoch_and_image_decide() {
        let change = |seed, epoch, index| changed(RandomAffine::HANDWRITING, SampleId { seed, epoch, index });
        assert_eq!(change(1, 2, 3), change(1, 2, 3));
        let others = [change(1, 2, 4), change(1, 3, 3), change(2, 2, 3)];
        assert!(others.iter().all(|other| *other != change(1, 2, 3)));
        assert!(others.iter().flatten().all(|pixel| (0.0..=1.0).contains(pixel)));
    }

    /// A quarter turn moves each pixel to where a quarter turn moves it.
    #[test]
    fn a_turn_is_about_the_centre() {
        let source = Plane { pixels: picture()[..36].to_vec(), h: 6, w: 6 };
        let (sin, cos) = (1.0, 0.0);
        for (y, x) in (0..6).flat_map(|y| (0..6).map(move |x| (y, x))) {
            let (cy, cx) = (y as f32 - 2.5, x as f32 - 2.5);
            let value = source.at(cos * cy - sin * cx + 2.5, sin * cy + cos * cx + 2.5);
            assert_eq!(value, source.pixels[(5 - x) * 6 + y]);
        }
    }

    #[test]
    fn numbers_that_are_not_allowed() {
        for affine in [
            RandomAffine { degrees: f32::NAN, ..RandomAffine::HANDWRITING },
            RandomAffine { translate: -0.1, ..RandomAffine::HANDWRITING },
            RandomAffine { scale: 1.0, ..RandomAffine::HANDWRITING },
        ] {
            assert!(affine.check().is_err(), "{affine:?}");
        }
        assert!(RandomAffine::HANDWRITING.check().is_ok());
    }
}
