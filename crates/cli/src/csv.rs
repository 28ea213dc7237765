//! Tables as CSV files (RFC 4180).

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use neocog_base::file;
use neocog_base::{Error, Result};

/// Returns the text of a field, in quotation marks where it needs them.
pub fn field(text: impl Display) -> String {
    let text = text.to_string();
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
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
    let written = file::write(path, |file| {
        let mut out = BufWriter::new(file);
        writeln!(out, "{header}")?;
        fill(&mut out)?;
        out.flush()
    });
    written.map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(
            ["a b", "a,b", "say \"x\"", "two\nlines", ""].map(field),
            ["a b", "\"a,b\"", "\"say \"\"x\"\"\"", "\"two\nlines\"", ""]
        );
    }
}
