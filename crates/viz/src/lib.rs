#![doc = include_str!("../README.md")]

mod canvas;
mod chart;
mod contact_sheet;
mod png;
mod raster;
mod svg;
pub mod tensorboard;

pub use chart::{AxisScale, Chart};
pub use contact_sheet::{CaptionStyle, ContactSheet, Thumbnail};
pub use image::RgbImage;
pub use png::{data_uri, encode, save};
pub use raster::Image;
