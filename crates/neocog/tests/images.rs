//! Folders of images on the command line: training, evaluation, prediction, and files that are not what they seem.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// A temporary directory in which commands run.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    /// A folder `shapes` with `count` images of each of three classes, of varied sizes, colors and formats.
    fn with_shapes(count: u32) -> Self {
        let folder = Folder::new();
        for (class, name) in ["bar", "disc", "square"].into_iter().enumerate() {
            for i in 0..count {
                let (extension, format) = [
                    ("png", ImageFormat::Png),
                    ("jpg", ImageFormat::Jpeg),
                    ("BMP", ImageFormat::Bmp),
                    ("webp", ImageFormat::WebP),
                ][i as usize % 4];
                let path = folder.path(&format!("shapes/{name}/{i}.{extension}"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                shape(class, i).save_with_format(path, format).unwrap();
            }
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, command: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_neocog"))
            .args(command.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// The standard output and standard error of a successful command.
    fn outputs(&self, command: &str) -> (String, String) {
        let output = self.run(command);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{command}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    }

    /// The JSON objects that a successful command prints.
    fn rows(&self, command: &str) -> Vec<Value> {
        self.outputs(command).0.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The message of a command that fails.
    fn error(&self, command: &str) -> String {
        let output = self.run(command);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(!stderr.contains("panicked"), "{command}: {stderr}");
        stderr
    }
}

/// A bright shape on a dark background: a bar, a disc or a square.
fn shape(class: usize, i: u32) -> DynamicImage {
    let (w, h) = (24 + 5 * (i % 4), 24 + 3 * (i % 5));
    let (x0, y0, r) = (f64::from(w) / 2.0, f64::from(h) / 2.0, 6.0 + f64::from(i % 3));
    let color = Rgb([255, 120 + (i * 37 % 130) as u8, 90 + (i * 53 % 150) as u8]);
    let noise = |x: u32, y: u32| ((x * 7919 + y * 104_729 + i * 31) % 40) as u8;
    RgbImage::from_fn(w, h, |x, y| {
        let (dx, dy) = ((f64::from(x) - x0).abs(), (f64::from(y) - y0).abs());
        let inside = match class {
            0 => dy < 2.5,
            1 => dx.hypot(dy) < r,
            _ => dx.max(dy) < r && dx.max(dy) > r - 3.0,
        };
        if inside { color } else { Rgb([noise(x, y), 20, 40]) }
    })
    .into()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn a_folder_is_trained_on_tested_and_classified() {
    let folder = Folder::with_shapes(24);
    let train = "train lenet_bn --data shapes --epochs 8 --test 0.25 --val 0.25 --seed 3 --final-test --json --out run";
    let (stdout, stderr) = folder.outputs(train);
    let rows: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 9, "{stdout}");
    for row in &rows[..8] {
        assert!(row["val_acc"].is_number() && row.get("test_acc").is_none(), "{row}");
    }
    let test = number(&rows[8]["test_acc"]);
    assert!(stderr.contains("of 3 classes, input 3x28x28"), "{stderr}");
    assert!(stderr.contains("selected on the validation images"), "{stderr}");

    // The same test images, from the checkpoint.
    let row = &folder.rows("eval run/best.ckpt --json")[0];
    assert_eq!((row["part"].as_str(), row["images"].as_u64()), (Some("test"), Some(18)));
    assert!((number(&row["acc"]) - test).abs() < 1e-6, "{row}");

    // New images, one of them broken.
    fs::create_dir_all(folder.path("new/more")).unwrap();
    shape(1, 100).save_with_format(folder.path("new/more/a disc.png"), ImageFormat::Png).unwrap();
    shape(0, 101).save_with_format(folder.path("new/bar.jpg"), ImageFormat::Jpeg).unwrap();
    fs::write(folder.path("new/page.jpg"), "<html>").unwrap();
    let output = folder.run("predict run/best.ckpt new --json --csv table.csv --picture sheet.png");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("page.jpg") && stderr.contains("HTML"), "{stderr}");
    let rows: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["inverted"] == false), "{rows:?}");
    let table = fs::read_to_string(folder.path("table.csv")).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(image::open(folder.path("sheet.png")).is_ok());
}

#[test]
fn exported_weights_classify_as_the_checkpoint_does() {
    let folder = Folder::with_shapes(8);
    folder.outputs("train lenet --data shapes --epochs 1 --normalize --resize 32 --out run");
    folder.outputs("export run/last.ckpt --to w.safetensors");
    shape(2, 55).save_with_format(folder.path("new.png"), ImageFormat::Png).unwrap();
    let row = |command: &str| folder.rows(command).remove(0);
    let a = row("predict run/last.ckpt new.png --json");
    let b = row("predict --network lenet --input 3x28x28 --classes 3 --weights w.safetensors new.png --json");
    assert_eq!(a, b);
}

#[test]
fn bad_folders_are_errors_before_training() {
    let folder = Folder::with_shapes(6);
    let train = "train lenet --data shapes --epochs 1";
    let broken = folder.path("shapes/disc/broken.jpg");
    let whole = fs::read(folder.path("shapes/disc/1.jpg")).unwrap();
    for (bytes, what) in [
        (&b""[..], "the file is empty"),
        (b"<!doctype html>", "HTML"),
        (&whole[..whole.len() - 30], "truncated"),
    ] {
        fs::write(&broken, bytes).unwrap();
        let message = folder.error(train);
        assert!(message.contains("1 of 19 images cannot be read"), "{message}");
        assert!(message.contains("broken.jpg: ") && message.contains(what), "{what}: {message}");
        assert!(!folder.path("runs").exists());
    }
    let (_, stderr) = folder.outputs(&format!("{train} --skip-broken --out skipped"));
    assert!(stderr.contains("1 of 19 images cannot be read and are skipped"), "{stderr}");

    fs::create_dir(folder.path("shapes/nothing")).unwrap();
    let message = folder.error(train);
    assert!(message.contains("no images in the class folders nothing"), "{message}");

    for name in ["nothing", "bar", "square"] {
        fs::remove_dir_all(folder.path("shapes").join(name)).unwrap();
    }
    fs::remove_file(broken).unwrap();
    let message = folder.error(train);
    assert!(message.contains("one class (disc)"), "{message}");
    let message = folder.error("train lenet --data ./none");
    assert!(message.contains("there is no folder ./none"), "{message}");
}

#[test]
fn an_image_without_a_finite_prediction_is_reported_and_the_others_are_classified() {
    let folder = Folder::new();
    for (name, level) in [("a.png", 0), ("b.png", 255), ("c.png", 0)] {
        image::GrayImage::from_pixel(8, 8, image::Luma([level])).save(folder.path(name)).unwrap();
    }
    folder.outputs("train lenet --epochs 1 --limit 32 --out run");
    folder.outputs("export run/last.ckpt --to lenet.safetensors");
    // Divided by the standard deviation, white is beyond the largest float, black is 0.
    let weights = "predict --network lenet --weights lenet.safetensors --normalize 0/1e-39 --invert no";
    let output = folder.run(&format!("{weights} a.png b.png c.png"));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: b.png: ") && error.contains("not finite"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let files: Vec<&str> = lines.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(files, ["a.png", "c.png"], "{lines}");
}

#[test]
fn a_folder_that_was_moved_is_divided_as_in_training() {
    let folder = Folder::with_shapes(8);
    folder.outputs("train lenet --data shapes --test 0.25 --epochs 1 --out run");
    let images = |data: &str| {
        let row = &folder.rows(&format!("eval run/last.ckpt{data} --json"))[0];
        (row["part"].as_str().unwrap().to_string(), row["images"].as_u64().unwrap())
    };
    let expected = ("test".to_string(), 6);
    for data in ["", " --data shapes", " --data ./shapes", " --data shapes/"] {
        assert_eq!(images(data), expected, "{data}");
    }
    folder.outputs("data --pack shapes.pack --data shapes");
    fs::rename(folder.path("shapes"), folder.path("moved")).unwrap();
    for data in [" --data moved", " --data shapes.pack"] {
        assert_eq!(images(data), expected, "{data}");
    }
    let error = folder.error("eval run/last.ckpt");
    assert!(
        error.contains("the network was trained on shapes; if that is elsewhere now, use --data DIR"),
        "{error}"
    );
    folder.outputs("train --resume run/last.ckpt --data moved --epochs 2");
    // Other images.
    fs::remove_file(folder.path("moved/disc/0.png")).unwrap();
    let error = folder.error("train --resume run/last.ckpt --data moved --epochs 3");
    assert!(error.contains("data (SHA-256)"), "{error}");
    assert_eq!(images(" --data shapes.pack --part validation").0, "validation");
}

/// A run that is resumed with other images warns of another division into training, validation and test images; so does `eval`.
#[test]
fn a_folder_that_changed_during_the_training_is_warned_of() {
    let folder = Folder::with_shapes(8);
    folder.outputs("train lenet --data shapes --test 0.25 --epochs 1 --out run");
    fs::remove_file(folder.path("shapes/disc/0.png")).unwrap();
    fs::write(folder.path("shapes/disc/broken.png"), b"").unwrap();
    let resume = "train --resume run/last.ckpt --epochs 2 --allow-different";
    let error = folder.error(resume);
    assert!(error.contains("use --skip-broken to go on without them"), "{error}");
    let (_, stderr) = folder.outputs(&format!("{resume} --skip-broken"));
    let warning = "warning: shapes changed during the training: its parts are others";
    assert!(stderr.contains(warning), "{stderr}");
    let (_, stderr) = folder.outputs("eval run/last.ckpt");
    assert!(stderr.contains(warning), "{stderr}");
}

#[test]
fn checkpoints_are_not_written_among_the_images() {
    let folder = Folder::with_shapes(4);
    let refused = |data: &str, out: &str| {
        let error = folder.error(&format!("train lenet --data {data} --epochs 1{out}"));
        assert!(error.contains("is in the folder of images"), "{error}");
    };
    refused("shapes", " --out shapes/run");
    refused("shapes", " --out shapes/disc/../more/run");
    fs::remove_dir_all(folder.path("shapes/square")).unwrap();
    for class in ["bar", "disc"] {
        fs::rename(folder.path("shapes").join(class), folder.path(class)).unwrap();
    }
    fs::remove_dir(folder.path("shapes")).unwrap();
    refused(".", "");
    assert!(!folder.path("runs").exists());
}

/// Without --input and --classes, weights of a registered network say what they are for, or the data do; and the preprocessing can be
/// given.
#[test]
fn weights_without_a_checkpoint_are_used_with_the_preprocessing_of_the_training() {
    let folder = Folder::with_shapes(6);
    folder.outputs("train lenet --data shapes --epochs 2 --resize 32 --normalize=0.5/0.25 --out run");
    folder.outputs("export run/last.ckpt --to w.safetensors");
    // Rounded percentages would hide small differences.
    let image = "shapes/disc/1.jpg --json";
    let expected = folder.outputs(&format!("predict run/last.ckpt {image}")).0;
    let weights = "--network lenet --weights w.safetensors";
    assert_eq!(folder.outputs(&format!("predict {weights} {image}")).0, expected);
    let rows = |command: &str| folder.rows(&format!("{command} --json"))[0]["acc"].clone();
    let all = "--part train --data shapes";
    assert_eq!(rows(&format!("eval {weights} {all}")), {
        // The parts of the training do not hold for weights alone.
        folder.outputs("import w.safetensors --network lenet --data shapes --to i.ckpt");
        rows(&format!("eval i.ckpt {all}"))
    });
    for changed in ["--resize 40", "--interpolation bicubic", "--preset imagenet", "--normalize none"] {
        let (text, _) = folder.outputs(&format!("predict {weights} {changed} {image}"));
        assert_ne!(text, expected, "{changed}");
    }
    let same = "--preset imagenet --resize 32 --normalize 0.5/0.25";
    assert_eq!(folder.outputs(&format!("predict {weights} {same} {image}")).0, expected);
}

#[test]
fn a_training_prepares_images_as_its_weights_say() {
    let folder = Folder::with_shapes(6);
    folder.outputs(
        "train lenet --data shapes --epochs 1 --resize 40 --normalize=0.5/0.25 --input 3x36x36 --out run",
    );
    folder.outputs("export run/last.ckpt --to w.safetensors");
    let start = |options: &str| {
        folder.outputs(&format!(
            "train lenet --data shapes --epochs 1 --out next --overwrite --weights w.safetensors{options}"
        ))
    };
    let own = "Resize(size=40), CenterCrop(size=(36, 36)), Normalize(mean=[0.5], std=[0.25])";
    let (_, text) = start("");
    assert!(text.contains(&format!("images are prepared as w.safetensors says: {own}")), "{text}");
    assert!(text.contains("input 3x36x36"), "{text}");
    let weights = || {
        folder.outputs("export next/last.ckpt --to next.safetensors");
        fs::read(folder.path("next.safetensors")).unwrap()
    };
    let same = weights();
    start(" --resize 40 --normalize=0.5/0.25 --input 3x36x36");
    assert!(weights() == same);
    // Of weights for another size, the normalization.
    let (_, text) = start(" --input 3x32x32 --partial");
    assert!(text.contains("says: Normalize(mean=[0.5], std=[0.25])\n"), "{text}");
    let (_, text) = start(" --normalize=0.1/0.2");
    assert!(text.contains("says: Resize(size=40), CenterCrop(size=(36, 36))\n"), "{text}");
    let (_, text) = start(" --resize 44");
    assert!(text.contains("says: Normalize(mean=[0.5], std=[0.25])\n"), "{text}");
    let (_, text) = start(" --preset imagenet");
    assert!(!text.contains("images are prepared as"), "{text}");
    let (_, text) = start(" --grayscale");
    assert!(text.contains("epochs, Grayscale") || text.contains("Grayscale, "), "{text}");

    let weights = "--network lenet --weights w.safetensors";
    folder.outputs(&format!("export {weights} --to again.safetensors"));
    folder.outputs(&format!("export {weights} --to net.onnx"));
    let image = "shapes/disc/1.jpg --json";
    let (expected, _) = folder.outputs(&format!("predict run/last.ckpt {image}"));
    let again = format!("predict --network lenet --weights again.safetensors {image}");
    assert_eq!(folder.outputs(&again).0, expected);
    assert!(folder.error(&format!("export {weights} --to net.pth")).contains("written as safetensors"));
    assert!(folder.error("export net.onnx --to b.safetensors").contains("is an ONNX model"));
    let (_, text) = start(" --classes 5");
    assert!(text.contains("warning: the network has 5 classes, the data have 3"), "{text}");
}

#[test]
fn what_the_images_are_used_for_is_printed() {
    let folder = Folder::with_shapes(6);
    fs::remove_file(folder.path("shapes/disc/0.png")).unwrap();
    let notes = |options: &str| folder.outputs(&format!("train lenet --epochs 1 {options}")).1;
    let text = notes("--data shapes --class-weights balanced --fast-decode");
    assert!(text.contains("the training loss is weighted by class: weights of the classes from "), "{text}");
    assert!(text.contains("training images are decoded at 1/2, 1/4 or 1/8"), "{text}");
    for weights in ["1,3,1", "disc=3", "disc=3,square=1"] {
        let text = notes(&format!("--data shapes --class-weights {weights}"));
        assert!(text.contains("by class: weights of the classes from 1.000 to 3.000"), "{text}");
    }
    let refused = [
        ("1,3", "--class-weights: 2 weights for 3 classes (bar, disc, square)"),
        ("disk=3", "there is no class named `disk`; did you mean `disc`?"),
        ("disc=3,4", "expected CLASS=W in each part, found \"4\""),
        ("1,0,1", "or weights above 0 such as 1,1,2.5 or CLASS=2.5, found \"0\""),
        ("equal", "expected \"balanced\", or weights above 0"),
    ];
    for (weights, expected) in refused {
        let output = folder.run(&format!("train lenet --data shapes --class-weights {weights}"));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected), "{text}");
    }
    let text = notes("--data shapes --sampler weighted");
    assert!(text.contains("training images are drawn with replacement"), "{text}");
    let text = notes("--limit 32 --fast-decode --skip-broken");
    assert!(text.contains("warning: --fast-decode has no effect"), "{text}");
    assert!(text.contains("warning: --skip-broken has no effect"), "{text}");
}

