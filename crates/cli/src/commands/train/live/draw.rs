//! The layout of the live view.

use std::time::{Duration, SystemTime};

use neocog_bench::timing::rss_mib;
use neocog_train::{CheckpointDir, EpochReport};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LineGauge, Paragraph};

use super::view::View;

const TRAIN: Color = Color::Cyan;
const EVALUATED: Color = Color::Yellow;

/// Below this width, there is one chart, of the loss.
const TWO_CHARTS: u16 = 50;

/// What is drawn at a moment.
#[derive(Debug)]
pub struct Content {
    title: String,
    /// Share of the epoch and of the run that is done, with texts.
    epoch: (f64, String),
    run: (f64, String),
    loss: Curves,
    accuracy: Curves,
    facts: Vec<(&'static str, String)>,
    messages: Vec<String>,
}

/// The curves of a chart.
#[derive(Debug)]
struct Curves {
    title: &'static str,
    part: String,
    train: Vec<(f64, f64)>,
    evaluated: Vec<(f64, f64)>,
    /// Epochs on the horizontal axis.
    epochs: f64,
    /// Values on the vertical axis.
    range: [f64; 2],
}

impl Content {
    /// Takes what there is to draw.
    pub fn new(view: &View) -> Self {
        let (batch, batches) = view.batch.map_or((0, 1), |report| (report.batch, report.batches.max(1)));
        let finished = view.history.len() as u64;
        let epoch = view.batch.map_or(finished, |report| report.epoch).max(1);
        let share = batch as f64 / batches as f64;
        let done = (epoch - 1) as f64 + share;
        let of_run = (done / view.epochs.max(1) as f64).clamp(0.0, 1.0);
        let elapsed = view.started.elapsed();
        Content {
            title: view.title.clone(),
            epoch: (share, format!("epoch {epoch}/{}, batch {batch}/{batches}", view.epochs)),
            run: (of_run, format!("{} passed, {} left", readable(elapsed), left(view, done, batches))),
            loss: Curves::loss(view, done),
            accuracy: Curves::accuracy(view, done),
            facts: facts(view),
            messages: view.messages.clone(),
        }
    }

    /// Draws it.
    pub fn render(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let charts = area.height >= 14;
        let messages = if area.height >= 20 { (area.height / 6).clamp(3, 10) } else { 0 };
        let rows = [
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(2),
            Constraint::Fill(u16::from(charts)),
            Constraint::Length(messages),
        ];
        let [title, epoch, run, facts, curves, notes] = Layout::vertical(rows).areas(area);
        frame.render_widget(Line::from(self.title.as_str()).bold(), title);
        for ((share, text), row) in [(&self.epoch, epoch), (&self.run, run)] {
            let gauge = LineGauge::default().ratio(*share).label(format!("{:3.0} % {text}", 100.0 * share));
            frame.render_widget(gauge.filled_style(Style::new().fg(TRAIN)), row);
        }
        self.render_facts(frame, facts);
        if charts && area.width >= TWO_CHARTS {
            let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(curves);
            self.loss.render(frame, left);
            self.accuracy.render(frame, right);
        } else if charts {
            self.loss.render(frame, curves);
        }
        if messages > 0 {
            let shown = usize::from(messages - 1);
            let from = self.messages.len().saturating_sub(shown);
            let lines: Vec<Line<'_>> =
                self.messages[from..].iter().map(|text| Line::from(text.as_str())).collect();
            frame.render_widget(Paragraph::new(lines).block(Block::new().title("messages".dim())), notes);
        }
    }

    fn render_facts(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut lines = vec![Line::default()];
        for (name, value) in &self.facts {
            let spans = [format!("{name} ").dim(), Span::from(value.as_str()), Span::from("  ")];
            let width: usize = spans.iter().map(Span::width).sum();
            if lines.last().is_some_and(|line| line.width() + width > usize::from(area.width) + 2) {
                lines.push(Line::default());
            }
            if let Some(line) = lines.last_mut() {
                line.extend(spans);
            }
        }
        frame.render_widget(Paragraph::new(lines), area);
    }
}

impl Curves {
    fn loss(view: &View, done: f64) -> Self {
        Curves::new("loss", view, view.train_loss.points(), done, |report| {
            (report.train_loss, report.eval_loss)
        })
    }

    fn accuracy(view: &View, done: f64) -> Self {
        let points = view.train_acc.points();
        Curves::new("accuracy", view, points, done, |report| (report.train_acc, report.eval_acc))
    }

    fn new(
        title: &'static str,
        view: &View,
        points: &[(f64, f64)],
        done: f64,
        metrics: impl Fn(&EpochReport) -> (f64, f64),
    ) -> Self {
        // Epochs before a resume have one point each.
        let first = points.first().map_or(f64::INFINITY, |(x, _)| *x);
        let mut train: Vec<(f64, f64)> = view
            .history
            .iter()
            .map(|report| (report.epoch as f64, metrics(report).0))
            .filter(|(x, _)| *x < first)
            .collect();
        train.extend_from_slice(points);
        let evaluated: Vec<(f64, f64)> =
            view.history.iter().map(|report| (report.epoch as f64, metrics(report).1)).collect();
        let values = || train.iter().chain(&evaluated).map(|(_, y)| *y).filter(|y| y.is_finite());
        let (low, high) =
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let range = match low < high {
            true => [low, high],
            // A line needs a height.
            false if low.is_finite() => [low - 0.5, low + 0.5],
            false => [0.0, 1.0],
        };
        let epochs = done.max(view.history.len() as f64).ceil().max(1.0);
        Curves { title, part: view.part.clone(), train, evaluated, epochs, range }
    }

