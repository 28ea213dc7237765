//! `completions`: completion scripts for shells.

use clap_complete::Shell;
use neocog_tensor::{Error, Result};

use crate::help::examples;
use crate::output;
use crate::program::description;
use crate::register_command;

/// Print a shell completion script.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog completions bash > ~/.local/share/bash-completion/completions/neocog
  neocog completions zsh > ~/.zfunc/_neocog
  neocog completions fish > ~/.config/fish/completions/neocog.fish"))]
struct Args {
    /// Shell.
    #[arg(value_enum)]
    shell: Shell,
}

register_command!("completions", 150, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let script = script(args.shell)?;
    output::line(script.trim_end())
}

fn script(shell: Shell) -> Result<String> {
    let mut program = description()?;
    let name = program.get_name().to_string();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    String::from_utf8(script).map_err(|e| Error::format("the completion script is not UTF-8").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn scripts_complete_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            for command in crate::commands().unwrap() {
                assert!(script.contains(command.name), "{shell}: {}", command.name);
            }
            assert!(script.contains("crop-padding") && script.contains("convolutions"), "{shell}");
        }
    }
}
