//! 8-bit images, and image files: their headers and their decoding.

mod byte_image;
mod decode;
mod header;
mod info;
mod jpeg;

pub use byte_image::ByteImage;
pub(crate) use byte_image::luma;
pub(crate) use decode::read_file;
pub use decode::{Alpha, DecodeOptions, decode, decode_file};
pub use header::{EXTENSIONS, read_header};
pub use info::{ImageHeader, MAX_PIXELS, MAX_SIDE, limit};
pub(crate) use jpeg::DIVISORS;
