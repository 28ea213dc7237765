//! Brightness, contrast, saturation and hue, with torchvision's definitions.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::shuffle::SplitMix64;

/// Changes brightness, contrast, saturation and hue at random, in random order. Saturation and hue are those of colours:
/// they leave grey images of one channel as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// The factor is from `1 - brightness`, but at least 0, to `1 + brightness`.
    pub brightness: f32,
    /// The factor is from `1 - contrast`, but at least 0, to `1 + contrast`.
    pub contrast: f32,
    /// The factor is from `1 - saturation`, but at least 0, to `1 + saturation`.
    pub saturation: f32,
    /// The colours are turned by `-hue` to `hue` of a full circle; at most 0.5.
    pub hue: f32,
}

impl ColorJitter {
    pub(super) fn check(&self) -> Result<()> {
        let named =
            [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        for (name, value) in named {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::invalid_argument(format!("{name} must not be negative: {value}")));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return Err(Error::invalid_argument(format!(
                "hue is a share of the colour circle from 0 to 0.5, not {}",
                self.hue
            )));
        }
        Ok(())
    }

    pub(super) fn apply(
        &self,
        pixels: &mut [f32],
        [c, h, w]: [usize; 3],
        random: &mut SplitMix64,
    ) -> Result<()> {
        let mut order = [0, 1, 2, 3];
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u32 + 1) as usize);
        }
        for what in order {
            let strength = [self.brightness, self.contrast, self.saturation, self.hue][what];
            if strength == 0.0 {
                continue;
            }
            let mut factor = || random.uniform((1.0 - strength).max(0.0), 1.0 + strength);
            match what {
                0 => adjust_brightness(pixels, factor()),
                1 => adjust_contrast(pixels, [c, h, w], factor())?,
                2 => adjust_saturation(pixels, [c, h, w], factor())?,
                _ => adjust_hue(pixels, [c, h, w], random.uniform(-strength, strength))?,
            }
        }
        Ok(())
    }
}

/// `factor · value`, held within 0 to 1: 0 gives black, 1 the same image, 2 twice the brightness.
pub fn adjust_brightness(pixels: &mut [f32], factor: f32) {
    pixels.iter_mut().for_each(|p| *p = blend(*p, 0.0, factor));
}

/// Moves all values, `[c, h, w]` of `shape`, away from the mean of the grey image, or to it: `factor · value + (1 -
/// factor) · mean`, held within 0 to 1. 0 gives an even grey, 1 the same image.
///
/// # Errors
/// For other than 1 or 3 channels.
pub fn adjust_contrast(pixels: &mut [f32], [c, h, w]: [usize; 3], factor: f32) -> Result<()> {
    let sum: f64 = if is_coloured(c)? {
        (0..h * w).map(|i| f64::from(grey(colour_at(pixels, i, h * w)))).sum()
    } else {
        pixels.iter().map(|&p| f64::from(p)).sum()
    };
    let mean = (sum / (h * w) as f64) as f32;
    pixels.iter_mut().for_each(|p| *p = blend(*p, mean, factor));
    Ok(())
}

/// Moves each colour, `[c, h, w]` of `shape`, away from its own grey, or to it, held within 0 to 1: 0 gives the grey image, 1 the
/// same image. A grey image stays as it is.
///
/// # Errors
/// For other than 1 or 3 channels.
pub fn adjust_saturation(pixels: &mut [f32], [c, h, w]: [usize; 3], factor: f32) -> Result<()> {
    if is_coloured(c)? {
        each_colour(pixels, h * w, |colour| {
            let grey = grey(colour);
            colour.map(|value| blend(value, grey, factor))
        });
    }
    Ok(())
}

/// Turns the colours, `[c, h, w]` of `shape`, by `turn` of a full circle: a third takes red to green, a half to its complement. A
/// grey image stays as it is.
///
/// # Errors
/// For other than 1 or 3 channels.
pub fn adjust_hue(pixels: &mut [f32], [c, h, w]: [usize; 3], turn: f32) -> Result<()> {
    if is_coloured(c)? {
        each_colour(pixels, h * w, |colour| {
            let [hue, saturation, value] = to_hsv(colour);
            from_hsv([(hue + turn).rem_euclid(1.0), saturation, value])
        });
    }
    Ok(())
}

fn is_coloured(channels: usize) -> Result<bool> {
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

/// The brightness of a colour (ITU-R BT.601).
fn grey([red, green, blue]: [f32; 3]) -> f32 {
    0.2989 * red + 0.587 * green + 0.114 * blue
}

fn colour_at(pixels: &[f32], i: usize, plane: usize) -> [f32; 3] {
    [pixels[i], pixels[plane + i], pixels[2 * plane + i]]
}

/// Changes the colour of each pixel of `[3, plane]`.
fn each_colour(pixels: &mut [f32], plane: usize, change: impl Fn([f32; 3]) -> [f32; 3]) {
    for i in 0..plane {
        let changed = change(colour_at(pixels, i, plane));
        changed.into_iter().enumerate().for_each(|(channel, value)| pixels[channel * plane + i] = value);
    }
}

/// Red, green and blue to hue, saturation and value, all 0 to 1. A. R. Smith, "Color gamut transform pairs", SIGGRAPH
/// 1978.
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

fn from_hsv([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    let sixth = (hue * 6.0).floor();
    let along = hue * 6.0 - sixth;
    let least = value * (1.0 - saturation);
    let falling = value * (1.0 - saturation * along);
    let rising = value * (1.0 - saturation * (1.0 - along));
    match sixth as u32 % 6 {
        0 => [value, rising, least],
        1 => [falling, value, least],
        2 => [least, value, rising],
        3 => [least, falling, value],
        4 => [rising, least, value],
        _ => [value, least, falling],
    }
}
