//! Runs every lesson: all of its checks pass, and its images are written.

#![allow(clippy::unwrap_used, reason = "test code")]

use neocog_lessons::{LessonOptions, Page, find, lessons};
use neocog_tensor::Device;

/// Output of a lesson: text, number of checks, and name, width and height of each image.
struct Output {
    text: String,
    checks: usize,
    images: Vec<(String, u32, u32)>,
}

fn run(name: &str, device: Device) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let options = LessonOptions::new(device).out(Some(folder.path().to_path_buf()));
    let mut page = Page::new(options, |line| {
        text += line;
        text += "\n";
        Ok(())
    });
    find(name).unwrap().run(&mut page).unwrap_or_else(|e| panic!("{name}: {e}"));
    let images = page.images().iter().map(|path| {
        let image = image::open(path).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_string(), image.width(), image.height())
    });
    let images: Vec<_> = images.collect();
    assert_eq!(folder.path().read_dir().unwrap_or_else(|_| panic!()).count(), images.len());
    let checks = page.checks();
    drop(page);
    Output { text, checks, images }
}

/// Runs a lesson and checks its minimum number of checks, its images, and phrases of its text.
fn expect(name: &str, checks: usize, images: &[&str], phrases: &[&str]) {
    let output = run(name, Device::Cpu);
    assert!(output.checks >= checks, "{name} has {} checks only", output.checks);
    assert_eq!(output.text.matches('✓').count(), output.checks);
    let names: Vec<&str> = output.images.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, images, "{name}");
    for (image, width, height) in &output.images {
        assert!((300..2000).contains(width) && (150..2500).contains(height), "{image}: {width}x{height}");
    }
    for phrase in phrases {
        assert!(output.text.contains(phrase), "{name} does not print \"{phrase}\":\n{}", output.text);
    }
}

#[test]
fn convolution() {
    expect("convolution", 3, &[], &["19 25", "37 43"]);
}

#[test]
fn edges() {
    expect("edges", 4, &["edges"], &["the learned kernel is [1, -1]", "the learned kernel is [-1, 1]"]);
}

#[test]
fn shapes() {
    expect("shapes", 5, &[], &["54x54", "2x2", "larger than the input is an error"]);
}

#[test]
fn channels() {
    expect("channels", 7, &[], &["56  72", "gradient of the weight", "gradient of the bias"]);
}

#[test]
fn pooling() {
    expect("pooling", 8, &["pooling"], &["[2, 10, 1, 1]"]);
}

#[test]
fn receptive_field() {
    expect("receptive_field", 2, &["receptive_field"], &["16x16", "7x7"]);
}

#[test]
fn feature_maps() {
    expect("feature_maps", 2, &["feature_maps", "kernels"], &["24x24"]);
}

#[test]
fn activations() {
    expect("activations", 3, &["activations"], &["sigmoid", "relu"]);
}

#[test]
fn dropout() {
    expect("dropout", 15, &[], &["in evaluation mode, dropout is the identity"]);
}

#[test]
fn batch_norm() {
    expect("batch_norm", 14, &[], &["BatchNorm2d", "output in evaluation mode"]);
}

#[test]
fn residual() {
    expect("residual", 5, &["residual"], &["  error: ", "(conv3)"]);
}

#[test]
fn dense() {
    expect("dense", 5, &["dense"], &["[2, 22, 8, 8]"]);
}

/// The checks also pass in double precision.
#[test]
fn lessons_run_on_the_reference_device() {
    for name in ["convolution", "edges", "channels", "pooling", "batch_norm", "residual", "dense"] {
        run(name, Device::Reference);
    }
}

#[test]
fn names_and_positions_are_unique() {
    let mut orders: Vec<u32> = lessons().iter().map(|lesson| lesson.order).collect();
    orders.dedup();
    assert_eq!(orders.len(), 12);
    let mut names: Vec<&str> = lessons().iter().map(|lesson| lesson.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 12);
    assert!(find("edgse").unwrap_err().to_string().contains("did you mean `edges`"));
}
