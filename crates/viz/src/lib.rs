//! Pictures of what a network sees and makes: sheets of small pictures with captions, and line charts, as PNG.
//!
//! Everything is drawn several times too large and averaged down, so edges and letters are smooth; the fonts are
//! compiled in, so a picture has the same bytes everywhere.
//!
//! ```
//! use neocog_viz::{Cell, Image, Sheet};
//!
//! let ramp: Vec<f32> = (0..64).map(|i| i as f32 / 63.0).collect();
//! let sheet = Sheet::new("A ramp").row("8x8", [Cell::new(Image::of_values(&ramp, [1, 8, 8])?)]);
//! let image = sheet.draw();
//! assert!(image.width() > 84 && image.height() > 84);
//! # Ok::<(), neocog_base::Error>(())
//! ```

mod canvas;
mod chart;
mod file;
mod raster;
mod sheet;

pub use chart::{Chart, Scale};
pub use file::save;
pub use image::RgbImage;
pub use raster::Image;
pub use sheet::{Cell, Sheet, Tone};