/// An image whose header is fine, and the rest of which is missing.
#[test]
fn packing_finds_images_that_cannot_be_decoded() {
    let folder = Folder::with_shapes(5);
    let whole = fs::read(folder.path("shapes/disc/0.png")).unwrap();
    fs::write(folder.path("shapes/disc/cut.png"), &whole[..whole.len() / 2]).unwrap();
    let pack = "data --pack a.pack --data shapes";
    let error = folder.error(pack);
    assert!(error.contains("1 of 16 images cannot be read") && error.contains("cut.png"), "{error}");
    assert!(!folder.path("a.pack").exists());
    let (text, stderr) = folder.outputs(&format!("{pack} --skip-broken"));
    assert!(text.contains("train 15") && stderr.contains("are skipped"), "{text}{stderr}");
    // A sheet shows other images in its place.
    let (_, stderr) = folder.outputs("data --show --data shapes --count 16");
    assert!(stderr.contains("warning: left out: ") && stderr.contains("cut.png"), "{stderr}");
    let output = folder.run("data --export e --count 16 --data shapes");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(folder.path("e")).unwrap().count(), 15);
}

#[test]
fn folders_are_listed_and_limited_over_all_classes() {
    let folder = Folder::with_shapes(6);
    let (table, _) = folder.outputs("data --data shapes");
    assert!(table.contains("color images in 3 classes:\n  bar, disc, square"), "{table}");
    let row = &folder.rows("data --data ./shapes --json")[0];
    assert_eq!((row["train"].as_u64(), row["test"].as_u64()), (Some(18), None));
    folder.outputs("train lenet --data shapes --epochs 1 --out run");
    folder.outputs("eval run/last.ckpt --data shapes --part train --limit 6 --predictions p.csv");
    let table = fs::read_to_string(folder.path("p.csv")).unwrap();
    for class in ["bar", "disc", "square"] {
        assert!(table.contains(&format!(",{class},")), "{table}");
    }
    let error = folder.error("train lenet --data shapes --val 0.9 --test 0.9 --epochs 1");
    assert!(error.contains("--val 0.9 and --test 0.9 leave no images to train on"), "{error}");
    fs::rename(folder.path("shapes/bar"), folder.path("shapes/Train")).unwrap();
    let (_, stderr) = folder.outputs("train lenet --data shapes --epochs 1");
    assert!(stderr.contains("Train in shapes are taken for classes"), "{stderr}");
}

