//! Checkpoints: the round trip through a file, and errors for damaged files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use neocog_data::transform::{Normalize, Pipeline, RandomAffine, Step};
use neocog_layers::Builder;
use neocog_tensor::{Device, ErrorKind};
use neocog_train::checkpoint::{
    MAGIC, NamedTensor, SavedAverage, SavedFeedback, SavedOptimizerState, VERSION, Values,
};
use neocog_train::{
    Checkpoint, CheckpointDir, Decay, EpochReport, NoProgress, OptimizerConfig, OptimizerKind, Recipe,
    Schedule, TrainConfig, Trainer,
};
use proptest::prelude::*;

/// The version of a file without an average of the weights.
const WITHOUT_AVERAGE: u32 = 2;

const HEADER: usize = 52;

/// A checkpoint of a small run after one epoch.
fn trained(network: &str) -> Checkpoint {
    let mut config = TrainConfig::for_network(network, "digits").unwrap();
    (config.epochs, config.limit, config.batch) = (1, Some(24), 8);
    let data = config.load_data(Path::new("data")).unwrap();
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    trainer.checkpoint().unwrap()
}

/// A file with a valid header for `payload`.
fn with_header(payload: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut bytes = MAGIC.to_vec();
    bytes.extend(WITHOUT_AVERAGE.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(Sha256::digest(payload));
    bytes.extend(payload);
    bytes
}

/// The error message of reading `bytes`; it must name the file.
fn read_error(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ckpt");
    fs::write(&path, bytes).unwrap();
    let e = Checkpoint::read(&path).unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Format | ErrorKind::Shape), "{e:?}");
    assert!(e.to_string().contains("x.ckpt"), "{e}");
    e.to_string()
}

fn bytes_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ckpt");
    checkpoint.write(&path).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no other file is left in the directory");
    fs::read(&path).unwrap()
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![
        prop::collection::vec(any::<f32>().prop_filter("comparable", |v| !v.is_nan()), 0..20)
            .prop_map(Values::F32),
        prop::collection::vec(any::<f64>().prop_filter("comparable", |v| !v.is_nan()), 0..20)
            .prop_map(Values::F64),
    ]
}

fn tensor() -> impl Strategy<Value = NamedTensor> {
    (any::<String>(), values()).prop_map(|(name, values)| {
        let count = match &values {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
        };
        NamedTensor { name, shape: vec![1, count], values }
    })
}

fn tensors() -> impl Strategy<Value = Vec<NamedTensor>> {
    prop::collection::vec(tensor(), 0..4)
}

fn kind() -> impl Strategy<Value = OptimizerKind> {
    prop::sample::select(OptimizerKind::NAMES.to_vec()).prop_map(|name| OptimizerKind::named(name).unwrap())
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let decay = prop_oneof![
        Just(Decay::Constant),
        (1u64..9, 0.0..1.0).prop_map(|(epochs, factor)| Decay::Step { epochs, factor }),
        (0.0..1.0).prop_map(|floor| Decay::Cosine { floor }),
        prop::sample::select(Decay::NAMES.to_vec()).prop_map(|name| Decay::parse(name, 9).unwrap()),
    ];
    (any::<u64>(), decay).prop_map(|(warm_up, decay)| Schedule { warm_up, decay })
}

