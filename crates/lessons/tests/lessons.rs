//! Every lesson runs to its end: all that it says is so, and its pictures are there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_lessons::{LESSONS, Options, Page, find};
use neocog_tensor::Device;

/// What a lesson printed, how much it checked, and the pictures that it drew with their sizes.
struct Told {
    text: String,
    checks: usize,
    pictures: Vec<(String, u32, u32)>,
}

fn run(name: &str, device: Device) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let out = Some(folder.path().to_path_buf());
    let options = Options { device, out, checkpoint: None, data_dir: "data".into() };
    let mut page = Page::new(options, |line| {
        text += line;
        text += "\n";
        Ok(())
    });
    (find(name).unwrap().run)(&mut page).unwrap_or_else(|e| panic!("{name}: {e}"));
    let pictures = page.pictures().iter().map(|path| {
        let image = image::open(path).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_string(), image.width(), image.height())
    });
    let pictures: Vec<_> = pictures.collect();
    assert_eq!(folder.path().read_dir().unwrap_or_else(|_| panic!()).count(), pictures.len());
    let checks = page.checks();
    drop(page);
    Told { text, checks, pictures }
}

/// A lesson with at least so many checks, these pictures, and these words in its text.
fn expect(name: &str, checks: usize, pictures: &[&str], words: &[&str]) {
    let told = run(name, Device::Cpu);
    assert!(told.checks >= checks, "{name} checks {} things only", told.checks);
    assert_eq!(told.text.matches('✓').count(), told.checks);
    let names: Vec<&str> = told.pictures.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, pictures, "{name}");
    for (picture, width, height) in &told.pictures {
        assert!((300..2000).contains(width) && (150..2500).contains(height), "{picture}: {width}x{height}");
    }
    for word in words {
        assert!(told.text.contains(word), "{name} does not say \"{word}\":\n{}", told.text);
    }
}

#[test]
fn convolution() {
    expect("convolution", 3, &[], &["19 25", "37 43"]);
}

#[test]
fn edges() {
    expect("edges", 4, &["edges"], &["it has learned [1, -1]", "it has learned [-1, 1]"]);
}

#[test]
fn shapes() {
    expect("shapes", 5, &[], &["54x54", "2x2", "does not fit is an error"]);
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
    expect("dropout", 15, &[], &["in prediction nothing is dropped"]);
}

#[test]
fn batch_norm() {
    expect("batch_norm", 14, &[], &["BatchNorm2d", "output in prediction"]);
}

#[test]
fn residual() {
    expect("residual", 5, &["residual"], &["a sum needs equal shapes", "(conv3)"]);
}

#[test]
fn dense() {
    expect("dense", 5, &["dense"], &["[2, 22, 8, 8]"]);
}

/// In double precision all differences are far smaller; what is learned and counted is the same.
#[test]
fn the_reference_device_agrees() {
    for name in ["convolution", "edges", "channels", "pooling", "batch_norm", "residual", "dense"] {
        run(name, Device::Reference);
    }
}

#[test]
fn names() {
    let mut names: Vec<&str> = LESSONS.iter().map(|lesson| lesson.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), LESSONS.len());
    assert!(find("edgse").unwrap_err().to_string().contains("did you mean `edges`"));
}
