//! Tables as CSV files (RFC 4180).

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use neocog_base::file::replace;
use neocog_base::{Error, Result};

/// Returns the text of a field, in quotation marks where it needs them.
pub fn field(text: impl Display) -> String {
    let text = text.to_string();
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Checks, before the work starts, that the directory of a table exists.
///
/// # Errors
/// `Io` if it does not.
pub fn check_directory(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            let what = format!("there is no directory {}", parent.display());
            Err(Error::io(
                format!("cannot write {}", path.display()),
                io::Error::new(io::ErrorKind::NotFound, what),
            ))
        }
        _ => Ok(()),
    }
}

/// Writes a table to `path`, replacing an existing file: a header, and the lines that `fill` writes.
///
/// # Errors
/// `Io` when it cannot be written; an existing file is not changed then.
pub fn write(
    path: &Path,
    header: &str,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    let written = replace(path, |file| {
        let mut out = BufWriter::new(file);
        writeln!(out, "{header}")?;
        fill(&mut out)?;
        out.flush()
    });
    written.map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_directory, field};

    #[test]
    fn a_missing_directory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            check_directory(&folder.path().join("a.csv")).is_ok()
                && check_directory(Path::new("a.csv")).is_ok()
        );
        let e = check_directory(&folder.path().join("none/a.csv")).unwrap_err().to_string();
        assert!(e.starts_with("cannot write") && e.contains("there is no directory"), "{e}");
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(
            ["a b", "a,b", "say \"x\"", "two\nlines", ""].map(field),
            ["a b", "\"a,b\"", "\"say \"\"x\"\"\"", "\"two\nlines\"", ""]
        );
    }
}
