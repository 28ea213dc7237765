//! Fuzz targets: readers of files that may hold anything.
//!
//! Each target is a function of bytes that must return, without a panic, within two seconds, and with no allocation beyond what
//! the checked header declares and a stated limit. `tests/tests/fuzz.rs` runs them with a mutator of its own, and `fuzz/` with
//! libFuzzer. Seeds are made by code.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use neocog_data::idx::{self, Idx};
use neocog_data::image::{ByteImage, DecodeOptions, decode};
use neocog_data::{SampleId, Transform, folder};
use neocog_layers::summary::summarize;
use neocog_layers::{Builder, LayerSpec, weights};
use neocog_onnx::{ExportOptions, OnnxModel, export_network};
use neocog_tensor::{Device, Shape};
use neocog_train::{Checkpoint, ModelFile, TrainConfig, Trainer};
use sha2::{Digest, Sha256};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name on the command line.
    pub name: &'static str,
    /// Reads bytes; errors are fine.
    pub run: fn(&[u8]),
    /// Valid inputs, the start of the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Largest number of bytes that may be allocated at the same time for an input of a few KiB.
    pub memory: usize,
}

const MIB: usize = 1 << 20;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "idx", run: idx_file, seeds: idx_seeds, memory: 4 * MIB },
    Target { name: "gzip_idx", run: gzip_idx, seeds: gzip_idx_seeds, memory: 200 * MIB },
    Target { name: "checkpoint1", run: checkpoint::<1>, seeds: checkpoint_seeds, memory: 8 * MIB },
    Target { name: "checkpoint2", run: checkpoint::<2>, seeds: checkpoint_seeds, memory: 8 * MIB },
    Target { name: "checkpoint_file", run: checkpoint_file, seeds: checkpoint_file_seeds, memory: 8 * MIB },
    Target { name: "safetensors", run: safetensors, seeds: safetensors_seeds, memory: 8 * MIB },
    Target { name: "spec", run: spec, seeds: spec_seeds, memory: 64 * MIB },
    Target { name: "config", run: config, seeds: config_seeds, memory: 16 * MIB },
    Target { name: "image", run: image, seeds: image_seeds, memory: 400 * MIB },
    Target { name: "packed", run: packed, seeds: packed_seeds, memory: 4 * MIB },
    Target { name: "onnx", run: onnx, seeds: onnx_seeds, memory: 8 * MIB },
    Target { name: "opencl_cache", run: opencl_cache, seeds: opencl_cache_seeds, memory: 4 * MIB },
    Target { name: "tuned", run: tuned, seeds: tuned_seeds, memory: 4 * MIB },
];

/// Returns the target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn idx_file(bytes: &[u8]) {
    let _ = idx::parse_images("fuzz", bytes);
    let _ = idx::parse_labels("fuzz", bytes);
}

fn idx_seeds() -> Vec<Vec<u8>> {
    let encode = |sizes: &[usize]| {
        let count: usize = sizes.iter().product();
        let data = (0..count).map(|i| (i * 37) as u8).collect();
        Idx { sizes: sizes.to_vec(), data }.encode().unwrap_or_default()
    };
    vec![encode(&[3, 4, 5]), encode(&[7]), encode(&[0, 28, 28]), encode(&[0])]
}

/// The bytes as a gzip file, and as the content of one.
fn gzip_idx(bytes: &[u8]) {
    idx_file(bytes);
    let Some((&cut, content)) = bytes.split_first() else { return };
    let (first, second) = content.split_at(usize::from(cut).min(content.len()));
    idx_file(&[gzip(first), gzip(second)].concat());
}

