//! Command lines in the syntax of version 0.1, where the benchmark of `bench` was its first positional argument and could
//! follow options: `bench --json ops` is `bench ops --json`. Options that had no effect on a benchmark were ignored.

use std::ffi::OsString;

use clap::Command;

use crate::output;

/// The options of `bench` that version 0.1 ignored where they had no effect.
const IGNORED_BY_0_1: [&str; 10] =
    ["batch", "size", "predict-only", "budget", "filter", "against", "rounds", "batches", "sizes", "plot"];

/// Options that version 0.1 refused, each of one benchmark.
const REFUSED_BY_0_1: [(&str, &str); 2] = [("sizes", "batch"), ("sizes", "size")];

/// Moves the name of a benchmark to the front of the arguments of `bench`, and leaves out options that the benchmark does not
/// have, but which version 0.1 ignored. Other command lines are returned unchanged.
///
/// `program` is the program with all its commands, `arguments` its command line with the program's name.
pub fn benchmark_first(program: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let Some(bench) = program.find_subcommand("bench") else { return arguments };
    let Some(command) = first_positional(&arguments, 1, &[program]) else { return arguments };
    if arguments[command] != "bench" {
        return arguments;
    }
    let with_options: Vec<&Command> = [program, bench].into_iter().chain(bench.get_subcommands()).collect();
    let start = command + 1;
    if let Some(position) = first_positional(&arguments, start, &with_options)
        && bench.get_subcommands().any(|benchmark| arguments[position] == benchmark.get_name())
    {
        arguments[start..=position].rotate_right(1);
    }
    let benchmark = arguments.get(start).and_then(|name| bench.find_subcommand(name));
    leave_out_ignored(&mut arguments, start, benchmark.unwrap_or(bench), &with_options);
    arguments
}

/// Leaves out options that `benchmark` does not have and version 0.1 ignored, with a note.
fn leave_out_ignored(
    arguments: &mut Vec<OsString>,
    start: usize,
    benchmark: &Command,
    commands: &[&Command],
) {
    let mut i = start;
    while let Some(argument) = arguments.get(i).filter(|argument| *argument != "--") {
        let name = argument.to_str().and_then(|text| text.strip_prefix("--"));
        let (name, has_value) = match name.map(|name| name.split_once('=').ok_or(name)) {
            Some(Ok((name, _))) => (name.to_string(), true),
            Some(Err(name)) => (name.to_string(), false),
            None => (String::new(), false),
        };
        let length = if !has_value && takes_value(commands, &format!("--{name}")) { 2 } else { 1 };
        let is_known = benchmark.get_arguments().any(|known| known.get_long() == Some(&name));
        let is_refused = REFUSED_BY_0_1.contains(&(benchmark.get_name(), &name));
        if IGNORED_BY_0_1.contains(&name.as_str()) && !is_known && !is_refused {
            output::note(format_args!("--{name} has no effect on this benchmark"));
            arguments.drain(i..(i + length).min(arguments.len()));
        } else {
            i += length;
        }
    }
}

/// Whether one of `commands` has this option with a value.
fn takes_value(commands: &[&Command], option: &str) -> bool {
    commands.iter().flat_map(|command| command.get_arguments()).any(|argument| {
        argument.get_action().takes_values()
            && match option.strip_prefix("--") {
                Some(long) => argument.get_long() == Some(long),
                None => argument.get_short().is_some_and(|short| option[1..] == short.to_string()),
            }
    })
}

/// The index of the first argument from `start` on that is neither an option of one of `commands` nor an option's value.
pub fn first_positional(arguments: &[OsString], start: usize, commands: &[&Command]) -> Option<usize> {
    let mut i = start;
    while i < arguments.len() {
        match arguments[i].to_str() {
            Some("--") => return (i + 1 < arguments.len()).then_some(i + 1),
            Some(option) if option.len() > 1 && option.starts_with('-') => {
                i += if takes_value(commands, option) { 2 } else { 1 };
            }
            _ => return Some(i),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let threads = clap::Arg::new("threads").long("threads").global(true);
        let entries = crate::commands().unwrap();
        Command::new("neocog").arg(threads).subcommands(entries.iter().map(|entry| (entry.build)()))
    }

    fn reordered(line: &str) -> String {
        let arguments = format!("neocog {line}");
        let arguments = arguments.split_whitespace().map(OsString::from);
        let words = benchmark_first(&program(), arguments);
        words[1..].iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_benchmark_moves_to_the_front() {
        for (old, new) in [
            ("bench --json ops", "bench ops --json"),
            (
                "bench --threads 2 convolutions resnet --against torch",
                "bench convolutions --threads 2 resnet --against torch",
            ),
            ("--threads 2 bench --json sizes", "--threads 2 bench sizes --json"),
            ("--threads=2 bench --json sizes", "--threads=2 bench sizes --json"),
            (
                "bench --batches 1,8 --sizes=28 --plot sizes sizes lenet",
                "bench sizes --batches 1,8 --sizes=28 --plot sizes lenet",
            ),
            (
                "bench --against torch --rounds 3 networks lenet",
                "bench networks --against torch --rounds 3 lenet",
            ),
            ("bench --filter networks ops", "bench ops --filter networks"),
            ("bench --predict-only threads", "bench threads --predict-only"),
            ("bench --json -- ops", "bench ops --json --"),
        ] {
            assert_eq!(reordered(old), new, "{old}");
        }
    }

    #[test]
    fn options_that_were_ignored_are_left_out() {
        for (old, new) in [
            ("bench ops --rounds 1 --filter conv2d", "bench ops --filter conv2d"),
            ("bench --rounds=1 --plot . ops --json", "bench ops --json"),
            ("bench lenet --filter conv", "bench lenet"),
            ("bench --filter ops", "bench"),
            ("bench --batches 1,8 lenet --batch 4", "bench lenet --batch 4"),
            ("bench convolutions --size 28 -- resnet", "bench convolutions -- resnet"),
            ("bench ops --rounds", "bench ops"),
            ("bench sizes --batch 3 --rounds 2", "bench sizes --batch 3"),
            ("bench ops --profile", "bench ops --profile"),
        ] {
            assert_eq!(reordered(old), new, "{old}");
        }
    }

    #[test]
    fn other_command_lines_are_unchanged() {
        for line in [
            "",
            "bench",
            "bench ops --json",
            "bench lenet ops",
            "bench --json lenet threads",
            "bench --threads",
            "bench --in-process lenet",
            "bench --help",
            "--threads",
            "train --spec bench ops",
            "train bench --json ops",
            "data --show --seed 3 ops",
            "help bench ops",
            "--json bench",
            "- bench",
        ] {
            assert_eq!(reordered(line), line);
        }
    }

    #[test]
    fn old_command_lines_are_parsed() {
        for line in [
            "bench",
            "bench networks",
            "bench lenet lenet_bn --batch 4 --size 32",
            "bench --json ops",
            "bench --device reference ops --filter conv2d --budget 0.1",
            "bench --threads 2 convolutions resnet --against torch",
            "bench sizes resnet --batches 1,8 --sizes 28,96 --plot . --predict-only",
            "bench --batch 2 threads resnet",
            "bench --against torch,onnxruntime --rounds 5 --budget 0.8 --threads 2",
            "bench lenet --profile",
        ] {
            let arguments = format!("neocog {line}");
            let arguments = arguments.split_whitespace().map(OsString::from);
            let parsed = program().try_get_matches_from(benchmark_first(&program(), arguments));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
