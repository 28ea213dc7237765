//! Trainings of several processes, started by `mpirun`.

#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "this test needs a part of it")]
mod folder;

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use folder::{Folder, NEOCOG, texts};
use neocog_base::testing::require;
use neocog_train::{Checkpoint, CheckpointDir};

/// Batch norm, augmentation, and a last batch that leaves shards empty.
const TRAIN: &str = "train lenet_bn --limit 50 --batch 16 --shards 4 --flip --crop-padding 2 --schedule constant --threads 1 --log-every 0";

fn mpirun() -> Option<()> {
    let found = Command::new("mpirun").arg("--version").output();
    require("mpi", found.map(drop).map_err(|e| format!("cannot start mpirun: {e}")))
}

/// The command that starts `ranks` processes with the arguments.
fn command(folder: &Folder, ranks: usize, arguments: &str) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args(["--oversubscribe", "--bind-to", "none", "--mca", "btl_vader_single_copy_mechanism", "none"])
        .args(["-np", &ranks.to_string(), NEOCOG])
        .args(arguments.split(' '))
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .current_dir(folder.path(""));
    command
}

fn run(folder: &Folder, ranks: usize, arguments: &str) -> Output {
    command(folder, ranks, arguments).output().unwrap()
}

/// The text of standard error of a run that failed within ten seconds.
fn failure(output: &Output, start: Instant) -> String {
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The weights, the state of the optimizer and the history of a run.
fn result(folder: &Folder, run: &str) -> Checkpoint {
    Checkpoint::read(&folder.path(run).join(CheckpointDir::LAST)).unwrap()
}

/// The bytes of the checkpoint of a run.
fn file(folder: &Folder, run: &str) -> Vec<u8> {
    fs::read(folder.path(run).join(CheckpointDir::LAST)).unwrap()
}

#[test]
fn any_number_of_processes_has_the_same_result() {
    let Some(()) = mpirun() else { return };
    let folder = Folder::new();
    folder.success(&format!("{TRAIN} --epochs 2 --out one"));
    let expected = file(&folder, "one");
    for (ranks, more) in [(2, ""), (4, ""), (4, " --shard-optimizer")] {
        let name = format!("run{ranks}{}", more.len());
        let output = run(&folder, ranks, &format!("{TRAIN} --epochs 2 --out {name}{more}"));
        let (stdout, stderr) = texts(&output, 0);
        // The first process alone reports.
        assert_eq!(stdout.matches("epoch 2/2").count(), 1, "{stdout}{stderr}");
        assert!(file(&folder, &name) == expected, "{name}");
    }
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 4);
}

#[test]
fn compressed_gradients_are_half_as_large_and_have_the_same_result() {
    let Some(()) = mpirun() else { return };
    let folder = Folder::new();
    let mut sent = Vec::new();
    for (name, more) in [("exact", ""), ("bf16", " --compress bf16")] {
        let output = run(&folder, 4, &format!("{TRAIN} --epochs 1 --out {name}{more}"));
        let (_, stderr) = texts(&output, 0);
        let line = stderr.lines().find(|line| line.starts_with("each process sent about ")).unwrap();
        let number = line.split(' ').nth(4).unwrap().parse::<f64>().unwrap();
        assert!(line.contains("KiB per step; the gradients have "), "{line}");
        sent.push(number);
    }
    // Statistics of batch norm and messages before each step are not compressed.
    assert!(sent[1] < 0.6 * sent[0], "{sent:?}");
    folder.success(&format!("{TRAIN} --epochs 1 --out alone --compress bf16"));
    assert!(result(&folder, "alone") == result(&folder, "bf16"));
    let (_, text) = texts(&folder.run("train lenet --compress f16"), 2);
    assert!(text.contains("[possible values: bf16]"), "{text}");
}

