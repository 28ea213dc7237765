//! A supersampled drawing surface, and text with embedded fonts.

use std::convert::Infallible;
use std::ops::Range;

use ab_glyph::{Font, FontRef, ScaleFont, point};
use image::{Rgb, RgbImage};
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};

use crate::raster::Image;

/// Supersampling factor: everything is drawn enlarged and averaged down at the end.
pub(crate) const SUPERSAMPLING: u32 = 3;

/// Red, green and blue.
pub(crate) type Color = [u8; 3];
/// Color of titles and other prominent text.
pub(crate) const TEXT: Color = [34, 34, 34];
/// Color of secondary text.
pub(crate) const MUTED: Color = [110, 110, 110];
/// Color of axes and image borders.
pub(crate) const BORDER: Color = [205, 205, 205];
const BACKGROUND: Color = [255, 255, 255];

static REGULAR: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
static BOLD: &[u8] = include_bytes!("../assets/DejaVuSans-Bold-subset.ttf");

/// Font size in pixels of the final image, weight and color.
#[derive(Clone, Copy)]
pub(crate) struct TextStyle {
    pub size: f32,
    pub bold: bool,
    pub color: Color,
}

impl TextStyle {
    pub const TITLE: TextStyle = TextStyle { size: 19.0, bold: true, color: TEXT };
    pub const NOTE: TextStyle = TextStyle { size: 13.0, bold: false, color: MUTED };
    pub const LABEL: TextStyle = TextStyle { size: 13.5, bold: true, color: TEXT };
    pub const SMALL: TextStyle = TextStyle { size: 12.0, bold: false, color: MUTED };

    /// Returns the style with another color.
    pub fn with_color(self, color: Color) -> Self {
        TextStyle { color, ..self }
    }

    fn font(self) -> FontRef<'static> {
        let bytes = if self.bold { BOLD } else { REGULAR };
        FontRef::try_from_slice(bytes).expect("the embedded fonts are valid")
    }

    /// Returns the line height.
    pub fn line_height(self) -> f32 {
        (self.size * 1.3).round()
    }

    /// Returns the width of a line of text.
    pub fn width(self, text: &str) -> f32 {
        let font = self.font();
        let font = font.as_scaled(self.size);
        let mut last = None;
        text.chars()
            .map(|letter| {
                let id = font.glyph_id(letter);
                let kern = last.replace(id).map_or(0.0, |last| font.kern(last, id));
                kern + font.h_advance(id)
            })
            .sum()
    }
}

/// Horizontal alignment of text relative to its position.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

