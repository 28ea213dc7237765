//! Command lines in the syntax of version 0.1, where the benchmark of `bench` was its first positional argument and could
//! follow options: `bench --json ops` is `bench ops --json`.

use std::ffi::OsString;

use clap::Command;

/// Moves the name of a benchmark to the front of the arguments of `bench`. Other command lines are returned unchanged.
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
    arguments
}

/// The index of the first argument from `start` on that is neither an option of one of `commands` nor an option's value.
fn first_positional(arguments: &[OsString], start: usize, commands: &[&Command]) -> Option<usize> {
    let takes_value = |option: &str| {
        commands.iter().flat_map(|command| command.get_arguments()).any(|argument| {
            argument.get_action().takes_values()
                && match option.strip_prefix("--") {
                    Some(long) => argument.get_long() == Some(long),
                    None => argument.get_short().is_some_and(|short| option[1..] == short.to_string()),
                }
        })
    };
    let mut i = start;
    while i < arguments.len() {
        match arguments[i].to_str() {
            Some("--") => return (i + 1 < arguments.len()).then_some(i + 1),
            Some(option) if option.len() > 1 && option.starts_with('-') => {
                i += if takes_value(option) { 2 } else { 1 };
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
    fn other_command_lines_are_unchanged() {
        for line in [
            "",
            "bench",
            "bench ops --json",
            "bench lenet ops",
            "bench --json lenet threads",
            "bench --filter ops",
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
