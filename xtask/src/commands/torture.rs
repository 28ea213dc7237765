//! `torture`: ends, disturbs and starves trainings, and checks that nothing is lost.

mod fault;
mod memory;
mod run;
mod server;
mod tally;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neocog_base::random::Random;
use neocog_base::{Error, ErrorKind, Result};
use neocog_cli::{output, register_command};

use fault::Fault;
use run::{Ended, Runs, is_best_right, state_of};
use tally::Tally;

/// Kill and interrupt trainings, limit their memory and disk, and check that nothing is lost
///
/// Trainings are killed at random times and at fault points within the replacement of a file, get signals, a full disk, too
/// little memory, a second run in their directory, and data sets are fetched from hostile servers. After each, last.ckpt must be
/// readable and not older than before, best.ckpt the best of its history, and the run, resumed, must end with the bits of one
/// that was not disturbed. Prints the seed, and a summary.
#[derive(Debug, clap::Args)]
struct Args {
    /// Duration, about; each kind of trial runs once at least
    #[arg(long, value_name = "N", default_value_t = 30.0)]
    minutes: f64,
    /// Seed of the trials [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Directory for the runs, which are removed [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Limits of the address space for each of lenet and vgg
    #[arg(long, value_name = "N", default_value_t = 12)]
    memory_limits: u64,
    /// Leave out vgg, whose steps take long
    #[arg(long)]
    small: bool,
}

register_command!("torture", 220, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| {
        std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() ^ u64::from(time.subsec_nanos()))
    });
    output::line(format_args!("seed {seed}; repeat with --seed {seed}"))?;
    let scratch = match &args.scratch {
        Some(scratch) => scratch.clone(),
        None => std::env::temp_dir().join(format!("neocog-torture-{}", std::process::id())),
    };
    let cannot = |e| Error::io(format!("cannot use the directory {}", scratch.display()), e);
    fs::create_dir_all(&scratch).map_err(cannot)?;
    let done = torture(args, seed, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    let tally = done?;
    for skipped in &tally.skipped {
        output::line(format_args!("*** NOT RUN: {skipped}"))?;
    }
    for failure in tally.failures() {
        output::line(format_args!("FAILED: {failure}"))?;
    }
    output::line(format_args!(
        "survived {} kills ({} between opening and renaming a file), {} signals, {} full disks, {} memory limits, {} pairs of \
         runs, {} hostile servers; {} runs finished: lost {}, different bits {}, best.ckpt wrong {}, other failures {}",
        tally.kills,
        tally.kills_within,
        tally.signals,
        tally.full_disks,
        tally.memory_limits,
        tally.pairs,
        tally.servers,
        tally.finished,
        tally.lost.len(),
        tally.different.len(),
        tally.best_wrong.len(),
        tally.other.len()
    ))?;
    match tally.failures().count() {
        0 => Ok(()),
        count => Err(Error::new(ErrorKind::Mismatch, format!("{count} trials failed with seed {seed}"))),
    }
}

fn torture(args: &Args, seed: u64, scratch: &Path) -> Result<Tally> {
    let runs = Runs::new(scratch)?;
    let mut tally = Tally::default();
    let mut random = Random::stream(seed, "torture");
    let start = Instant::now();
    let end = Duration::from_secs_f64(args.minutes.clamp(0.0, 1e6) * 60.0);
    server::try_all(&runs, &mut tally)?;
    full_disk(&runs, &mut tally)?;
    memory::sweep(&runs, args.memory_limits, args.small, &mut tally)?;
    let mut trial = 0;
    while trial < 4 || start.elapsed() < end {
        let folder = scratch.join(format!("run-{trial}"));
        if trial % 5 == 4 {
            pair(&runs, &folder, &mut tally)?;
        } else {
            disturbed_run(&runs, &folder, &mut random, &mut tally)?;
        }
        let _ = fs::remove_dir_all(&folder);
        trial += 1;
    }
    Ok(tally)
}

