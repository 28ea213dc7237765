//! Brightness, contrast, saturation and hue, with torchvision's definitions.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::shuffle::SplitMix64;

/// Changes brightness, contrast, saturation and hue at random, in random order; torchvision's `ColorJitter`. Saturation
/// and hue do not change images of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// The brightness factor is uniform from `max(0, 1 - brightness)` to `1 + brightness`.
    pub brightness: f32,
    /// The contrast factor is uniform from `max(0, 1 - contrast)` to `1 + contrast`.
    pub contrast: f32,
    /// The saturation factor is uniform from `max(0, 1 - saturation)` to `1 + saturation`.
    pub saturation: f32,
    /// The hue shift is uniform from `-hue` to `hue`, in turns of the color circle; at most 0.5.
    pub hue: f32,
}

impl ColorJitter {
    pub(crate) fn check(&self) -> Result<()> {
        let named =
            [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        for (name, value) in named {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::invalid_argument(format!(
                    "{name} must be finite and not negative, not {value}"
                )));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return Err(Error::invalid_argument(format!("hue must be from 0 to 0.5, not {}", self.hue)));
        }
        Ok(())
    }

    pub(crate) fn apply(
        &self,
        pixels: &mut [f32],
        [c, h, w]: [usize; 3],
        random: &mut SplitMix64,
    ) -> Result<()> {
        let mut order = [0, 1, 2, 3];
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u32 + 1) as usize);
        }
        for property in order {
            let strength = [self.brightness, self.contrast, self.saturation, self.hue][property];
            if strength == 0.0 {
                continue;
            }
            let mut factor = || random.uniform((1.0 - strength).max(0.0), 1.0 + strength);
            match property {
                0 => adjust_brightness(pixels, factor()),
                1 => adjust_contrast(pixels, [c, h, w], factor())?,
                2 => adjust_saturation(pixels, [c, h, w], factor())?,
                _ => adjust_hue(pixels, [c, h, w], random.uniform(-strength, strength))?,
            }
        }
        Ok(())
    }
}

/// Multiplies all values by `factor` and clamps them to 0 to 1: factor 0 gives black, 1 the original image.
pub fn adjust_brightness(pixels: &mut [f32], factor: f32) {
    pixels.iter_mut().for_each(|p| *p = blend(*p, 0.0, factor));
}

/// Changes the contrast of an image `[c, h, w]`: `factor * value + (1 - factor) * mean`, clamped to 0 to 1, with the mean
/// of the grayscale image. Factor 0 gives a uniform gray, 1 the original image.
///
/// # Errors
/// `Shape` unless there are 1 or 3 channels.
pub fn adjust_contrast(pixels: &mut [f32], [c, h, w]: [usize; 3], factor: f32) -> Result<()> {
    let sum: f64 = if is_rgb(c)? {
        (0..h * w).map(|i| f64::from(luma(rgb_at(pixels, i, h * w)))).sum()
    } else {
        pixels.iter().map(|&p| f64::from(p)).sum()
    };
    let mean = (sum / (h * w) as f64) as f32;
    pixels.iter_mut().for_each(|p| *p = blend(*p, mean, factor));
    Ok(())
}

/// Changes the saturation of an image `[c, h, w]`: `factor * value + (1 - factor) * gray`, clamped to 0 to 1. Factor 0
/// gives the grayscale image, 1 the original image. Grayscale images do not change.
///
/// # Errors
/// `Shape` unless there are 1 or 3 channels.
pub fn adjust_saturation(pixels: &mut [f32], [c, h, w]: [usize; 3], factor: f32) -> Result<()> {
    if is_rgb(c)? {
        for_each_pixel(pixels, h * w, |rgb| {
            let gray = luma(rgb);
            rgb.map(|value| blend(value, gray, factor))
        });
    }
    Ok(())
}

/// Shifts the hue of an image `[c, h, w]` by `shift` turns of the color circle: 1/3 maps red to green, 1/2 maps each
/// color to its complement. Grayscale images do not change.
///
/// # Errors
/// `Shape` unless there are 1 or 3 channels.
pub fn adjust_hue(pixels: &mut [f32], [c, h, w]: [usize; 3], shift: f32) -> Result<()> {
    if is_rgb(c)? {
        for_each_pixel(pixels, h * w, |rgb| {
            let [hue, saturation, value] = to_hsv(rgb);
            from_hsv([(hue + shift).rem_euclid(1.0), saturation, value])
        });
    }
    Ok(())
}

fn is_rgb(channels: usize) -> Result<bool> {
    match channels {
        1 => Ok(false),
        3 => Ok(true),
        _ => Err(Error::shape(format!(
            "contrast, saturation and hue need an image of 1 or 3 channels, not {channels}"
        ))),
    }
}

fn blend(value: f32, other: f32, factor: f32) -> f32 {
    (factor * value + (1.0 - factor) * other).clamp(0.0, 1.0)
}

/// Returns the luma (ITU-R BT.601).
fn luma([red, green, blue]: [f32; 3]) -> f32 {
    0.2989 * red + 0.587 * green + 0.114 * blue
}

fn rgb_at(pixels: &[f32], i: usize, plane: usize) -> [f32; 3] {
    [pixels[i], pixels[plane + i], pixels[2 * plane + i]]
}

/// Applies `change` to the color of each pixel of `[3, plane]`.
fn for_each_pixel(pixels: &mut [f32], plane: usize, change: impl Fn([f32; 3]) -> [f32; 3]) {
    for i in 0..plane {
        let changed = change(rgb_at(pixels, i, plane));
        changed.into_iter().enumerate().for_each(|(channel, value)| pixels[channel * plane + i] = value);
    }
}

/// Converts RGB to hue, saturation and value, all from 0 to 1 (A. R. Smith, "Color gamut transform pairs", SIGGRAPH
/// 1978).
fn to_hsv([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let value = red.max(green).max(blue);
    let range = value - red.min(green).min(blue);
    if range == 0.0 {
        return [0.0, 0.0, value];
    }
    let below = |channel: f32| (value - channel) / range;
    let sixths = if red == value {
        below(blue) - below(green)
    } else if green == value {
        2.0 + below(red) - below(blue)
    } else {
        4.0 + below(green) - below(red)
    };
    [(sixths / 6.0).rem_euclid(1.0), range / value, value]
}

/// The inverse of [`to_hsv`].
fn from_hsv([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    let sector = (hue * 6.0).floor();
    let fraction = hue * 6.0 - sector;
    let least = value * (1.0 - saturation);
    let falling = value * (1.0 - saturation * fraction);
    let rising = value * (1.0 - saturation * (1.0 - fraction));
    match sector as u32 % 6 {
        0 => [value, rising, least],
        1 => [falling, value, least],
        2 => [least, value, rising],
        3 => [least, falling, value],
        4 => [rising, least, value],
        _ => [value, least, falling],
    }
}
