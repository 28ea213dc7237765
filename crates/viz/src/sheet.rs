//! A sheet of small pictures in rows, with a title, headings, labels and captions.

use image::RgbImage;

use crate::canvas::{Canvas, Colour, Held, INK, LINE, Type};
use crate::raster::Image;

/// Small pictures in rows.
#[derive(Clone, Debug)]
pub struct Sheet {
    title: String,
    notes: Vec<String>,
    headings: Vec<String>,
    rows: Vec<Row>,
    cell: f32,
}

#[derive(Clone, Debug)]
struct Row {
    /// The first line stands out.
    label: Vec<String>,
    cells: Vec<Cell>,
}

/// A picture with its caption.
#[derive(Clone, Debug)]
pub struct Cell {
    picture: Image,
    captions: Vec<(String, Tone)>,
}

/// How a caption looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What is to be read first.
    Strong,
    /// What is read after that.
    Plain,
    /// What is right.
    Good,
    /// What is wrong.
    Bad,
}

impl Cell {
    /// A picture without a caption.
    pub fn new(picture: Image) -> Self {
        Cell { picture, captions: Vec::new() }
    }

    /// With one more line below.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>, tone: Tone) -> Self {
        self.captions.push((text.into(), tone));
        self
    }
}

impl Tone {
    fn type_(self) -> Type {
        const GREEN: Colour = [0, 115, 60];
        const RED: Colour = [190, 30, 30];
        match self {
            Tone::Strong => Type::SMALL.coloured(INK),
            Tone::Plain => Type::SMALL,
            Tone::Good => Type { bold: true, ..Type::SMALL }.coloured(GREEN),
            Tone::Bad => Type { bold: true, ..Type::SMALL }.coloured(RED),
        }
    }
}

const MARGIN: f32 = 24.0;
const GAP: f32 = 8.0;

impl Sheet {
    /// An empty sheet.
    pub fn new(title: impl Into<String>) -> Self {
        Sheet { title: title.into(), notes: Vec::new(), headings: Vec::new(), rows: Vec::new(), cell: 84.0 }
    }

    /// With one more line below the title.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// With headings above the columns.
    #[must_use]
    pub fn headings<S: Into<String>>(mut self, headings: impl IntoIterator<Item = S>) -> Self {
        self.headings = headings.into_iter().map(Into::into).collect();
        self
    }

    /// With pictures of this width instead of 84 pixels: a multiple of theirs looks best.
    #[must_use]
    pub fn cell(mut self, pixels: usize) -> Self {
        self.cell = pixels as f32;
        self
    }

    /// With one more row. Lines of the label are parted by `\n`.
    #[must_use]
    pub fn row(mut self, label: &str, cells: impl IntoIterator<Item = Cell>) -> Self {
        let label = label.lines().map(str::to_string).collect();
        self.rows.push(Row { label, cells: cells.into_iter().collect() });
        self
    }

    /// Draws it.
    pub fn draw(&self) -> RgbImage {
        let label_width = self.label_width();
        let step = self.column_width() + GAP;
        let columns = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let left = MARGIN + if label_width > 0.0 { label_width + 2.0 * GAP } else { 0.0 };
        let texts = self.notes.iter().map(|note| Type::NOTE.width(note));
        let text_width = texts.fold(Type::TITLE.width(&self.title), f32::max);
        let width = (left + columns as f32 * step - GAP + MARGIN).max(text_width + 2.0 * MARGIN);
        let top = MARGIN + self.head_height();
        let height = top + self.rows.iter().map(|row| self.row_height(row) + GAP).sum::<f32>() - GAP + MARGIN;

        let mut canvas = Canvas::new(width.ceil() as u32, height.ceil() as u32);
        self.draw_head(&mut canvas, left, step);
        let mut y = top;
        for row in &self.rows {
            let type_of = |i| if i == 0 { Type::LABEL } else { Type::SMALL };
            let block: f32 = (0..row.label.len()).map(|i| type_of(i).line()).sum();
            let mut line = y + (self.picture_height(row) - block) / 2.0;
            for (i, text) in row.label.iter().enumerate() {
                line += type_of(i).line() / 2.0;
                canvas.text(text, (MARGIN, line), Held::Left, type_of(i));
                line += type_of(i).line() / 2.0;
            }
            for (i, cell) in row.cells.iter().enumerate() {
                let middle = left + i as f32 * step + self.column_width() / 2.0;
                self.draw_cell(&mut canvas, cell, middle, y, self.picture_height(row));
            }
            y += self.row_height(row) + GAP;
        }
        canvas.finish()
    }

