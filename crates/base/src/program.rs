//! The name of the running program, for messages that name a command: `run: neocog fetch-data mnist`.

use std::fmt::Display;
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

#[cfg(test)]
mod tests {
    use super::*;

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
