//! Line charts.

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
use plotters::style::{Color as _, IntoFont, RGBColor, TRANSPARENT};

use crate::canvas::{Align, BORDER, Canvas, Color, MUTED, SUPERSAMPLING, TEXT, TextStyle};

/// A line chart: lines with markers over a common x axis, each labeled at its end.
///
/// ```
/// use neocog_viz::{AxisScale, Chart};
///
/// let chart = Chart::new("Training", "epoch", "loss", AxisScale::Log)
///     .note("lenet on digits")
///     .line("train", [(1.0, 2.3), (2.0, 0.9), (3.0, 0.4)]);
/// assert_eq!(chart.draw().dimensions(), (780, 460));
/// ```
#[derive(Clone, Debug)]
pub struct Chart {
    pub(crate) title: String,
    pub(crate) notes: Vec<String>,
    pub(crate) x_label: String,
    pub(crate) y_label: String,
    pub(crate) y_scale: AxisScale,
    pub(crate) lines: Vec<Line>,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Scale of the y axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AxisScale {
    /// Linear.
    #[default]
    Linear,
    /// Logarithmic, base 10. Points with `y <= 0` are omitted.
    Log,
}

/// A palette for color-blind readers (M. Okabe and K. Ito, "Color universal design", 2008).
pub(crate) const PALETTE: [Color; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];
const WIDTH: f32 = 780.0;
const HEIGHT: f32 = 460.0;
const MARGIN: f32 = 24.0;
/// Width of the tick labels of the y axis.
const Y_TICKS_WIDTH: f32 = 52.0;
/// Height of the tick labels of the x axis.
const X_TICKS_HEIGHT: f32 = 28.0;

impl Chart {
    /// Creates a chart without lines, with a title, axis labels and the scale of the y axis.
    pub fn new(
        title: impl Into<String>,
        x_label: impl Into<String>,
        y_label: impl Into<String>,
        y_scale: AxisScale,
    ) -> Self {
        let (title, x_label, y_label) = (title.into(), x_label.into(), y_label.into());
        Chart { title, notes: Vec::new(), x_label, y_label, y_scale, lines: Vec::new() }
    }

    /// Adds a line of text below the title.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Adds a line through the points `(x, y)`. Points that are not finite are omitted.
    #[must_use]
    pub fn line(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let kept = |&(x, y): &(f64, f64)| {
            x.is_finite() && y.is_finite() && (self.y_scale == AxisScale::Linear || y > 0.0)
        };
        let points = points.into_iter().filter(kept).collect();
        self.lines.push(Line { name: name.into(), points });
        self
    }

    /// Draws the chart as an image of 780x460 pixels.
    pub fn draw(&self) -> RgbImage {
        let mut canvas = Canvas::new(WIDTH as u32, HEIGHT as u32);
        let top = self.draw_header(&mut canvas);
        let canvas = Rc::new(RefCell::new(canvas));
        let drawn = self.draw_lines(DrawingArea::from(&canvas), top);
        let ends = drawn.unwrap_or_else(|_| unreachable!("drawing in memory cannot fail"));
        let mut canvas = Rc::into_inner(canvas).expect("plotters keeps no reference").into_inner();
        self.draw_line_labels(&mut canvas, ends, top);
        canvas.finish()
    }

    /// The position of a value on the y axis: itself, or its logarithm.
    pub(crate) fn transformed(&self, y: f64) -> f64 {
        if self.y_scale == AxisScale::Log { y.log10() } else { y }
    }

    /// The ranges of the axes, that of y [transformed](Self::transformed).
    pub(crate) fn ranges(&self) -> (Range<f64>, Range<f64>) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x_range = padded_range(points().map(|p| p.0), 0.0);
        let mut y_range = padded_range(points().map(|p| self.transformed(p.1)), 0.06);
        if self.y_scale == AxisScale::Log {
            y_range = y_range.start.floor()..y_range.end.ceil();
        } else if points().all(|p| p.1 >= 0.0) {
            y_range.start = 0.0;
        }
        (x_range, y_range)
    }

    /// Draws title, notes and axis labels; returns the top of the plot area.
    fn draw_header(&self, canvas: &mut Canvas) -> f32 {
        let mut y = MARGIN;
        for (text, style) in [(&self.title, TextStyle::TITLE)]
            .into_iter()
            .chain(self.notes.iter().map(|note| (note, TextStyle::NOTE)))
        {
            canvas.draw_text_line(text, (MARGIN, y + style.line_height() / 2.0), Align::Left, style);
            y += style.line_height();
        }
        let axis = TextStyle::SMALL.with_color(TEXT);
        y += 12.0;
        canvas.draw_text_line(&self.y_label, (MARGIN, y + axis.line_height() / 2.0), Align::Left, axis);
        let middle = (MARGIN + Y_TICKS_WIDTH + WIDTH - MARGIN - self.line_labels_width()) / 2.0;
        canvas.draw_text_line(&self.x_label, (middle, HEIGHT - MARGIN + 4.0), Align::Center, axis);
        y + axis.line_height() + 10.0
    }

