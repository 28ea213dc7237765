//! Weights in safetensors files: the round trip, and errors for files that are damaged or do not match.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use neocog_layers::weights::{Loaded, load, load_partial, save};
use neocog_layers::{BatchNorm, BatchNorm2d, Builder, Conv2d, Layer, Linear, Sequential, state};
use neocog_tensor::{Device, ErrorKind};
use proptest::prelude::*;
use tempfile::TempDir;

fn build(device: &Device, seed: u64) -> Box<dyn Layer> {
    let block = Sequential::new().then(Conv2d::new(1, 2, 3)).then(BatchNorm2d::new(2));
    let spec = Sequential::new().with("block", block).with("hand", BatchNorm::new(2, 4));
    Builder::new(device, seed).build(&spec.into(), &[1, 1, 5, 5].into()).unwrap()
}

fn network(seed: u64) -> Box<dyn Layer> {
    build(&Device::Cpu, seed)
}

/// The state of a network by name, buffers that are not persistent included.
fn state_of(network: &dyn Layer) -> Vec<(String, Vec<f64>)> {
    let entries = state::entries(network).into_iter();
    entries
        .map(|(name, entry)| match entry {
            state::Entry::Counter(counter) => (name, vec![counter.get() as f64]),
            other => (name, other.tensor().unwrap().value().to_f64().unwrap()),
        })
        .collect()
}

/// A temporary directory, and the path of a file in it.
fn temp_file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.safetensors");
    (dir, path)
}

