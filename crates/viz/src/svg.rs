//! Line charts as SVG, for HTML pages.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};

use crate::chart::{AxisScale, Chart, Line, PALETTE, format_power_of_ten, format_tick};

/// Narrow, so that text stays readable on a phone.
const WIDTH: f64 = 440.0;
const PLOT_HEIGHT: f64 = 200.0;
const TOP: f64 = 28.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const X_AXIS_HEIGHT: f64 = 44.0;
const LEGEND_LINE: f64 = 18.0;
const FONT: f64 = 12.0;
/// Dash patterns of lines beyond the colors of the palette.
const DASHES: [&str; 4] = ["none", "7 3", "2 3", "9 3 2 3"];
/// Lines with more points have no markers.
const MAX_MARKERS: usize = 40;

impl Chart {
    /// Draws the chart as an SVG element, 440 units wide, with a legend below. The title is its accessible name and is not drawn;
    /// notes are not drawn either.
    ///
    /// The text has the color of the text around it. The colors of the lines are the CSS variables `--line-0` to `--line-5`, where a
    /// page defines them. Markers have their values as tooltips.
    ///
    /// ```
    /// use neocog_viz::{AxisScale, Chart};
    ///
    /// let chart = Chart::new("Loss", "epoch", "loss", AxisScale::Linear).line("<train>", [(1.0, 2.3), (2.0, 0.9)]);
    /// assert!(chart.svg().contains("&lt;train&gt;"));
    /// ```
    pub fn svg(&self) -> String {
        let (x_range, y_range) = self.ranges();
        let plot = Plot { x_range, y_range };
        let height = TOP + PLOT_HEIGHT + X_AXIS_HEIGHT + LEGEND_LINE * self.lines.len() as f64;
        let markup = html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {height}")) role="img"
                aria-label=(self.title) font-family="system-ui, sans-serif" font-size=(FONT) fill="currentColor" {
                text x=(LEFT - 44.0) y=(TOP - 12.0) opacity="0.75" { (self.y_label) }
                text x=((LEFT + WIDTH - RIGHT) / 2.0) y=(TOP + PLOT_HEIGHT + 36.0) text-anchor="middle" opacity="0.75" {
                    (self.x_label)
                }
                (self.axes(&plot))
                @for (i, line) in self.lines.iter().enumerate() {
                    (self.line_markup(i, line, &plot))
                    (legend(i, line))
                }
            }
        };
        markup.into_string()
    }

    fn axes(&self, plot: &Plot) -> Markup {
        let y_ticks = if self.y_scale == AxisScale::Log {
            let range = &plot.y_range;
            (range.start.round() as i32..=range.end.round() as i32).map(f64::from).collect()
        } else {
            ticks(&plot.y_range, 6)
        };
        let bottom = number(TOP + PLOT_HEIGHT);
        html! {
            @for y in y_ticks {
                @let at = number(plot.y(y));
                line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at) y2=(at) stroke="currentColor" stroke-opacity="0.15" {}
                text x=(LEFT - 6.0) y=(at) dy="0.35em" text-anchor="end" opacity="0.75" {
                    (if self.y_scale == AxisScale::Log { format_power_of_ten(y) } else { tick(y, &plot.y_range) })
                }
            }
            line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(bottom) y2=(bottom) stroke="currentColor" stroke-opacity="0.5" {}
            @for x in ticks(&plot.x_range, 7).into_iter().filter(|x| !self.counts_whole() || x.fract() == 0.0) {
                text x=(number(plot.x(x))) y=(TOP + PLOT_HEIGHT + 17.0) text-anchor="middle" opacity="0.75" {
                    (tick(x, &plot.x_range))
                }
            }
        }
    }

    /// Whether the x axis counts something, such as epochs.
    fn counts_whole(&self) -> bool {
        self.lines.iter().flat_map(|line| &line.points).all(|(x, _)| x.fract() == 0.0)
    }

    fn line_markup(&self, i: usize, line: &Line, plot: &Plot) -> Markup {
        let place = |&(x, y): &(f64, f64)| (number(plot.x(x)), number(plot.y(self.transformed(y))));
        let points: Vec<String> = line.points.iter().map(place).map(|(x, y)| format!("{x},{y}")).collect();
        html! {
            polyline points=(points.join(" ")) fill="none" stroke-width="2" stroke-linejoin="round"
                stroke-dasharray=(dashes(i)) style=(PreEscaped(format!("stroke:{}", color(i)))) {}
            @if line.points.len() <= MAX_MARKERS {
                @for point in &line.points {
                    @let (x, y) = place(point);
                    circle cx=(x) cy=(y) r="3" style=(PreEscaped(format!("fill:{}", color(i)))) {
                        title { (line.name) ": " (format_tick(point.0)) ", " (significant(point.1)) }
                    }
                }
            }
        }
    }
}