fn gzip_idx_seeds() -> Vec<Vec<u8>> {
    let plain = idx_seeds();
    let zipped = plain.iter().map(|bytes| gzip(bytes));
    let zeros = Idx { sizes: vec![1 << 10, 32, 32], data: vec![0; 1 << 20] }.encode().unwrap_or_default();
    zipped.chain(plain.iter().map(|bytes| [&[9], bytes.as_slice()].concat())).chain([gzip(&zeros)]).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

const HEADER: usize = 52;

/// The bytes as the content of a checkpoint whose header and checksum are right.
fn checkpoint<const VERSION: u32>(payload: &[u8]) {
    let mut bytes = b"NEOCOGCK".to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(Sha256::digest(payload));
    bytes.extend(payload);
    checkpoint_file(&bytes);
}

fn checkpoint_file(bytes: &[u8]) {
    let Ok(checkpoint) = Checkpoint::from_bytes(bytes) else { return };
    let _ = checkpoint.config.check();
    // Building the network may need much memory, and may be right.
    let _ = checkpoint.spec();
}

fn checkpoint_file_seeds() -> Vec<Vec<u8>> {
    // Read at run time: the crate can be packaged without the others.
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/train/tests/golden/version1.ckpt");
    let old = std::fs::read(old).unwrap_or_else(|e| panic!("{old}: {e}"));
    small_checkpoint().into_iter().chain([old]).collect()
}

fn checkpoint_seeds() -> Vec<Vec<u8>> {
    checkpoint_file_seeds().into_iter().filter_map(|bytes| Some(bytes.get(HEADER..)?.to_vec())).collect()
}

/// The file of a checkpoint of a small network.
fn small_checkpoint() -> Option<Vec<u8>> {
    let spec = LayerSpec::from_json(SMALL_NETWORK).ok()?;
    let file = ModelFile::new("small", spec.clone());
    let config = TrainConfig::for_file(&file, "digits").ok()?;
    let classes = vec!["a".into(), "b".into()];
    let mut trainer = Trainer::with_classes(config, spec, [1, 4, 4], classes, &Device::Cpu).ok()?;
    let path = scratch_file();
    trainer.checkpoint().ok()?.write(&path).ok()?;
    let bytes = std::fs::read(&path).ok();
    let _ = std::fs::remove_file(path);
    bytes
}

const SMALL_NETWORK: &str = r#"{"kind":"Sequential","layers":[
    {"name":"0","layer":{"kind":"Conv2d","in_channels":1,"out_channels":2,"kernel_size":[3,3],"padding":[1,1]}},
    {"name":"1","layer":{"kind":"BatchNorm2d","num_features":2}},
    {"name":"2","layer":{"kind":"ReLU"}},
    {"name":"3","layer":{"kind":"MaxPool2d","kernel_size":[2,2]}},
    {"name":"4","layer":{"kind":"Flatten"}},
    {"name":"5","layer":{"kind":"Linear","in_features":8,"out_features":2}}]}"#;

/// A file name of its own for readers that need a path; in memory where the system has a directory for that.
fn scratch_file() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let shared = PathBuf::from("/dev/shm");
    let folder = if shared.is_dir() { shared } else { std::env::temp_dir() };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("neocog-fuzz-{}-{number}", std::process::id()))
}

fn small_network() -> Option<Box<dyn neocog_layers::Layer>> {
    let spec = LayerSpec::from_json(SMALL_NETWORK).ok()?;
    Builder::new(&Device::Cpu, 0).build(&spec, &[1, 1, 4, 4].into()).ok()
}

fn safetensors(bytes: &[u8]) {
    thread_local! {
        static PLACE: (PathBuf, Option<Box<dyn neocog_layers::Layer>>) = (scratch_file(), small_network());
    }
    PLACE.with(|(path, network)| {
        let Some(network) = network else { return };
        if std::fs::write(path, bytes).is_ok() {
            let _ = weights::load(&**network, path);
            let _ = weights::load_partial(&**network, path);
        }
        let _ = std::fs::remove_file(path);
    });
}

fn safetensors_seeds() -> Vec<Vec<u8>> {
    let path = scratch_file();
    let saved = small_network().and_then(|network| weights::save(&*network, &path).ok());
    let bytes = saved.and_then(|()| std::fs::read(&path).ok());
    let _ = std::fs::remove_file(path);
    bytes.into_iter().collect()
}

/// An ONNX model, without external data.
fn onnx(bytes: &[u8]) {
    let Ok(model) = OnnxModel::from_bytes(bytes.to_vec(), None) else { return };
    let _ = model.check_supported();
    let _ = model.check_inputs(&[]);
}

fn onnx_seeds() -> Vec<Vec<u8>> {
    let model = |text: &str, input: &[usize]| {
        let spec = LayerSpec::from_json(text).ok()?;
        let shape = Shape::new(&[&[1], input].concat()).ok()?;
        let network = Builder::new(&Device::Cpu, 0).build(&spec, &shape).ok()?;
        export_network(&*network, input, &ExportOptions::new("seed")).ok()
    };
    let norm = r#"{"kind":"Sequential","layers":[{"name":"0","layer":{"kind":"BatchNorm2d","num_features":2}},
        {"name":"1","layer":{"kind":"AvgPool2d","kernel_size":[2,2]}},{"name":"2","layer":{"kind":"Flatten"}}]}"#;
    let linear = r#"{"kind":"Sequential","layers":[{"name":"0","layer":{"kind":"Linear","in_features":3,"out_features":2}}]}"#;
    [model(norm, &[2, 4, 4]), model(linear, &[3])].into_iter().flatten().collect()
}

/// A network from JSON, built without data, for an input of 28 x 28 pixels.
fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = ModelFile::from_json(text, "fuzz");
    let Ok(spec) = LayerSpec::from_json(text) else { return };
    for channels in [1, 3] {
        let Ok(input) = Shape::new(&[1, channels, 28, 28]) else { return };
        if let Ok(network) = Builder::new(&Device::Meta, 0).build(&spec, &input) {
            let _ = summarize(&*network, &input);
            let _ = neocog_layers::print::pytorch(&*network).to_string();
        }
    }
}

