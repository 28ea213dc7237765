//! The program that runs, for hints that name a command: `run: neocog fetch-data mnist`.

use std::fmt::Display;
use std::sync::OnceLock;

static NAME: OnceLock<String> = OnceLock::new();

/// Sets the name under which the program was called. The first call wins; a library that is used by a program of another
/// kind leaves the default, `neocog`.
pub fn set_name(name: impl Into<String>) {
    let _ = NAME.set(name.into());
}

/// The name under which the program was called, such as `neocog` or `cargo xtask`.
pub fn name() -> &'static str {
    NAME.get().map_or("neocog", String::as_str)
}

/// A command line of this program: `command("fetch-data mnist")` is `neocog fetch-data mnist`.
pub fn command(arguments: impl Display) -> String {
    format!("{} {arguments}", name())
}
