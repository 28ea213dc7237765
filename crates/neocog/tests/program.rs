//! The program outside of a checkout: in an empty directory, with an empty home directory, called by name and by path.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// An installed copy of the program, a home directory and a working directory.
struct Installation(TempDir);

impl Installation {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "home", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        // A link takes no time and no disk space; copies are for file systems without.
        let (from, to) = (env!("CARGO_BIN_EXE_neocog"), folder.path().join("bin/neocog"));
        if fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to).unwrap();
        }
        Installation(folder)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.0.path().join("work").join(name)
    }

    /// Runs `program`, which is found in PATH unless it contains a slash.
    fn run(&self, program: &str, arguments: &str) -> Output {
        Command::new(program)
            .args(arguments.split_whitespace())
            .current_dir(self.0.path().join("work"))
            .env_clear()
            .env("PATH", self.0.path().join("bin"))
            .env("HOME", self.0.path().join("home"))
            .output()
            .unwrap()
    }

    /// Runs a command that succeeds; returns standard output and standard error.
    fn success(&self, arguments: &str) -> (String, String) {
        let output = self.run("neocog", arguments);
        let texts = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{arguments}: {}", texts.1);
        for text in [&texts.0, &texts.1] {
            assert!(!text.contains("xtask"), "{arguments}: {text}");
        }
        texts
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_network_is_trained_evaluated_and_exported() {
    let installation = Installation::new();
    installation.success("train --epochs 1 --limit 64");
    let (stdout, _) = installation.success("eval runs/lenet-digits/last.ckpt");
    assert!(stdout.starts_with("lenet after 1 epoch on 360 images of digits (test): loss "), "{stdout}");
    installation.success("export runs/lenet-digits/best.ckpt --to lenet.safetensors");
    assert!(installation.work("lenet.safetensors").is_file());
    let (stdout, _) = installation.success("summary");
    assert!(stdout.contains("lenet") && stdout.contains("resnet"), "{stdout}");
    installation.success("summary lenet");
    installation.success("spec lenet");
    installation.success("layers");
    installation.success("lesson");
    let (stdout, _) = installation.success("data");
    assert!(stdout.contains("neocog fetch-data mnist"), "{stdout}");
    let (stdout, _) = installation.success("data --json");
    assert!(stdout.contains("\"place\":\"not there: neocog fetch-data mnist\""), "{stdout}");
    assert_eq!(fs::read_dir(installation.0.path().join("home")).unwrap().count(), 0);
}

/// All command words, with those of subcommands.
fn commands() -> Vec<String> {
    let names = |text: &str, heading: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| *line != heading).skip(1);
        let lines = lines.take_while(|line| line.starts_with("  "));
        let names = lines
            .filter(|line| !line.starts_with("   "))
            .map(|line| line.split_whitespace().next().unwrap().to_string());
        names.filter(|name| name != "help").collect()
    };
    let installation = Installation::new();
    let mut all = names(&installation.success("-h").0, "Commands:");
    assert!(all.len() > 14, "{all:?}");
    let benchmarks = names(&installation.success("bench -h").0, "Benchmarks:");
    assert_eq!(benchmarks, ["networks", "ops", "convolutions", "loader", "sizes", "threads"]);
    all.extend(benchmarks.iter().map(|name| format!("bench {name}")));
    all
}

#[test]
fn help_names_the_program_as_it_was_called() {
    let installation = Installation::new();
    for command in commands() {
        let (help, _) = installation.success(&format!("{command} --help"));
        assert!(help.contains(&format!("Usage: neocog {command}")), "{help}");
        assert!(help.contains("Examples:\n  neocog "), "{help}");
    }
    let path = installation.0.path().join("bin/neocog");
    let help = text(installation.run(path.to_str().unwrap(), "train --help").stdout);
    assert!(help.contains("Usage: neocog train"), "{help}");
    let renamed = installation.0.path().join("bin/vision");
    fs::rename(&path, &renamed).unwrap();
    let help = text(installation.run("vision", "train --help").stdout);
    assert!(help.contains("Usage: vision train") && help.contains("\n  vision train lenet_bn"), "{help}");
    assert!(!help.contains("neocog "), "{help}");
}

#[test]
fn commands_in_messages_can_be_pasted() {
    let installation = Installation::new();
    let hint = |program: &str| text(installation.run(program, "train --data mnist").stderr);
    let error = hint("neocog");
    assert!(error.contains("neocog fetch-data mnist") && !error.contains("/neocog fetch-data"), "{error}");
    let path = installation.0.path().join("bin/neocog").display().to_string();
    let error = hint(&path);
    assert!(error.contains(&format!("{path} fetch-data mnist")), "{error}");
    let error = hint("../bin/neocog");
    assert!(error.contains(" ../bin/neocog fetch-data mnist"), "{error}");
}

#[test]
fn exit_codes_tell_errors_from_usage_errors() {
    let installation = Installation::new();
    for (arguments, code) in [
        ("--version", 0),
        ("--help", 0),
        ("help bench ops", 0),
        ("", 2),
        ("no-such-command", 2),
        ("train --no-such-option", 2),
        ("--threads 0 summary", 2),
        ("summary --threads 2000", 2),
        ("summary no-such-network", 1),
        ("eval no.ckpt", 1),
        ("man /dev/null/man", 1),
        ("completions no-such-shell", 2),
    ] {
        let output = installation.run("neocog", arguments);
        let stderr = text(output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments}: {stderr}");
    }
}

#[test]
fn completion_scripts_are_generated() {
    let installation = Installation::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (script, _) = installation.success(&format!("completions {shell}"));
        for word in ["neocog", "fetch-data", "convolutions", "warm-up", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let (script, _) = installation.success("completions bash");
    let Ok(mut bash) = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        eprintln!("skipped the syntax check: there is no bash");
        return;
    };
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
}

#[test]
fn manual_pages_are_written() {
    let installation = Installation::new();
    let (stdout, _) = installation.success("man share/man/man1");
    let folder = installation.work("share/man/man1");
    let page = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for command in commands() {
        let name = format!("neocog-{}", command.replace(' ', "-"));
        let page = page(&format!("{name}.1"));
        assert!(page.contains(".SH NAME") && page.contains(&name.replace('-', "\\-")), "{page}");
        assert!(page.contains(".SH EXAMPLES") && !page.contains("xtask"), "{page}");
    }
    assert!(page("neocog.1").contains("fetch\\-data"));
    let count = count_files(&folder);
    assert_eq!(count, commands().len() + 1);
    assert_eq!(stdout, format!("wrote {count} manual pages to share/man/man1\n"));
    // Existing pages are replaced; no temporary files are left.
    installation.success("man share/man/man1");
    assert_eq!(count_files(&folder), count);
}

fn count_files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}
