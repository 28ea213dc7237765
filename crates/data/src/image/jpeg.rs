//! JPEG files: their structure, and decoding.
//!
//! A decoder that is given half a file fills the rest with gray and succeeds. So the structure is followed first, from
//! marker to marker, to the end-of-image marker that a whole file has; Pillow demands the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libjpeg_turbo_rs::{ComponentInfo, DecodeLimits, Decoder, PixelFormat, ScalingFactor};
use neocog_base::text::count;
use neocog_base::{Error, Result};

use super::byte_image::ByteImage;
use super::info::{ImageHeader, MAX_SIDE, Orientation, exif_orientation};

/// Start of every JPEG file: the start-of-image marker and the first byte of the next one.
pub(super) const MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

/// Maximum number of scans: cameras and programs write about ten, and each takes time.
const MAX_SCANS: usize = 1_000;

/// By what a decoder can divide the size of an image.
pub(crate) const DIVISORS: [usize; 3] = [8, 4, 2];

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
/// `Format` if no frame header is found, it declares no pixels, or is of a kind that is not supported: other than 8 bits, or 1, 3 or 4
/// components.
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
                if let [bits, h0, h1, w0, w1, components, ..] = *segment {
                    check_kind(marker, bits, components)?;
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

/// Checks that the decoder knows the coding of a frame: not of several resolutions, whose frames add up.
fn check_kind(marker: u8, bits: u8, components: u8) -> Result<()> {
    if matches!(marker, 0xc5..=0xc7 | 0xcd..=0xcf) {
        return Err(Error::format("hierarchical JPEG files are not supported"));
    }
    if bits == 8 && matches!(components, 1 | 3 | 4) {
        return Ok(());
    }
    let components = count(components, "component");
    Err(Error::format(format!("JPEG files of {components} with {bits} bits are not supported")))
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

/// Decodes a file to grayscale or RGB, with the bytes of libjpeg-turbo, which Pillow decodes with. `structure` is that of the
/// file; the orientation is not applied. With `at_least`, the size may be 1/8, 1/4 or 1/2, rounded up, but not below that.
///
/// # Errors
/// `Format` if the file is truncated or damaged, or of a kind that is not supported: other than 8 bits, or 1, 3 or 4 components.
pub(super) fn decode(
    bytes: &[u8],
    structure: &Structure,
    at_least: Option<(usize, usize)>,
    image: &mut ByteImage,
) -> Result<()> {
    structure.check_complete()?;
    let damaged = |e: String| Error::format(format!("the JPEG file is damaged: {e}"));
    // The size is checked by `ImageHeader::check`, which has passed.
    let limits = DecodeLimits {
        max_width: MAX_SIDE,
        max_height: MAX_SIDE,
        max_scans: MAX_SCANS,
        ..Default::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|e| damaged(e.to_string()))?;
    let header = decoder.header();
    let (format, channels) = match (header.components.len(), header.precision) {
        (1, 8) => (PixelFormat::Grayscale, 1),
        (3, 8) => (PixelFormat::Rgb, 3),
        (4, 8) => (PixelFormat::Cmyk, 4),
        (components, bits) => {
            let what = format!("JPEG files of {components} components with {bits} bits are not supported");
            return Err(Error::format(what));
        }
    };
    check_sampling(&header.components)?;
    decoder.set_output_format(format);
    let (mut height, mut width) = (structure.height, structure.width);
    if let Some(divisor) = at_least.and_then(|size| divisor((height, width), size)) {
        let scale = ScalingFactor::try_new(1, divisor as u32).map_err(|e| damaged(e.to_string()))?;
        decoder.set_scale(scale);
        (height, width) = (height.div_ceil(divisor), width.div_ceil(divisor));
    }
    let pixels = image.try_reset(height, width, channels)?;
    if decoder.output_buffer_size().map_err(|e| damaged(e.to_string()))? != pixels.len() {
        return Err(damaged("its frame headers differ".into()));
    }
    // Files come from strangers: what the decoder does not expect is an error of the file.
    let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode_image_into(pixels)));
    let decoded = decoded.map_err(|_| damaged("the decoder does not know what to do with it".into()))?;
    let written = decoded.map_err(|e| damaged(e.to_string()))?.bytes_written;
    if written != pixels.len() {
        return Err(damaged("it has fewer pixels than its header declares".into()));
    }
    if format == PixelFormat::Cmyk { cmyk_to_rgb(image) } else { Ok(()) }
}

/// Checks that the decoder knows how to enlarge the components of a CMYK image: the first and the last have full size, the others the same.
fn check_sampling(components: &[ComponentInfo]) -> Result<()> {
    let [cyan, magenta, yellow, black] = components else { return Ok(()) };
    let sampling = |of: &ComponentInfo| [of.horizontal_sampling, of.vertical_sampling];
    let full = sampling(cyan);
    let fits = |[h, v]: [u8; 2]| h > 0 && v > 0 && full[0].is_multiple_of(h) && full[1].is_multiple_of(v);
    if sampling(black) == full && sampling(magenta) == sampling(yellow) && fits(sampling(yellow)) {
        return Ok(());
    }
    Err(Error::format("JPEG files with such sampling of CMYK components are not supported"))
}

/// The largest divisor with which an image of the size `from` is at least of the size `to`.
fn divisor(from: (usize, usize), to: (usize, usize)) -> Option<usize> {
    DIVISORS
        .into_iter()
        .find(|divisor| from.0.div_ceil(*divisor) >= to.0 && from.1.div_ceil(*divisor) >= to.1)
}

/// Converts inverted CMYK, as Adobe's programs write it, to RGB, with the bytes of Pillow's `convert("RGB")`.
fn cmyk_to_rgb(image: &mut ByteImage) -> Result<()> {
    let inverted = std::mem::take(image);
    let target = image.try_reset(inverted.height(), inverted.width(), 3)?;
    let (from, _) = inverted.pixels().as_chunks::<4>();
    let (to, _) = target.as_chunks_mut::<3>();
    for (&[c, m, y, white], rgb) in from.iter().zip(to) {
        // `white` is 255 minus black; the ink takes its share of it.
        *rgb = [c, m, y].map(|value| {
            let product = u32::from(255 - value) * u32::from(white) + 128;
            white.saturating_sub(((product + (product >> 8)) >> 8) as u8)
        });
    }
    Ok(())
}