    /// Draws axes and lines; returns the index and end point of each line.
    fn draw_lines(
        &self,
        area: DrawingArea<Canvas, Shift>,
        top: f32,
    ) -> Result<Vec<(usize, f32, f32)>, DrawingAreaErrorKind<Infallible>> {
        let scale = |v: f32| (v * SUPERSAMPLING as f32) as i32;
        let y_transform = |y: f64| self.transformed(y);
        let (x_range, y_range) = self.ranges();
        let y_labels =
            if self.y_scale == AxisScale::Log { (y_range.end - y_range.start) as usize + 1 } else { 7 };
        let mut chart = ChartBuilder::on(&area)
            .margin_top(scale(top))
            .margin_left(scale(MARGIN))
            .margin_right(scale(MARGIN + self.line_labels_width()))
            .margin_bottom(scale(MARGIN))
            .x_label_area_size(scale(X_TICKS_HEIGHT))
            .y_label_area_size(scale(Y_TICKS_WIDTH))
            .build_cartesian_2d(x_range, y_range)?;
        let rgb = |[red, green, blue]: Color| RGBColor(red, green, blue);
        let tick_style = ("sans-serif", scale(TextStyle::SMALL.size)).into_font().color(&rgb(MUTED));
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(rgb([226, 226, 226]).stroke_width(SUPERSAMPLING))
            .axis_style(rgb(BORDER).stroke_width(SUPERSAMPLING))
            .set_all_tick_mark_size(scale(4.0))
            .label_style(tick_style)
            .x_labels(10)
            .y_labels(y_labels.min(12))
            .x_label_formatter(&|x| format_tick(*x))
            .y_label_formatter(&|y| {
                if self.y_scale == AxisScale::Log { format_power_of_ten(*y) } else { format_tick(*y) }
            })
            .draw()?;
        let mut ends = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let color = rgb(PALETTE[i % PALETTE.len()]);
            let points: Vec<(f64, f64)> = line.points.iter().map(|&(x, y)| (x, y_transform(y))).collect();
            chart.draw_series(LineSeries::new(
                points.iter().copied(),
                color.stroke_width(2 * SUPERSAMPLING),
            ))?;
            if points.len() <= 40 {
                let marker = |&p: &(f64, f64)| Circle::new(p, scale(3.5), color.filled());
                chart.draw_series(points.iter().map(marker))?;
            }
            if let Some(last) = points.last() {
                let (x, y) = chart.backend_coord(last);
                ends.push((i, x as f32 / SUPERSAMPLING as f32, y as f32 / SUPERSAMPLING as f32));
            }
        }
        Ok(ends)
    }

    /// Draws the label of each line next to its end, moved down where labels would overlap.
    fn draw_line_labels(&self, canvas: &mut Canvas, mut ends: Vec<(usize, f32, f32)>, top: f32) {
        let style = TextStyle { bold: true, ..TextStyle::SMALL };
        ends.sort_by(|a, b| a.2.total_cmp(&b.2));
        let mut next_free = top;
        for (i, x, y) in ends {
            let y = y.max(next_free);
            next_free = y + style.line_height();
            let color = PALETTE[i % PALETTE.len()];
            canvas.draw_text_line(&self.lines[i].name, (x + 10.0, y), Align::Left, style.with_color(color));
        }
    }

    fn line_labels_width(&self) -> f32 {
        let style = TextStyle { bold: true, ..TextStyle::SMALL };
        self.lines.iter().map(|line| style.width(&line.name)).fold(0.0, f32::max) + 12.0
    }
}

/// Returns the range of the values, extended on both sides by a fraction `padding` of its length; never empty.
fn padded_range(values: impl Iterator<Item = f64>, padding: f64) -> Range<f64> {
    let (min, max) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if min > max {
        return 0.0..1.0;
    }
    let margin = (max - min) * padding;
    if max > min { min - margin..max + margin } else { min - 0.5..max + 0.5 }
}

/// Formats a number with at most three decimals and without trailing zeros.
pub(crate) fn format_tick(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.replace('-', "−") }
}

/// Formats `10⁻³` for -3; empty if the exponent is not an integer.
pub(crate) fn format_power_of_ten(exponent: f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-9 {
        return String::new();
    }
    let superscript = |letter| match letter {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    match exponent.round() as i32 {
        0 => "1".into(),
        1 => "10".into(),
        other => format!("10{}", other.to_string().chars().map(superscript).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_pixels(image: &RgbImage, color: Color) -> usize {
        image.pixels().filter(|p| p.0 == color).count()
    }

    #[test]
    fn lines_are_drawn_in_the_colors_of_the_palette() {
        let chart = Chart::new("Two lines", "layer", "norm", AxisScale::Linear);
        let empty = chart.draw();
        assert_eq!(empty.dimensions(), (780, 460));
        let chart = chart.line("up", (0..9).map(|i| (f64::from(i), f64::from(i))));
        let one = chart.draw();
        assert!(count_pixels(&one, PALETTE[0]) > 300 && count_pixels(&one, PALETTE[1]) == 0);
        let two = chart.line("down", (0..9).map(|i| (f64::from(i), f64::from(9 - i)))).draw();
        assert!(count_pixels(&two, PALETTE[0]) > 300 && count_pixels(&two, PALETTE[1]) > 300);
    }

    #[test]
    fn points_without_a_logarithm_are_omitted() {
        let with = |points: &[(f64, f64)]| {
            Chart::new("", "", "", AxisScale::Log).line("a", points.iter().copied()).draw()
        };
        let same = with(&[(0.0, 1.0), (1.0, 0.0), (2.0, f64::NAN), (3.0, 0.01)]);
        assert_eq!(same, with(&[(0.0, 1.0), (3.0, 0.01)]));
    }

    #[test]
    fn tick_labels() {
        assert_eq!([0.0, 1.5, -2.0, 10.0, 0.25].map(format_tick), ["0", "1.5", "−2", "10", "0.25"]);
        assert_eq!([0.0, 1.0, -13.0, 2.0, 0.5].map(format_power_of_ten), ["1", "10", "10⁻¹³", "10²", ""]);
    }
}