fn spec_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![SMALL_NETWORK.as_bytes().to_vec()];
    for name in ["lenet", "lenet_bn", "resnet", "googlenet", "densenet", "nin"] {
        let json = neocog_models::find(name).and_then(|model| model.spec()).and_then(|spec| spec.to_json());
        seeds.extend(json.map(String::into_bytes).ok());
    }
    seeds.push(
        br#"{"kind":"Sequential","layers":[{"name":"0","layer":{"kind":"AvgPool2d","kernel_size":[3,3],"stride":[100000,1],
            "padding":[1,1],"ceil_mode":true}},{"name":"1","layer":{"kind":"Dropout","p":0.5}}]}"#
            .to_vec(),
    );
    seeds
}

/// A configuration from JSON, whose transforms are applied to an image.
fn config(bytes: &[u8]) {
    let Ok(config) = serde_json::from_slice::<TrainConfig>(bytes) else { return };
    let _ = config.check();
    let mut pixels = [0.5; 64];
    let sample = SampleId { seed: config.seed, epoch: 1, index: 2 };
    let _ = config.transforms.apply(&mut pixels, [1, 8, 8], sample);
}

fn config_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (network, data) in [("lenet", "digits"), ("resnet", "fashion-mnist")] {
        let config = TrainConfig::for_network(network, data);
        seeds.extend(config.ok().and_then(|config| serde_json::to_vec(&config).ok()));
    }
    seeds
}

fn image(bytes: &[u8]) {
    for channels in [1, 3] {
        let _ = decode(bytes, DecodeOptions::new(channels), &mut ByteImage::default());
    }
}

fn image_seeds() -> Vec<Vec<u8>> {
    use image::{DynamicImage, ImageFormat, RgbaImage};
    let image = RgbaImage::from_fn(17, 9, |x, y| image::Rgba([(x * 15) as u8, (y * 28) as u8, 99, 200]));
    let image = DynamicImage::from(image);
    let encode = |image: &DynamicImage, format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).map(|()| bytes.into_inner()).ok()
    };
    let rgb = DynamicImage::from(image.to_rgb8());
    let gray = DynamicImage::from(image.to_luma8());
    let deep = DynamicImage::from(image.to_luma16());
    [
        encode(&image, ImageFormat::Png),
        encode(&rgb, ImageFormat::Png),
        encode(&deep, ImageFormat::Png),
        encode(&rgb, ImageFormat::Jpeg),
        encode(&gray, ImageFormat::Jpeg),
        encode(&image, ImageFormat::WebP),
        encode(&rgb, ImageFormat::Bmp),
        encode(&rgb, ImageFormat::Gif),
        encode(&rgb, ImageFormat::Tiff),
        encode(&rgb, ImageFormat::Pnm),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Length of the trailer of a packed file.
const TRAILER: usize = 28;

/// The bytes as the index of a packed file, whose checksum is right, without images.
fn packed(index: &[u8]) {
    let mut bytes = b"NEOCOGPK\x01\0\0\0".to_vec();
    let offset = bytes.len() as u64;
    bytes.extend(index);
    bytes.extend(offset.to_le_bytes());
    bytes.extend((index.len() as u64).to_le_bytes());
    bytes.extend(crc32fast::hash(index).to_le_bytes());
    bytes.extend(b"NEOCOGPK");
    let path = scratch_file();
    if std::fs::write(&path, bytes).is_ok()
        && let Ok(split) = folder::open(&path, false)
    {
        let _ = split.train.read(0, &mut ByteImage::default());
        let _ = split.train.size();
    }
    let _ = std::fs::remove_file(path);
}

fn packed_seeds() -> Vec<Vec<u8>> {
    let directory = scratch_file();
    for (i, image) in image_seeds().iter().enumerate() {
        let class = directory.join(["a", "b"][i % 2]);
        let written = std::fs::create_dir_all(&class);
        let _ = written.and_then(|()| std::fs::write(class.join(format!("{i}.png")), image));
    }
    let file = scratch_file();
    let packed = folder::pack(&directory, &file, false, |_, _| ());
    let bytes = packed.ok().and_then(|_| std::fs::read(&file).ok());
    let _ = std::fs::remove_dir_all(directory);
    let _ = std::fs::remove_file(file);
    let index = bytes.and_then(|bytes| {
        let trailer = bytes.len().checked_sub(TRAILER)?;
        let offset = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().ok()?) as usize;
        Some(bytes[offset..trailer].to_vec())
    });
    index.into_iter().collect()
}

fn opencl_cache(bytes: &[u8]) {
    let _ = neocog_tensor::opencl::fuzz::cached_program(bytes);
}

fn opencl_cache_seeds() -> Vec<Vec<u8>> {
    vec![neocog_tensor::opencl::fuzz::cache_entry(b"a program")]
}

fn tuned(bytes: &[u8]) {
    let _ = neocog_tensor::opencl::fuzz::tuned_sizes(bytes);
}

fn tuned_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"Cpu":{"width":8,"tile_rows":4,"vectors":2,"rows":64,"panels":4,"depth":128}}"#.to_vec(),
        br#"{"Gpu":{"item":4}}"#.to_vec(),
    ]
}
