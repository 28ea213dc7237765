//! [`ImageHeader`]: format-independent facts of an image file, and their limits.

use neocog_base::{Error, Result};

pub(super) use image::metadata::Orientation;

/// Maximum number of pixels of an image file: twice the limit above which Pillow warns of a decompression bomb, the one
/// above which it refuses.
pub const MAX_PIXELS: usize = 2 * (1 << 30) / 4 / 3;

/// Maximum height and width of an image file, as of JPEG.
pub const MAX_SIDE: usize = 65_535;

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

    /// Checks the size against [`MAX_PIXELS`] and [`MAX_SIDE`], before memory is allocated for the pixels.
    pub(super) fn check(&self) -> Result<()> {
        let (h, w) = (self.height, self.width);
        let fits = h <= MAX_SIDE && w <= MAX_SIDE && h.checked_mul(w).is_some_and(|n| n <= MAX_PIXELS);
        if h > 0 && w > 0 && fits {
            return Ok(());
        }
        Err(Error::format(format!(
            "the header declares an image of {h}x{w}: expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels; \
             a small file that declares a huge image may be a decompression bomb"
        )))
    }
}

/// Returns the orientation that a TIFF structure of EXIF data states.
pub(super) fn exif_orientation(exif: &[u8]) -> Orientation {
    Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms)
}
