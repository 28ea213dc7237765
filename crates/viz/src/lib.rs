#![doc = include_str!("../README.md")]

mod canvas;
mod chart;
mod contact_sheet;
mod png;
mod raster;

pub use chart::{AxisScale, Chart};
pub use contact_sheet::{CaptionStyle, ContactSheet, Thumbnail};
pub use image::RgbImage;
pub use png::save;
pub use raster::Image;
