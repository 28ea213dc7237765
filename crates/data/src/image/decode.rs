//! Decoding of image files of all formats to 8-bit grayscale or RGB.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, GenericImageView};
use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use super::byte_image::ByteImage;
use super::file::read_file;
use super::header::{self, header_of};
use super::info::{ImageHeader, Orientation};
use super::jpeg;
use super::tiff_palette::Palette;

/// What becomes of transparent pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Alpha {
    /// The alpha channel is dropped, as by Pillow's `convert("RGB")`.
    #[default]
    Drop,
    /// White is put behind transparent pixels.
    OnWhite,
}

/// Options of [`decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Number of channels of the result: 1 (grayscale) or 3 (RGB).
    pub channels: usize,
    /// What becomes of transparent pixels.
    pub alpha: Alpha,
    /// If this is not `None`, a JPEG file is decoded at 1/8, 1/4 or 1/2 of its size if that is at least this size `(h, w)`: faster,
    /// but not the same as to decode and resize it.
    pub at_least: Option<(usize, usize)>,
}

impl DecodeOptions {
    /// Creates the options for a result of `channels` channels, 1 or 3, without alpha.
    pub fn new(channels: usize) -> Self {
        DecodeOptions { channels, alpha: Alpha::Drop, at_least: None }
    }

    /// Sets what becomes of transparent pixels.
    #[must_use]
    pub fn alpha(mut self, alpha: Alpha) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets the size `(h, w)` that a JPEG file may be decoded to at least, instead of its own.
    #[must_use]
    pub fn at_least(mut self, size: Option<(usize, usize)>) -> Self {
        self.at_least = size;
        self
    }
}

/// Decodes the image file at `path` into `image`.
///
/// # Errors
/// `Io` if it cannot be read; `Format` as of [`decode`]. The message names the file.
pub fn decode_file(path: &Path, options: DecodeOptions, image: &mut ByteImage) -> Result<()> {
    decode(&read_file(path)?, options, image).map_err(|e| e.context(path.display().to_string()))
}

/// Decodes an image file in JPEG, PNG, WebP, BMP, GIF (the first frame), TIFF or PNM format, detected from its first
/// bytes, to 8-bit grayscale or RGB.
///
/// The EXIF orientation is applied; 16-bit values are reduced to their high byte; palettes and CMYK become RGB; RGB becomes
/// grayscale by [`ByteImage::convert`]. Files are refused before they are decoded when they declare more than
/// [`MAX_PIXELS`](super::MAX_PIXELS) pixels, or more bytes than the [`limit`](super::limit) of the file.
///
/// # Errors
/// `Format` if it is not an image, is truncated, damaged or too large; `OutOfMemory` if the system has less memory than that; `InvalidArgument` for another number of channels
/// than 1 and 3.
pub fn decode(bytes: &[u8], options: DecodeOptions, image: &mut ByteImage) -> Result<()> {
    if !matches!(options.channels, 1 | 3) {
        return Err(Error::invalid_argument(format!(
            "image files are decoded to 1 or 3 channels, not {}",
            options.channels
        )));
    }
    let orientation = if bytes.starts_with(&jpeg::MAGIC) {
        let structure = jpeg::structure(bytes)?;
        let header = structure.header(bytes);
        header.check(bytes.len() as u64)?;
        header.check_memory()?;
        let swapped = header.size() != (header.height, header.width);
        let at_least = options.at_least.map(|(h, w)| if swapped { (w, h) } else { (h, w) });
        jpeg::decode(bytes, &structure, at_least, image)?;
        header.orientation
    } else {
        decode_other(bytes, options.alpha, image)?.orientation
    };
    orient(image, orientation)?;
    image.convert(options.channels)
}

