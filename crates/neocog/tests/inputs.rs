//! What a command reads: nothing of it is replaced, and nothing is waited for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod folder;

use std::fs;
use std::time::{Duration, Instant};

use folder::Folder;

/// The time that a command takes that has nothing to do.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_a_command_reads_is_not_replaced_by_its_outputs() {
    let folder = Folder::new();
    folder.success("spec lenet --to s.json");
    folder.success("train --epochs 1 --limit 64 --out run");
    folder.success("export run/best.ckpt --to w.safetensors");
    for (class, value) in [("a", 10u8), ("b", 200)] {
        fs::create_dir_all(folder.path("images").join(class)).unwrap();
        for i in 0..3u8 {
            let pixel = |x: u32, y: u32| image::Luma([(u32::from(value) + 7 * u32::from(i) + x * y) as u8]);
            let image = image::GrayImage::from_fn(28, 28, pixel);
            image.save(folder.path("images").join(class).join(format!("{i}.png"))).unwrap();
        }
    }
    folder.success("data --data ./images --pack images.pack");
    folder.success("train lenet --data ./images --epochs 1 --limit 4 --out other");
    let files = ["s.json", "w.safetensors", "images.pack", "images/b/1.png"];
    let before: Vec<Vec<u8>> = files.iter().map(|name| fs::read(folder.path(name)).unwrap()).collect();
    for command in [
        "train --spec s.json --limit 32 --epochs 1 --out n1 --write-config s.json",
        "train lenet --weights w.safetensors --limit 32 --epochs 1 --out n2 --write-config w.safetensors",
        "lr-find --spec s.json --limit 32 --steps 5 --to s.json",
        "lr-find lenet --weights w.safetensors --limit 32 --steps 5 --to w.safetensors",
        "data --show --data images.pack --out images.pack",
        "data --show --data ./images --out images/b/1.png",
        "data --show --data ./images --skip-broken --out images/b/1.png",
        "data --data ./images --pack images/b/1.png",
        "eval other/best.ckpt --data ./images --predictions images/b/1.png",
        "embed other/best.ckpt ./images --to images/b/1.png",
    ] {
        let error = folder.error(command);
        assert!(error.contains("choose another output file"), "{command}: {error}");
        for (name, before) in files.iter().zip(&before) {
            assert!(&fs::read(folder.path(name)).unwrap() == before, "{command} replaced {name}");
        }
    }
    // Other files are written as before, and again.
    folder.success("train --spec s.json --limit 32 --epochs 1 --out n3 --write-config c.toml");
    let first = folder.read("c.toml");
    folder.success("train --spec s.json --limit 32 --epochs 1 --out n4 --write-config c.toml");
    assert_eq!(folder.read("c.toml").lines().count(), first.lines().count());
}

#[cfg(unix)]
#[test]
fn fifos_in_place_of_files_are_errors_at_once() {
    let folder = Folder::new();
    let fifo = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(folder.path(name)).status().unwrap();
        assert!(made.success());
    };
    folder.success("train --epochs 1 --limit 64 --out run");
    let start = Instant::now();
    for name in ["log.jsonl", "best.ckpt", "last.ckpt"] {
        fs::rename(folder.path("run").join(name), folder.path("kept")).unwrap();
        fifo(&format!("run/{name}"));
        for command in ["compare run", "report run", "train --resume run/last.ckpt --epochs 2"] {
            let output = folder.run(command);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_ne!(output.status.code(), None, "{command}: {error}");
            assert!(!error.contains("panicked"), "{command}: {error}");
        }
        fs::remove_file(folder.path("run").join(name)).unwrap();
        fs::rename(folder.path("kept"), folder.path("run").join(name)).unwrap();
    }
    fs::create_dir_all(folder.path("data/fashion-mnist")).unwrap();
    for name in ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"] {
        fifo(&format!("data/fashion-mnist/{name}"));
    }
    let error = folder.error("data --data fashion-mnist --data-dir data");
    assert!(error.contains("not a regular file") || error.contains("fetch-data"), "{error}");
    assert!(start.elapsed() < 3 * SOON);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_without_end_is_not_read_to_its_end() {
    let folder = Folder::new();
    folder.success("train --epochs 1 --limit 64 --out run");
    fs::remove_file(folder.path("run/log.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path("run/log.jsonl")).unwrap();
    let start = Instant::now();
    // The epochs are in the checkpoint.
    folder.run("report run");
    folder.run("train --resume run/last.ckpt --epochs 2");
    assert!(start.elapsed() < SOON);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_wait_for_a_reader() {
    let folder = Folder::new();
    assert!(std::process::Command::new("mkfifo").arg(folder.path("chart.svg")).status().unwrap().success());
    let mut child = folder.command("lr-find lenet --limit 64 --steps 8 --to chart.svg").spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert!(child.try_wait().unwrap().is_none(), "it does not wait for a reader");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(5) {
            child.kill().unwrap();
            panic!("the signal is not heard");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
