//! [`ByteImage`]: an 8-bit image, and its conversion between grayscale and RGB.

use neocog_base::memory::no_memory;
use neocog_base::{Error, Result};

/// An 8-bit image `[h, w, c]`: rows from the top, interleaved channels. The buffer is reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteImage {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl ByteImage {
    /// Creates an image from pixels `[h, w, c]`.
    ///
    /// # Errors
    /// `InvalidArgument` if the number of pixels does not match, or is 0.
    pub fn new(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let expected = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        if pixels.is_empty() || expected != Some(pixels.len()) {
            return Err(Error::invalid_argument(format!(
                "{} values are not an image of {height}x{width} with {channels} channels",
                pixels.len()
            )));
        }
        Ok(ByteImage { height, width, channels, pixels })
    }

    /// Returns the height.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns the width.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Returns the size `(h, w)`.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Returns the pixels, `[h, w, c]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Returns the pixels, `[h, w, c]`, for changes.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Sets the extents, and returns the pixels, `[h, w, c]`, whose values are not defined until they are written.
    ///
    /// # Panics
    /// If the number of pixels exceeds the address space.
    pub fn reset(&mut self, height: usize, width: usize, channels: usize) -> &mut [u8] {
        let length = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        self.pixels.resize(length.expect("an image that fits the address space"), 0);
        (self.height, self.width, self.channels) = (height, width, channels);
        &mut self.pixels
    }

    /// As [`reset`](Self::reset), for images whose size a file declares.
    ///
    /// # Errors
    /// `OutOfMemory` if memory cannot be allocated.
    pub fn try_reset(&mut self, height: usize, width: usize, channels: usize) -> Result<&mut [u8]> {
        let length = height.saturating_mul(width).saturating_mul(channels);
        let more = length.saturating_sub(self.pixels.len());
        self.pixels
            .try_reserve_exact(more)
            .map_err(|_| no_memory::<u8>(length, format_args!("an image of {height}x{width}")))?;
        Ok(self.reset(height, width, channels))
    }

    /// Copies `other` into the buffer of this image.
    pub fn copy_from(&mut self, other: &ByteImage) {
        self.reset(other.height, other.width, other.channels).copy_from_slice(&other.pixels);
    }

    /// Converts to `channels` channels: grayscale (1) is repeated, RGB (3) becomes the luma of ITU-R BT.601, as in Pillow's
    /// `convert("L")`.
    ///
    /// # Errors
    /// `Shape` for other numbers of channels that differ.
    pub fn convert(&mut self, channels: usize) -> Result<()> {
        match (self.channels, channels) {
            (from, to) if from == to => {}
            (1, to) => {
                let gray = std::mem::take(&mut self.pixels);
                self.pixels = gray.iter().flat_map(|&value| std::iter::repeat_n(value, to)).collect();
            }
            (3, 1) => {
                let count = self.height * self.width;
                for i in 0..count {
                    let [r, g, b] = [0, 1, 2].map(|c| self.pixels[3 * i + c]);
                    self.pixels[i] = luma(r, g, b);
                }
                self.pixels.truncate(count);
            }
            (from, to) => {
                return Err(Error::shape(format!("cannot convert an image of {from} channels to {to}")));
            }
        }
        self.channels = channels;
        Ok(())
    }

    /// Crops to `height` rows from `top` and `width` columns from `left`.
    ///
    /// # Panics
    /// If the rectangle is not within the image.
    pub fn crop(&mut self, top: usize, left: usize, height: usize, width: usize) {
        assert!(top + height <= self.height && left + width <= self.width, "a rectangle within the image");
        let (row, part) = (self.width * self.channels, width * self.channels);
        for y in 0..height {
            let from = (top + y) * row + left * self.channels;
            self.pixels.copy_within(from..from + part, y * part);
        }
        self.pixels.truncate(height * part);
        (self.height, self.width) = (height, width);
    }

    /// Adds borders of the values `fill`, one for each channel: `[left, top, right, bottom]` pixels.
    ///
    /// # Panics
    /// If `fill` has not one value for each channel.
    pub fn pad(&mut self, [left, top, right, bottom]: [usize; 4], fill: &[u8]) {
        assert_eq!(fill.len(), self.channels, "one value for each channel");
        let source = std::mem::take(self);
        let (h, w, c) = (source.height + top + bottom, source.width + left + right, source.channels);
        for pixel in self.reset(h, w, c).chunks_exact_mut(c) {
            pixel.copy_from_slice(fill);
        }
        for (y, row) in source.pixels.chunks_exact(source.width * c).enumerate() {
            self.pixels[((top + y) * w + left) * c..][..row.len()].copy_from_slice(row);
        }
    }

    /// Reverses each row.
    pub fn flip_horizontally(&mut self) {
        let c = self.channels;
        for row in self.pixels.chunks_exact_mut(self.width * c) {
            let half = self.width / 2;
            let (left, right) = row.split_at_mut(half * c);
            let right = right.rchunks_exact_mut(c);
            left.chunks_exact_mut(c).zip(right).for_each(|(a, b)| a.swap_with_slice(b));
        }
    }

    /// Reverses the order of the rows.
    pub fn flip_vertically(&mut self) {
        let row = self.width * self.channels;
        let (above, below) = self.pixels.split_at_mut(self.height / 2 * row);
        let below = below.rchunks_exact_mut(row);
        above.chunks_exact_mut(row).zip(below).for_each(|(a, b)| a.swap_with_slice(b));
    }

    /// Writes the pixels as `[c, h, w]`, divided by 255, to `values`.
    ///
    /// # Panics
    /// If `values` has another length.
    pub fn write_unit(&self, values: &mut [f32]) {
        assert_eq!(values.len(), self.pixels.len(), "a buffer of the size of the image");
        let plane = self.height * self.width;
        match self.channels {
            1 => values.iter_mut().zip(&self.pixels).for_each(|(value, &p)| *value = UNIT[usize::from(p)]),
            3 => {
                let (red, rest) = values.split_at_mut(plane);
                let (green, blue) = rest.split_at_mut(plane);
                let (pixels, _) = self.pixels.as_chunks::<3>();
                for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
                    (*r, *g, *b) = (
                        UNIT[usize::from(pixel[0])],
                        UNIT[usize::from(pixel[1])],
                        UNIT[usize::from(pixel[2])],
                    );
                }
            }
            c => {
                for (channel, values) in values.chunks_exact_mut(plane).enumerate() {
                    let pixels = self.pixels[channel..].iter().step_by(c);
                    values.iter_mut().zip(pixels).for_each(|(value, &p)| *value = UNIT[usize::from(p)]);
                }
            }
        }
    }
}

/// `pixel / 255`, correctly rounded, of each pixel value.
static UNIT: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut i = 0;
    while i < 256 {
        values[i] = i as f32 / 255.0;
        i += 1;
    }
    values
};

/// The luma of ITU-R BT.601 with the integer weights of Pillow.
#[inline]
pub(crate) fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
