//! What a run reports: predictions, reports, comparisons, logs for TensorBoard, explanations and embeddings. The Python
//! parts are in `tests/python`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod folder;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use folder::{Folder, NEOCOG};
use neocog_base::testing::{python, require};
use serde_json::Value;

/// Runs a script of `tests/python`; returns what it prints.
fn script(python: &str, name: &str, arguments: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    let output = Command::new(python).args(["-W", "ignore"]).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_leaves_a_report() {
    let folder = Folder::new();
    let (stdout, stderr) = folder.success("train lenet --epochs 2 --limit 64 --out run");
    assert!(
        stdout.ends_with("checkpoints in run\n") && stderr.contains("report: run/report.html"),
        "{stderr}"
    );
    let page = folder.read("run/report.html");
    for part in [
        "Curves",
        "Classes",
        "Confusion matrix",
        "Calibration",
        "Images",
        "Network",
        "Configuration",
        "Machine",
    ] {
        assert!(page.contains(&format!("<h2>{part}</h2>")), "{part}");
    }
    assert!(page.matches("<svg").count() == 4 && page.contains("data:image/png;base64,"));
    // Again, elsewhere, on another part.
    let (stdout, _) = folder.success("report run --part train --to pages/train.html");
    assert_eq!(stdout, "wrote pages/train.html\n");
    assert!(folder.read("pages/train.html").contains("64 images of the train part"));
    let (stdout, _) = folder.success("compare run run --to c.html");
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(folder.read("c.html").contains("Comparison of 2 runs"));
    let (stdout, _) = folder.success("compare run --json --to c.svg");
    let row: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&row["epochs"], &row["finished"], &row["part"]), (&2.into(), &true.into(), &"test".into()));
    assert!(folder.read("c.svg").starts_with("<svg"));
    assert!(folder.error("compare run --to c.gif").contains("none of .html, .svg and .png"));
    assert!(folder.error("report none").contains("there is no such directory"));
    assert!(folder.error("report run/last.ckpt").contains("expected the directory of a run, such as run"));
}

#[test]
fn a_report_that_cannot_be_written_is_a_warning_and_the_run_is_saved() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("run/report.html")).unwrap();
    let (stdout, stderr) = folder.success("train lenet --epochs 1 --limit 64 --out run");
    assert!(stdout.ends_with("checkpoints in run\n"), "{stdout}");
    assert!(stderr.contains("warning: there is no new report run/report.html: cannot write"), "{stderr}");
    assert!(folder.path("run/last.ckpt").is_file());
    let error = folder.error("report run --to /dev/full");
    assert!(error.contains("/dev/full") && error.contains("No space left"), "{error}");
}

#[test]
fn a_run_without_its_images_has_a_report_that_says_so() {
    let folder = Folder::new();
    for (class, value) in [("cat", 40u8), ("dog", 200)] {
        fs::create_dir_all(folder.path(&format!("pets/{class}"))).unwrap();
        for i in 0..6u8 {
            let image = image::RgbImage::from_pixel(32, 32, image::Rgb([value + i, value, value]));
            image.save(folder.path(&format!("pets/{class}/{i}.png"))).unwrap();
        }
    }
    folder.success("train lenet --data ./pets --epochs 1 --val 0.3 --out run");
    assert!(folder.read("run/report.html").contains("of the validation part"));
    let (csv, _) = (folder.success("eval run/last.ckpt --predictions p.csv"), ());
    assert!(csv.1.contains("wrote 4 predictions to p.csv"), "{}", csv.1);
    let table = folder.read("p.csv");
    assert!(table.starts_with("index,file,label,label_name,prediction,prediction_name,p0,p1\n"), "{table}");
    assert!(table.contains(".png,0,cat,") && table.contains(".png,1,dog,"), "{table}");
    fs::remove_dir_all(folder.path("pets")).unwrap();
    let (stdout, stderr) = folder.success("report run");
    assert_eq!(stdout, "wrote run/report.html\n");
    assert!(
        stderr.contains("there are no predictions in the report: the data set cannot be read"),
        "{stderr}"
    );
    assert!(folder.read("run/report.html").contains("There are no predictions in this report"));
}

