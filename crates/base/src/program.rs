//! The name of the running program, for hints that contain a command: `run: neocog fetch-data mnist`.

use std::fmt::Display;
use std::sync::OnceLock;

static NAME: OnceLock<String> = OnceLock::new();

/// Sets the name under which the program was called. Only the first call has an effect; the default is `neocog`.
pub fn set_name(name: impl Into<String>) {
    let _ = NAME.set(name.into());
}

/// Returns the name under which the program was called, such as `neocog` or `cargo xtask`.
pub fn name() -> &'static str {
    NAME.get().map_or("neocog", String::as_str)
}

/// Returns a command line of this program: `command("fetch-data mnist")` is `neocog fetch-data mnist`.
pub fn command(arguments: impl Display) -> String {
    format!("{} {arguments}", name())
}
