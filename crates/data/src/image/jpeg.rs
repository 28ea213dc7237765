//! JPEG files: their structure, and decoding.
//!
//! A decoder that is given half a file fills the rest with gray and succeeds. So the structure is followed first, from
//! marker to marker, to the end-of-image marker that a whole file has; Pillow demands the same.

use neocog_base::{Error, Result};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::byte_image::ByteImage;
use super::info::{ImageHeader, Orientation, exif_orientation};

/// Start of every JPEG file: the start-of-image marker and the first byte of the next one.
pub(super) const MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// What the markers of a file say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Structure {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) components: u8,
    /// Offset and length of the TIFF structure of the EXIF segment.
    exif: Option<(usize, usize)>,
    /// Whether all data up to the end-of-image marker are there. Not known if only the start of a file was read.
    pub(super) is_complete: bool,
}

/// Follows the markers of `bytes`, a whole file or its start, as far as they go.
///
/// # Errors
/// `Format` if no frame header is found, or it declares no pixels.
pub(super) fn structure(bytes: &[u8]) -> Result<Structure> {
    let mut found = Structure::default();
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END_OF_IMAGE => {
                found.is_complete = found.components > 0;
                break;
            }
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let Some(length) = bytes.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])))
        else {
            break;
        };
        let segment = bytes.get(at + 2..at + length.max(2)).unwrap_or_default();
        match marker {
            // Start of frame, of all kinds of coding.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                if let [_, h0, h1, w0, w1, components, ..] = *segment {
                    found.height = usize::from(u16::from_be_bytes([h0, h1]));
                    found.width = usize::from(u16::from_be_bytes([w0, w1]));
                    found.components = components;
                }
            }
            0xe1 if found.exif.is_none() && segment.starts_with(b"Exif\0\0") => {
                found.exif = Some((at + 8, segment.len() - 6));
            }
            _ => {}
        }
        at += length.max(2);
        if marker == START_OF_SCAN {
            skip_entropy_coded(bytes, &mut at);
        }
    }
    if found.components == 0 {
        return Err(Error::format("the JPEG file ends before its size, or is damaged"));
    }
    if found.height == 0 || found.width == 0 {
        return Err(Error::format("the JPEG file declares an image without pixels"));
    }
    Ok(found)
}

/// Returns the next marker at or after `at`, and moves `at` behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        *at += rest.iter().position(|&b| b == 0xff)? + 1;
        // A marker may be preceded by any number of fill bytes.
        while *bytes.get(*at)? == 0xff {
            *at += 1;
        }
        let marker = *bytes.get(*at)?;
        *at += 1;
        if marker != 0 {
            return Some(marker);
        }
    }
}

/// Moves `at` to the marker after the entropy-coded data of a scan.
fn skip_entropy_coded(bytes: &[u8], at: &mut usize) {
    while let Some(rest) = bytes.get(*at..) {
        let Some(i) = memchr::memchr(0xff, rest) else { break };
        *at += i;
        match bytes.get(*at + 1) {
            // A stuffed zero, a restart marker or a fill byte.
            Some(0 | 0xd0..=0xd7) => *at += 2,
            Some(0xff) => *at += 1,
            Some(_) => return,
            None => break,
        }
    }
    *at = bytes.len();
}

impl Structure {
    pub(super) fn check_complete(&self) -> Result<()> {
        if self.is_complete {
            return Ok(());
        }
        Err(Error::format("the JPEG file is truncated: it has no end-of-image marker"))
    }

    pub(super) fn header(&self, bytes: &[u8]) -> ImageHeader {
        let exif = self.exif.and_then(|(from, length)| bytes.get(from..from + length));
        let orientation = exif.map_or(Orientation::NoTransforms, exif_orientation);
        let (height, width) = (self.height, self.width);
        let decoded_bytes = (height as u64 * width as u64).saturating_mul(u64::from(self.components));
        ImageHeader { height, width, is_color: self.components != 1, orientation, decoded_bytes }
    }
}

/// Decodes a file to grayscale or RGB. `structure` is that of the file; the orientation is not applied.
///
/// # Errors
/// `Format` if the file is truncated or damaged.
pub(super) fn decode(bytes: &[u8], structure: &Structure, image: &mut ByteImage) -> Result<()> {
    structure.check_complete()?;
    let damaged = |e: String| Error::format(format!("the JPEG file is damaged: {e}"));
    // The limits are those of `ImageHeader::check`, which has passed.
    let options = DecoderOptions::new_fast().set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| damaged(e.to_string()))?;
    let input = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    let (output, channels) = match input {
        ColorSpace::Luma => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let pixels = image.try_reset(structure.height, structure.width, channels)?;
    if decoder.output_buffer_size() != Some(pixels.len()) {
        return Err(damaged("its frame headers differ".into()));
    }
    decoder.decode_into(pixels).map_err(|e| damaged(e.to_string()))
}
