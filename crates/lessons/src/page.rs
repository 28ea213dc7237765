//! The page that a lesson writes on.

use std::fmt::{Debug, Display};
use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor};
use neocog_viz::{RgbImage, save};

/// How lessons are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where they compute.
    pub device: Device,
    /// The folder for pictures; none are drawn without.
    pub out: Option<PathBuf>,
    /// A trained network for the lessons that show one; without, they train a small one.
    pub checkpoint: Option<PathBuf>,
    /// The folder that holds a folder for each data set; the digits are compiled in.
    pub data_dir: PathBuf,
}

/// Takes a line of text.
type Print<'a> = Box<dyn FnMut(&str) -> Result<()> + 'a>;

/// Where a lesson prints and draws, and what it checks.
pub struct Page<'a> {
    options: Options,
    print: Print<'a>,
    pictures: Vec<PathBuf>,
    checks: usize,
}

impl Debug for Page<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> Page<'a> {
    /// A page whose lines go to `print`.
    pub fn new(options: Options, print: impl FnMut(&str) -> Result<()> + 'a) -> Self {
        Page { options, print: Box::new(print), pictures: Vec::new(), checks: 0 }
    }

    /// How this lesson is run.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where to compute.
    pub fn device(&self) -> Device {
        self.options.device.clone()
    }

    /// The pictures that were drawn.
    pub fn pictures(&self) -> &[PathBuf] {
        &self.pictures
    }

    /// How many things were checked.
    pub fn checks(&self) -> usize {
        self.checks
    }

    /// Some lines of text.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn say(&mut self, text: impl Display) -> Result<()> {
        (self.print)(&text.to_string())
    }

    /// The headline of a part.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn part(&mut self, text: &str) -> Result<()> {
        (self.print)(&format!("\n{text}\n{}", "-".repeat(text.chars().count())))
    }

    /// A table; all columns but the first are numbers.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn table<const N: usize>(&mut self, head: [&str; N], rows: Vec<[String; N]>) -> Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(head).add_rows(rows);
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_padding((2, 1));
            if i > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        (self.print)(&table.trim_fmt())
    }

    /// Planes of numbers `[h, w]` side by side, each under its name; the tensors may have more axes of extent 1.
    ///
    /// # Errors
    /// When a tensor cannot be read or is no plane; when it cannot be printed.
    pub fn planes(&mut self, planes: &[(&str, &Tensor)]) -> Result<()> {
        let mut columns = Vec::new();
        for (name, plane) in planes {
            columns.push(lines_of(name, plane)?);
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

    /// Says that a difference is small enough.
    ///
    /// # Errors
    /// When it is not.
    pub fn near(&mut self, what: &str, difference: f64, most: f64) -> Result<()> {
        self.checked(
            difference <= most,
            format!("{what}: differs by at most {difference:.1e} (allowed {most:.0e})"),
        )
    }

    /// Says that numbers are what they should be, exactly.
    ///
    /// # Errors
    /// When they are not.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) -> Result<()> {
        let text =
            if found == expected { what.to_string() } else { format!("{what}: {found:?}, not {expected:?}") };
        self.checked(found == expected, text)
    }

    /// Says that something is so.
    ///
    /// # Errors
    /// When it is not.
    pub fn holds(&mut self, what: impl Into<String>, so: bool) -> Result<()> {
        self.checked(so, what.into())
    }

    fn checked(&mut self, so: bool, text: String) -> Result<()> {
        self.checks += 1;
        if !so {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("this does not hold: {text}")));
        }
        (self.print)(&format!("  ✓ {text}"))
    }

    /// Writes a picture to the folder for pictures, if there is one; `draw` makes it.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn picture(&mut self, name: &str, draw: impl FnOnce() -> Result<RgbImage>) -> Result<()> {
        let Some(folder) = &self.options.out else { return Ok(()) };
        let path = folder.join(format!("{name}.png"));
        save(&draw()?, &path)?;
        (self.print)(&format!("  picture: {}", path.display()))?;
        self.pictures.push(path);
        Ok(())
    }
}

fn lines_of(name: &str, plane: &Tensor) -> Result<Vec<String>> {
    let shape = plane.shape();
    let [.., h, w] = *shape.extents() else {
        return Err(Error::shape(format!("{name} of shape {shape} is no plane of numbers")));
    };
    if h * w != shape.elements() {
        return Err(Error::shape(format!("{name} of shape {shape} is more than one plane of numbers")));
    }
    let numbers: Vec<String> = plane.to_f32()?.into_iter().map(short).collect();
    let widest = numbers.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let rows = numbers.chunks(w).map(|row| {
        let cells: Vec<String> = row.iter().map(|n| format!("{n:>widest$}")).collect();
        cells.join(" ")
    });
    Ok([name.to_string()].into_iter().chain(rows).collect())
}

/// At most three digits behind the point, and none that are 0.
fn short(value: f32) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::help::counting;

    fn written(act: impl FnOnce(&mut Page<'_>) -> Result<()>) -> (Result<()>, String) {
        let mut text = String::new();
        let options = Options { device: Device::Cpu, out: None, checkpoint: None, data_dir: "data".into() };
        let mut page = Page::new(options, |line| {
            text += line;
            text += "\n";
            Ok(())
        });
        let result = act(&mut page);
        drop(page);
        (result, text)
    }

    #[test]
    fn what_does_not_hold_is_an_error() {
        assert!(written(|page| page.near("x", 1e-7, 1e-6)).0.is_ok());
        for wrong in [1e-5, f64::NAN, f64::INFINITY] {
            let e = written(|page| page.near("x", wrong, 1e-6)).0.unwrap_err().to_string();
            assert!(e.contains("does not hold: x: differs"), "{e}");
        }
        let e = written(|page| page.equal("sizes", 3, 4)).0.unwrap_err().to_string();
        assert!(e.contains("sizes: 3, not 4"), "{e}");
        assert!(written(|page| page.holds("never", false)).0.is_err());
        assert!(written(|page| page.holds("always", true)).1.contains("✓ always"));
    }

    #[test]
    fn planes_lie_side_by_side() {
        let (result, text) = written(|page| {
            let x = counting([1, 1, 2, 3], &Device::Cpu)?;
            let y = Tensor::from_f32([2, 1], &[-10.5, 0.0], &Device::Cpu)?;
            page.planes(&[("x", &x), ("y", &y)])
        });
        result.unwrap();
        assert_eq!(text, "  x      y\n  0 1 2  -10.5\n  3 4 5      0\n");
        assert!(written(|page| page.planes(&[("x", &counting([2, 2, 2], &Device::Cpu)?)])).0.is_err());
    }
}
