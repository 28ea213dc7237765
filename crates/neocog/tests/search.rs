//! Searches for options: `sweep` and `lr-find`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod folder;

use std::fs;
use std::time::{Duration, Instant};

use folder::Folder;
use serde_json::Value;

const GRID: &str = "network = 'lenet'\nlimit = 64\nepochs = 2\n[values]\nlr = [0.0005, 0.001, 0.002]\nbatch = [16, 32, 48, 64]";

fn rows(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_killed_sweep_goes_on() {
    let folder = Folder::new();
    fs::write(folder.path("grid.toml"), GRID).unwrap();
    let mut child = folder.command("sweep grid.toml --jobs 2 --json").spawn().unwrap();
    let start = Instant::now();
    while !folder.path("sweeps/grid/04/last.ckpt").is_file() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The trainings that it started still run; they are waited for.
    let first = fs::metadata(folder.path("sweeps/grid/01/last.ckpt")).unwrap().modified().unwrap();

    let (stdout, stderr) = folder.success("sweep grid.toml --jobs 2 --json");
    let rows = rows(&stdout);
    assert_eq!(rows.len(), 12, "{stdout}");
    assert!(rows.iter().all(|row| row["epochs"] == 2 && row["error"].is_null()), "{stdout}");
    let accuracies: Vec<f64> = rows.iter().map(|row| row["best_acc"].as_f64().unwrap()).collect();
    assert!(accuracies.windows(2).all(|pair| pair[0] >= pair[1]), "{stdout}");
    let last = rows.iter().find(|row| row["run"] == "sweeps/grid/12").unwrap();
    assert_eq!(last["options"], serde_json::json!({"lr": 0.002, "batch": 64}));
    assert!(!stderr.contains("sweeps/grid/01 ("), "{stderr}");
    assert_eq!(fs::metadata(folder.path("sweeps/grid/01/last.ckpt")).unwrap().modified().unwrap(), first);
    assert!(folder.read("sweeps/grid/comparison.html").contains("Comparison of 12 runs"));
    let (table, _) = folder.success("sweep grid.toml");
    assert!(table.contains("batch=64 lr=0.002"), "{table}");

    // The run of a row is that of the same command.
    folder.success("train lenet --limit 64 --epochs 2 --lr 0.002 --batch 64 --out same");
    folder.success("export same/last.ckpt --to same.safetensors");
    folder.success("export sweeps/grid/12/last.ckpt --to swept.safetensors");
    let bytes = |name: &str| fs::read(folder.path(name)).unwrap();
    assert!(bytes("same.safetensors") == bytes("swept.safetensors"));

    fs::write(folder.path("grid.toml"), GRID.replace("64]", "8]")).unwrap();
    assert!(folder.error("sweep grid.toml").contains("holds another search"));
}

#[test]
fn halving_stops_what_is_not_good() {
    let folder = Folder::new();
    // At a rate of 1e38 the loss is not finite.
    let search = "limit = 64\nepochs = 4\nbatch = 16\noptimizer = 'sgd'\n[sweep]\nmethod = 'halving'\nruns = 4\n[values]\nlr = [0.05, 1e38]";
    fs::write(folder.path("halving.toml"), search).unwrap();
    let (stdout, stderr) = folder.success("sweep halving.toml --json");
    let rows = rows(&stdout);
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0]["epochs"], 4, "{stdout}{stderr}");
    assert!(rows.iter().filter(|row| row["epochs"] == 4).count() == 1, "{stdout}");
    let failed: Vec<&Value> = rows.iter().filter(|row| row["options"]["lr"] == 1e38).collect();
    assert!(failed.iter().all(|row| row["error"].as_str().unwrap().contains("step")), "{stdout}");
    assert!(stderr.contains("round 3 of 3: 1 training up to epoch 4"), "{stderr}");
}

#[test]
fn a_learning_rate_is_found() {
    let folder = Folder::new();
    let (stdout, stderr) = folder.success("lr-find lenet --steps 80 --batch 32 --to lr.png");
    assert!(stdout.starts_with("the loss falls fastest at a learning rate of "), "{stdout}");
    assert!(stderr.contains("chart: lr.png"), "{stderr}");
    assert!(image::open(folder.path("lr.png")).unwrap().width() > 300);
    folder.success("lr-find lenet --steps 20 --to lr.svg");
    assert!(folder.read("lr.svg").starts_with("<svg"));
    let (stdout, _) =
        folder.success("lr-find lenet --steps 5 --min-lr 1e-4 --max-lr 1 --json --optimizer sgd");
    let rates: Vec<f64> = rows(&stdout).iter().map(|row| row["lr"].as_f64().unwrap()).collect();
    assert!(rates.len() >= 3 && (rates[1] / 1e-3 - 1.0).abs() < 1e-9, "{rates:?}");
    assert!(!folder.path("runs").exists());
    assert!(folder.error("lr-find lenet --min-lr 1 --max-lr 0.1").contains("must be above 0 and increase"));
    let output = folder.run("lr-find lenet --epochs 3");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("lr-find has no option --epochs"));
}