/// Disturbs a run until it is finished, and compares it with one that was not disturbed.
fn disturbed_run(runs: &Runs, folder: &Path, random: &mut Random, tally: &mut Tally) -> Result<()> {
    const TRIES: usize = 10;
    let mut step = 0;
    let mut history = String::new();
    for attempt in 0.. {
        let fault = if attempt < TRIES { Fault::draw(random) } else { Fault::None };
        let ended = runs.train(folder, &fault)?;
        let (what, expected) = match &fault {
            Fault::Point(point) => (point.clone(), if point.starts_with("kill") { None } else { Some(1) }),
            Fault::Signal { name: "KILL", .. } => ("KILL".to_string(), None),
            Fault::Signal { name, .. } => (name.to_string(), Some(130)),
            Fault::None => ("nothing".to_string(), Some(0)),
        };
        history += &format!(" {what}");
        let finished = ended.code == Some(0);
        if ended.is_panic() || (!finished && ended.code != expected) {
            tally.other.push(format!("after{history}: {ended}"));
            return Ok(());
        }
        if !finished {
            match &fault {
                Fault::Point(point) if point.starts_with("full") => tally.full_disks += 1,
                Fault::Point(_) => {
                    tally.kills += 1;
                    tally.kills_within += u64::from(fault.is_within());
                }
                Fault::Signal { name: "KILL", .. } => tally.kills += 1,
                _ => tally.signals += 1,
            }
        }
        match state_of(folder) {
            Ok(Some(last)) if last.position.step >= step => {
                step = last.position.step;
                if !is_best_right(folder, &last) {
                    tally.best_wrong.push(format!("after{history}"));
                }
            }
            Ok(None) if step == 0 && !finished => {}
            Ok(found) => {
                let found = found.map_or("none".into(), |last| format!("step {}", last.position.step));
                tally.lost.push(format!("after{history}: {found} after step {step}"));
                return Ok(());
            }
            Err(e) => {
                tally.lost.push(format!("after{history}: {e}"));
                return Ok(());
            }
        }
        if finished {
            tally.finished += 1;
            if let Some(difference) = runs.difference(folder)? {
                tally.different.push(format!("after{history}: {difference}"));
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Two runs at once in one directory: one of them reports the other one.
fn pair(runs: &Runs, folder: &Path, tally: &mut Tally) -> Result<()> {
    let first = runs.start(folder, &Fault::None)?;
    let second = runs.start(folder, &Fault::None)?;
    let ended = [first.wait()?, second.wait()?];
    let refused = |e: &Ended| {
        // Whether the other one runs or has finished.
        let texts = ["another run writes to the directory", "holds the checkpoints of another run"];
        e.code == Some(1) && texts.iter().any(|text| e.stderr.contains(text))
    };
    let winners = ended.iter().filter(|e| e.code == Some(0)).count();
    if winners == 1 && ended.iter().any(refused) && runs.difference(folder)?.is_none() {
        tally.pairs += 1;
    } else {
        tally.other.push(format!("two runs at once: {} / {}", ended[0], ended[1]));
    }
    Ok(())
}

/// A small file system that becomes full, and is emptied again.
fn full_disk(runs: &Runs, tally: &mut Tally) -> Result<()> {
    let disk = runs.scratch.join("disk");
    fs::create_dir_all(&disk).map_err(|e| Error::io("cannot create a directory", e))?;
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(&disk)
        .output();
    let reason = match mounted {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Err(e) => Some(e.to_string()),
    };
    if let Some(reason) = reason {
        let text = format!(
            "a full tmpfs, because it cannot be mounted ({reason}); errors of writes are simulated all the same"
        );
        tally.skipped.push(text);
        return Ok(());
    }
    let done = fill_disk(runs, &disk, tally);
    let _ = std::process::Command::new("umount").arg(&disk).status();
    done
}

fn fill_disk(runs: &Runs, disk: &Path, tally: &mut Tally) -> Result<()> {
    let (folder, filler) = (disk.join("run"), disk.join("filler"));
    for free in [0usize, 20 << 10, 300 << 10] {
        let running = runs.start(&folder, &Fault::None)?;
        std::thread::sleep(Duration::from_millis(150));
        // Grows until the disk is full, and leaves `free` bytes.
        let bytes = vec![1; 4 << 20];
        let _ = fs::write(&filler, &bytes);
        let size = fs::metadata(&filler).map_or(0, |metadata| metadata.len() as usize);
        let left = fs::File::options().write(true).open(&filler);
        let _ = left.and_then(|file| file.set_len(size.saturating_sub(free) as u64));
        let ended = running.wait()?;
        let said = ended.stderr.contains("No space left") || ended.stderr.contains("cannot write");
        let survived = match ended.code {
            Some(0) => true,
            Some(1) => said && !ended.is_panic(),
            _ => false,
        };
        let readable = state_of(&folder);
        let _ = fs::remove_file(&filler);
        match readable {
            Ok(_) if survived => tally.full_disks += 1,
            Ok(_) => tally.other.push(format!("full disk: {ended}")),
            Err(e) => tally.lost.push(format!("full disk: {e}")),
        }
    }
    let ended = runs.train(&folder, &Fault::None)?;
    match (ended.code, runs.difference(&folder)?) {
        (Some(0), None) => tally.finished += 1,
        (Some(0), Some(difference)) => tally.different.push(format!("full disk: {difference}")),
        _ => tally.other.push(format!("after a full disk: {ended}")),
    }
    Ok(())
}
