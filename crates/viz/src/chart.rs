//! A line chart.

use std::cell::RefCell;
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;

use image::RgbImage;
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::element::Circle;
use plotters::series::LineSeries;
use plotters::style::{Color, IntoFont, RGBColor, TRANSPARENT};

use crate::canvas::{Canvas, Colour, FAINT, Held, INK, LINE, TIMES, Type};

/// Lines over a common axis, with markers; each is named at its end.
#[derive(Clone, Debug)]
pub struct Chart {
    title: String,
    notes: Vec<String>,
    x: String,
    y: String,
    scale: Scale,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// How far apart values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// By their difference.
    Linear,
    /// By their ratio. Values must be above 0; others are left out.
    Log,
}

/// Colours that are told apart by everyone (M. Okabe and K. Ito, "Color universal design", 2008).
const COLOURS: [Colour; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];
const WIDTH: f32 = 780.0;
const HEIGHT: f32 = 460.0;
const MARGIN: f32 = 24.0;
/// Room for the numbers at the axes.
const LEFT: f32 = 52.0;
const BELOW: f32 = 28.0;

impl Chart {
    /// A chart without lines.
    pub fn new(title: impl Into<String>, x: impl Into<String>, y: impl Into<String>, scale: Scale) -> Self {
        let (title, x, y) = (title.into(), x.into(), y.into());
        Chart { title, notes: Vec::new(), x, y, scale, lines: Vec::new() }
    }

    /// With one more line of text below the title.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// With one more line through these points `(x, y)`.
    #[must_use]
    pub fn line(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let kept =
            |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (self.scale == Scale::Linear || y > 0.0);
        let points = points.into_iter().filter(kept).collect();
        self.lines.push(Line { name: name.into(), points });
        self
    }

    /// Draws it.
    pub fn draw(&self) -> RgbImage {
        let mut canvas = Canvas::new(WIDTH as u32, HEIGHT as u32);
        let top = self.draw_head(&mut canvas);
        let canvas = Rc::new(RefCell::new(canvas));
        let drawn = self.draw_lines(DrawingArea::from(&canvas), top);
        let ends = drawn.unwrap_or_else(|_| unreachable!("nothing can fail in memory"));
        let mut canvas = Rc::into_inner(canvas).expect("plotters keeps nothing").into_inner();
        self.draw_names(&mut canvas, ends, top);
        canvas.finish()
    }

    /// Title, notes, and what the axes mean; returns where the lines may begin.
    fn draw_head(&self, canvas: &mut Canvas) -> f32 {
        let mut y = MARGIN;
        for (text, type_) in
            [(&self.title, Type::TITLE)].into_iter().chain(self.notes.iter().map(|note| (note, Type::NOTE)))
        {
            canvas.text(text, (MARGIN, y + type_.line() / 2.0), Held::Left, type_);
            y += type_.line();
        }
        let axis = Type::SMALL.coloured(INK);
        y += 12.0;
        canvas.text(&self.y, (MARGIN, y + axis.line() / 2.0), Held::Left, axis);
        let middle = (MARGIN + LEFT + WIDTH - MARGIN - self.names_width()) / 2.0;
        canvas.text(&self.x, (middle, HEIGHT - MARGIN + 4.0), Held::Middle, axis);
        y + axis.line() + 10.0
    }

