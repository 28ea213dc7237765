//! Help texts that name the program as it was called.

use neocog_base::program;

/// `text` with the program's name in place of `neocog` at the start of each example, a line indented by two spaces.
pub fn examples(text: &str) -> String {
    let example = |line: &str| match line.strip_prefix("  neocog ") {
        Some(rest) => format!("  {}", program::command(rest)),
        None => line.to_string(),
    };
    text.lines().map(example).collect::<Vec<_>>().join("\n")
}