/// The area of the lines, and the ranges of its axes.
struct Plot {
    x_range: Range<f64>,
    y_range: Range<f64>,
}

impl Plot {
    fn x(&self, x: f64) -> f64 {
        LEFT + (x - self.x_range.start) / (self.x_range.end - self.x_range.start) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        TOP + (self.y_range.end - y) / (self.y_range.end - self.y_range.start) * PLOT_HEIGHT
    }
}

fn legend(i: usize, line: &Line) -> Markup {
    /// Characters that fit into a line.
    const FIT: usize = 56;
    let y = TOP + PLOT_HEIGHT + X_AXIS_HEIGHT + LEGEND_LINE * (i as f64 + 0.5);
    let long = line.name.chars().count() > FIT;
    let name: String = line.name.chars().take(if long { FIT - 1 } else { FIT }).collect();
    html! {
        line x1=(LEFT) x2=(LEFT + 22.0) y1=(y) y2=(y) stroke-width="2.5" stroke-dasharray=(dashes(i))
            style=(PreEscaped(format!("stroke:{}", color(i)))) {}
        text x=(LEFT + 30.0) y=(y) dy="0.35em" { (name) @if long { "…" } }
    }
}

fn color(i: usize) -> String {
    let color = i % PALETTE.len();
    let [red, green, blue] = PALETTE[color];
    format!("var(--line-{color},rgb({red},{green},{blue}))")
}

fn dashes(i: usize) -> &'static str {
    DASHES[i / PALETTE.len() % DASHES.len()]
}

/// A coordinate with two decimals.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A value with five significant digits.
fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (4 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// The label of a tick; small values, as learning rates, with an exponent.
fn tick(value: f64, range: &Range<f64>) -> String {
    let largest = range.start.abs().max(range.end.abs());
    if largest < 0.01 && value != 0.0 {
        format!("{value:.1e}").replace('-', "−")
    } else {
        format_tick(value)
    }
}

/// Round values within a range: multiples of 1, 2 or 5 times a power of ten, up to `count` of them.
fn ticks(range: &Range<f64>, count: usize) -> Vec<f64> {
    let length = range.end - range.start;
    let least = length / count as f64;
    let power = 10f64.powf(least.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= least * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (range.start / step - 1e-9).ceil() as i64;
    let last = (range.end / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        assert_eq!(ticks(&(0.0..1.0), 6), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(&(1.0..10.0), 7), [2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(&(0.5..1.5), 7).len(), 5);
        assert_eq!([0.001_5, 0.0].map(|v| tick(v, &(0.0..0.002))), ["1.5e−3", "0"]);
    }

    #[test]
    fn points_are_at_their_places() {
        let chart = Chart::new("t", "x", "y", AxisScale::Linear).line("a", [(0.0, 0.0), (2.0, 1.0)]);
        let svg = chart.svg();
        let top = TOP + PLOT_HEIGHT * (0.06 / 1.06);
        assert!(svg.contains(&format!("points=\"54,228 426,{}\"", number(top))), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        let many =
            Chart::new("t", "x", "y", AxisScale::Linear).line("a", (0..50).map(|i| (f64::from(i), 1.0)));
        assert_eq!(many.svg().matches("<circle").count(), 0);
        // Nothing to draw is a chart, too.
        assert!(Chart::new("t", "x", "y", AxisScale::Log).line("a", []).svg().ends_with("</svg>"));
    }

    #[test]
    fn text_is_escaped() {
        let evil = "<script>alert(1)</script>\"'&";
        let svg = Chart::new(evil, evil, evil, AxisScale::Linear).line(evil, [(0.0, 1.0)]).svg();
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;"), "{svg}");
        assert!(!svg.contains("\"'"), "{svg}");
    }
}