/// A file with this header and these elements.
fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A file with tensors of single precision (one byte of each element is `fill`), given by name and shape.
fn with_tensors(tensors: &[(&str, &[usize])], fill: u8) -> Vec<u8> {
    let mut end = 0;
    let described: Vec<String> = tensors
        .iter()
        .map(|(name, shape)| {
            let start = end;
            end += 4 * shape.iter().product::<usize>();
            format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    with_header(&format!("{{{}}}", described.join(",")), &[fill, 0, 0, 0].repeat(end / 4))
}

/// The error message of loading these bytes; it names the file, and the network is not changed.
fn load_error(bytes: &[u8]) -> String {
    let (_dir, path) = temp_file();
    fs::write(&path, bytes).unwrap();
    let network = network(1);
    let before = state_of(&*network);
    let e = load(&*network, &path).unwrap_err();
    assert!(e.to_string().contains("net.safetensors: "), "{e}");
    let partial = load_partial(&*network, &path).unwrap_err();
    assert_eq!(partial.kind(), e.kind());
    assert_eq!(state_of(&*network), before, "the network is not changed");
    e.to_string()
}

#[test]
fn round_trip() {
    let (_dir, path) = temp_file();
    let saved = network(1);
    for (name, entry) in state::entries(&*saved) {
        if let state::Entry::Counter(counter) = entry {
            assert_eq!(name, "block.1.num_batches_tracked");
            counter.set(7);
        }
    }
    save(&*saved, &path).unwrap();
    let loaded = network(2);
    assert_ne!(state_of(&*loaded), state_of(&*saved));
    load(&*loaded, &path).unwrap();
    assert_eq!(state_of(&*loaded), state_of(&*saved));
    // Double precision gives the same values, and writes the same file.
    let exact = build(&Device::Reference, 3);
    load(&*exact, &path).unwrap();
    assert_eq!(state_of(&*exact), state_of(&*saved));
    let first = fs::read(&path).unwrap();
    save(&*exact, &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
}

#[test]
fn the_file_has_the_order_of_the_format() {
    let (_dir, path) = temp_file();
    save(&*network(1), &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(length % 8, 0);
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    // The moving statistics of `BatchNorm` are not part of it, as in PyTorch.
    let expected = concat!(
        r#"{"block.1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#,
        r#""block.0.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"#,
        r#""block.0.weight":{"dtype":"F32","shape":[2,1,3,3],"data_offsets":[16,88]},"#,
        r#""block.1.bias":{"dtype":"F32","shape":[2],"data_offsets":[88,96]},"#,
        r#""block.1.running_mean":{"dtype":"F32","shape":[2],"data_offsets":[96,104]},"#,
        r#""block.1.running_var":{"dtype":"F32","shape":[2],"data_offsets":[104,112]},"#,
        r#""block.1.weight":{"dtype":"F32","shape":[2],"data_offsets":[112,120]},"#,
        r#""hand.beta":{"dtype":"F32","shape":[1,2,1,1],"data_offsets":[120,128]},"#,
        r#""hand.gamma":{"dtype":"F32","shape":[1,2,1,1],"data_offsets":[128,136]}}"#,
    );
    assert_eq!(header.trim_end(), expected);
    assert_eq!(bytes.len(), 8 + length + 136);
}

/// A linear layer on the reference device, and the result of loading a bias of two elements of another type.
fn bias_of(dtype: &str, bytes: &[u8]) -> (Box<dyn Layer>, neocog_tensor::Result<Loaded>) {
    let (_dir, path) = temp_file();
    let (size, end) = (bytes.len(), bytes.len() + 8);
    let header = format!(
        r#"{{"bias":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{size}]}},"weight":{{"dtype":"F32","shape":[2,1],"data_offsets":[{size},{end}]}}}}"#
    );
    fs::write(&path, with_header(&header, &[bytes, &[0; 8]].concat())).unwrap();
    let network =
        Builder::new(&Device::Reference, 0).build(&Linear::new(1, 2).into(), &[1, 1].into()).unwrap();
    let result = load(&*network, &path);
    (network, result)
}

#[test]
fn floating_point_types_are_converted() {
    let read = |dtype: &str, bytes: &[u8]| {
        let (network, result) = bias_of(dtype, bytes);
        result.unwrap();
        state::params(&*network)[1].1.value().to_f64().unwrap()
    };
    assert_eq!(read("F64", &[0.1f64, -3.0].map(f64::to_le_bytes).concat()), [0.1, -3.0]);
    assert_eq!(read("F32", &[0.1f32, -3.0].map(f32::to_le_bytes).concat()), [f64::from(0.1f32), -3.0]);
    let halves = |a: u16, b: u16| read("F16", &[a, b].map(u16::to_le_bytes).concat());
    // The largest and the smallest finite numbers, normal and subnormal.
    assert_eq!(halves(0xc000, 0x0001), [-2.0, 2f64.powi(-24)]);
    assert_eq!(halves(0x7bff, 0x0400), [65504.0, 2f64.powi(-14)]);
    assert_eq!(halves(0x3555, 0x83ff), [0.333_251_953_125, -1023.0 * 2f64.powi(-24)]);
    assert_eq!(read("BF16", &[0x40, 0x40, 0x80, 0xbf]), [3.0, -1.0]);
}

#[test]
fn other_types_and_non_finite_values_are_errors() {
    for (dtype, size) in [("I32", 8), ("BOOL", 2), ("F8_E4M3", 2), ("I64", 16)] {
        let e = bias_of(dtype, &vec![0; size]).1.unwrap_err().to_string();
        assert!(e.contains(&format!("bias is [2] of {dtype}, the network has [2]")), "{e}");
    }
    for bytes in [[0x00, 0x7c, 0, 0], [0, 0, 0x01, 0xfc]] {
        let e = bias_of("F16", &bytes).1.unwrap_err().to_string();
        assert!(e.contains("bias has elements that are not finite"), "{e}");
    }
    // Finite in double precision only.
    let (_dir, path) = temp_file();
    let header = r#"{"weight":{"dtype":"F64","shape":[1,1],"data_offsets":[0,8]}}"#;
    fs::write(&path, with_header(header, &1e300f64.to_le_bytes())).unwrap();
    let spec = Linear { bias: false, ..Linear::new(1, 1) };
    let network = Builder::new(&Device::Cpu, 0).build(&spec.into(), &[1, 1].into()).unwrap();
    let e = load(&*network, &path).unwrap_err().to_string();
    assert!(e.contains("weight has elements that are not finite"), "{e}");
}

/// The file of a network of which only some tensors match.
fn partly_matching() -> Vec<u8> {
    with_tensors(
        &[
            ("block.0.bias", &[2]),
            ("block.0.weight", &[3, 1, 3, 3]),
            ("block.1.num_batches_tracked", &[]),
            ("block.1.running_mean", &[2]),
            ("block.1.running_var", &[1, 2]),
            ("block.1.weight", &[2]),
            ("hand.beta", &[1, 2, 1, 1]),
            ("hand.moving_mean", &[2]),
            ("head.weight", &[10, 4]),
        ],
        1,
    )
}

const DIFFERENCES: &str = "
  block.0.weight is [3, 1, 3, 3], the network has [2, 1, 3, 3]
  block.1.bias [2] is missing
  block.1.running_var is [1, 2], the network has [2]
  hand.gamma [1, 2, 1, 1] is missing
  hand.moving_mean [2] is not in the network
  head.weight [10, 4] is not in the network
  block.1.num_batches_tracked is not a count";

#[test]
fn the_error_lists_all_differences() {
    let (_dir, path) = temp_file();
    fs::write(&path, partly_matching()).unwrap();
    let network = network(1);
    let before = state_of(&*network);
    let e = load(&*network, &path).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(e.to_string().ends_with(&format!(": the weights do not match the network:{DIFFERENCES}")), "{e}");
    assert_eq!(state_of(&*network), before);
}

#[test]
fn partial_loading() {
    let (_dir, path) = temp_file();
    fs::write(&path, partly_matching()).unwrap();
    let network = network(1);
    let before = state_of(&*network);
    let partial = load_partial(&*network, &path).unwrap();
    assert_eq!(
        partial.loaded,
        ["block.0.bias", "block.1.weight", "block.1.running_mean", "hand.beta"].map(String::from)
    );
    let skipped: String =
        partial.differences().iter().map(|difference| format!("\n  {difference}")).collect();
    assert_eq!(skipped, DIFFERENCES);
    assert_eq!(partial.missing_keys, ["block.1.bias", "hand.gamma"]);
    assert_eq!(partial.unexpected_keys, ["hand.moving_mean", "head.weight"]);
    assert_eq!(partial.mismatched_shapes, ["block.0.weight", "block.1.running_var"]);
    // A counter may be stored as any number, but this one is a fraction.
    assert_eq!(partial.invalid_values, ["block.1.num_batches_tracked"]);
    let tiny = f64::from(f32::from_bits(1));
    for ((name, new), (_, old)) in state_of(&*network).into_iter().zip(before) {
        let expected = if partial.loaded.contains(&name) { vec![tiny; old.len()] } else { old };
        assert_eq!(new, expected, "{name}");
    }

    let text = load_error(&with_tensors(&[("head.weight", &[2])], 0));
    assert!(text.contains("head.weight [2] is not in the network"), "{text}");
    assert!(text.contains("block.0.weight [2, 1, 3, 3] is missing"), "{text}");
}

/// As in torchvision's files of GoogLeNet and Inception.
#[test]
fn auxiliary_heads_are_left_out() {
    let (_dir, path) = temp_file();
    let own: &[(&str, &[usize])] = &[("fc.weight", &[2, 3]), ("fc.bias", &[2])];
    let linear = || {
        let spec = Sequential::new().with("fc", Linear::new(3, 2));
        Builder::new(&Device::Cpu, 0).build(&spec.into(), &[1, 3].into()).unwrap()
    };
    fs::write(
        &path,
        with_tensors(&[own, &[("aux1.fc1.bias", &[4]), ("AuxLogits.fc.bias", &[2])]].concat(), 0),
    )
    .unwrap();
    let loaded = load(&*linear(), &path).unwrap();
    assert_eq!(loaded.auxiliary_keys, ["AuxLogits.fc.bias", "aux1.fc1.bias"]);
    assert_eq!(loaded.loaded, ["fc.weight", "fc.bias"]);
    assert!(loaded.differences().is_empty() && loaded.unexpected_keys.is_empty());
    assert!(loaded.auxiliary_note().unwrap().starts_with("left out: 2 tensors"));
    // Another module is not.
    fs::write(&path, with_tensors(&[own, &[("auxiliary.bias", &[4])]].concat(), 0)).unwrap();
    assert!(
        load(&*linear(), &path).unwrap_err().to_string().contains("auxiliary.bias [4] is not in the network")
    );
}

#[test]
fn a_negative_count_is_an_error() {
    let (_dir, path) = temp_file();
    save(&*network(1), &path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let data = bytes.len() - 136;
    bytes[data..data + 8].copy_from_slice(&(-3i64).to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let e = load(&*network(1), &path).unwrap_err().to_string();
    assert!(e.ends_with(":\n  block.1.num_batches_tracked is a negative count"), "{e}");
}

#[test]
fn inconsistent_headers_are_errors() {
    let one = |shape: &str, offsets: &str| {
        let header = format!(r#"{{"hand.beta":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        load_error(&with_header(&header, &[0; 8]))
    };
    let expect = |text: String, part: &str| assert!(text.contains(part), "{part} is not in: {text}");
    expect(
        one("[1125899906842624]", "[0,4503599627370496]"),
        "describes 4503599627370496 bytes of elements, found 8: it is truncated",
    );
    expect(one("[1152921504606846976]", "[0,4611686018427387904]"), "its header is invalid: overflow");
    expect(one("[1152921504606846976,1152921504606846976]", "[0,8]"), "its header is invalid: overflow");
    expect(one("[1099511627776]", "[0,8]"), "its header is invalid: invalid shape");
    expect(one("[4]", "[0,16]"), "describes 16 bytes of elements, found 8: it is truncated");
    expect(one("[1]", "[0,4]"), "describes 4 bytes of elements, found 8: data was appended");
    expect(one("[2]", "[4,12]"), "invalid offset for tensor `hand.beta`");
    expect(one("[2]", "[8,0]"), "invalid offset for tensor `hand.beta`");
    expect(one("[-2]", "[0,8]"), "its header is invalid: invalid value: integer `-2`");
    let two = |a: &str, b: &str| {
        let tensor = |name, at| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":{at}}}"#);
        load_error(&with_header(&format!("{{{},{}}}", tensor("a", a), tensor("b", b)), &[0; 16]))
    };
    expect(two("[0,8]", "[4,12]"), "invalid offset for tensor `b`");
    expect(two("[0,8]", "[0,8]"), "invalid offset for tensor");
}

#[test]
fn other_formats_are_errors() {
    let expect = |bytes: &[u8], part: &str| {
        let text = load_error(bytes);
        assert!(text.contains(part), "{part} is not in: {text}");
    };
    expect(b"", "not a file of weights: it has 0 bytes");
    expect(b"1234567", "it has 7 bytes");
    expect(&[0; 8], "its header is invalid: EOF");
    expect(
        &u64::MAX.to_le_bytes(),
        "a header of 18446744073709551615 bytes, but the rest of the file has 0 bytes",
    );
    expect(
        b"some text, and no weights at all",
        "but the rest of the file has 24 bytes: it has another format",
    );
    expect(b"NEOCOGCK and so on", "it is a neocog checkpoint");
    expect(b"PK\x03\x04 and so on", "not a file of torch.save: its zip archive is damaged");
    expect(&with_header("{\"a\": ", &[]), "its header is invalid: EOF while parsing");
    expect(&with_header("[1, 2]", &[]), "its header is invalid: invalid type: sequence");
    let not_utf8 = [&11u64.to_le_bytes()[..], b"{\"\xff\xfe\": 3}  "].concat();
    expect(&not_utf8, "its header is invalid: invalid unicode");
    let other_type = r#"{"hand.beta":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}"#;
    expect(&with_header(other_type, &[0; 8]), "unknown variant `F31`");
}

#[test]
fn truncated_files_are_errors() {
    let (_dir, path) = temp_file();
    save(&*network(1), &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        load_error(&bytes[..length]);
    }
    load_error(&[&bytes[..], &[0]].concat());
}

/// torchvision's published weights of DenseNet are older than the names of its layers.
#[test]
fn old_names_of_dense_layers_are_read() {
    let build = |layer: Sequential, seed| {
        let spec = Sequential::new().with("denselayer1", layer);
        Builder::new(&Device::Cpu, seed).build(&spec.into(), &[1, 2, 4, 4].into()).unwrap()
    };
    let pair = |name: &str, first: &str, second: &str| {
        Sequential::new()
            .with(format!("norm{name}"), Sequential::new().with(first, BatchNorm2d::new(2)))
            .with(format!("conv{name}"), Sequential::new().with(second, Conv2d::new(2, 2, 1)))
    };
    let (_dir, path) = temp_file();
    let old = build(pair("", "1", "2"), 1);
    save(&*old, &path).unwrap();
    let today = Sequential::new().with("norm1", BatchNorm2d::new(2)).with("conv2", Conv2d::new(2, 2, 1));
    let network = build(today.clone(), 2);
    load(&*network, &path).unwrap();
    let values =
        |network: &dyn Layer| state_of(network).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(values(&*network), values(&*old));
    // Names that the network has are not old.
    load(&*build(pair("", "1", "2"), 3), &path).unwrap();
}

#[test]
fn missing_and_irregular_files_are_errors() {
    let (dir, path) = temp_file();
    let e = load(&*network(1), &path).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().starts_with("cannot read the weights "), "{e}");
    let e = load(&*network(1), dir.path()).unwrap_err().to_string();
    assert!(e.contains("not a file of weights: it is not a regular file"), "{e}");
    let e = save(&*network(1), &dir.path().join("none/net.safetensors")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().starts_with("cannot write the weights to "), "{e}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no temporary file is left");
}

#[test]
fn duplicate_names_are_an_error() {
    let (_dir, path) = temp_file();
    // The parameters of a layer without a name belong to the outer layer.
    let spec = Sequential::new().unnamed(Linear::new(2, 2)).unnamed(Linear::new(2, 2));
    let network = Builder::new(&Device::Cpu, 0).build(&spec.into(), &[1, 2].into()).unwrap();
    let e = save(&*network, &path).unwrap_err().to_string();
    assert!(e.contains("the network has two tensors with the name bias"), "{e}");
    assert!(!path.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Arbitrary bytes are an error, never a panic.
    #[test]
    fn arbitrary_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load_error(&bytes);
    }

    /// Arbitrary shapes and offsets are an error, never a panic.
    #[test]
    fn arbitrary_headers_are_an_error(
        shape in prop::collection::vec(any::<u64>(), 0..4),
        start in any::<u64>(),
        end in any::<u64>(),
    ) {
        let header = format!(
            r#"{{"hand.beta":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}}}"#
        );
        load_error(&with_header(&header, &[0; 16]));
    }
}