#[test]
fn predictions_and_reports_agree_with_scikit_learn() {
    let found = python("import sklearn, numpy", "scikit-learn numpy");
    let Some(python) = require("scikit-learn", found) else { return };
    let folder = Folder::new();
    folder.success("train lenet --epochs 12 --limit 400 --out run");
    let (stdout, _) = folder.success("eval run/best.ckpt --limit 400 --json");
    let (with, _) = folder.success("eval run/best.ckpt --limit 400 --json --predictions p.csv");
    let numbers = |text: &str| {
        let row: Value = serde_json::from_str(text).unwrap();
        (row["loss"].as_f64().unwrap(), row["acc"].as_f64().unwrap(), row["images"].as_u64().unwrap())
    };
    assert_eq!(numbers(&stdout), numbers(&with), "the predictions change the result");
    let text = script(&python, "metrics.py", &[&folder.path("p.csv"), &folder.path("run/report.html")]);
    println!("{text}");
    assert!(text.starts_with("360 predictions of 10 classes"), "{text}");
}

/// Steps of a list of events; no step is there twice.
fn steps(events: &Value) -> Vec<u64> {
    let steps: Vec<u64> = events.as_array().unwrap().iter().map(|event| event[0].as_u64().unwrap()).collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
    steps
}

#[test]
fn tensorboard_reads_the_log() {
    let found = python("import tensorboard", "tensorboard");
    let Some(python) = require("tensorboard", found) else { return };
    let folder = Folder::new();
    let (stdout, _) = folder.success(
        "train lenet_bn --epochs 3 --limit 64 --batch 16 --out run --json --tensorboard logs/a --tensorboard-interval 2 \
         --tensorboard-add histograms,confusion",
    );
    let log: Value = serde_json::from_str(&script(&python, "events.py", &[&folder.path("logs/a")])).unwrap();
    let scalars = &log["scalars"];
    for (tag, field) in [
        ("loss/train", "train_loss"),
        ("loss/test", "test_loss"),
        ("accuracy/train", "train_acc"),
        ("accuracy/test", "test_acc"),
    ] {
        assert_eq!(steps(&scalars[tag]), [4, 8, 12], "{tag}");
        for (event, line) in scalars[tag].as_array().unwrap().iter().zip(stdout.lines()) {
            let row: Value = serde_json::from_str(line).unwrap();
            let (found, expected) = (event[1].as_f64().unwrap(), row[field].as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{tag}: {found}, {expected}");
        }
    }
    assert_eq!(steps(&scalars["batch/loss"]), [2, 4, 6, 8, 10, 12]);
    assert_eq!(scalars["batch/learning_rate"].as_array().unwrap().len(), 6);
    assert_eq!(steps(&log["images"]["first batch"]), [0]);
    assert_eq!(steps(&log["images"]["confusion_matrix"]), [4, 8, 12]);
    for kind in ["weights", "gradients"] {
        let histograms = &log["histograms"][format!("{kind}/0.weight")];
        assert_eq!(steps(histograms), [4, 8, 12]);
        assert_eq!(histograms[0][1].as_f64(), Some(150.0), "6 kernels of 5x5");
    }
    assert!(log["tensors"]["configuration"][0][1].to_string().contains("lenet_bn"), "{}", log["tensors"]);
    assert_eq!(log["hparams"]["batch"].as_f64(), Some(16.0));
    assert_eq!(log["hparams"]["network"].as_str(), Some("lenet_bn"));

    // Another run in the directory takes the place of the first.
    folder.success(
        "train lenet_bn --epochs 2 --limit 64 --batch 16 --out run --overwrite --tensorboard logs/a --tensorboard-interval 4",
    );
    let log: Value = serde_json::from_str(&script(&python, "events.py", &[&folder.path("logs/a")])).unwrap();
    assert_eq!(steps(&log["scalars"]["loss/train"]), [4, 8]);
    assert_eq!(steps(&log["scalars"]["batch/loss"]), [4, 8]);
}

#[test]
fn a_killed_and_resumed_run_has_no_step_twice() {
    let found = python("import tensorboard", "tensorboard");
    let Some(python) = require("tensorboard", found) else { return };
    let folder = Folder::new();
    let arguments = "--out run --json --tensorboard logs --tensorboard-interval 1";
    let new = format!("train lenet --epochs 100000 --limit 64 --batch 16 --save-every 3steps {arguments}");
    let mut child = folder.command(&new).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let read = |python: &str| -> Value {
        serde_json::from_str(&script(python, "events.py", &[&folder.path("logs")])).unwrap()
    };
    while !folder.path("run/last.ckpt").exists() || !folder.path("logs").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint is written");
        std::thread::sleep(Duration::from_millis(20));
    }
    // In the middle of the run.
    assert!(!steps(&read(&python)["scalars"]["batch/loss"]).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let before = steps(&read(&python)["scalars"]["batch/loss"]);
    let epochs = before.last().unwrap() / 4 + 3;
    folder.success(&format!("train --resume run/last.ckpt --epochs {epochs} {arguments}"));
    let log = read(&python);
    assert_eq!(steps(&log["scalars"]["batch/loss"]), (1..=4 * epochs).collect::<Vec<_>>());
    assert_eq!(steps(&log["scalars"]["loss/test"]), (1..=epochs).map(|epoch| 4 * epoch).collect::<Vec<_>>());
    assert_eq!(steps(&log["images"]["first batch"]), [0]);
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_run() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "").unwrap();
    let error = folder.error("train lenet --epochs 1 --limit 64 --out run --tensorboard file");
    assert!(error.contains("it is a file, but a directory is needed"), "{error}");
    // Blocks are of 512 or 1024 bytes. Checkpoints are smaller than that, the log is larger.
    let line = "ulimit -f 1060; exec $N train lenet --epochs 60 --limit 64 --batch 1 --out run --overwrite --tensorboard logs \
                --tensorboard-interval 1 --tensorboard-add histograms";
    let output =
        Command::new("sh").args(["-c", line]).env("N", NEOCOG).current_dir(folder.0.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("warning: ") && stderr.contains("File too large"), "{stderr}");
    assert!(folder.path("run/best.ckpt").is_file());
}

