//! Contact sheets: rows of thumbnails with a title, column headings, row labels and captions.

use image::RgbImage;
use neocog_base::{Error, Result};

use crate::canvas::{Align, BORDER, Canvas, Color, TEXT, TextStyle};
use crate::raster::Image;

/// A contact sheet: rows of thumbnails with a title, column headings and row labels.
#[derive(Clone, Debug)]
pub struct ContactSheet {
    title: String,
    notes: Vec<String>,
    headings: Vec<String>,
    rows: Vec<Row>,
    thumbnail_width: f32,
}

#[derive(Clone, Debug)]
struct Row {
    /// Lines of text; the first is bold.
    label: Vec<String>,
    thumbnails: Vec<Thumbnail>,
}

/// An image of a contact sheet, with its captions.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    image: Image,
    captions: Vec<(String, CaptionStyle)>,
}

/// The style of a caption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptionStyle {
    /// Dark text.
    Strong,
    /// Gray text.
    #[default]
    Plain,
    /// Bold green text, for correct predictions.
    Good,
    /// Bold red text, for wrong predictions.
    Bad,
}

impl Thumbnail {
    /// Creates a thumbnail without captions.
    pub fn new(image: Image) -> Self {
        Thumbnail { image, captions: Vec::new() }
    }

    /// Adds a line of text below the image.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>, style: CaptionStyle) -> Self {
        self.captions.push((text.into(), style));
        self
    }
}

impl CaptionStyle {
    fn text_style(self) -> TextStyle {
        const GREEN: Color = [0, 115, 60];
        const RED: Color = [190, 30, 30];
        match self {
            CaptionStyle::Strong => TextStyle::SMALL.with_color(TEXT),
            CaptionStyle::Plain => TextStyle::SMALL,
            CaptionStyle::Good => TextStyle { bold: true, ..TextStyle::SMALL }.with_color(GREEN),
            CaptionStyle::Bad => TextStyle { bold: true, ..TextStyle::SMALL }.with_color(RED),
        }
    }
}

const MARGIN: f32 = 24.0;
const GAP: f32 = 8.0;

const MAX_SIDE: u32 = 65_535;

/// Number of pixels that are drawn at a time.
const BAND_PIXELS: u32 = 1 << 20;

/// Where columns are.
#[derive(Clone, Copy)]
struct Columns {
    left: f32,
    width: f32,
}

impl Columns {
    fn center(self, i: usize) -> f32 {
        self.left + i as f32 * (self.width + GAP) + self.width / 2.0
    }
}

impl ContactSheet {
    /// Creates an empty sheet.
    pub fn new(title: impl Into<String>) -> Self {
        ContactSheet {
            title: title.into(),
            notes: Vec::new(),
            headings: Vec::new(),
            rows: Vec::new(),
            thumbnail_width: 84.0,
        }
    }

