//! The header of an image file: format, size, colors and orientation, without decoding the pixels.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};
use neocog_base::file::open_input;
use neocog_base::{Error, Result};

use super::file::read_file;
use super::info::{ImageHeader, MAX_PIXELS, Orientation};
use super::jpeg;
use super::tiff_palette::Palette;

/// Number of bytes of a file that are read first, and of the end of a JPEG file.
const START: usize = 1 << 16;
const END: u64 = 64;

/// Maximum memory of a decoder, in bytes: eight for each pixel of the largest image (16 bits for red, green, blue and
/// alpha).
const MAX_ALLOCATION: u64 = 8 * MAX_PIXELS as u64;

/// Maximum memory of the decoder of PNG files besides the image: for a row of pixels, and for the color profile, which is compressed
/// and not used.
const MAX_PNG_ALLOCATION: u64 = 16 << 20;

/// The extensions of torchvision's `ImageFolder`, and GIF; in any case.
pub const EXTENSIONS: [&str; 10] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif"];

/// Reads the header of the image file at `path`, and checks that a JPEG file is complete.
///
/// # Errors
/// `Io` if the file cannot be read; `Format` if it is not an image of a supported format, its header is damaged, it is a
/// truncated JPEG file, or the image is too large. The message does not name the file.
pub fn read_header(path: &Path) -> Result<ImageHeader> {
    let cannot_read = |e| Error::io("cannot read the file", e);
    let mut file = open_input(path).map_err(|e| match e.kind() {
        ErrorKind::InvalidInput => Error::format(e.to_string()),
        _ => cannot_read(e),
    })?;
    let size = file.metadata().map_err(cannot_read)?.len();
    let mut start = Vec::with_capacity(START + 1);
    file.by_ref().take(START as u64).read_to_end(&mut start).map_err(cannot_read)?;
    check_start(&start, size)?;
    let header = if start.starts_with(&jpeg::MAGIC) {
        read_jpeg_header(&mut file, start)?
    } else if start.starts_with(b"II*\0") || start.starts_with(b"MM\0*") {
        // The directory may be at the end.
        read_tiff_header(&read_file(path)?)?
    } else {
        file.rewind().map_err(cannot_read)?;
        header_of(&mut decoder(BufReader::new(file), &start)?)?
    };
    header.check(size)?;
    Ok(header)
}

fn read_tiff_header(bytes: &[u8]) -> Result<ImageHeader> {
    let palette = Palette::find(bytes);
    let bytes = palette.as_ref().map_or(bytes, |palette| &palette.gray);
    let mut header = header_of(&mut decoder(Cursor::new(bytes), bytes)?)?;
    header.is_color |= palette.is_some();
    Ok(header)
}

/// Checks what decoders do not in a file that starts with `start` and has `size` bytes.
pub(super) fn check_start(start: &[u8], size: u64) -> Result<()> {
    check_webp_length(start, size)?;
    check_gif_frame(start)
}

/// Checks that a WebP file that starts with `start` and has `size` bytes is as long as it declares. Decoders fill in what is missing.
fn check_webp_length(start: &[u8], size: u64) -> Result<()> {
    if let [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P', ..] = *start {
        let declared = u64::from(u32::from_le_bytes([a, b, c, d])) + 8;
        if size < declared {
            return Err(Error::format(format!(
                "the WebP file is truncated: it declares {declared} bytes, and has {size}"
            )));
        }
    }
    Ok(())
}

/// Checks that the first frame of a GIF file that starts with `start` is on its screen, the size of which is all that decoders declare.
fn check_gif_frame(start: &[u8]) -> Result<()> {
    match gif_frame(start) {
        Some(([width, height], [x, y, w, h])) if x + w > width || y + h > height => {
            Err(Error::format(format!(
                "the first frame of the GIF file, {w} x {h} pixels at ({x}, {y}), exceeds its screen of {width} x {height}"
            )))
        }
        _ => Ok(()),
    }
}