/// Starts a run that would not end, and waits for its first checkpoint.
fn start(folder: &Folder, ranks: usize) -> Child {
    let mut command =
        command(folder, ranks, &format!("{TRAIN} --epochs 100000 --save-every 1steps --out run"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let last = folder.path("run").join(CheckpointDir::LAST);
    let start = Instant::now();
    while !last.exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The processes that a launcher has started.
fn children(of: &Child) -> Vec<i32> {
    let tasks = format!("/proc/{0}/task/{0}/children", of.id());
    let text = fs::read_to_string(tasks).unwrap();
    text.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn signal(process: i32, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

/// Waits for the end of a run, at most ten seconds; returns standard error.
fn end(child: Child, processes: &[i32]) -> String {
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    let text = failure(&output, start);
    for process in processes {
        // A process that has ended stays until its parent waits for it.
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = state.rsplit(") ").next().unwrap_or_default();
        assert!(state.is_empty() || state.starts_with('Z'), "process {process} is left: {state}");
    }
    text
}

#[test]
fn the_death_of_one_process_ends_all_and_another_number_goes_on() {
    let Some(()) = mpirun() else { return };
    let folder = Folder::new();
    let child = start(&folder, 4);
    let processes = children(&child);
    assert_eq!(processes.len(), 4);
    signal(processes[2], "-KILL");
    let text = end(child, &processes);
    assert!(text.contains("signal 9"), "{text}");

    let epochs = result(&folder, "run").position.epoch + 2;
    let resume = format!("train --resume run/last.ckpt --epochs {epochs} --threads 1");
    texts(&run(&folder, 2, &resume), 0);
    folder.success(&format!("{TRAIN} --epochs {epochs} --out whole"));
    assert!(result(&folder, "run").state == result(&folder, "whole").state);
}

#[test]
fn a_signal_to_one_process_stops_all_with_a_checkpoint() {
    let Some(()) = mpirun() else { return };
    let folder = Folder::new();
    let child = start(&folder, 2);
    let processes = children(&child);
    signal(processes[1], "-TERM");
    let text = end(child, &processes);
    assert!(text.contains("resume with: mpirun -np 2"), "{text}");
    texts(&run(&folder, 2, "train --resume run/last.ckpt --time-budget 1s"), 0);
}

#[test]
fn processes_that_cannot_train_together_say_why() {
    let Some(()) = mpirun() else { return };
    let folder = Folder::new();
    let begin = Instant::now();
    let text = failure(&run(&folder, 2, "train lenet --limit 8"), begin);
    assert!(text.contains("1 shard cannot be divided among 2 processes"), "{text}");

    let two = |first: &str, second: &str| {
        let mut command = command(&folder, 1, first);
        command.args([":", "-np", "1", NEOCOG]).args(second.split(' '));
        let begin = Instant::now();
        failure(&command.output().unwrap(), begin)
    };
    let shards = "train lenet --limit 8 --shards 2 --out x";
    let text = two(shards, &format!("{shards} --lr 0.5"));
    assert!(
        text.contains("process 1 on ") && text.contains(": optimizer.lr: 0.5 here, 0.002 there"),
        "{text}"
    );
    assert!(!folder.path("x").exists(), "nothing is written before");
    let text = two(shards, &format!("{shards} --shard-optimizer"));
    assert!(text.contains("process 1 on ") && text.contains(": --shard-optimizer"), "{text}");
    let text = two(shards, &format!("{shards} --data ./flowers"));
    assert!(
        text.contains("error in process 1 of 2 on ") && text.contains(": there is no folder ./flowers"),
        "{text}"
    );
    let text = two(shards, "train lenet --limit 6 --shards 2 --out x");
    assert!(text.contains(": data (SHA-256):") && text.contains("limit: 6 here, 8 there"), "{text}");

    let text = failure(&run(&folder, 2, "eval x/last.ckpt"), Instant::now());
    assert!(text.contains("eval runs in one process, but 2 were started together"), "{text}");
}