    fn draw_head(&self, canvas: &mut Canvas, left: f32, step: f32) {
        let mut y = MARGIN;
        for (text, type_) in
            [(&self.title, Type::TITLE)].into_iter().chain(self.notes.iter().map(|note| (note, Type::NOTE)))
        {
            canvas.text(text, (MARGIN, y + type_.line() / 2.0), Held::Left, type_);
            y += type_.line();
        }
        let y = MARGIN + self.head_height() - Type::SMALL.line() / 2.0 - 2.0;
        for (i, heading) in self.headings.iter().enumerate() {
            let middle = left + i as f32 * step + self.column_width() / 2.0;
            canvas.text(heading, (middle, y), Held::Middle, Type::SMALL.coloured(INK));
        }
    }

    fn draw_cell(&self, canvas: &mut Canvas, cell: &Cell, middle: f32, y: f32, height: f32) {
        let own = self.height_of(&cell.picture);
        // On whole pixels, so that edges are sharp.
        let corner = ((middle - self.cell / 2.0).round(), (y + (height - own) / 2.0).round());
        let outer = (corner.0 - 1.0, corner.1 - 1.0);
        canvas.fill(outer, (self.cell + 2.0, own + 2.0), LINE);
        canvas.picture(corner, (self.cell, own), &cell.picture);
        let mut line = y + height + 4.0;
        for (text, tone) in &cell.captions {
            let type_ = tone.type_();
            canvas.text(text, (middle, line + type_.line() / 2.0), Held::Middle, type_);
            line += type_.line();
        }
    }

    fn head_height(&self) -> f32 {
        let notes = self.notes.len() as f32 * Type::NOTE.line();
        let headings = if self.headings.is_empty() { 0.0 } else { Type::SMALL.line() + 6.0 };
        Type::TITLE.line() + notes + 1.5 * GAP + headings
    }

    /// As wide as the pictures, and as the headings and captions.
    fn column_width(&self) -> f32 {
        let headings = self.headings.iter().map(|text| Type::SMALL.width(text));
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        let captions = cells.flat_map(|cell| &cell.captions).map(|(text, tone)| tone.type_().width(text));
        headings.chain(captions).fold(self.cell, f32::max).ceil()
    }

    fn label_width(&self) -> f32 {
        let lines = self.rows.iter().flat_map(|row| row.label.iter().enumerate());
        let width = |(i, text): (usize, &String)| if i == 0 { Type::LABEL } else { Type::SMALL }.width(text);
        lines.map(width).fold(0.0, f32::max).ceil()
    }

    fn height_of(&self, picture: &Image) -> f32 {
        (self.cell * picture.height as f32 / picture.width as f32).round()
    }

    fn picture_height(&self, row: &Row) -> f32 {
        row.cells.iter().map(|cell| self.height_of(&cell.picture)).fold(0.0, f32::max)
    }

    fn row_height(&self, row: &Row) -> f32 {
        let captions = |cell: &Cell| cell.captions.iter().map(|(_, tone)| tone.type_().line()).sum::<f32>();
        let captions = row.cells.iter().map(captions).fold(0.0, f32::max);
        self.picture_height(row) + if captions > 0.0 { captions + 8.0 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn black() -> Cell {
        Cell::new(Image::of_values(&[0.0; 16], [1, 4, 4]).unwrap())
    }

    fn dark(image: &RgbImage) -> usize {
        image.pixels().filter(|p| p.0 == [0, 0, 0]).count()
    }

    #[test]
    fn pictures_are_shown_whole_and_once() {
        let sheet = Sheet::new("A title").row("a row", [black(), black(), black()]).row("another", [black()]);
        assert_eq!(dark(&sheet.draw()), 4 * 84 * 84);
        assert_eq!(dark(&sheet.clone().cell(40).draw()), 4 * 40 * 40);
        // What is written makes room, and does not hide the pictures.
        let captioned = sheet.row("", [black().caption("shoe", Tone::Strong).caption("99 %", Tone::Bad)]);
        let captioned =
            captioned.note("below the title").headings(["1", "2", "a heading wider than a picture"]);
        assert_eq!(dark(&captioned.draw()), 5 * 84 * 84);
    }

    #[test]
    fn the_same_sheet_has_the_same_bytes() {
        let sheet = Sheet::new("Same").row("row\nnote", [black().caption("x", Tone::Good)]);
        assert_eq!(sheet.draw(), sheet.draw());
        assert_ne!(
            sheet.draw(),
            Sheet::new("Sane").row("row\nnote", [black().caption("x", Tone::Good)]).draw()
        );
    }

    #[test]
    fn long_titles_are_not_cut() {
        let title = "A title that is much longer than the pictures below it are wide";
        let image = Sheet::new(title).row("", [black()]).draw();
        let right = image.width() - MARGIN as u32 / 2;
        assert!((right..image.width()).all(|x| (0..60).all(|y| image.get_pixel(x, y).0 == [255; 3])));
    }
}
