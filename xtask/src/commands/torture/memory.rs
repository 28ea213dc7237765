//! Runs with too little memory.

use std::process::Command;

use neocog_base::Result;

use super::run::{Ended, Running, Runs};
use super::tally::Tally;

/// Trains lenet and, unless `is_small`, vgg with large batches under `limits` limits of the address space: each run must end with a proper error, or finish
/// its epoch.
pub fn sweep(runs: &Runs, limits: u64, is_small: bool, tally: &mut Tally) -> Result<()> {
    if !cfg!(target_os = "linux") {
        tally.skipped.push("memory limits, which need Linux".into());
        return Ok(());
    }
    // From what the program needs to start to about what the first step needs, in KiB.
    sweep_network(runs, limits, "lenet --batch 1400", [50_000, 120_000], tally)?;
    if !is_small {
        sweep_network(runs, limits, "vgg --batch 256", [150_000, 2_500_000], tally)?;
    }
    Ok(())
}

fn sweep_network(
    runs: &Runs,
    count: u64,
    network: &str,
    [low, high]: [u64; 2],
    tally: &mut Tally,
) -> Result<()> {
    for i in 0..count {
        // Equal factors between limits.
        let share = i as f64 / (count.max(2) - 1) as f64;
        let limit = (low as f64 * (high as f64 / low as f64).powf(share)) as u64;
        for backtrace in ["0", "1"] {
            let ended = limited(runs, network, limit, backtrace)?;
            let last = ended.stderr.lines().last().unwrap_or("");
            let is_error = ended.code == Some(1) && last.starts_with("error: ");
            // Before `main`, the loader of shared libraries tells.
            let not_started =
                ended.code == Some(127) && ended.stderr.contains("error while loading shared libraries");
            if (is_error || ended.code == Some(0) || not_started) && !ended.is_panic() {
                tally.memory_limits += 1;
            } else {
                tally.other.push(format!("{network} with {limit} KiB, RUST_BACKTRACE={backtrace}: {ended}"));
            }
            neocog_cli::output::note(format_args!(
                "{network} with {limit} KiB: exit {:?}: {last}",
                ended.code
            ));
        }
    }
    Ok(())
}

fn limited(runs: &Runs, network: &str, limit: u64, backtrace: &str) -> Result<Ended> {
    let folder = runs.file("limited");
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {limit} && exec \"$0\" \"$@\"")])
        .arg(&runs.program)
        .args(["train"])
        .args(network.split(' '))
        .args(["--data", "digits", "--epochs", "1", "--threads", "2", "--out"])
        .arg(&folder)
        .env("RUST_BACKTRACE", backtrace);
    let ended = Running::start(command, runs.file("stderr"))?.wait();
    let _ = std::fs::remove_dir_all(folder);
    ended
}
