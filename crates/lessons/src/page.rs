//! [`Page`]: the output of a lesson and its checks.

use std::fmt::{Debug, Display};
use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use neocog_data::catalog::DEFAULT_ROOT;
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor};
use neocog_viz::{RgbImage, save};

/// Options of a lesson.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LessonOptions {
    /// Device to compute on.
    pub device: Device,
    /// Output directory of images; `None` draws no images. Default: `None`.
    pub out: Option<PathBuf>,
    /// Checkpoint of a trained network for lessons that show one; `None` trains a small network. Default: `None`.
    pub checkpoint: Option<PathBuf>,
    /// Root directory of the data sets; the digits are embedded. Default: `data`.
    pub data_dir: PathBuf,
}

impl LessonOptions {
    /// Creates the default options for a device.
    pub fn new(device: Device) -> Self {
        LessonOptions { device, out: None, checkpoint: None, data_dir: DEFAULT_ROOT.into() }
    }

    /// Sets the output directory of images; `None` draws no images.
    #[must_use]
    pub fn out(mut self, out: Option<PathBuf>) -> Self {
        self.out = out;
        self
    }

    /// Sets the checkpoint of a trained network; `None` trains a small network.
    #[must_use]
    pub fn checkpoint(mut self, checkpoint: Option<PathBuf>) -> Self {
        self.checkpoint = checkpoint;
        self
    }

    /// Sets the root directory of the data sets.
    #[must_use]
    pub fn data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = data_dir.into();
        self
    }
}

/// A function that prints a line.
type Print<'a> = Box<dyn FnMut(&str) -> Result<()> + 'a>;

/// The output of a lesson: prints text, writes images, and counts checks.
pub struct Page<'a> {
    options: LessonOptions,
    print: Print<'a>,
    images: Vec<PathBuf>,
    checks: usize,
}

impl Debug for Page<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> Page<'a> {
    /// Creates a page that prints with `print`.
    pub fn new(options: LessonOptions, print: impl FnMut(&str) -> Result<()> + 'a) -> Self {
        Page { options, print: Box::new(print), images: Vec::new(), checks: 0 }
    }

    /// Returns the options.
    pub fn options(&self) -> &LessonOptions {
        &self.options
    }

    /// Returns the device to compute on.
    pub fn device(&self) -> Device {
        self.options.device
    }

    /// Returns the paths of the images written so far.
    pub fn images(&self) -> &[PathBuf] {
        &self.images
    }

    /// Returns the number of successful checks so far.
    pub fn checks(&self) -> usize {
        self.checks
    }

    /// Prints text, which may have several lines.
    ///
    /// # Errors
    /// If printing fails.
    pub fn print(&mut self, text: impl Display) -> Result<()> {
        (self.print)(&text.to_string())
    }

    /// Prints the heading of a section.
    ///
    /// # Errors
    /// If printing fails.
    pub fn heading(&mut self, text: &str) -> Result<()> {
        (self.print)(&format!("\n{text}\n{}", "-".repeat(text.chars().count())))
    }

    /// Prints a table. The first column is left-aligned, the others are right-aligned.
    ///
    /// # Errors
    /// If printing fails.
    pub fn table<const N: usize>(&mut self, header: [&str; N], rows: Vec<[String; N]>) -> Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_padding((2, 1));
            if i > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        (self.print)(&table.trim_fmt())
    }

    /// Prints matrices `[h, w]` side by side, each below its name. Leading dimensions of extent 1 are allowed.
    ///
    /// # Errors
    /// If a tensor is not a matrix or cannot be read, or if printing fails.
    pub fn matrices(&mut self, matrices: &[(&str, &Tensor)]) -> Result<()> {
        let mut columns = Vec::new();
        for (name, matrix) in matrices {
            columns.push(format_matrix(name, matrix)?);
        }
        let height = columns.iter().map(Vec::len).max().unwrap_or(0);
        let lines = (0..height).map(|y| {
            let cells = columns.iter().map(|lines| {
                let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
                format!("  {:<width$}", lines.get(y).map_or("", String::as_str))
            });
            cells.collect::<String>().trim_end().to_string()
        });
        let text: Vec<String> = lines.collect();
        (self.print)(&text.join("\n"))
    }

    /// Checks that a difference does not exceed a tolerance.
    ///
    /// # Errors
    /// If the difference is larger or not a number.
    pub fn check_close(&mut self, what: &str, difference: f64, tolerance: f64) -> Result<()> {
        self.check(
            format!("{what}: maximum difference {difference:.1e} (tolerance {tolerance:.0e})"),
            difference <= tolerance,
        )
    }

    /// Checks that two values are equal.
    ///
    /// # Errors
    /// If they differ; the message has both values.
    pub fn check_equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) -> Result<()> {
        let equal = found == expected;
        let text =
            if equal { what.to_string() } else { format!("{what}: found {found:?}, expected {expected:?}") };
        self.check(text, equal)
    }

    /// Checks a statement, and prints it with a check mark.
    ///
    /// # Errors
    /// If `passed` is false.
    pub fn check(&mut self, statement: impl Into<String>, passed: bool) -> Result<()> {
        let statement = statement.into();
        if !passed {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("check failed: {statement}")));
        }
        self.checks += 1;
        (self.print)(&format!("  ✓ {statement}"))
    }

    /// Draws an image with `draw` and writes it as `NAME.png` to the output directory, if there is one.
    ///
    /// # Errors
    /// If the image cannot be drawn or written.
    pub fn image(&mut self, name: &str, draw: impl FnOnce() -> Result<RgbImage>) -> Result<()> {
        let Some(folder) = &self.options.out else { return Ok(()) };
        let path = folder.join(format!("{name}.png"));
        save(&draw()?, &path)?;
        (self.print)(&format!("  image: {}", path.display()))?;
        self.images.push(path);
        Ok(())
    }
}

