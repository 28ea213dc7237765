//! Decoding of PNG and JPEG files, within limits that are checked before memory is allocated.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use neocog_base::memory::{no_memory, readable_bytes};
use neocog_tensor::{Error, Result};

/// The largest number of bytes of a decoded image of any file.
const MAX_BYTES: u64 = 1 << 30;

/// Returns the largest number of bytes of an image that is decoded from a file of `file_size` bytes: 64 MiB and 256 times the
/// size of the file, at most 1 GiB. Photographs and drawings are compressed to a tenth or so.
pub fn limit(file_size: u64) -> u64 {
    file_size.saturating_mul(256).saturating_add(64 << 20).min(MAX_BYTES)
}

/// Reads the image at `path`.
///
/// # Errors
/// `Io` when the file cannot be read; as [`decode`].
pub fn read(path: &Path) -> Result<DynamicImage> {
    let cannot_read = |e| Error::io(format!("cannot read the image {}", path.display()), e);
    let mut file = BufReader::new(File::open(path).map_err(cannot_read)?);
    let mut bytes = Vec::new();
    // No image that may be decoded has a larger file.
    file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    decode(&path.display().to_string(), &bytes)
}

/// Decodes a PNG or JPEG image; `name` is used in error messages.
///
/// # Errors
/// `Format` when the bytes are not a whole image, or the size in its header is beyond the [`limit`]; `OutOfMemory` when the
/// system has less memory than that.
pub fn decode(name: &str, bytes: &[u8]) -> Result<DynamicImage> {
    let damaged = |e: ImageError| Error::format(format!("the image {name} is damaged")).with_source(e);
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|e| Error::io(format!("cannot read the image {name}"), e))?;
    // The format is that of the contents, whatever the extension.
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(Error::format(format!("{name} is not a PNG or JPEG image")));
    }
    let limit = limit(bytes.len() as u64);
    let mut limits = image::Limits::no_limits();
    // The decoder's own buffers are beside the image.
    limits.max_alloc = Some(2 * MAX_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let size = decoder.total_bytes();
    if size > limit {
        return Err(Error::format(format!(
            "{name}: its header declares {width} x {height} pixels, {} decoded, but a file of {} bytes may hold at most {}",
            readable_bytes(size),
            bytes.len(),
            readable_bytes(limit)
        )));
    }
    // Decoders abort the process if they cannot allocate: is there enough for the image, its copy and their buffers?
    let needed = usize::try_from(size).unwrap_or(usize::MAX).saturating_mul(3);
    Vec::<u8>::new().try_reserve_exact(needed).map_err(|_| {
        no_memory::<u8>(needed, format_args!("an image of {width} x {height} pixels")).context(name)
    })?;
    DynamicImage::from_decoder(decoder).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    /// A JPEG of 16 x 16 pixels whose header says `side` x `side`.
    fn jpeg(side: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let image = DynamicImage::from(RgbImage::new(16, 16));
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
        let frame = bytes.windows(2).position(|pair| pair[0] == 0xff && (0xc0..=0xc2).contains(&pair[1]));
        let frame = frame.unwrap();
        for at in [5, 7] {
            bytes[frame + at..frame + at + 2].copy_from_slice(&side.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn images_are_refused_by_their_header() {
        assert_eq!(decode("a.jpg", &jpeg(16)).unwrap().width(), 16);
        let bytes = jpeg(16_000);
        assert!(bytes.len() < 1000, "{}", bytes.len());
        let text = decode("a.jpg", &bytes).unwrap_err().to_string();
        assert!(
            text.starts_with("a.jpg: its header declares 16000 x 16000 pixels, 732.4 MiB decoded"),
            "{text}"
        );
        assert!(text.ends_with("may hold at most 64.2 MiB"), "{text}");

        let mut png = Vec::new();
        let image = DynamicImage::from(RgbImage::new(16, 16));
        image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        assert!(decode("a.png", &png).is_ok());
        assert!(decode("a.png", &png[..png.len() / 2]).is_err());
        png[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
        // The checksum of the header.
        let sum = crc(&png[12..29]);
        png[29..33].copy_from_slice(&sum.to_be_bytes());
        let text = decode("a.png", &png).unwrap_err().to_string();
        assert!(text.contains("declares 32768 x 32768 pixels, 3.0 GiB decoded"), "{text}");
    }

    fn crc(bytes: &[u8]) -> u32 {
        let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        !bytes.iter().fold(u32::MAX, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step))
    }
}
