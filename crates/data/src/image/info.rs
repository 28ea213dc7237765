//! [`ImageHeader`]: format-independent facts of an image file, and their limits.

use neocog_base::memory::{no_memory, readable_bytes};
use neocog_base::{Error, Result};

pub(super) use image::metadata::Orientation;

/// Maximum number of pixels of an image file: twice the limit above which Pillow warns of a decompression bomb, the one
/// above which it refuses.
pub const MAX_PIXELS: usize = 2 * (1 << 30) / 4 / 3;

/// Maximum height and width of an image file, as of JPEG.
pub const MAX_SIDE: usize = 65_535;

/// Maximum size of an image file, and of an image that is decoded from it, in bytes.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// Returns the largest number of bytes of an image that is decoded from a file of `file_size` bytes: 64 MiB and 256 times the
/// size of the file, at most 1 GiB. Photographs and drawings are compressed to a tenth or so.
pub fn limit(file_size: u64) -> u64 {
    file_size.saturating_mul(256).saturating_add(64 << 20).min(MAX_BYTES)
}

/// What the header of an image file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageHeader {
    /// Height of the stored image, before its orientation is applied.
    pub height: usize,
    /// Width of the stored image, before its orientation is applied.
    pub width: usize,
    /// Whether it has colors; a palette counts as colors.
    pub is_color: bool,
    pub(super) orientation: Orientation,
    /// Size of the decoded image, of all channels.
    pub(super) decoded_bytes: u64,
}

impl ImageHeader {
    /// Returns the size `(h, w)` of the image as it is to be looked at.
    pub fn size(&self) -> (usize, usize) {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        match self.orientation {
            Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (self.width, self.height),
            _ => (self.height, self.width),
        }
    }

    /// Checks the size against [`MAX_PIXELS`], [`MAX_SIDE`] and the [`limit`] of a file of `file_size` bytes, before memory is
    /// allocated for the pixels.
    pub(super) fn check(&self, file_size: u64) -> Result<()> {
        let (h, w) = (self.height, self.width);
        let fits = h <= MAX_SIDE && w <= MAX_SIDE && h.checked_mul(w).is_some_and(|n| n <= MAX_PIXELS);
        if h > 0 && w > 0 && fits && self.decoded_bytes <= limit(file_size) {
            return Ok(());
        }
        if h > 0 && w > 0 && fits {
            return Err(Error::format(format!(
                "its header declares {w} x {h} pixels, {} decoded, but a file of {file_size} bytes may hold at most {}; \
                 a small file that declares a huge image may be a decompression bomb",
                readable_bytes(self.decoded_bytes),
                readable_bytes(limit(file_size))
            )));
        }
        Err(Error::format(format!(
            "the header declares an image of {h}x{w}: expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels; \
             a small file that declares a huge image may be a decompression bomb"
        )))
    }

    /// Checks that there is memory for the image, its copy and the buffers of the decoder, which ends the process if it cannot
    /// allocate.
    pub(super) fn check_memory(&self) -> Result<()> {
        let needed = usize::try_from(self.decoded_bytes).unwrap_or(usize::MAX).saturating_mul(3);
        let what = format_args!("an image of {} x {} pixels", self.width, self.height);
        Vec::<u8>::new().try_reserve_exact(needed).map_err(|_| no_memory::<u8>(needed, what))
    }
}

/// Returns the orientation that a TIFF structure of EXIF data states.
pub(super) fn exif_orientation(exif: &[u8]) -> Orientation {
    Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms)
}