/// Returns the width and height of the screen of a GIF file, and the place and size of its first frame, if `start` has them.
fn gif_frame(start: &[u8]) -> Option<([usize; 2], [usize; 4])> {
    let number = |at: usize| Some(usize::from(u16::from_le_bytes([*start.get(at)?, *start.get(at + 1)?])));
    let flags = start.starts_with(b"GIF8").then(|| start.get(10))??;
    let palette = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + palette;
    // Extensions are followed by blocks with their lengths, the last of which is empty.
    while *start.get(at)? == 0x21 {
        at += 2;
        while *start.get(at)? != 0 {
            at += 1 + usize::from(start[at]);
        }
        at += 1;
    }
    let frame = [number(at + 1)?, number(at + 3)?, number(at + 5)?, number(at + 7)?];
    (start[at] == 0x2c).then_some(([number(6)?, number(8)?], frame))
}

/// Reads the header of a JPEG file that starts with `bytes`. The rest is read only if the size is not in the start of the
/// file, or the end of it has no end-of-image marker: some programs append data.
fn read_jpeg_header(file: &mut File, mut bytes: Vec<u8>) -> Result<ImageHeader> {
    let cannot_read = |e| Error::io("cannot read the file", e);
    let length = file.metadata().map_err(cannot_read)?.len();
    let found = jpeg::structure(&bytes);
    if let Ok(structure) = &found
        && !structure.is_complete
        && length > bytes.len() as u64
    {
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(length - END.min(length))).map_err(cannot_read)?;
        file.by_ref().take(END).read_to_end(&mut end).map_err(cannot_read)?;
        if end.ends_with(&[0xff, 0xd9]) {
            return Ok(structure.header(&bytes));
        }
    }
    let structure = match found {
        Ok(structure) if structure.is_complete => structure,
        _ => {
            file.seek(SeekFrom::Start(bytes.len() as u64)).map_err(cannot_read)?;
            file.read_to_end(&mut bytes).map_err(cannot_read)?;
            jpeg::structure(&bytes)?
        }
    };
    structure.check_complete()?;
    Ok(structure.header(&bytes))
}

pub(super) fn header_of(decoder: &mut impl ImageDecoder) -> Result<ImageHeader> {
    let (width, height) = decoder.dimensions();
    let is_grey =
        matches!(decoder.color_type(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (height, width) = (height as usize, width as usize);
    Ok(ImageHeader { height, width, is_color: !is_grey, orientation, decoded_bytes: decoder.total_bytes() })
}

/// Opens the decoder of an image file that is not JPEG, with limits set; `start` are its first bytes.
pub(super) fn decoder<'a>(file: impl BufRead + Seek + 'a, start: &[u8]) -> Result<impl ImageDecoder + 'a> {
    let format = image::guess_format(start).ok();
    let format = format.filter(|format| format.reading_enabled()).ok_or_else(|| not_an_image(start))?;
    let mut reader = ImageReader::with_format(file, format);
    let mut limits = Limits::default();
    // The size is checked by `ImageHeader::check`, which says so.
    (limits.max_image_width, limits.max_image_height) = (None, None);
    let max_allocation = if format == ImageFormat::Png { MAX_PNG_ALLOCATION } else { MAX_ALLOCATION };
    limits.max_alloc = Some(max_allocation);
    reader.limits(limits);
    reader.into_decoder().map_err(|e| damaged(format_name(format), &e))
}

pub(super) fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Pnm => "PNM",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Bmp => "BMP",
        _ => "image",
    }
}

pub(super) fn damaged(format: &str, e: &image::ImageError) -> Error {
    Error::format(format!("the {format} file is damaged or of an unsupported kind: {e}"))
}

fn not_an_image(bytes: &[u8]) -> Error {
    if bytes.is_empty() {
        return Error::format("the file is empty");
    }
    let start = bytes[..bytes.len().min(256)].trim_ascii_start();
    let what = if start.starts_with(b"<") {
        " (it starts like an HTML or XML page)".to_string()
    } else {
        let start: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!(" (it starts with the bytes {})", start.join(" "))
    };
    Error::format(format!("not an image in JPEG, PNG, WebP, BMP, GIF, TIFF or PNM format{what}"))
}
