//! `man`: manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap_mangen::{Man, roff};
use neocog_base::file::{check_output_dir, replace};
use neocog_base::text::count;
use neocog_tensor::{Error, Result};

use crate::help::examples;
use crate::output;
use crate::program::description;
use crate::register_command;

/// Write manual pages.
///
/// Writes a page per command and subcommand, such as neocog-train.1.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog man ~/.local/share/man/man1"))]
struct Args {
    /// Output directory; created if it does not exist.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

register_command!("man", 160, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let dir = &args.dir;
    let cannot = |path: &Path, e| Error::io(format!("cannot write to {}", path.display()), e);
    check_output_dir(dir)?;
    let pages = pages(description()?).map_err(|e| Error::io("cannot format the manual pages", e))?;
    fs::create_dir_all(dir).map_err(|e| cannot(dir, e))?;
    for (name, page) in &pages {
        let path = dir.join(name);
        replace(&path, |file| file.write_all(page)).map_err(|e| cannot(&path, e))?;
    }
    output::line(format_args!("wrote {} to {}", count(pages.len(), "manual page"), dir.display()))
}

/// The file names and contents of the pages of a program and all its subcommands.
fn pages(program: clap::Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default())
        .trim_end()
        .to_string();
    // `help` needs no page.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    let mut open = vec![&program];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().filter(|command| !command.is_hide_set()));
        pages.push(page(command, &source)?);
    }
    pages.sort();
    Ok(pages)
}

fn page(command: &clap::Command, source: &str) -> io::Result<(String, Vec<u8>)> {
    let examples = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone().after_help(None::<&str>)).source(source);
    let mut text = Vec::new();
    man.render(&mut text)?;
    if let Some(examples) = examples {
        let lines = examples.strip_prefix("Examples:\n").unwrap_or(&examples);
        let mut section = roff::Roff::new();
        section.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in lines.lines() {
            section.text([roff::roman(line)]);
        }
        section.control("fi", []).to_writer(&mut text)?;
    }
    Ok((man.get_filename(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages(description().unwrap()).unwrap();
        let page = |name: &str| {
            let page = pages.iter().find(|(file, _)| file.ends_with(name));
            String::from_utf8(page.unwrap_or_else(|| panic!("no page {name}")).1.clone()).unwrap()
        };
        for command in crate::commands().unwrap() {
            let text = page(&format!("-{}.1", command.name));
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{}", command.name);
        }
        assert!(page("-train.1").contains("\\-\\-epochs"));
        assert!(page("-train.1").contains(".SH EXAMPLES\n.nf\n"));
        assert!(page("-bench-ops.1").contains("\\-\\-filter"));
        // Not every viewer decodes UTF-8.
        assert!(pages.iter().all(|(_, text)| text.is_ascii()));
        assert!(!pages.iter().any(|(file, _)| file.contains("help")));
    }
}