#[test]
fn other_images_of_the_same_names_and_sizes_are_noticed() {
    let folder = Folder::with_shapes(4);
    folder.outputs("train lenet --data shapes --epochs 1 --out run");
    let path = folder.path("shapes/disc/2.BMP");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 0xff;
    fs::write(path, bytes).unwrap();
    let resume = "train --resume run/last.ckpt --epochs 2";
    let error = folder.error(resume);
    assert!(error.contains("content of the image files (SHA-256): "), "{error}");
    let (_, stderr) = folder.outputs(&format!("{resume} --allow-different --out other"));
    assert!(stderr.contains("content of the image files"), "{stderr}");
    let (_, stderr) = folder.outputs("eval run/last.ckpt");
    assert!(stderr.contains("has changed since the training"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for() {
    let folder = Folder::with_shapes(4);
    folder.outputs("train lenet --data shapes --epochs 1 --out run");
    for name in ["pipe.jpg", "pipe.txt"] {
        let made = Command::new("mkfifo").arg(folder.path(name)).status().unwrap();
        assert!(made.success());
        let error = folder.error(&format!("predict run/last.ckpt {name}"));
        assert!(error.contains("regular file"), "{error}");
    }
    fs::rename(folder.path("pipe.jpg"), folder.path("shapes/disc/pipe.jpg")).unwrap();
    let error = folder.error("train lenet --data shapes --epochs 1");
    assert!(error.contains("pipe.jpg: not a regular file"), "{error}");
}
