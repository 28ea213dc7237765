//! 8-bit images, and image files: their headers and their decoding.

mod byte_image;
mod decode;
mod file;
mod header;
mod info;
mod jpeg;
mod tiff_palette;

pub use byte_image::ByteImage;
pub(crate) use byte_image::luma;
pub use decode::{Alpha, DecodeOptions, decode, decode_file};
pub(crate) use file::read_file;
pub use header::{EXTENSIONS, read_header};
pub use info::{ImageHeader, MAX_PIXELS, MAX_SIDE, limit};
pub(crate) use jpeg::DIVISORS;