    /// Axes and lines; returns where each line ends.
    fn draw_lines(
        &self,
        area: DrawingArea<Canvas, Shift>,
        top: f32,
    ) -> Result<Vec<(usize, f32, f32)>, DrawingAreaErrorKind<Infallible>> {
        let large = |v: f32| (v * TIMES as f32) as i32;
        let scaled = |y: f64| if self.scale == Scale::Log { y.log10() } else { y };
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = widened(points().map(|p| p.0), 0.0);
        let mut upwards = widened(points().map(|p| scaled(p.1)), 0.06);
        if self.scale == Scale::Log {
            upwards = upwards.start.floor()..upwards.end.ceil();
        } else if points().all(|p| p.1 >= 0.0) {
            upwards.start = 0.0;
        }
        let decades = if self.scale == Scale::Log { (upwards.end - upwards.start) as usize + 1 } else { 7 };
        let mut chart = ChartBuilder::on(&area)
            .margin_top(large(top))
            .margin_left(large(MARGIN))
            .margin_right(large(MARGIN + self.names_width()))
            .margin_bottom(large(MARGIN))
            .x_label_area_size(large(BELOW))
            .y_label_area_size(large(LEFT))
            .build_cartesian_2d(across, upwards)?;
        let colour = |[red, green, blue]: Colour| RGBColor(red, green, blue);
        let numbers = ("sans-serif", large(Type::SMALL.size)).into_font().color(&colour(FAINT));
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(colour([226, 226, 226]).stroke_width(TIMES))
            .axis_style(colour(LINE).stroke_width(TIMES))
            .set_all_tick_mark_size(large(4.0))
            .label_style(numbers)
            .x_labels(10)
            .y_labels(decades.min(12))
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| if self.scale == Scale::Log { power_of_ten(*y) } else { short(*y) })
            .draw()?;
        let mut ends = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let colour = colour(COLOURS[i % COLOURS.len()]);
            let points: Vec<(f64, f64)> = line.points.iter().map(|&(x, y)| (x, scaled(y))).collect();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2 * TIMES)))?;
            if points.len() <= 40 {
                let mark = |&p: &(f64, f64)| Circle::new(p, large(3.5), colour.filled());
                chart.draw_series(points.iter().map(mark))?;
            }
            if let Some(last) = points.last() {
                let (x, y) = chart.backend_coord(last);
                ends.push((i, x as f32 / TIMES as f32, y as f32 / TIMES as f32));
            }
        }
        Ok(ends)
    }

    /// Each name beside the end of its line, moved down where names would touch.
    fn draw_names(&self, canvas: &mut Canvas, mut ends: Vec<(usize, f32, f32)>, top: f32) {
        let type_ = Type { bold: true, ..Type::SMALL };
        ends.sort_by(|a, b| a.2.total_cmp(&b.2));
        let mut free = top;
        for (i, x, y) in ends {
            let y = y.max(free);
            free = y + type_.line();
            let colour = COLOURS[i % COLOURS.len()];
            canvas.text(&self.lines[i].name, (x + 10.0, y), Held::Left, type_.coloured(colour));
        }
    }

    fn names_width(&self) -> f32 {
        let type_ = Type { bold: true, ..Type::SMALL };
        self.lines.iter().map(|line| type_.width(&line.name)).fold(0.0, f32::max) + 12.0
    }
}

/// From the least to the largest with a share of the way added on both sides; never empty.
fn widened(values: impl Iterator<Item = f64>, share: f64) -> Range<f64> {
    let (least, largest) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if least > largest {
        return 0.0..1.0;
    }
    let more = (largest - least) * share;
    if largest > least { least - more..largest + more } else { least - 0.5..largest + 0.5 }
}

/// A number without needless zeros.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.replace('-', "−") }
}

/// `10⁻³` for -3; nothing between the powers.
fn power_of_ten(exponent: f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-9 {
        return String::new();
    }
    let raised = |letter| match letter {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    match exponent.round() as i32 {
        0 => "1".into(),
        1 => "10".into(),
        other => format!("10{}", other.to_string().chars().map(raised).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share_of(image: &RgbImage, colour: Colour) -> usize {
        image.pixels().filter(|p| p.0 == colour).count()
    }

    #[test]
    fn lines_are_drawn_in_their_colours() {
        let chart = Chart::new("Two lines", "layer", "norm", Scale::Linear);
        let empty = chart.draw();
        assert_eq!(empty.dimensions(), (780, 460));
        let chart = chart.line("up", (0..9).map(|i| (f64::from(i), f64::from(i))));
        let one = chart.draw();
        assert!(share_of(&one, COLOURS[0]) > 300 && share_of(&one, COLOURS[1]) == 0);
        let two = chart.line("down", (0..9).map(|i| (f64::from(i), f64::from(9 - i)))).draw();
        assert!(share_of(&two, COLOURS[0]) > 300 && share_of(&two, COLOURS[1]) > 300);
    }

    #[test]
    fn what_has_no_logarithm_is_left_out() {
        let with = |points: &[(f64, f64)]| {
            Chart::new("", "", "", Scale::Log).line("a", points.iter().copied()).draw()
        };
        let same = with(&[(0.0, 1.0), (1.0, 0.0), (2.0, f64::NAN), (3.0, 0.01)]);
        assert_eq!(same, with(&[(0.0, 1.0), (3.0, 0.01)]));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 1.5, -2.0, 10.0, 0.25].map(short), ["0", "1.5", "−2", "10", "0.25"]);
        assert_eq!([0.0, 1.0, -13.0, 2.0, 0.5].map(power_of_ten), ["1", "10", "10⁻¹³", "10²", ""]);
    }
}
