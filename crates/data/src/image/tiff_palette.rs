//! TIFF files with a palette, which the decoder does not know: they are decoded as grayscale, whose values are the indices.

use super::byte_image::ByteImage;
use neocog_base::Result;

/// Tags of a TIFF directory.
const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const COLOR_MAP: u16 = 320;

/// Values of [`PHOTOMETRIC`].
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;

/// The type of 16-bit numbers.
const SHORT: u16 = 3;

/// The colors of a file of 8 bits with a palette.
pub(super) struct Palette {
    colors: Vec<[u8; 3]>,
    /// The file as one of grayscale.
    pub(super) gray: Vec<u8>,
}

impl Palette {
    /// Finds the palette of the first image of a file; `None` if it is not a TIFF file of 8 bits with a palette.
    pub(super) fn find(bytes: &[u8]) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        let u16_at = |at: usize| {
            let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if big_endian { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
        };
        let u32_at = |at: usize| {
            let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
            Some(if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
        };
        let directory = u32_at(4)? as usize;
        let entries = usize::from(u16_at(directory)?);
        // The type, the number and the position of the values of a tag, which lie in the entry if they fit.
        let entry = |wanted: u16| {
            let at = (0..entries).map(|i| directory + 2 + 12 * i).find(|&at| u16_at(at) == Some(wanted))?;
            Some((u16_at(at + 2)?, u32_at(at + 4)?, at + 8))
        };
        let value = |tag: u16| match entry(tag)? {
            (SHORT, 1, at) => u16_at(at),
            _ => None,
        };
        let samples = if entry(SAMPLES_PER_PIXEL).is_some() { value(SAMPLES_PER_PIXEL)? } else { 1 };
        if (value(PHOTOMETRIC)?, value(BITS_PER_SAMPLE)?, samples) != (PALETTE, 8, 1) {
            return None;
        }
        let (SHORT, 768, at) = entry(COLOR_MAP)? else { return None };
        let map = u32_at(at)? as usize;
        // All values of red, then green, then blue; of 16 bits, of which Pillow takes the high byte.
        let channel =
            |i: usize, channel: usize| Some((u16_at(map.checked_add(2 * (256 * channel + i))?)? >> 8) as u8);
        let colors = (0..256)
            .map(|i| Some([channel(i, 0)?, channel(i, 1)?, channel(i, 2)?]))
            .collect::<Option<_>>()?;
        let mut gray = bytes.to_vec();
        let at = entry(PHOTOMETRIC)?.2;
        let kind = if big_endian { BLACK_IS_ZERO.to_be_bytes() } else { BLACK_IS_ZERO.to_le_bytes() };
        gray.get_mut(at..at + 2)?.copy_from_slice(&kind);
        Some(Palette { colors, gray })
    }

    /// Sets `image` of the size `(h, w)` to the colors of `indices`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(super) fn apply(&self, indices: &[u8], (h, w): (usize, usize), image: &mut ByteImage) -> Result<()> {
        let (pixels, _) = image.try_reset(h, w, 3)?.as_chunks_mut::<3>();
        for (pixel, &index) in pixels.iter_mut().zip(indices) {
            *pixel = self.colors[usize::from(index)];
        }
        Ok(())
    }
}
