//! Writes to standard output and standard error.

use std::fmt::{Arguments, Display};
use std::io::{self, Write};

use neocog_tensor::{Error, Result};
use serde::Serialize;

/// Writes a line to standard output. When nobody reads it any more, as behind `| head`, the program ends quietly.
///
/// # Errors
/// When it cannot be written for another reason.
pub fn line(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::io("cannot write to standard output", e)),
    }
}

/// Writes a value as one line of JSON to standard output.
///
/// # Errors
/// As [`line()`].
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value);
    line(text.map_err(|e| Error::format("cannot write the result as JSON").with_source(e))?)
}

/// Writes a line to standard error, if anybody reads it.
pub fn note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A table for people, with right-aligned columns where `right` says so.
pub fn table<const N: usize>(
    head: [&str; N],
    right: [bool; N],
    rows: Vec<[String; N]>,
) -> comfy_table::Table {
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

/// A number with a comma between thousands: `44,426`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn commas_between_thousands() {
        let texts = [0, 999, 1000, 44_426, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "44,426", "1,234,567"]);
    }
}
