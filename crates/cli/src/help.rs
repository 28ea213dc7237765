//! Help texts that name the program.

use neocog_base::program;

/// Lays out several ways to call a command, each a text such as `eval [OPTIONS] <CHECKPOINT>`, in place of clap's usage.
pub fn usages(usages: &[&str]) -> String {
    usages.iter().map(|usage| format!("{} {usage}", program::name())).collect::<Vec<_>>().join("\n       ")
}

/// Replaces `neocog` at the start of each example, a line indented by two spaces, by the name of the program.
///
/// ```
/// let text = neocog_cli::examples("Examples:\n  neocog train");
/// assert!(text.ends_with(" train"));
/// ```
pub fn examples(text: &str) -> String {
    let example = |line: &str| match line.strip_prefix("  neocog ") {
        Some(rest) => format!("  {} {rest}", program::name()),
        None => line.to_string(),
    };
    text.lines().map(example).collect::<Vec<_>>().join("\n")
}
