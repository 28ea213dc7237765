//! The frame of an HTML page that needs no other file: style, header, and parts that pages share.

use std::io::Write;
use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use neocog_base::file::{self, check_output_file};
use neocog_base::{Error, Result};
use neocog_viz::Chart;

/// Light and dark, from 320 pixels on; on paper, black on white.
const STYLE: &str = include_str!("page.css");

/// Nothing may be loaded or executed, whatever a name in the page contains.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// Returns a page with a title and the content of its body.
pub(crate) fn page(title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("neocog ", env!("CARGO_PKG_VERSION")));
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    markup.into_string()
}

/// Writes a page to `path`, replacing an existing file.
///
/// # Errors
/// `Io` when it cannot be written; an existing file is not changed then.
pub fn write(path: &Path, page: &str) -> Result<()> {
    check_output_file(path)?;
    file::write(path, |file| file.write_all(page.as_bytes()))
        .map_err(|e| Error::io(format!("cannot write the page {}", path.display()), e))
}

/// A table: headings, and rows of cells. The first column is a heading; the others are numbers if `numeric`.
pub(crate) fn table(head: &[&str], numeric: bool, rows: impl IntoIterator<Item = Vec<Markup>>) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table.numeric[numeric] {
                thead { tr { @for heading in head { th scope="col" { (heading) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (i, cell) in row.iter().enumerate() {
                                @if i == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Pairs of a name and a value.
pub(crate) fn facts(rows: impl IntoIterator<Item = (String, Markup)>) -> Markup {
    html! { dl { @for (name, value) in rows { dt { (name) } dd { (value) } } } }
}

/// A chart with its caption.
pub(crate) fn figure(caption: &str, chart: &Chart) -> Markup {
    html! { figure { figcaption { (caption) } (PreEscaped(chart.svg())) } }
}

/// A text cell.
pub(crate) fn text(value: impl std::fmt::Display) -> Markup {
    html! { (value.to_string()) }
}

/// A duration or speed: what differs between two runs that are the same.
pub(crate) fn time(value: impl std::fmt::Display) -> Markup {
    html! { time { (value.to_string()) } }
}

/// Formats seconds: `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        let texts = [0.25, 59.9, 61.0, 3599.0, 7384.0].map(duration);
        assert_eq!(texts, ["0.2 s", "59.9 s", "1 min 01 s", "59 min 59 s", "2 h 03 min"]);
    }

    #[test]
    fn text_is_escaped() {
        let evil = "<script>alert(1)</script>";
        let rows = vec![vec![text(evil), time(evil)]];
        let page =
            page(evil, &html! { (table(&[evil], true, rows)) (facts([(evil.to_string(), text(evil))])) });
        assert!(!page.contains("<script") && page.matches("&lt;script&gt;").count() == 6, "{page}");
    }
}