/// Decodes a file that is not JPEG to grayscale or RGB; the orientation is not applied.
fn decode_other(bytes: &[u8], alpha: Alpha, image: &mut ByteImage) -> Result<ImageHeader> {
    header::check_start(bytes, bytes.len() as u64)?;
    let palette = Palette::find(bytes);
    let bytes = palette.as_ref().map_or(bytes, |palette| &palette.gray);
    let mut decoder = header::decoder(Cursor::new(bytes), bytes)?;
    let mut header = header_of(&mut decoder)?;
    header.is_color |= palette.is_some();
    header.check(bytes.len() as u64)?;
    header.check_memory()?;
    let name = image::guess_format(bytes).map_or("image", header::format_name);
    let decoded = DynamicImage::from_decoder(decoder).map_err(|e| header::damaged(name, &e))?;
    let (w, h) = decoded.dimensions();
    let (h, w) = (h as usize, w as usize);
    let high = |values: &[u16]| values.iter().map(|&v| (v >> 8) as u8).collect::<Vec<u8>>();
    match decoded {
        DynamicImage::ImageLuma8(gray) => match palette {
            Some(palette) => palette.apply(&gray, (h, w), image)?,
            None => image.try_reset(h, w, 1)?.copy_from_slice(&gray),
        },
        DynamicImage::ImageRgb8(rgb) => image.try_reset(h, w, 3)?.copy_from_slice(&rgb),
        DynamicImage::ImageLumaA8(gray) => drop_alpha(&gray, alpha, image.try_reset(h, w, 1)?, 1),
        DynamicImage::ImageRgba8(rgb) => drop_alpha(&rgb, alpha, image.try_reset(h, w, 3)?, 3),
        DynamicImage::ImageLuma16(gray) => image.try_reset(h, w, 1)?.copy_from_slice(&high(&gray)),
        DynamicImage::ImageRgb16(rgb) => image.try_reset(h, w, 3)?.copy_from_slice(&high(&rgb)),
        DynamicImage::ImageLumaA16(gray) => drop_alpha(&high(&gray), alpha, image.try_reset(h, w, 1)?, 1),
        DynamicImage::ImageRgba16(rgb) => drop_alpha(&high(&rgb), alpha, image.try_reset(h, w, 3)?, 3),
        _ => return Err(Error::format(format!("{name} files of floating-point numbers are not supported"))),
    }
    Ok(header)
}

/// Copies pixels of `channels` channels and alpha to `target`, without alpha.
fn drop_alpha(source: &[u8], alpha: Alpha, target: &mut [u8], channels: usize) {
    for (from, to) in source.chunks_exact(channels + 1).zip(target.chunks_exact_mut(channels)) {
        to.copy_from_slice(&from[..channels]);
        if alpha == Alpha::OnWhite {
            let a = u32::from(from[channels]);
            to.iter_mut().for_each(|v| *v = ((u32::from(*v) * a + 255 * (255 - a) + 127) / 255) as u8);
        }
    }
}

/// Applies an EXIF orientation.
fn orient(image: &mut ByteImage, orientation: Orientation) -> Result<()> {
    match orientation {
        Orientation::NoTransforms => {}
        Orientation::FlipHorizontal => image.flip_horizontally(),
        Orientation::FlipVertical => image.flip_vertically(),
        Orientation::Rotate180 => {
            image.flip_horizontally();
            image.flip_vertically();
        }
        Orientation::Rotate90FlipH => transpose(image)?,
        Orientation::Rotate90 => {
            transpose(image)?;
            image.flip_horizontally();
        }
        Orientation::Rotate270 => {
            transpose(image)?;
            image.flip_vertically();
        }
        Orientation::Rotate270FlipH => {
            transpose(image)?;
            image.flip_horizontally();
            image.flip_vertically();
        }
    }
    Ok(())
}

/// Exchanges rows and columns.
fn transpose(image: &mut ByteImage) -> Result<()> {
    let source = std::mem::take(image);
    let (h, w, c) = (source.height(), source.width(), source.channels());
    for (i, pixel) in image.try_reset(w, h, c)?.chunks_exact_mut(c).enumerate() {
        let (y, x) = (i % h, i / h);
        pixel.copy_from_slice(&source.pixels()[(y * w + x) * c..][..c]);
    }
    Ok(())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
