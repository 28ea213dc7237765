//! The name of the running program, for messages that name a command: `run: neocog fetch-data mnist`.

use std::fmt::Display;
use std::path::Path;
use std::sync::OnceLock;

static NAME: OnceLock<String> = OnceLock::new();
static INVOCATION: OnceLock<String> = OnceLock::new();

/// Sets the name of the program. The first call wins; without one, the name is `neocog`.
pub fn set_name(name: impl Into<String>) {
    let _ = NAME.set(name.into());
}

/// Sets the text that starts the program in a shell where it differs from the name, such as `target/release/neocog`. The
/// first call wins.
pub fn set_invocation(text: impl Into<String>) {
    let _ = INVOCATION.set(text.into());
}

/// The name of the program, such as `neocog` or `cargo xtask`.
pub fn name() -> &'static str {
    NAME.get().map_or("neocog", String::as_str)
}

/// A command line that runs this program again: `command("fetch-data mnist")` is `neocog fetch-data mnist`.
pub fn command(arguments: impl Display) -> String {
    format!("{} {arguments}", INVOCATION.get().map_or(name(), String::as_str))
}

/// `word` as one word of a shell's command line: in single quotes where it holds other characters than letters, digits and
/// `_-./:=,+@%`.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `path` as one word of a shell's command line, also if it is not valid UTF-8 (on Unix; bash and zsh read it).
pub fn quoted_path(path: &Path) -> String {
    if let Some(text) = path.to_str() {
        return quoted(text);
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let bytes = path.as_os_str().as_bytes();
        let escaped: String = bytes
            .iter()
            .map(|&b| match b {
                b'\'' | b'\\' => format!("\\{}", char::from(b)),
                b' '..=b'~' => char::from(b).to_string(),
                _ => format!("\\x{b:02x}"),
            })
            .collect();
        format!("$'{escaped}'")
    }
    #[cfg(not(unix))]
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn paths_of_any_bytes_are_quoted() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let path = |bytes: &'static [u8]| quoted_path(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(path(b"a/b"), "a/b");
        assert_eq!(path(b"it's \xff\\"), r"$'it\'s \xff\\'");
    }

    #[test]
    fn words_are_quoted_where_needed() {
        assert_eq!(quoted("runs/lenet-digits/last.ckpt"), "runs/lenet-digits/last.ckpt");
        assert_eq!(quoted("my runs"), "'my runs'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn the_default_name_is_neocog() {
        assert_eq!(command("train"), "neocog train");
    }
}