#[test]
fn explanations_and_embeddings_agree_with_pytorch() {
    let found = python(
        "import torch, torchvision, safetensors.torch, numpy, PIL",
        "torch torchvision safetensors numpy pillow",
    );
    let Some(python) = require("torchvision", found) else { return };
    let folder = Folder::new();
    folder.success("train lenet_bn --epochs 4 --limit 400 --out run");
    folder.success("export run/last.ckpt --to lenet_bn.safetensors");
    // A bright spot and noise: without equal maxima in a pooling window, and with a map of class 4 that is not 0.
    let pixels = |x: u32, y: u32| {
        let spot = 200u32.saturating_sub(x.abs_diff(15).pow(2) * 3 + y.abs_diff(12).pow(2));
        image::Luma([(spot + ((x * 28 + y).wrapping_mul(2_654_435_761) >> 16) % 41) as u8])
    };
    image::GrayImage::from_fn(28, 28, pixels).save(folder.path("x.png")).unwrap();
    for (method, more) in [
        ("saliency", ""),
        ("integrated-gradients", " --steps 20"),
        ("gradcam", " --layer 4"),
        ("occlusion", " --window 4"),
    ] {
        let (stdout, _) = folder.success(&format!(
            "explain run/last.ckpt x.png --method {method}{more} --class 4 --to {method}.png --values {method}.npy"
        ));
        assert!(stdout.contains(&format!("{method} of 4 (")), "{stdout}");
        assert!(image::open(folder.path(&format!("{method}.png"))).unwrap().width() > 300);
    }
    folder.success("embed run/last.ckpt digits --limit 20 --to e.npy --labels l.npy --projector projector");
    folder.success("embed run/last.ckpt digits --limit 20 --layer 4 --to 4.npy");
    assert_eq!(folder.read("projector/metadata.tsv").lines().count(), 21);
    // The images of the data set, as the network gets them.
    let data = neocog_data::load("digits", "data".as_ref()).unwrap();
    let options = neocog_data::LoaderOptions::new().batch_size(20).image_size((28, 28));
    let loader = neocog_data::Loader::new(data.test().unwrap().clone(), options).unwrap();
    let batch = loader.epoch(0).unwrap().next().unwrap().unwrap();
    let images = ndarray::Array4::from_shape_vec((20, 1, 28, 28), batch.pixels.clone()).unwrap();
    ndarray_npy::write_npy(folder.path("input.npy"), &images).unwrap();
    let networks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/torch");
    println!("{}", script(&python, "explain.py", &[&networks, folder.0.path()]));
}

