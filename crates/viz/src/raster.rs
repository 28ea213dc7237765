//! A small picture, made of numbers.

use neocog_base::{Error, Result};

/// A small picture: what a cell of a [`Sheet`](crate::Sheet) shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// `[height, width]`, red, green and blue.
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Image {
    /// An image `[c, h, w]` of `shape` with values 0 to 1: grey for one channel, coloured for three. Values beyond are
    /// cut off.
    ///
    /// # Errors
    /// For another number of channels, and when there are not as many values as the shape has.
    pub fn of_values(values: &[f32], shape: [usize; 3]) -> Result<Self> {
        let [channels, height, width] = shape;
        if values.len() != shape.iter().product::<usize>() || values.is_empty() {
            return Err(Error::shape(format!("{} values are no picture of shape {shape:?}", values.len())));
        }
        let byte = |value: f32| (value * 255.0).round() as u8;
        let plane = height * width;
        let pixels = match channels {
            1 => values.iter().map(|&v| [byte(v); 3]).collect(),
            3 => (0..plane).map(|i| [0, 1, 2].map(|channel| byte(values[channel * plane + i]))).collect(),
            _ => {
                return Err(Error::shape(format!(
                    "a picture has 1 or 3 channels, not {channels}; show them one by one"
                )));
            }
        };
        Ok(Image { width, height, pixels })
    }

    /// Numbers `[h, w]` of any size in greys, the smallest black and the largest white.
    ///
    /// # Errors
    /// When there are not as many values as the shape has.
    pub fn stretched(values: &[f32], [h, w]: [usize; 2]) -> Result<Self> {
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let range = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least;
        let share = |v: f32| if range > 0.0 { (v - least) / range } else { 0.0 };
        Self::of_values(&values.iter().map(|&v| share(v)).collect::<Vec<_>>(), [1, h, w])
    }

    /// Numbers `[h, w]` with a sign: 0 is white, `largest` red and `-largest` blue.
    ///
    /// # Errors
    /// When there are not as many values as the shape has.
    pub fn signed(values: &[f32], [height, width]: [usize; 2], largest: f32) -> Result<Self> {
        const RED: [f32; 3] = [178.0, 24.0, 43.0];
        const BLUE: [f32; 3] = [33.0, 102.0, 172.0];
        let mut picture = Self::of_values(values, [1, height, width])?;
        for (pixel, &value) in picture.pixels.iter_mut().zip(values) {
            let share = if largest > 0.0 { (value / largest).clamp(-1.0, 1.0) } else { 0.0 };
            let full = if share > 0.0 { RED } else { BLUE };
            *pixel = full.map(|c| (255.0 + (c - 255.0) * share.abs()).round() as u8);
        }
        Ok(picture)
    }

    /// The colour at a place given as shares of height and width.
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
    fn numbers_become_colours() {
        let grey = Image::of_values(&[0.0, 0.5, 1.0, 7.0], [1, 2, 2]).unwrap();
        assert_eq!(grey.pixels, [[0; 3], [128; 3], [255; 3], [255; 3]]);
        let colour = Image::of_values(&[1.0, 0.0, 0.0, 0.2, 0.0, 0.4], [3, 1, 2]).unwrap();
        assert_eq!(colour.pixels, [[255, 0, 0], [0, 51, 102]]);
        let stretched = Image::stretched(&[-4.0, 0.0, 4.0], [1, 3]).unwrap();
        assert_eq!(stretched.pixels, [[0; 3], [128; 3], [255; 3]]);
        assert_eq!(Image::stretched(&[3.0], [1, 1]).unwrap().pixels, [[0; 3]]);
        let signed = Image::signed(&[-9.0, 0.0, 2.0], [1, 3], 2.0).unwrap();
        assert_eq!(signed.pixels, [[33, 102, 172], [255; 3], [178, 24, 43]]);
        assert!(Image::of_values(&[0.0; 8], [2, 2, 2]).is_err());
        assert!(Image::of_values(&[0.0; 7], [1, 2, 2]).is_err());
    }
}