fn history() -> impl Strategy<Value = Vec<EpochReport>> {
    let report = (any::<u64>(), 0.0..9.0, 0.0..1.0).prop_map(|(epoch, loss, acc)| EpochReport {
        epoch,
        train_loss: loss,
        train_acc: acc,
        eval_loss: loss / 2.0,
        eval_acc: acc / 3.0,
        images_per_s: 1e5 * acc,
        seconds: loss,
    });
    prop::collection::vec(report, 0..3)
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let config = (any::<String>(), any::<Option<usize>>(), any::<u64>(), kind(), schedule(), 0.0..1.0)
        .prop_map(|(network, limit, seed, kind, schedule, lr)| {
            let steps = [
                Step::RandomAffine(RandomAffine::HANDWRITING),
                Step::Normalize(Normalize { mean: vec![lr as f32], std: vec![1.0 + lr as f32] }),
            ];
            let mut config = TrainConfig::new(network, "digits", &Recipe::new())
                .with_epochs(seed / 2)
                .with_batch(7)
                .with_seed(seed)
                .with_optimizer(OptimizerConfig { lr, kind })
                .with_schedule(schedule)
                .with_transforms(Pipeline::from(steps[..(seed % 3) as usize].to_vec()));
            config.limit = limit;
            config
        });
    let optimizer_state = (any::<String>(), any::<u64>(), tensors())
        .prop_map(|(param, steps, tensors)| SavedOptimizerState { param, steps, tensors });
    let counters = prop::collection::vec((any::<String>(), any::<u64>()), 0..3);
    let parts = (
        config,
        any::<String>(),
        tensors(),
        counters,
        prop::collection::vec(optimizer_state, 0..3),
        history(),
    );
    let feedback = prop::collection::vec((any::<u64>(), tensors()), 0..3);
    (parts, any::<(u64, u32, u64)>(), prop::option::of(tensors()), feedback).prop_map(
        |((config, spec, state, counters, optimizer, history), (epoch, batch, step), average, feedback)| {
            let mut checkpoint = Checkpoint {
                config,
                spec,
                input: [1, 2, 3],
                class_names: vec!["cat".into(), String::new()],
                state,
                counters,
                optimizer,
                position: Default::default(),
                sums: Default::default(),
                history,
                average: average.map(|state| SavedAverage {
                    updates: step,
                    state,
                    counters: vec![(String::from("n"), epoch)],
                }),
                feedback: feedback
                    .into_iter()
                    .map(|(sum, gradients)| SavedFeedback { sum, gradients })
                    .collect(),
            };
            (checkpoint.position.epoch, checkpoint.position.step) = (epoch, step);
            checkpoint.position.batch = batch as usize;
            checkpoint.sums.loss = step as f64 / 7.0;
            checkpoint.sums.images = epoch;
            checkpoint
        },
    )
}

proptest! {
    #[test]
    fn round_trip(checkpoint in checkpoint()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ckpt");
        checkpoint.write(&path).unwrap();
        prop_assert_eq!(&Checkpoint::read(&path).unwrap(), &checkpoint);
        // Replacing the existing file.
        checkpoint.write(&path).unwrap();
        prop_assert_eq!(&Checkpoint::read(&path).unwrap(), &checkpoint);
    }

    /// An arbitrary payload with a correct checksum is an error at most, never a panic.
    #[test]
    fn arbitrary_payloads_do_not_panic(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ckpt");
        fs::write(&path, with_header(&payload)).unwrap();
        let _ = Checkpoint::read(&path);
    }
}

/// A file of version 1: a linear layer after two steps on the digits.
#[test]
fn version_1_can_be_read() {
    let checkpoint = Checkpoint::read(Path::new("tests/golden/version1.ckpt")).unwrap();
    let config = &checkpoint.config;
    assert_eq!((config.network.as_str(), config.data.as_str(), config.limit), ("lenet", "digits", Some(4)));
    assert_eq!(config.transforms, Pipeline::from([Step::RandomAffine(RandomAffine::HANDWRITING)]));
    assert_eq!((checkpoint.position.epoch, checkpoint.position.step), (1, 2));
    assert_eq!(checkpoint.history.len(), 1);
    let resumed = Trainer::resume(checkpoint.clone(), &Device::Cpu).unwrap().checkpoint().unwrap();
    // The network is the same, although the fields of its JSON may be ordered differently.
    assert_eq!(resumed.spec().unwrap(), checkpoint.spec().unwrap());
    assert_eq!(Checkpoint { spec: checkpoint.spec.clone(), ..resumed }, checkpoint);
    assert_eq!(bytes_of(&checkpoint)[8..12], WITHOUT_AVERAGE.to_le_bytes());
}

#[test]
fn a_flipped_bit_anywhere_is_detected() {
    let bytes = bytes_of(&trained("lenet"));
    let step = bytes.len() / 300;
    for at in (0..200).chain((200..bytes.len()).step_by(step)).chain([bytes.len() - 1]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let text = read_error(&damaged);
        let expected = match at {
            0..8 => "not a neocog checkpoint",
            // Version 3, with an average that is not there.
            8 => "the content is not a checkpoint",
            9..12 => "supported are versions up to 4",
            12..20 => "the header specifies",
            _ => "checksum mismatch: the file is damaged",
        };
        assert!(text.contains(expected), "byte {at}: {text}");
    }
}

#[test]
fn a_truncated_or_extended_file_is_an_error() {
    let bytes = bytes_of(&trained("lenet"));
    for length in [bytes.len() / 2, bytes.len() - 1, HEADER] {
        let text = read_error(&bytes[..length]);
        assert!(text.contains("truncated"), "{length}: {text}");
    }
    for length in [0, 1, HEADER - 1] {
        assert!(read_error(&bytes[..length]).contains("less than the header of 52"));
    }
    let text = read_error(&[&bytes[..], &[0]].concat());
    assert!(text.contains("data was appended"), "{text}");
}

