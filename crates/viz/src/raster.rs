//! Conversion of pixels and feature maps to RGB images.

use image::imageops::thumbnail;
use image::{Rgb, RgbImage};
use neocog_base::{Error, Result};

/// A small RGB image, the content of a [`Thumbnail`](crate::Thumbnail).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// RGB pixels, `[height, width]`.
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Image {
    /// Converts an image of shape `[c, h, w]` with values from 0 to 1: grayscale for one channel, RGB for three. Values
    /// outside of the range are clamped.
    ///
    /// # Errors
    /// `Shape` unless there are 1 or 3 channels and as many values as the shape has elements.
    pub fn from_values(values: &[f32], shape: [usize; 3]) -> Result<Self> {
        let [channels, height, width] = shape;
        if values.len() != shape.iter().product::<usize>() || values.is_empty() {
            return Err(Error::shape(format!("{} values are not an image of shape {shape:?}", values.len())));
        }
        let byte = |value: f32| (value * 255.0).round() as u8;
        let plane = height * width;
        let pixels = match channels {
            1 => values.iter().map(|&v| [byte(v); 3]).collect(),
            3 => (0..plane).map(|i| [0, 1, 2].map(|channel| byte(values[channel * plane + i]))).collect(),
            _ => {
                return Err(Error::shape(format!(
                    "an image has 1 or 3 channels, not {channels}; convert the channels separately"
                )));
            }
        };
        Ok(Image { width, height, pixels })
    }

    /// Converts a feature map `[h, w]` to grayscale with min-max normalization: the minimum is black, the maximum white.
    ///
    /// # Errors
    /// `Shape` unless there are `h * w` values.
    pub fn normalized(values: &[f32], [h, w]: [usize; 2]) -> Result<Self> {
        let min = values.iter().copied().fold(f32::INFINITY, f32::min);
        let range = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - min;
        let normalize = |v: f32| if range > 0.0 { (v - min) / range } else { 0.0 };
        Self::from_values(&values.iter().map(|&v| normalize(v)).collect::<Vec<_>>(), [1, h, w])
    }

    /// Converts signed values `[h, w]` with a diverging color map: `-limit` is blue, 0 white and `limit` red. Values beyond
    /// are clamped.
    ///
    /// # Errors
    /// `Shape` unless there are `h * w` values.
    pub fn diverging(values: &[f32], [height, width]: [usize; 2], limit: f32) -> Result<Self> {
        const RED: [f32; 3] = [178.0, 24.0, 43.0];
        const BLUE: [f32; 3] = [33.0, 102.0, 172.0];
        let mut image = Self::from_values(values, [1, height, width])?;
        for (pixel, &value) in image.pixels.iter_mut().zip(values) {
            let position = if limit > 0.0 { (value / limit).clamp(-1.0, 1.0) } else { 0.0 };
            let end = if position > 0.0 { RED } else { BLUE };
            *pixel = end.map(|c| (255.0 + (c - 255.0) * position.abs()).round() as u8);
        }
        Ok(image)
    }

    /// Mixes the image, as grayscale, with another one of the same size: `share` of the other, from 0 to 1.
    ///
    /// # Errors
    /// `Shape` when the sizes differ.
    pub fn blend(&self, other: &Image, share: f32) -> Result<Self> {
        if (self.height, self.width) != (other.height, other.width) {
            return Err(Error::shape(format!(
                "cannot blend images of {}x{} and {}x{}",
                self.height, self.width, other.height, other.width
            )));
        }
        let mix = |(own, other): (&[u8; 3], &[u8; 3])| {
            let gray = own.iter().map(|&v| f32::from(v)).sum::<f32>() / 3.0;
            other.map(|v| (gray + (f32::from(v) - gray) * share.clamp(0.0, 1.0)).round() as u8)
        };
        let pixels = self.pixels.iter().zip(&other.pixels).map(mix).collect();
        Ok(Image { width: self.width, height: self.height, pixels })
    }

    /// Returns the image with its pixels, reduced where it is larger than `limit` pixels in a direction.
    pub fn to_rgb(&self, limit: usize) -> RgbImage {
        let full = RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            Rgb(self.pixels[y as usize * self.width + x as usize])
        });
        let longest = self.width.max(self.height);
        if longest <= limit {
            return full;
        }
        let reduced = |side: usize| (side * limit / longest).max(1) as u32;
        thumbnail(&full, reduced(self.width), reduced(self.height))
    }

    /// Returns the color at a relative position, `y` and `x` from 0 to 1.
    pub(crate) fn at(&self, y: f32, x: f32) -> [u8; 3] {
        let row = ((y * self.height as f32) as usize).min(self.height - 1);
        let column = ((x * self.width as f32) as usize).min(self.width - 1);
        self.pixels[row * self.width + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_mapped_to_colors() {
        let gray = Image::from_values(&[0.0, 0.5, 1.0, 7.0], [1, 2, 2]).unwrap();
        assert_eq!(gray.pixels, [[0; 3], [128; 3], [255; 3], [255; 3]]);
        let color = Image::from_values(&[1.0, 0.0, 0.0, 0.2, 0.0, 0.4], [3, 1, 2]).unwrap();
        assert_eq!(color.pixels, [[255, 0, 0], [0, 51, 102]]);
        let normalized = Image::normalized(&[-4.0, 0.0, 4.0], [1, 3]).unwrap();
        assert_eq!(normalized.pixels, [[0; 3], [128; 3], [255; 3]]);
        assert_eq!(Image::normalized(&[3.0], [1, 1]).unwrap().pixels, [[0; 3]]);
        let diverging = Image::diverging(&[-9.0, 0.0, 2.0], [1, 3], 2.0).unwrap();
        assert_eq!(diverging.pixels, [[33, 102, 172], [255; 3], [178, 24, 43]]);
        let blended = normalized.blend(&diverging, 0.5).unwrap();
        assert_eq!(blended.pixels, [[17, 51, 86], [192; 3], [217, 140, 149]]);
        assert!(normalized.blend(&gray, 0.5).is_err());
        assert_eq!(color.to_rgb(2).dimensions(), (2, 1));
        assert_eq!(gray.to_rgb(1).dimensions(), (1, 1));
        assert!(Image::from_values(&[0.0; 8], [2, 2, 2]).is_err());
        assert!(Image::from_values(&[0.0; 7], [1, 2, 2]).is_err());
    }
}