    /// Adds a line of text below the title.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Sets the headings of the columns.
    #[must_use]
    pub fn headings<S: Into<String>>(mut self, headings: impl IntoIterator<Item = S>) -> Self {
        self.headings = headings.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the width of the thumbnails in pixels. Default: 84. An integer multiple of the image width looks best.
    #[must_use]
    pub fn thumbnail_width(mut self, pixels: usize) -> Self {
        self.thumbnail_width = pixels as f32;
        self
    }

    /// Adds a row. The label may have several lines, separated by `\n`.
    #[must_use]
    pub fn row(mut self, label: &str, thumbnails: impl IntoIterator<Item = Thumbnail>) -> Self {
        let label = label.lines().map(str::to_string).collect();
        self.rows.push(Row { label, thumbnails: thumbnails.into_iter().collect() });
        self
    }

    /// Draws the sheet.
    ///
    /// # Errors
    /// `InvalidArgument` for an image with a side of more than 65,535 pixels, which few programs read; `OutOfMemory` when there is not
    /// enough memory for it.
    pub fn draw(&self) -> Result<RgbImage> {
        let label_width = self.label_width();
        let columns = self.rows.iter().map(|row| row.thumbnails.len()).max().unwrap_or(0);
        let left = MARGIN + if label_width > 0.0 { label_width + 2.0 * GAP } else { 0.0 };
        let places = Columns { left, width: self.column_width() };
        let texts = self.notes.iter().map(|note| TextStyle::NOTE.width(note));
        let text_width = texts.fold(TextStyle::TITLE.width(&self.title), f32::max);
        let right = left + columns as f32 * (places.width + GAP) - GAP + MARGIN;
        let width = right.max(text_width + 2.0 * MARGIN).ceil() as u32;
        let top = MARGIN + self.header_height();
        let height = top + self.rows.iter().map(|row| self.row_height(row) + GAP).sum::<f32>() - GAP + MARGIN;
        let height = height.ceil() as u32;

        if width.max(height) > MAX_SIDE {
            return Err(Error::invalid_argument(format!(
                "an image of {width} x {height} pixels is too large: at most {MAX_SIDE} on each side; show fewer images"
            )));
        }
        let mut pixels = Vec::new();
        pixels.try_reserve_exact(3 * width as usize * height as usize).map_err(|_| {
            Error::out_of_memory(format!(
                "cannot allocate an image of {width} x {height} pixels; show fewer images"
            ))
        })?;
        // Supersampling the whole image at once would take nine times its memory.
        let rows = (BAND_PIXELS / width.max(1)).max(1);
        for start in (0..height).step_by(rows as usize) {
            let mut canvas = Canvas::band(width, start, rows.min(height - start));
            self.draw_header(&mut canvas, places);
            let mut y = top;
            for row in &self.rows {
                let end = y + self.row_height(row) + GAP;
                // Text may extend a little beyond its line.
                if end + GAP > start as f32 && y - GAP < (start + rows) as f32 {
                    self.draw_row(&mut canvas, row, places, y);
                }
                y = end;
            }
            pixels.extend_from_slice(&canvas.finish());
        }
        Ok(RgbImage::from_raw(width, height, pixels).expect("all rows were drawn"))
    }

    fn draw_row(&self, canvas: &mut Canvas, row: &Row, places: Columns, y: f32) {
        let style_of = |i| if i == 0 { TextStyle::LABEL } else { TextStyle::SMALL };
        let label_height: f32 = (0..row.label.len()).map(|i| style_of(i).line_height()).sum();
        let height = self.image_height(row);
        let mut line_y = y + (height - label_height) / 2.0;
        for (i, text) in row.label.iter().enumerate() {
            line_y += style_of(i).line_height() / 2.0;
            canvas.draw_text_line(text, (MARGIN, line_y), Align::Left, style_of(i));
            line_y += style_of(i).line_height() / 2.0;
        }
        for (i, thumbnail) in row.thumbnails.iter().enumerate() {
            self.draw_thumbnail(canvas, thumbnail, places.center(i), y, height);
        }
    }

    fn draw_header(&self, canvas: &mut Canvas, places: Columns) {
        let mut y = MARGIN;
        for (text, style) in [(&self.title, TextStyle::TITLE)]
            .into_iter()
            .chain(self.notes.iter().map(|note| (note, TextStyle::NOTE)))
        {
            canvas.draw_text_line(text, (MARGIN, y + style.line_height() / 2.0), Align::Left, style);
            y += style.line_height();
        }
        let y = MARGIN + self.header_height() - TextStyle::SMALL.line_height() / 2.0 - 2.0;
        for (i, heading) in self.headings.iter().enumerate() {
            let at = (places.center(i), y);
            canvas.draw_text_line(heading, at, Align::Center, TextStyle::SMALL.with_color(TEXT));
        }
    }

    fn draw_thumbnail(&self, canvas: &mut Canvas, thumbnail: &Thumbnail, center: f32, y: f32, height: f32) {
        let own_height = self.scaled_height(&thumbnail.image);
        // Aligned to whole pixels, so that edges are sharp.
        let corner =
            ((center - self.thumbnail_width / 2.0).round(), (y + (height - own_height) / 2.0).round());
        let outer = (corner.0 - 1.0, corner.1 - 1.0);
        canvas.fill_rect(outer, (self.thumbnail_width + 2.0, own_height + 2.0), BORDER);
        canvas.draw_image(corner, (self.thumbnail_width, own_height), &thumbnail.image);
        let mut line_y = y + height + 4.0;
        for (text, style) in &thumbnail.captions {
            let style = style.text_style();
            canvas.draw_text_line(text, (center, line_y + style.line_height() / 2.0), Align::Center, style);
            line_y += style.line_height();
        }
    }

    fn header_height(&self) -> f32 {
        let notes = self.notes.len() as f32 * TextStyle::NOTE.line_height();
        let headings = if self.headings.is_empty() { 0.0 } else { TextStyle::SMALL.line_height() + 6.0 };
        TextStyle::TITLE.line_height() + notes + 1.5 * GAP + headings
    }

    /// Returns the width of the widest image, heading or caption.
    fn column_width(&self) -> f32 {
        let headings = self.headings.iter().map(|text| TextStyle::SMALL.width(text));
        let thumbnails = self.rows.iter().flat_map(|row| &row.thumbnails);
        let captions = thumbnails.flat_map(|thumbnail| &thumbnail.captions);
        let captions = captions.map(|(text, style)| style.text_style().width(text));
        headings.chain(captions).fold(self.thumbnail_width, f32::max).ceil()
    }

    fn label_width(&self) -> f32 {
        let lines = self.rows.iter().flat_map(|row| row.label.iter().enumerate());
        let width = |(i, text): (usize, &String)| {
            if i == 0 { TextStyle::LABEL } else { TextStyle::SMALL }.width(text)
        };
        lines.map(width).fold(0.0, f32::max).ceil()
    }

    /// Returns the height of an image scaled to the thumbnail width.
    fn scaled_height(&self, image: &Image) -> f32 {
        (self.thumbnail_width * image.height as f32 / image.width as f32).round()
    }

    fn image_height(&self, row: &Row) -> f32 {
        row.thumbnails.iter().map(|thumbnail| self.scaled_height(&thumbnail.image)).fold(0.0, f32::max)
    }

    fn row_height(&self, row: &Row) -> f32 {
        let captions = |thumbnail: &Thumbnail| {
            let heights = thumbnail.captions.iter().map(|(_, style)| style.text_style().line_height());
            heights.sum::<f32>()
        };
        let captions = row.thumbnails.iter().map(captions).fold(0.0, f32::max);
        self.image_height(row) + if captions > 0.0 { captions + 8.0 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn black() -> Thumbnail {
        Thumbnail::new(Image::from_values(&[0.0; 16], [1, 4, 4]).unwrap())
    }

    fn count_black(image: &RgbImage) -> usize {
        image.pixels().filter(|p| p.0 == [0, 0, 0]).count()
    }

    #[test]
    fn images_are_drawn_completely_and_once() {
        let sheet =
            ContactSheet::new("A title").row("a row", [black(), black(), black()]).row("another", [black()]);
        assert_eq!(count_black(&sheet.draw().unwrap()), 4 * 84 * 84);
        assert_eq!(count_black(&sheet.clone().thumbnail_width(40).draw().unwrap()), 4 * 40 * 40);
        // Text takes its own space and does not overlap the images.
        let captioned =
            sheet.row("", [black().caption("shoe", CaptionStyle::Strong).caption("99 %", CaptionStyle::Bad)]);
        let captioned =
            captioned.note("below the title").headings(["1", "2", "a heading wider than an image"]);
        assert_eq!(count_black(&captioned.draw().unwrap()), 5 * 84 * 84);
    }

    #[test]
    fn drawing_is_deterministic() {
        let sheet = ContactSheet::new("Same").row("row\nnote", [black().caption("x", CaptionStyle::Good)]);
        assert_eq!(sheet.draw().unwrap(), sheet.draw().unwrap());
        assert_ne!(
            sheet.draw().unwrap(),
            ContactSheet::new("Sane")
                .row("row\nnote", [black().caption("x", CaptionStyle::Good)])
                .draw()
                .unwrap()
        );
    }

    #[test]
    fn long_titles_are_not_truncated() {
        let title = "A title that is much longer than the images below it are wide";
        let image = ContactSheet::new(title).row("", [black()]).draw().unwrap();
        let right = image.width() - MARGIN as u32 / 2;
        assert!((right..image.width()).all(|x| (0..60).all(|y| image.get_pixel(x, y).0 == [255; 3])));
    }

    #[test]
    fn large_sheets_are_drawn_in_bands() {
        let row = || (0..40).map(|_| black().caption("x", CaptionStyle::Bad)).collect::<Vec<_>>();
        let sheet = (0..12).fold(ContactSheet::new("Many"), |sheet, i| sheet.row(&format!("row {i}"), row()));
        let image = sheet.draw().unwrap();
        assert!(image.width() * image.height() > 2 * BAND_PIXELS, "{:?}", image.dimensions());
        assert_eq!(count_black(&image), 12 * 40 * 84 * 84);
        // All rows look alike, wherever the bands begin.
        let (top, pitch) = ((MARGIN + sheet.header_height()) as u32, sheet.row_height(&sheet.rows[0]) + GAP);
        let left = (MARGIN + sheet.label_width() + GAP) as u32;
        let view = |i: u32| {
            let y = top - 1 + i * pitch as u32;
            image::imageops::crop_imm(&image, left, y, image.width() - left, pitch as u32).to_image()
        };
        assert!((1..12).all(|i| view(i) == view(0)));
    }

    #[test]
    fn an_image_that_few_programs_read_is_an_error() {
        let e = ContactSheet::new("Wide").row("", vec![black(); 800]).draw().unwrap_err().to_string();
        assert!(e.starts_with("an image of 73640 x ") && e.ends_with("; show fewer images"), "{e}");
    }
}