#[test]
fn a_huge_payload_length_is_an_error() {
    let mut bytes = bytes_of(&trained("lenet"));
    bytes[12..20].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert!(read_error(&bytes).contains("the header specifies 1152921504606846976 bytes of content"));
}

/// The checksum is correct, but a length within the payload is 2^60 bytes or elements.
#[test]
fn a_huge_length_within_the_payload_is_an_error() {
    let bytes = bytes_of(&trained("lenet"));
    let payload = &bytes[HEADER..];
    // The configuration comes first: its length, then its JSON.
    assert!(payload[8..].starts_with(br#"{"network":"lenet","#));
    assert_eq!(payload[7 + u64::from_le_bytes(payload[..8].try_into().unwrap()) as usize], b'}');
    for length in [1u64 << 60, u64::MAX, 1 << 34, payload.len() as u64] {
        let mut damaged = payload.to_vec();
        damaged[..8].copy_from_slice(&length.to_le_bytes());
        assert!(read_error(&with_header(&damaged)).contains("the content is not a checkpoint"), "{length}");
    }
    // The elements of the first parameter: after its name and its shape [6, 1, 5, 5].
    let shape: Vec<u8> = [4u64, 6, 1, 5, 5].iter().flat_map(|n| n.to_le_bytes()).collect();
    let found = payload.windows(shape.len()).position(|w| w == shape).unwrap();
    let count = found + shape.len() + 4;
    assert_eq!(payload[count..count + 8], 150u64.to_le_bytes());
    for length in [1u64 << 60, u64::MAX, 1 << 34] {
        let mut damaged = payload.to_vec();
        damaged[count..count + 8].copy_from_slice(&length.to_le_bytes());
        assert!(read_error(&with_header(&damaged)).contains("the content is not a checkpoint"), "{length}");
    }
    // A shape of 2^60 elements with 150 values.
    let mut damaged = payload.to_vec();
    damaged[found + 8..found + 16].copy_from_slice(&(1u64 << 60).to_le_bytes());
    let text = read_error(&with_header(&damaged));
    assert!(text.contains("conv.0.weight"), "{text}");
    // Bytes after the content.
    let text = read_error(&with_header(&[payload, &[0; 3]].concat()));
    assert!(text.contains("unexpected 3 bytes after the content"), "{text}");
}

#[test]
fn a_newer_version_is_an_error() {
    let mut bytes = bytes_of(&trained("lenet"));
    bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    assert!(
        read_error(&bytes).contains("the checkpoint has format version 5, supported are versions up to 4")
    );
}

#[test]
fn loading_into_another_network_lists_all_differences() {
    let checkpoint = trained("lenet");
    let model = neocog_models::find("lenet_bn").unwrap();
    let other = Builder::new(&Device::Cpu, 0).build(&model.spec().unwrap(), &model.input_shape(1)).unwrap();
    let before = neocog_layers::state::params(&*other)[0].1.value().to_f32().unwrap();
    let e = checkpoint.load_into(&*other).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    let text = e.to_string();
    for part in [
        "conv.0.weight [6, 1, 5, 5] is not in the network",
        "fc.4.bias [10] is not in the network",
        "0.weight [6, 1, 5, 5] is missing",
        "1.running_var [6] is missing",
        "1.num_batches_tracked a count is missing",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let after = neocog_layers::state::params(&*other)[0].1.value().to_f32().unwrap();
    assert_eq!(before, after, "the network is not changed");
}

#[test]
fn non_finite_parameters_are_not_saved() {
    let mut config = TrainConfig::for_network("lenet", "digits").unwrap();
    config.limit = Some(8);
    let data = config.load_data(Path::new("data")).unwrap();
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    let (_, bias) = neocog_layers::state::params(trainer.network())[1];
    bias.set(&neocog_tensor::Tensor::full([6], f64::NAN, &Device::Cpu).unwrap()).unwrap();
    let e = trainer.checkpoint().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    assert!(e.to_string().contains("conv.0.bias"), "{e}");
}

#[test]
fn a_failed_write_keeps_the_existing_checkpoint() {
    let checkpoint = trained("lenet");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("last.ckpt");
    checkpoint.write(&path).unwrap();
    // A device that is always full, as the file behind a link.
    #[cfg(target_os = "linux")]
    {
        let full = dir.path().join("full.ckpt");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        let e = checkpoint.write(&full).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().contains("the existing file was not changed"), "{e}");
    }
    assert_eq!(Checkpoint::read(&path).unwrap(), checkpoint);

    fs::write(dir.path().join("file"), "").unwrap();
    let e = CheckpointDir::create(dir.path().join("file/below")).unwrap_err();
    assert!(e.to_string().contains("file is a file, not a directory; choose another name"), "{e}");
}