/// What a command writes does not replace what a run needs, its own input, or its other output.
#[test]
fn outputs_replace_nothing_that_is_needed() {
    let folder = Folder::new();
    folder.success("train lenet --epochs 2 --limit 64 --out run");
    let before: Vec<u8> = fs::read(folder.path("run/last.ckpt")).unwrap();
    image::GrayImage::from_pixel(28, 28, image::Luma([9])).save(folder.path("kernels.png")).unwrap();
    for (command, expected) in [
        ("report run --to run/last.ckpt", "is a file of a training run"),
        ("report run --to report.pdf", "does not end in .html"),
        ("eval run/best.ckpt --predictions run/last.ckpt", "is a file of a training run"),
        ("export run/best.ckpt --to run/last.ckpt", "is a file of a training run"),
        ("embed run/best.ckpt digits --to run/last.ckpt", "is a file of a training run"),
        ("embed run/best.ckpt digits --to e.npy --labels e.npy", "e.npy would be written twice"),
        ("explain run/best.ckpt kernels.png --to run/config.toml", "is a file of a training run"),
        ("explain run/best.ckpt kernels.png --to z.png --values z.png", "would be written twice"),
        ("features run/best.ckpt kernels.png --to .", "is the file that is read"),
        ("train lenet --write-config run/log.jsonl --out other", "is a file of a training run"),
    ] {
        let error = folder.error(command);
        assert!(error.contains(expected), "{command}: {error}");
    }
    assert!(fs::read(folder.path("run/last.ckpt")).unwrap() == before);
    assert!(!folder.path("other").exists());
    folder.success("embed run/best.ckpt digits --limit 4 --to e.npy");
}

/// Accuracy and loss of a comparison are of the same epoch.
#[test]
fn a_comparison_is_of_the_best_epoch() {
    let folder = Folder::new();
    // The accuracy on 16 images is best before the last epoch, or the loss is another one.
    let (lines, _) = folder.success("train lenet --epochs 8 --limit 64 --lr 0.05 --out run --json");
    let epochs: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (row, _) = folder.success("compare run --json");
    let row: Value = serde_json::from_str(&row).unwrap();
    let best = &epochs[row["best_epoch"].as_u64().unwrap() as usize - 1];
    assert_ne!(best["epoch"], 8, "{lines}");
    assert_eq!((&row["loss"], &row["best_acc"]), (&best["test_loss"], &best["test_acc"]));
    assert_eq!(row["train_acc"], best["train_acc"]);
}

#[test]
fn explanations_name_what_is_wrong() {
    let folder = Folder::new();
    folder.success("train lenet --epochs 1 --limit 64 --out run");
    image::GrayImage::from_pixel(28, 28, image::Luma([9])).save(folder.path("x.png")).unwrap();
    let explain = |more: &str| folder.error(&format!("explain run/last.ckpt x.png {more}"));
    assert!(explain("--layer conv.9").contains("conv.3"), "{}", explain("--layer conv.9"));
    assert!(explain("--layer fc.0").contains("Grad-CAM needs a feature map"), "{}", explain("--layer fc.0"));
    assert!(explain("--class 10").contains("the network has 10 classes"), "{}", explain("--class 10"));
    assert!(explain("--class cat").contains("cat"));
    assert!(
        !explain("--layer nope").contains("fc, ;")
            && explain("--layer nope").contains("no layer named `nope`")
    );
    let output = folder.run("explain run/last.ckpt x.png --steps 3");
    assert_eq!(output.status.code(), Some(2));
    assert!(explain("--method occlusion --window 99").contains("expected a window from 1 to 28"));
    assert!(folder.error("explain run/last.ckpt none.png").contains("none.png"));
    assert!(folder.error("embed run/last.ckpt digits --layer none --to e.npy").contains("none"));
    let (_, stderr) = folder.success("features run/last.ckpt x.png --to maps");
    assert!(stderr.contains("wrote maps/feature_maps.png and maps/kernels.png"), "{stderr}");
    assert!(image::open(folder.path("maps/feature_maps.png")).unwrap().width() > 300);
}
