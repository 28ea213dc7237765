//! Files of `torch.save`, put together by hand: what is read, what is refused, and that no file makes the reader panic. The files
//! that PyTorch writes are in `tests/tests/torch_files.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use neocog_base::random::Random;
use neocog_layers::{BatchNorm1d, Builder, Layer, LayerSpec, Linear, Sequential, state, weights};
use neocog_tensor::Device;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor: name, storage type, extents, strides, offset, elements of the storage.
struct Entry<'a>(&'a str, &'a str, &'a [i32], &'a [i32], i32, Vec<u8>);

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn integer(out: &mut Vec<u8>, value: i32) {
    out.push(b'J');
    out.extend(value.to_le_bytes());
}

fn name(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").bytes());
}

fn integers(out: &mut Vec<u8>, values: &[i32]) {
    out.push(b'(');
    values.iter().for_each(|value| integer(out, *value));
    out.push(b't');
}

fn element_size(storage: &str) -> usize {
    match storage {
        "DoubleStorage" | "LongStorage" => 8,
        "HalfStorage" | "BFloat16Storage" => 2,
        _ => 4,
    }
}

/// Writes the items of a dictionary, whose storages are called by their position.
fn state_dict(out: &mut Vec<u8>, entries: &[Entry<'_>]) {
    name(out, "collections", "OrderedDict");
    out.extend(b")R(");
    for (i, Entry(key, storage, shape, strides, offset, bytes)) in entries.iter().enumerate() {
        text(out, key);
        name(out, "torch._utils", "_rebuild_tensor_v2");
        out.extend(b"((");
        text(out, "storage");
        name(out, "torch", storage);
        text(out, &i.to_string());
        text(out, "cpu");
        integer(out, (bytes.len() / element_size(storage)) as i32);
        out.extend(b"tQ");
        integer(out, *offset);
        integers(out, shape);
        integers(out, strides);
        out.push(0x89);
        name(out, "collections", "OrderedDict");
        out.extend(b")RtR");
    }
    out.push(b'u');
}

fn pickled(content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    content(&mut out);
    out.push(b'.');
    out
}

fn zipped(pickle: &[u8], entries: &[Entry<'_>]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut file = |name: String, bytes: &[u8]| {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    file("archive/data.pkl".into(), pickle);
    file("archive/byteorder".into(), b"little");
    for (i, entry) in entries.iter().enumerate() {
        file(format!("archive/data/{i}"), &entry.5);
    }
    zip.finish().unwrap().into_inner()
}

fn legacy(object: &[u8], entries: &[Entry<'_>]) -> Vec<u8> {
    let magic = 0x1950_a86a_20f9_469c_fc6c_i128.to_le_bytes();
    let mut out = pickled(|out| {
        out.extend([0x8a, 10]);
        out.extend(&magic[..10]);
    });
    out.extend(pickled(|out| integer(out, 1001)));
    out.extend(pickled(|out| out.push(b'}')));
    out.extend(object);
    out.extend(pickled(|out| {
        out.extend(b"](");
        (0..entries.len()).for_each(|i| text(out, &i.to_string()));
        out.push(b'e');
    }));
    for Entry(_, storage, .., bytes) in entries {
        out.extend(((bytes.len() / element_size(storage)) as u64).to_le_bytes());
        out.extend(bytes);
    }
    out
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn network() -> Box<dyn Layer> {
    let spec: LayerSpec =
        Sequential::new().with("fc", Linear::new(2, 3)).with("bn", BatchNorm1d::new(3)).into();
    Builder::new(&Device::Cpu, 0).build(&spec, &[4, 2].into()).unwrap()
}

/// Tensors for the network: a transposed weight with an offset, half and double precision, a counter in single precision.
fn entries(prefix: &'static [&'static str; 6]) -> Vec<Entry<'static>> {
    let ones = || floats(&[1.0, 1.0, 1.0]);
    vec![
        Entry(prefix[0], "FloatStorage", &[3, 2], &[1, 3], 1, floats(&[9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        Entry(prefix[1], "HalfStorage", &[3], &[1], 0, vec![0, 0x3c, 0, 0x40, 0, 0xc0]),
        Entry(prefix[2], "BFloat16Storage", &[3], &[1], 0, vec![0x80, 0x3f, 0, 0x40, 0x40, 0x40]),
        Entry(
            prefix[3],
            "DoubleStorage",
            &[3],
            &[1],
            0,
            [0.5f64, 0.25, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
        Entry(prefix[4], "FloatStorage", &[3], &[1], 0, ones()),
        Entry(prefix[5], "FloatStorage", &[3], &[1], 0, ones()),
    ]
}

const NAMES: [&str; 6] =
    ["fc.weight", "fc.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
const WRAPPED: [&str; 6] = [
    "module._orig_mod.fc.weight",
    "module._orig_mod.fc.bias",
    "module._orig_mod.bn.weight",
    "module._orig_mod.bn.bias",
    "module._orig_mod.bn.running_mean",
    "module._orig_mod.bn.running_var",
];

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("net.pth");
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn values(network: &dyn Layer, name: &str) -> Vec<f32> {
    let all = state::entries(network);
    let (_, entry) = all.iter().find(|(other, _)| other == name).unwrap();
    entry.tensor().unwrap().value().to_f32().unwrap()
}

fn check_loaded(path: &Path) {
    let net = network();
    weights::load(&*net, path).unwrap();
    assert_eq!(values(&*net, "fc.weight"), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(values(&*net, "fc.bias"), [1.0, 2.0, -2.0]);
    assert_eq!(values(&*net, "bn.weight"), [1.0, 2.0, 3.0]);
    assert_eq!(values(&*net, "bn.bias"), [0.5, 0.25, 3.0]);
}

#[test]
fn both_formats_and_all_element_types_are_read() {
    let files = Files::new();
    for names in [&NAMES, &WRAPPED] {
        let entries = entries(names);
        let plain = pickled(|out| state_dict(out, &entries));
        let nested = pickled(|out| {
            out.extend(b"}(");
            text(out, "epoch");
            integer(out, 3);
            text(out, "state_dict");
            state_dict(out, &entries);
            out.push(b'u');
        });
        for pickle in [plain, nested] {
            check_loaded(&files.write(&zipped(&pickle, &entries)));
            check_loaded(&files.write(&legacy(&pickle, &entries)));
        }
    }
}

#[test]
fn counters_may_be_any_number() {
    let files = Files::new();
    for (storage, bytes) in [
        ("LongStorage", 7i64.to_le_bytes().to_vec()),
        ("FloatStorage", 7f32.to_le_bytes().to_vec()),
        ("DoubleStorage", 7f64.to_le_bytes().to_vec()),
    ] {
        let mut entries = entries(&NAMES);
        entries.push(Entry("bn.num_batches_tracked", storage, &[], &[], 0, bytes));
        let net = network();
        let path = files.write(&zipped(&pickled(|out| state_dict(out, &entries)), &entries));
        weights::load(&*net, &path).unwrap();
        let all = state::entries(&*net);
        let counter = all.iter().find_map(|(_, entry)| match entry {
            state::Entry::Counter(counter) => Some(counter.get()),
            _ => None,
        });
        assert_eq!(counter, Some(7), "{storage}");
    }
    let mut entries = entries(&NAMES);
    entries.push(Entry("bn.num_batches_tracked", "FloatStorage", &[], &[], 0, 1.5f32.to_le_bytes().to_vec()));
    let path = files.write(&zipped(&pickled(|out| state_dict(out, &entries)), &entries));
    let error = weights::load(&*network(), &path).unwrap_err().to_string();
    assert!(error.contains("bn.num_batches_tracked is not a count"), "{error}");
}

#[test]
fn a_pickle_that_would_run_a_command_is_refused() {
    let files = Files::new();
    let victim = files.0.path().join("victim");
    let command = format!("touch {}", victim.display());
    let reduce = |out: &mut Vec<u8>, module: &str, function: &str| {
        name(out, module, function);
        out.push(b'(');
        text(out, &command);
        out.extend(b"tR");
    };
    let stack_global = |out: &mut Vec<u8>| {
        text(out, "posix");
        text(out, "system");
        out.push(0x93);
        text(out, &command);
        out.extend([0x85, b'R']);
    };
    let pickles = [
        (pickled(|out| reduce(out, "os", "system")), "os.system"),
        (pickled(|out| reduce(out, "builtins", "eval")), "builtins.eval"),
        (pickled(|out| reduce(out, "torch", "load")), "torch.load"),
        (
            pickled(|out| reduce(out, "torch._utils", "_import_dotted_name")),
            "torch._utils._import_dotted_name",
        ),
        (pickled(stack_global), "posix.system"),
        (
            pickled(|out| {
                out.push(b'(');
                text(out, &command);
                out.extend(b"ios\nsystem\n");
            }),
            "0x69",
        ),
        (pickled(|out| out.extend([0x82, 1])), "0x82"),
        (pickled(|out| out.extend(b"Psome id\n")), "0x50"),
    ];
    for (pickle, expected) in pickles {
        for bytes in [zipped(&pickle, &[]), legacy(&pickle, &[])] {
            let error = weights::load(&*network(), &files.write(&bytes)).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected} is not in: {error}");
        }
    }
    assert!(!victim.exists());
}

#[test]
fn values_that_contain_themselves_or_are_nested_deeply_do_no_harm() {
    let files = Files::new();
    let own = pickled(|out| {
        out.extend(b"}q\x00");
        text(out, "state_dict");
        out.extend(b"h\x00s");
    });
    let deep = pickled(|out| {
        out.push(b')');
        out.extend(std::iter::repeat_n(0x85, 1 << 20));
    });
    for (pickle, expected) in [(own, "nested too deeply"), (deep, "holds no state_dict")] {
        let error = weights::load(&*network(), &files.write(&zipped(&pickle, &[]))).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_does_not_fit_the_file_is_an_error() {
    let files = Files::new();
    let load = |entries: &[Entry<'_>]| {
        let path = files.write(&zipped(&pickled(|out| state_dict(out, entries)), entries));
        weights::load(&*network(), &path).unwrap_err().to_string()
    };
    let mut outside = entries(&NAMES);
    outside[0].4 = 2;
    assert!(load(&outside).contains("fc.weight: its elements are outside of the storage 0"));
    let mut negative = entries(&NAMES);
    negative[0].4 = -1;
    assert!(load(&negative).contains("is negative"));
    let mut other = entries(&NAMES);
    other[0].2 = &[2, 3];
    assert!(load(&other).contains("fc.weight is [2, 3], the network has [3, 2]"));
    let text = files.write(b"PK\x03\x04 and nothing else");
    let error = weights::load(&*network(), &text).unwrap_err().to_string();
    assert!(error.contains("zip archive is damaged"), "{error}");
}

/// More in a long run, or as many as `NEOCOG_MUTATIONS` says.
fn mutations() -> usize {
    let given = std::env::var("NEOCOG_MUTATIONS").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(neocog_base::testing::cases(4_000) as usize)
}

#[test]
fn mutated_files_do_not_panic() {
    let files = Files::new();
    let entries = entries(&NAMES);
    let pickle = pickled(|out| state_dict(out, &entries));
    let originals = [zipped(&pickle, &entries), legacy(&pickle, &entries)];
    let mut random = Random::new(11);
    let (mut loaded, mut refused) = (0, 0);
    for i in 0..mutations() {
        let mut bytes = originals[i % 2].clone();
        for _ in 0..=random.next_u32() % 3 {
            let at = random.next_u32() as usize % bytes.len();
            match random.next_u32() % 5 {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] ^= 1 << (random.next_u32() % 8),
                2 => bytes[at] = random.next_u32() as u8,
                3 => bytes.insert(at, random.next_u32() as u8),
                _ => {
                    // A length or an offset.
                    let value = [u32::MAX, 0, 1 << 31, random.next_u32()][random.next_u32() as usize % 4];
                    let end = bytes.len().min(at + 4);
                    bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
                }
            }
        }
        let net = network();
        match weights::load_partial(&*net, &files.write(&bytes)) {
            Ok(_) => loaded += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{loaded} of {} mutated files were loaded, {refused} refused", loaded + refused);
    assert!(loaded > 0 && refused > loaded / 10);
}
