//! What is drawn on: a picture several times too large, and text with compiled-in fonts.

use std::convert::Infallible;

use ab_glyph::{Font, FontRef, ScaleFont, point};
use image::{Rgb, RgbImage};
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};

use crate::raster::Image;

/// How many times too large everything is drawn.
pub(crate) const TIMES: u32 = 3;

pub(crate) type Colour = [u8; 3];
pub(crate) const INK: Colour = [34, 34, 34];
pub(crate) const FAINT: Colour = [110, 110, 110];
pub(crate) const LINE: Colour = [205, 205, 205];
const PAPER: Colour = [255, 255, 255];

static REGULAR: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
static BOLD: &[u8] = include_bytes!("../assets/DejaVuSans-Bold-subset.ttf");

/// A text's look; sizes are in pixels of the finished picture.
#[derive(Clone, Copy)]
pub(crate) struct Type {
    pub size: f32,
    pub bold: bool,
    pub colour: Colour,
}

impl Type {
    pub const TITLE: Type = Type { size: 19.0, bold: true, colour: INK };
    pub const NOTE: Type = Type { size: 13.0, bold: false, colour: FAINT };
    pub const LABEL: Type = Type { size: 13.5, bold: true, colour: INK };
    pub const SMALL: Type = Type { size: 12.0, bold: false, colour: FAINT };

    pub fn coloured(self, colour: Colour) -> Self {
        Type { colour, ..self }
    }

    fn font(self) -> FontRef<'static> {
        let bytes = if self.bold { BOLD } else { REGULAR };
        FontRef::try_from_slice(bytes).expect("the compiled-in fonts are whole")
    }

    /// From one line to the next.
    pub fn line(self) -> f32 {
        (self.size * 1.3).round()
    }

    /// How wide a text is.
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

/// Where a text is held.
#[derive(Clone, Copy)]
pub(crate) enum Held {
    Left,
    Middle,
    Right,
}

/// A white picture to draw on; all places are in pixels of the finished picture.
pub(crate) struct Canvas {
    large: RgbImage,
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        Canvas { large: RgbImage::from_pixel(width * TIMES, height * TIMES, Rgb(PAPER)) }
    }

    /// The picture in its true size.
    pub fn finish(self) -> RgbImage {
        let (width, height) = (self.large.width() / TIMES, self.large.height() / TIMES);
        let count = TIMES * TIMES;
        RgbImage::from_fn(width, height, |x, y| {
            let mut sums = [count / 2; 3];
            for i in 0..count {
                let pixel = self.large.get_pixel(x * TIMES + i % TIMES, y * TIMES + i / TIMES);
                sums.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += u32::from(value));
            }
            Rgb(sums.map(|sum| (sum / count) as u8))
        })
    }

    /// A rectangle.
    pub fn fill(&mut self, (x, y): (f32, f32), (width, height): (f32, f32), colour: Colour) {
        let large = |v: f32| (v.max(0.0) * TIMES as f32).round() as u32;
        for row in large(y)..large(y + height).min(self.large.height()) {
            for column in large(x)..large(x + width).min(self.large.width()) {
                self.large.put_pixel(column, row, Rgb(colour));
            }
        }
    }

    /// A small picture, each of its pixels a rectangle.
    pub fn picture(&mut self, (x, y): (f32, f32), (width, height): (f32, f32), picture: &Image) {
        let large = |v: f32| (v * TIMES as f32).round() as u32;
        let (columns, rows) = (large(width), large(height));
        for row in 0..rows {
            for column in 0..columns {
                let colour =
                    picture.at((row as f32 + 0.5) / rows as f32, (column as f32 + 0.5) / columns as f32);
                let (column, row) = (large(x) + column, large(y) + row);
                if column < self.large.width() && row < self.large.height() {
                    self.large.put_pixel(column, row, Rgb(colour));
                }
            }
        }
    }

    /// A line of text whose capitals' middle is at height `y`.
    pub fn text(&mut self, text: &str, (x, y): (f32, f32), held: Held, type_: Type) {
        let font = type_.font();
        let size = type_.size * TIMES as f32;
        let scaled = font.as_scaled(size);
        let width = type_.width(text);
        let left = match held {
            Held::Left => x,
            Held::Middle => x - width / 2.0,
            Held::Right => x - width,
        };
        let mut at = point(left * TIMES as f32, y * TIMES as f32 + 0.31 * size);
        let mut last = None;
        for letter in text.chars() {
            let mut glyph = scaled.scaled_glyph(letter);
            at.x += last.replace(glyph.id).map_or(0.0, |last| scaled.kern(last, glyph.id));
            let advance = scaled.h_advance(glyph.id);
            glyph.position = at;
            at.x += advance;
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|dx, dy, share| {
                let (x, y) = (corner.x as i32 + dx as i32, corner.y as i32 + dy as i32);
                self.blend(x, y, type_.colour, share.min(1.0));
            });
        }
    }

    fn blend(&mut self, x: i32, y: i32, colour: Colour, share: f32) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x < self.large.width() && y < self.large.height() {
            let pixel = self.large.get_pixel_mut(x, y);
            for (old, new) in pixel.0.iter_mut().zip(colour) {
                *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * share).round() as u8;
            }
        }
    }
}

/// Charts are drawn by plotters, in the large picture's pixels.
impl DrawingBackend for Canvas {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.large.dimensions()
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
        colour: BackendColor,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let (red, green, blue) = colour.rgb;
        self.blend(x, y, [red, green, blue], colour.alpha as f32);
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let (red, green, blue) = style.color().rgb;
        let size = style.size() as f32 / TIMES as f32;
        let type_ = Type { size, bold: false, colour: [red, green, blue] };
        let Pos { h_pos, v_pos } = style.anchor();
        let held = match h_pos {
            HPos::Left => Held::Left,
            HPos::Center => Held::Middle,
            HPos::Right => Held::Right,
        };
        let (x, y) = (x as f32 / TIMES as f32, y as f32 / TIMES as f32);
        let y = match v_pos {
            VPos::Top => y + size / 2.0,
            VPos::Center => y,
            VPos::Bottom => y - size / 2.0,
        };
        self.text(text, (x, y), held, type_);
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let type_ = Type { size: style.size() as f32, bold: false, colour: INK };
        Ok((type_.width(text).ceil() as u32, style.size().ceil() as u32))
    }
}
