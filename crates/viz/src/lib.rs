//! Images of what a network sees and computes, as PNG files: contact sheets of feature maps, kernels or predictions, and
//! line charts.
//!
//! - [`Image`] converts pixels, feature maps and signed values to RGB.
//! - [`ContactSheet`] arranges images as [`Thumbnail`]s in labeled rows and columns, with captions.
//! - [`Chart`] draws lines over a linear or logarithmic y axis.
//! - [`save`] writes the result as PNG file.
//!
//! Drawings are supersampled, so edges and text are smooth. The fonts are embedded and nothing depends on the system: the
//! same input gives the same bytes everywhere. The crate does not depend on tensors; it takes slices of `f32`.
//!
//! # Example
//!
//! ```
//! use neocog_viz::{CaptionStyle, ContactSheet, Image, Thumbnail};
//!
//! let ramp: Vec<f32> = (0..64).map(|i| i as f32 / 63.0).collect();
//! let gray = Image::from_values(&ramp, [1, 8, 8])?;
//! let signed = Image::diverging(&ramp, [8, 8], 1.0)?;
//! let sheet = ContactSheet::new("A ramp").headings(["grayscale", "diverging"]).row(
//!     "8x8",
//!     [Thumbnail::new(gray), Thumbnail::new(signed).caption("0 to 1", CaptionStyle::Plain)],
//! );
//! let image = sheet.draw();
//! assert!(image.width() > 2 * 84 && image.height() > 84);
//! // neocog_viz::save(&image, "ramp.png".as_ref())?;
//! # Ok::<(), neocog_base::Error>(())
//! ```

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