/// A white image to draw on, or a band of its rows. All coordinates are in pixels of the final image; what is outside the band
/// is not drawn.
pub(crate) struct Canvas {
    supersampled: RgbImage,
    /// The first supersampled row.
    top: u32,
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        Self::band(width, 0, height)
    }

    /// Creates the canvas of the `height` rows that start at `top`.
    pub fn band(width: u32, top: u32, height: u32) -> Self {
        let supersampled =
            RgbImage::from_pixel(width * SUPERSAMPLING, height * SUPERSAMPLING, Rgb(BACKGROUND));
        Canvas { supersampled, top: top * SUPERSAMPLING }
    }

    /// Returns the supersampled rows of the canvas.
    fn rows(&self) -> Range<u32> {
        self.top..self.top + self.supersampled.height()
    }

    /// Averages the pixels down to the final size.
    pub fn finish(self) -> RgbImage {
        let (width, height) =
            (self.supersampled.width() / SUPERSAMPLING, self.supersampled.height() / SUPERSAMPLING);
        let count = SUPERSAMPLING * SUPERSAMPLING;
        RgbImage::from_fn(width, height, |x, y| {
            let mut sums = [count / 2; 3];
            for i in 0..count {
                let pixel = self
                    .supersampled
                    .get_pixel(x * SUPERSAMPLING + i % SUPERSAMPLING, y * SUPERSAMPLING + i / SUPERSAMPLING);
                sums.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += u32::from(value));
            }
            Rgb(sums.map(|sum| (sum / count) as u8))
        })
    }

    /// Fills a rectangle.
    pub fn fill_rect(&mut self, (x, y): (f32, f32), (width, height): (f32, f32), color: Color) {
        let scale = |v: f32| (v.max(0.0) * SUPERSAMPLING as f32).round() as u32;
        let rows = self.rows();
        for row in scale(y).max(rows.start)..scale(y + height).min(rows.end) {
            for column in scale(x)..scale(x + width).min(self.supersampled.width()) {
                self.supersampled.put_pixel(column, row - rows.start, Rgb(color));
            }
        }
    }

    /// Draws an image scaled to a rectangle, with nearest-neighbor interpolation.
    pub fn draw_image(&mut self, (x, y): (f32, f32), (width, height): (f32, f32), image: &Image) {
        let scale = |v: f32| (v * SUPERSAMPLING as f32).round() as u32;
        let (columns, rows) = (scale(width), scale(height));
        let (band, left, top) = (self.rows(), scale(x), scale(y));
        for row in top.max(band.start)..(top + rows).min(band.end) {
            for column in left..(left + columns).min(self.supersampled.width()) {
                let center = |at: u32, of: u32| (at as f32 + 0.5) / of as f32;
                let color = image.at(center(row - top, rows), center(column - left, columns));
                self.supersampled.put_pixel(column, row - band.start, Rgb(color));
            }
        }
    }

    /// Draws a line of text, with its capital letters vertically centered at `y`.
    pub fn draw_text_line(&mut self, text: &str, (x, y): (f32, f32), align: Align, style: TextStyle) {
        let font = style.font();
        let size = style.size * SUPERSAMPLING as f32;
        let scaled = font.as_scaled(size);
        let width = style.width(text);
        let left = match align {
            Align::Left => x,
            Align::Center => x - width / 2.0,
            Align::Right => x - width,
        };
        let mut at = point(left * SUPERSAMPLING as f32, y * SUPERSAMPLING as f32 + 0.31 * size);
        let mut last = None;
        for letter in text.chars() {
            let mut glyph = scaled.scaled_glyph(letter);
            at.x += last.replace(glyph.id).map_or(0.0, |last| scaled.kern(last, glyph.id));
            let advance = scaled.h_advance(glyph.id);
            glyph.position = at;
            at.x += advance;
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|dx, dy, coverage| {
                let (x, y) = (corner.x as i32 + dx as i32, corner.y as i32 + dy as i32);
                self.blend(x, y, style.color, coverage.min(1.0));
            });
        }
    }

    /// Blends a color into a supersampled pixel, if it is inside the canvas.
    fn blend(&mut self, x: i32, y: i32, color: Color, opacity: f32) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x < self.supersampled.width() && self.rows().contains(&y) {
            let pixel = self.supersampled.get_pixel_mut(x, y - self.top);
            for (old, new) in pixel.0.iter_mut().zip(color) {
                *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * opacity).round() as u8;
            }
        }
    }
}

/// plotters draws charts in supersampled pixels.
impl DrawingBackend for Canvas {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.supersampled.dimensions()
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn draw_pixel(
        &mut self,
        (x, y): BackendCoord,
        color: BackendColor,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let (red, green, blue) = color.rgb;
        self.blend(x, y, [red, green, blue], color.alpha as f32);
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let (red, green, blue) = style.color().rgb;
        let size = style.size() as f32 / SUPERSAMPLING as f32;
        let text_style = TextStyle { size, bold: false, color: [red, green, blue] };
        let Pos { h_pos, v_pos } = style.anchor();
        let align = match h_pos {
            HPos::Left => Align::Left,
            HPos::Center => Align::Center,
            HPos::Right => Align::Right,
        };
        let (x, y) = (x as f32 / SUPERSAMPLING as f32, y as f32 / SUPERSAMPLING as f32);
        let y = match v_pos {
            VPos::Top => y + size / 2.0,
            VPos::Center => y,
            VPos::Bottom => y - size / 2.0,
        };
        self.draw_text_line(text, (x, y), align, text_style);
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let text_style = TextStyle { size: style.size() as f32, bold: false, color: TEXT };
        Ok((text_style.width(text).ceil() as u32, style.size().ceil() as u32))
    }
}
