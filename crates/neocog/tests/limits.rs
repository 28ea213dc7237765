//! Inputs that ask for more than there is, outputs that are something else than a new file, and results that need a warning.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod folder;

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use folder::{Folder, texts};

/// Writes a network for images of 1x28x28 of a sequence of layers, of which the text after `"kind": ` is given.
fn write_network(folder: &Folder, name: &str, layers: &[&str]) {
    let layers: Vec<String> = layers
        .iter()
        .enumerate()
        .map(|(i, layer)| format!(r#"{{"name": "{i}", "layer": {{"kind": {layer}}}}}"#))
        .collect();
    let network = format!(r#"{{"kind": "Sequential", "layers": [{}]}}"#, layers.join(", "));
    let text = format!(r#"{{"recipe": {{"input": [1, 28, 28]}}, "network": {network}}}"#);
    fs::write(folder.path(name), text).unwrap();
}

/// The time that a command takes that has nothing to do.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_directory_of_runs_that_is_a_file_is_an_error() {
    let folder = Folder::new();
    fs::write(folder.path("runs"), "").unwrap();
    let start = Instant::now();
    let error = folder.error("train --epochs 1");
    assert!(
        error.contains("runs is a file, not a directory") || error.contains("runs: it is a file"),
        "{error}"
    );
    assert!(start.elapsed() < SOON);
}

#[test]
fn files_of_a_run_are_no_outputs() {
    let folder = Folder::new();
    folder.success("train --epochs 1 --limit 64 --out run");
    folder.success("export run/best.ckpt --to w.safetensors");
    fs::create_dir_all(folder.path("images/a")).unwrap();
    let before: Vec<Vec<u8>> = ["best.ckpt", "log.jsonl", "config.toml"]
        .map(|name| fs::read(folder.path("run").join(name)).unwrap())
        .into();
    for command in [
        "spec lenet --to run/best.ckpt",
        "spec lenet --to run/log.jsonl",
        "data --show --out run/config.toml",
        "data --data ./images --pack run/best.ckpt",
        "import w.safetensors --network lenet --data digits --to run/best.ckpt",
    ] {
        let error = folder.error(command);
        assert!(error.contains("is a file of a training run; choose another name"), "{command}: {error}");
    }
    let after: Vec<Vec<u8>> = ["best.ckpt", "log.jsonl", "config.toml"]
        .map(|name| fs::read(folder.path("run").join(name)).unwrap())
        .into();
    assert!(before == after);
}

#[test]
fn a_run_that_fails_before_its_first_checkpoint_leaves_the_one_that_it_would_have_replaced() {
    let folder = Folder::new();
    folder.success("train --epochs 2 --limit 64 --keep 2 --ema=0.9 --out run");
    let names = || {
        let mut names: Vec<String> = fs::read_dir(folder.path("run"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let contents = || names().into_iter().map(|name| fs::read(folder.path("run").join(name)).unwrap());
    let before: Vec<Vec<u8>> = contents().collect();
    let error = folder.error("train --lr 1e38 --limit 64 --epochs 2 --out run --overwrite");
    assert!(error.contains("NaN") || error.contains("not finite") || error.contains("infinite"), "{error}");
    assert!(contents().eq(before), "{:?}", names());
    // A run that succeeds leaves nothing of it.
    folder.success("train --epochs 1 --limit 64 --out run --overwrite");
    let expected = [".lock", "best.ckpt", "config.toml", "last.ckpt", "log.jsonl", "report.html"];
    assert_eq!(names(), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_written_to_standard_output_does_not_replace_its_file() {
    let folder = Folder::new();
    folder.success("train --epochs 1 --limit 64 --out run");
    let mut file = fs::File::create(folder.path("out")).unwrap();
    file.write_all(b"before\n").unwrap();
    let mut command = folder.command("spec lenet --to /dev/stdout");
    let output = command.stdout(Stdio::from(file)).output().unwrap();
    let (_, stderr) = texts(&output, 0);
    assert!(stderr.contains("wrote lenet to /dev/stdout"), "{stderr}");
    let text = folder.read("out");
    let json = text.strip_prefix("before\n").unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(json).unwrap()["name"], "lenet");
    // A pipe gets the file alone.
    let bytes = folder.run("export run/best.ckpt --to /dev/stdout").stdout;
    folder.success("export run/best.ckpt --to w.safetensors");
    assert!(bytes == fs::read(folder.path("w.safetensors")).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn files_without_end_are_errors() {
    let folder = Folder::new();
    let start = Instant::now();
    for command in ["train --config /dev/zero", "sweep /dev/zero"] {
        let error = folder.error(command);
        assert!(error.contains("it has more than 16777216 bytes"), "{error}");
    }
    assert!(folder.error("train --spec /dev/zero").contains("expected a regular file of at most"));
    assert!(start.elapsed() < SOON);
}

/// A color profile that is 256 times as large as the file.
#[cfg(target_os = "linux")]
#[test]
fn a_compressed_color_profile_takes_no_memory() {
    let folder = Folder::new();
    folder.success("train --epochs 1 --limit 64 --out run");
    let mut png = Vec::new();
    image::RgbImage::from_pixel(9, 9, image::Rgb([200, 30, 40]))
        .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
        .unwrap();
    let mut profile = b"large\0\0".to_vec();
    let mut encoder = flate2::write::ZlibEncoder::new(&mut profile, flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..1024).for_each(|_| encoder.write_all(&zeros).unwrap());
    encoder.finish().unwrap();
    let chunk = [b"iCCP".as_slice(), &profile].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    // After the signature and the header.
    let [start, end] = [&png[..33], &png[33..]];
    let length = (profile.len() as u32).to_be_bytes();
    let large = [start, &length, &chunk, &crc.sum().to_be_bytes(), end].concat();
    fs::write(folder.path("plain.png"), &png).unwrap();
    fs::write(folder.path("large.png"), large).unwrap();
    let (plain, _) = folder.success("predict run/last.ckpt plain.png");
    let mut command = std::process::Command::new("sh");
    let line =
        format!("ulimit -v 700000; exec {} predict run/last.ckpt large.png --threads 2", folder::NEOCOG);
    let output = command.args(["-c", &line]).current_dir(folder.path("")).output().unwrap();
    let (large, _) = texts(&output, 0);
    assert_eq!(large.replace("large.png", "plain.png"), plain);
}

#[test]
fn parameters_that_fit_nowhere_are_refused_before_the_first_is_made() {
    let folder = Folder::new();
    let linear = |i: u64, o: u64| format!(r#""Linear", "in_features": {i}, "out_features": {o}"#);
    let n = 1 << 20;
    write_network(&folder, "large.json", &[r#""Flatten""#, &linear(784, n), &linear(n, n), &linear(n, 10)]);
    let start = Instant::now();
    let error = folder.error("train --spec large.json --data digits --epochs 1");
    assert!(
        error.contains("the parameters of the network take 4.0 TiB, and this process can have "),
        "{error}"
    );
    assert!(start.elapsed() < SOON);
}

#[test]
fn results_that_are_not_finite_or_depend_on_the_batch_are_said() {
    let folder = Folder::new();
    let write = |name: &str, value: f32| {
        let array = ndarray::Array4::from_elem((1, 1, 28, 28), value);
        ndarray_npy::write_npy(folder.path(name), &array).unwrap();
    };
    write("x.npy", 0.5);
    write("nan.npy", f32::NAN);
    let (_, stderr) = folder.success("run lenet --input nan.npy --output o");
    assert!(stderr.contains("warning: 10 of the 10 values of output are NaN or infinite"), "{stderr}");
    let (_, stderr) = folder.success("run lenet --input x.npy --output o");
    assert!(!stderr.contains("warning"), "{stderr}");
    let norm = r#""BatchNorm2d", "num_features": 1, "track_running_stats": false"#;
    let linear = r#""Linear", "in_features": 784, "out_features": 10"#;
    write_network(&folder, "batch.json", &[norm, r#""Flatten""#, linear]);
    folder.success("train --spec batch.json --data digits --epochs 1 --limit 64 --out run");
    let (_, stderr) = folder.success("eval run/last.ckpt");
    assert!(stderr.contains("the result for an image depends on the others of its batch"), "{stderr}");
}
