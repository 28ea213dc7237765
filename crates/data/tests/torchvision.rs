//! Comparison with Pillow and torchvision: `peer/images.py` writes image files and what those make of them.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with torch, torchvision and Pillow.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::Path;
use std::process::Command;

use neocog_base::testing::require;
use neocog_data::image::{DecodeOptions, decode_file};
use neocog_data::resize::{Filter, ResizeCache};
use neocog_data::transform::{
    CenterCrop, Magnitudes, Normalize, Operation, Pad, Pipeline, Resize, ResizeTo, Step, gaussian_blur,
};
use neocog_data::{ByteImage, SampleId, Split, Transform, folder, load};
use serde_json::Value;
use tempfile::TempDir;

/// Largest difference of a value of a JPEG or lossy WebP file that is decoded by another decoder.
const LOSSY: u8 = 2;

struct Peer {
    root: TempDir,
    cases: Value,
}

impl Peer {
    fn new() -> Result<Peer, String> {
        let python = std::env::var("NEOCOG_PYTHON").unwrap_or_else(|_| "python3".to_string());
        let root = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer/images.py");
        let output = Command::new(&python).arg(script).arg(root.path()).output();
        let output = output.map_err(|e| format!("{python}: {e}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let reason = stderr.lines().last().unwrap_or("it failed");
            let advice = "`pip install torch torchvision pillow`, or name another Python with NEOCOG_PYTHON";
            // A script that fails for another reason is not a missing package.
            assert!(stderr.contains("ModuleNotFoundError"), "{stderr}");
            return Err(format!("{python}: {reason}; {advice}"));
        }
        let cases = serde_json::from_slice(&fs::read(root.path().join("cases.json")).unwrap()).unwrap();
        Ok(Peer { root, cases })
    }

    fn list(&self, name: &str) -> &[Value] {
        self.cases[name].as_array().unwrap()
    }

    /// The image that the file, height, width and channels of `value` describe.
    fn image(&self, value: &Value) -> ByteImage {
        let [h, w, c] = [1, 2, 3].map(|i| value[i].as_u64().unwrap() as usize);
        let bytes = fs::read(self.root.path().join(value[0].as_str().unwrap())).unwrap();
        ByteImage::new(h, w, c, bytes).unwrap()
    }
}

fn largest_difference(a: &ByteImage, b: &ByteImage) -> u8 {
    assert_eq!((a.size(), a.channels()), (b.size(), b.channels()));
    a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn images_and_transforms_are_those_of_pillow_and_torchvision() {
    let Some(peer) = require("python", Peer::new()) else { return };
    files_are_those_of_image_folder(&peer);
    transforms_are_those_of_torchvision(&peer);
    operations_are_those_of_torchvision(&peer);
    other_transforms_are_those_of_torchvision(&peer);
    cifar_is_that_of_torchvision(&peer);
}

fn files_are_those_of_image_folder(peer: &Peer) {
    let split: Split = folder::open(&peer.root.path().join("folder"), false).unwrap();
    let data = split.train;
    let classes: Vec<&str> = peer.list("classes").iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(data.class_names(), classes);
    let files = peer.list("files");
    assert!(files.len() >= 50 && data.len() == files.len(), "{} files", files.len());
    for (i, file) in files.iter().enumerate() {
        let path = file["path"].as_str().unwrap();
        assert_eq!(u64::from(data.labels()[i]), file["label"].as_u64().unwrap(), "{path}");
        let mut found = ByteImage::default();
        data.read(i, &mut found).unwrap();
        let lossless = path.contains("lossless") || path.contains("gif") || path.contains("png");
        let limit = if lossless { 0 } else { LOSSY };
        let difference = largest_difference(&found, &peer.image(&file["rgb"]));
        println!("{path}: {difference}");
        assert!(difference <= limit, "{path}: RGB differs by {difference}");
        let mut gray = ByteImage::default();
        decode_file(&peer.root.path().join(path), DecodeOptions::new(1), &mut gray).unwrap();
        let difference = largest_difference(&gray, &peer.image(&file["gray"]));
        assert!(difference <= limit, "{path}: gray differs by {difference}");
    }
}

fn transforms_are_those_of_torchvision(peer: &Peer) {
    for case in peer.list("transformed") {
        let filter = if case["bicubic"].as_bool().unwrap() { Filter::Bicubic } else { Filter::Bilinear };
        let size = ResizeTo::Shorter(case["side"].as_u64().unwrap() as usize);
        let bytes = vec![
            Step::Resize(Resize { size, filter }),
            Step::CenterCrop(CenterCrop { size: (37, 31) }),
            Step::RandomHorizontalFlip { p: 1.0 },
        ];
        let (mean, std) = (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
        let run = |steps: Vec<Step>| {
            let pipeline = Pipeline::from(steps);
            let (mut image, mut resizer) = (peer.image(&case["from"]), ResizeCache::default());
            let mut pixels = vec![0.0; 3 * 37 * 31];
            let shape = [3, 37, 31];
            pipeline.start(&mut image, (37, 31), &mut resizer).unwrap();
            pipeline.finish(&mut image, &mut pixels, shape, SampleId::default(), &mut resizer).unwrap();
            (image, pixels)
        };
        let (image, _) = run(bytes.clone());
        assert_eq!(image, peer.image(&case["bytes"]), "{case}");
        let (_, pixels) = run([bytes, vec![Step::Normalize(Normalize { mean, std })]].concat());
        let tensor = fs::read(peer.root.path().join(case["tensor"].as_str().unwrap())).unwrap();
        let expected = tensor.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        assert!(pixels.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6), "{case}");
    }
}

fn operation(name: &str) -> Operation {
    use Operation::*;
    let all = [
        Identity,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
        Rotate,
        Brightness,
        Color,
        Contrast,
        Sharpness,
        Posterize,
        Solarize,
        AutoContrast,
        Equalize,
        Invert,
    ];
    all.into_iter().find(|operation| format!("{operation:?}") == name).unwrap()
}

fn operations_are_those_of_torchvision(peer: &Peer) {
    let mut failures = Vec::new();
    for case in peer.list("operations") {
        let operation = operation(case["op"].as_str().unwrap());
        let magnitudes = match case["space"].as_str().unwrap() {
            "rand" => Magnitudes::rand(31),
            "wide" => Magnitudes::wide(31),
            _ => Magnitudes::AUTO,
        };
        let mut image = peer.image(&case["from"]);
        let bin = case["bin"].as_u64().unwrap() as usize;
        let (found, expected) =
            (magnitudes.get(operation, bin, image.size()), case["magnitude"].as_f64().unwrap());
        operation.apply(&mut image, case["value"].as_f64().unwrap());
        if found != expected || image != peer.image(&case["to"]) {
            failures.push(format!("{case}: magnitude {found}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} operations differ:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

fn other_transforms_are_those_of_torchvision(peer: &Peer) {
    for case in peer.list("others") {
        let mut image = peer.image(&case["from"]);
        let expected = peer.image(&case["to"]);
        let argument = case["argument"].as_f64().unwrap() as f32;
        let step = match case["name"].as_str().unwrap() {
            "grayscale" => Step::Grayscale,
            "pad" => Step::Pad(Pad { padding: [1, 2, 3, 4], fill: 9 }),
            "center_crop" => Step::CenterCrop(CenterCrop { size: (50, 21) }),
            "blur" => {
                // A sum of rounded products may fall on the other side of a half.
                gaussian_blur(&mut image, 5, argument).unwrap();
                assert!(largest_difference(&image, &expected) <= 1, "blur {argument}");
                continue;
            }
            other => panic!("{other}"),
        };
        let sized = Step::Pad(Pad { padding: [0; 4], fill: 0 });
        Pipeline::from([sized, step]).start(&mut image, (1, 1), &mut ResizeCache::default()).unwrap();
        assert_eq!(image, expected, "{case}");
    }
}

fn cifar_is_that_of_torchvision(peer: &Peer) {
    let split = load("cifar-10", peer.root.path()).unwrap();
    let classes: Vec<&str> = peer.list("cifar_classes").iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(split.train.class_names(), classes);
    for (part, data) in [("train", &split.train), ("test", split.test().unwrap())] {
        let expected = peer.cases["cifar"][part].as_array().unwrap();
        assert_eq!(data.len(), expected.len());
        for (i, case) in expected.iter().enumerate() {
            let mut image = ByteImage::default();
            data.read(i, &mut image).unwrap();
            assert_eq!(
                (image, u64::from(data.labels()[i])),
                (peer.image(&case["image"]), case["label"].as_u64().unwrap())
            );
        }
    }
}

/// Some values of the peers, for machines without them: Pillow 13 and torchvision 0.29.
#[test]
fn operations_have_known_results() {
    let ramp = |values: [u8; 6]| ByteImage::new(1, 2, 3, values.to_vec()).unwrap();
    let apply = |operation: Operation, magnitude: f64| {
        let mut image = ramp([10, 200, 77, 255, 0, 128]);
        operation.apply(&mut image, magnitude);
        image.pixels().to_vec()
    };
    assert_eq!(apply(Operation::Brightness, 0.9), [19, 255, 146, 255, 0, 243]);
    assert_eq!(apply(Operation::Color, -0.9), [117, 136, 123, 107, 81, 94]);
    assert_eq!(apply(Operation::Posterize, 3.0), [0, 192, 64, 224, 0, 128]);
    assert_eq!(apply(Operation::Solarize, 128.0), [10, 55, 77, 0, 0, 127]);
    assert_eq!(apply(Operation::AutoContrast, 0.0), [0, 254, 0, 255, 0, 255]);
    assert_eq!(apply(Operation::TranslateX, 1.0), [0, 0, 0, 10, 200, 77]);
}