/// Formats a matrix: its name, then one line per row.
fn format_matrix(name: &str, matrix: &Tensor) -> Result<Vec<String>> {
    let shape = matrix.shape();
    let [.., h, w] = *shape.extents() else {
        return Err(Error::shape(format!("{name} of shape {shape} is not a matrix")));
    };
    if h * w != shape.elements() {
        return Err(Error::shape(format!("{name} of shape {shape} has more than one matrix")));
    }
    let numbers: Vec<String> = matrix.to_f32()?.into_iter().map(format_number).collect();
    let widest = numbers.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let rows = numbers.chunks(w).map(|row| {
        let cells: Vec<String> = row.iter().map(|n| format!("{n:>widest$}")).collect();
        cells.join(" ")
    });
    Ok([name.to_string()].into_iter().chain(rows).collect())
}

/// Formats a number with at most three decimals and without trailing zeros.
fn format_number(value: f32) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helpers::arange;

    fn run(act: impl FnOnce(&mut Page<'_>) -> Result<()>) -> (Result<()>, String) {
        let mut text = String::new();
        let mut page = Page::new(LessonOptions::new(Device::Cpu), |line| {
            text += line;
            text += "\n";
            Ok(())
        });
        let result = act(&mut page);
        drop(page);
        (result, text)
    }

    #[test]
    fn failed_checks_are_errors() {
        assert!(run(|page| page.check_close("x", 1e-7, 1e-6)).0.is_ok());
        for wrong in [1e-5, f64::NAN, f64::INFINITY] {
            let e = run(|page| page.check_close("x", wrong, 1e-6)).0.unwrap_err().to_string();
            assert!(e.contains("check failed: x: maximum difference"), "{e}");
        }
        let e = run(|page| page.check_equal("sizes", 3, 4)).0.unwrap_err().to_string();
        assert!(e.contains("sizes: found 3, expected 4"), "{e}");
        assert!(run(|page| page.check("never", false)).0.is_err());
        assert!(run(|page| page.check("always", true)).1.contains("✓ always"));
    }

    #[test]
    fn matrices_are_printed_side_by_side() {
        let (result, text) = run(|page| {
            let x = arange([1, 1, 2, 3], &Device::Cpu)?;
            let y = Tensor::from_f32([2, 1], &[-10.5, 0.0], &Device::Cpu)?;
            page.matrices(&[("x", &x), ("y", &y)])
        });
        result.unwrap();
        assert_eq!(text, "  x      y\n  0 1 2  -10.5\n  3 4 5      0\n");
        assert!(run(|page| page.matrices(&[("x", &arange([2, 2, 2], &Device::Cpu)?)])).0.is_err());
    }
}
