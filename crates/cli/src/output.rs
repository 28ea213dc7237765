//! Output on standard output and standard error.

use std::fmt::{Arguments, Display};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use neocog_base::file::is_on_standard_output;
pub use neocog_base::text::thousands;
use neocog_base::{Error, Result};
use neocog_tensor::Tensor;
use serde::Serialize;

/// Whether the command has more to do than to print.
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Whether the reader of standard output has closed it.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether nothing is written.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Sets whether [`line()`] and [`note`] write nothing: another process reports what this one does, too.
pub fn set_silent(silent: bool) {
    SILENT.store(silent, Ordering::Relaxed);
}

/// Makes a closed standard output no reason to exit: after this call, further output is dropped. For commands whose main result
/// is not what they print.
pub fn go_on_without_reader() {
    GO_ON.store(true, Ordering::Relaxed);
}

/// What takes text in place of the terminal, and what it has taken.
struct Diverted {
    show: Box<dyn FnMut(&str) -> bool + Send>,
    /// Texts, and whether they are for standard output.
    kept: Vec<(bool, String)>,
}

static DIVERTED: Mutex<Option<Diverted>> = Mutex::new(None);

/// While it exists, text for the terminal is shown elsewhere; then it is written to the terminal.
#[derive(Debug)]
pub struct Diversion(());

/// Passes what is written to a terminal to `show` instead, which returns whether it could show it. All of it is written when the
/// returned value is dropped.
pub fn divert(show: impl FnMut(&str) -> bool + Send + 'static) -> Diversion {
    let diverted = Diverted { show: Box::new(show), kept: Vec::new() };
    *DIVERTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(diverted);
    Diversion(())
}

impl Drop for Diversion {
    fn drop(&mut self) {
        let diverted = DIVERTED.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (is_output, text) in diverted.into_iter().flat_map(|diverted| diverted.kept) {
            if is_output {
                // The terminal is gone.
                let _ = line(text);
            } else {
                note(format_args!("{text}"));
            }
        }
    }
}

/// Whether the text is shown elsewhere, and written later.
fn is_diverted(is_output: bool, text: impl Display) -> bool {
    let mut diverted = DIVERTED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(diverted) = diverted.as_mut() else { return false };
    if is_output && !io::stdout().is_terminal() {
        return false;
    }
    let text = text.to_string();
    let is_shown = (diverted.show)(&text);
    if is_shown {
        diverted.kept.push((is_output, text));
    }
    is_shown
}

/// Writes a line to standard output, or to standard error if a file was written to standard output. When the reader has closed the pipe, as in `| head`, exits with code 0, or does nothing
/// after [`go_on_without_reader`].
///
/// # Errors
/// When writing fails for another reason.
pub fn line(text: impl Display) -> Result<()> {
    if SILENT.load(Ordering::Relaxed) || is_diverted(true, &text) {
        return Ok(());
    }
    if is_on_standard_output() {
        note(format_args!("{text}"));
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
            if !GO_ON.load(Ordering::Relaxed) {
                std::process::exit(0);
            }
            if !CLOSED.swap(true, Ordering::Relaxed) {
                note(format_args!("the reader of standard output has closed it: going on without output"));
            }
            Ok(())
        }
        Err(e) => Err(Error::io("cannot write to standard output", e)),
    }
}

/// Writes a value as a line of JSON to standard output.
///
/// # Errors
/// As [`line()`], and when the value cannot be serialized.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value);
    line(text.map_err(|e| Error::format("cannot serialize the result as JSON").with_source(e))?)
}

/// Writes what a user should know about the files of a data set to standard error.
pub fn warnings(split: &neocog_data::Split) {
    for warning in &split.warnings {
        note(format_args!("warning: {warning}"));
    }
}

/// Writes what a training needs to standard error, and a warning if the system has less.
pub fn memory_need(need: &neocog_train::MemoryNeed) {
    note(format_args!("{need}"));
    memory_warning(need);
}

/// Says why a network runs layer by layer, if it does.
pub fn layer_by_layer(reason: Option<neocog_layers::Untraceable>) {
    if let Some(reason) = reason {
        note(format_args!("the network runs layer by layer, which is slower: {reason}"));
    }
}

/// Writes a warning if the system has less memory than is needed.
pub fn memory_warning(need: &neocog_train::MemoryNeed) {
    if let Some(warning) = need.warning() {
        note(format_args!("warning: {warning}"));
    }
}

/// Warns of values of an output that are NaN or infinite.
///
/// # Errors
/// When the device fails.
pub fn not_finite(name: &str, tensor: &Tensor) -> Result<()> {
    let values = tensor.to_f64()?;
    let count = values.iter().filter(|value| !value.is_finite()).count();
    if count > 0 {
        note(format_args!("warning: {count} of the {} values of {name} are NaN or infinite", values.len()));
    }
    Ok(())
}

/// Warns that an image is written as PNG if the name of its file ends as that of another format.
pub fn image_format(file: &Path) {
    if let Some(extension) = file.extension().filter(|extension| !extension.eq_ignore_ascii_case("png")) {
        note(format_args!(
            "warning: {} will be a PNG image although its name ends in .{}",
            file.display(),
            extension.display()
        ));
    }
}

/// Reports an invalid command line or environment variable in the form of clap's errors, and exits with code 2.
pub fn usage_error(text: impl Display) -> ! {
    note(format_args!("error: {text}\n\nFor more information, try '--help'."));
    std::process::exit(2)
}

/// Writes a line to standard error; errors are ignored.
pub fn note(text: Arguments<'_>) {
    if SILENT.load(Ordering::Relaxed) || is_diverted(false, text) {
        return;
    }
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Lays out a table without borders; `right` selects the right-aligned columns.
pub fn table<const N: usize>(
    head: [&str; N],
    right: [bool; N],
    rows: Vec<[String; N]>,
) -> impl Display + use<N> {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(head);
    table.add_rows(rows);
    for (column, right) in table.column_iter_mut().zip(right) {
        column.set_padding((0, 2));
        if right {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![["lenet".to_string(), "7".to_string()]];
        let text = table(["network", "images"], [false, true], rows).to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["network  images", "lenet         7"]);
    }
}