    fn render(&self, frame: &mut Frame<'_>, area: Rect) {
        let line = |points, color| {
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(Style::new().fg(color))
                .data(points)
        };
        let datasets = vec![line(&self.train[..], TRAIN), line(&self.evaluated[..], EVALUATED)];
        let [low, high] = self.range;
        let title = Line::from_iter([
            format!("{} ", self.title).into(),
            "train ".fg(TRAIN),
            Span::from(self.part.as_str()).fg(EVALUATED),
        ]);
        let chart = Chart::new(datasets)
            .block(Block::bordered().title(title))
            .x_axis(
                Axis::default()
                    .bounds([0.0, self.epochs])
                    .labels(["0".to_string(), format!("{}", self.epochs)]),
            )
            .y_axis(Axis::default().bounds([low, high]).labels([format!("{low:.3}"), format!("{high:.3}")]))
            .legend_position(None);
        frame.render_widget(chart, area);
    }
}

/// The names and values of the line of facts.
fn facts(view: &View) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(report) = view.batch.filter(|report| report.sums.images > 0) {
        let sums = report.sums;
        facts.push(("train", format!("loss {:.4} acc {:.4}", sums.mean_loss(), sums.accuracy())));
        facts.push(("lr", format!("{:.3e}", report.lr)));
        facts.push(("images/s", format!("{:.0}", sums.images_per_second())));
    }
    if let Some(memory) = rss_mib() {
        facts.push(("memory", format!("{memory:.0} MiB")));
    }
    if let Some(best) = EpochReport::best(&view.history) {
        facts.push(("best", format!("{} acc {:.4} (epoch {})", view.part, best.eval_acc, best.epoch)));
    }
    for name in [CheckpointDir::LAST, CheckpointDir::BEST] {
        let modified = std::fs::metadata(view.folder.join(name)).and_then(|file| file.modified());
        if let Some(age) = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok()) {
            facts.push((name, format!("{} ago", readable(age))));
        }
    }
    facts
}

/// The time that is left, at the speed of this call.
fn left(view: &View, done: f64, batches: usize) -> String {
    let done_now = done - view.steps_before as f64 / batches as f64;
    if done_now <= 0.0 {
        return "?".to_string();
    }
    let seconds = view.started.elapsed().as_secs_f64() / done_now * (view.epochs as f64 - done).max(0.0);
    Duration::try_from_secs_f64(seconds).map_or("?".to_string(), readable)
}

/// A time in hours, minutes and seconds: `1:02:03`, `2:03`, `3 s`.
fn readable(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Instant;

    use neocog_train::{BatchReport, Totals};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::curves::Curve;
    use super::*;

    fn view() -> View {
        let report = |epoch, eval_acc| EpochReport {
            epoch,
            train_loss: 1.0 / epoch as f64,
            train_acc: 0.5,
            eval_loss: 1.5 / epoch as f64,
            eval_acc,
            images_per_s: 1000.0,
            seconds: 1.0,
        };
        let mut view = View {
            title: "lenet on digits".to_string(),
            epochs: 4,
            part: "test".to_string(),
            batch: None,
            history: vec![report(1, 0.6), report(2, 0.75)],
            train_loss: Curve::default(),
            train_acc: Curve::default(),
            started: Instant::now(),
            steps_before: 0,
            folder: "no-such-folder".into(),
            messages: vec!["a message".to_string()],
            is_over: false,
        };
        for batch in 1..=5 {
            let images = 10 * batch as u64;
            let sums = Totals {
                images,
                loss: 4.0 * batch as f64,
                correct: 6 * batch as u64,
                seconds: 0.1,
                untimed: 0,
            };
            view.add_batch(&BatchReport { epoch: 3, batch, batches: 10, lr: 0.0125, sums });
        }
        view
    }

    fn text(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let content = Content::new(view);
        terminal.draw(|frame| content.render(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_string();
        (0..height).map(row).collect()
    }

    #[test]
    fn the_view_has_all_parts_on_a_usual_terminal() {
        for (width, height) in [(80, 24), (200, 50)] {
            let all = text(&view(), width, height).join("\n");
            for expected in [
                "lenet on digits",
                "50 % epoch 3/4, batch 5/10",
                " 62 % 0 s passed",
                "train loss 0.4000 acc 0.6000",
                "lr 1.250e-2",
                "best test acc 0.7500 (epoch 2)",
                "loss train test",
                "accuracy train test",
                "1.500",
                "a message",
            ] {
                assert!(all.contains(expected), "{expected} is missing:\n{all}");
            }
        }
    }

    #[test]
    fn small_terminals_have_what_fits() {
        let narrow = text(&view(), 40, 16).join("\n");
        assert!(narrow.contains("loss train") && !narrow.contains("accuracy"), "{narrow}");
        let low = text(&view(), 80, 6).join("\n");
        assert!(low.contains("epoch 3/4") && !low.contains("loss train test"), "{low}");
        for (width, height) in [(1, 1), (3, 2), (20, 3), (10, 40)] {
            text(&view(), width, height);
        }
    }

    #[test]
    fn a_run_without_numbers_is_drawn() {
        let mut view = view();
        (view.batch, view.history, view.epochs) = (None, Vec::new(), 0);
        view.train_loss.push(0.1, f64::NAN, 1);
        text(&view, 80, 24);
    }

    #[test]
    fn times_are_readable() {
        let texts = [7, 67, 3 * 3600 + 67].map(|seconds| readable(Duration::from_secs(seconds)));
        assert_eq!(texts, ["7 s", "1:07", "3:01:07"]);
    }
}
