//! Checkpoints: what is written is read again, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use neocog_data::transform::{Normalize, Pipeline, RandomAffine, Step};
use neocog_layers::Builder;
use neocog_tensor::{Device, ErrorKind};
use neocog_train::checkpoint::{MAGIC, NamedTensor, SavedMemory, VERSION, Values};
use neocog_train::{
    Checkpoint, CheckpointDir, Decay, EpochReport, NoProgress, OptimizerConfig, OptimizerKind, Schedule,
    TrainConfig, Trainer,
};
use proptest::prelude::*;

const HEADER: usize = 52;

/// A run of a small plan after one epoch.
fn trained(network: &str) -> Checkpoint {
    let mut plan = TrainConfig::for_network(network, "digits").unwrap();
    (plan.epochs, plan.limit, plan.batch) = (1, Some(24), 8);
    let data = plan.load_data(Path::new("data")).unwrap();
    let mut training = Trainer::new(plan, &data.train, &Device::Cpu).unwrap();
    training.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    training.checkpoint().unwrap()
}

/// A file with a header that is right for `payload`.
fn sealed(payload: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(Sha256::digest(payload));
    bytes.extend(payload);
    bytes
}

/// The error of reading `bytes`; it must name the file.
fn complaint(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ckpt");
    fs::write(&path, bytes).unwrap();
    let e = Checkpoint::read(&path).unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Format | ErrorKind::Shape), "{e:?}");
    assert!(e.to_string().contains("x.ckpt"), "{e}");
    e.to_string()
}

fn bytes_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ckpt");
    checkpoint.write(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left in the folder");
    fs::read(&path).unwrap()
}

fn numbers() -> impl Strategy<Value = Values> {
    prop_oneof![
        prop::collection::vec(any::<f32>().prop_filter("comparable", |v| !v.is_nan()), 0..20)
            .prop_map(Values::F32),
        prop::collection::vec(any::<f64>().prop_filter("comparable", |v| !v.is_nan()), 0..20)
            .prop_map(Values::F64),
    ]
}

fn tensor() -> impl Strategy<Value = NamedTensor> {
    (any::<String>(), numbers()).prop_map(|(name, values)| {
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

fn rule() -> impl Strategy<Value = OptimizerKind> {
    prop::sample::select(OptimizerKind::NAMES.to_vec()).prop_map(|name| OptimizerKind::named(name).unwrap())
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let decay = prop_oneof![
        Just(Decay::Constant),
        (1u64..9, 0.0..1.0).prop_map(|(epochs, factor)| Decay::Step { epochs, factor }),
        (0.0..1.0).prop_map(|floor| Decay::Cosine { floor }),
    ];
    (any::<u64>(), decay).prop_map(|(warm_up, decay)| Schedule { warm_up, decay })
}

fn history() -> impl Strategy<Value = Vec<EpochReport>> {
    let report = (any::<u64>(), 0.0..9.0, 0.0..1.0).prop_map(|(epoch, loss, acc)| EpochReport {
        epoch,
        train_loss: loss,
        train_acc: acc,
        test_loss: loss / 2.0,
        test_acc: acc / 3.0,
        images_per_s: 1e5 * acc,
        seconds: loss,
    });
    prop::collection::vec(report, 0..3)
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let plan = (any::<String>(), any::<Option<usize>>(), any::<u64>(), rule(), schedule(), 0.0..1.0)
        .prop_map(|(network, limit, seed, rule, schedule, lr)| TrainConfig {
            network,
            data: "digits".into(),
            limit,
            epochs: seed / 2,
            batch: 7,
            seed,
            optimizer: OptimizerConfig { lr, rule },
            schedule,
            transforms: Pipeline {
                steps: vec![
                    Step::RandomAffine(RandomAffine::HANDWRITING),
                    Step::Normalize(Normalize { mean: vec![lr as f32], std: vec![1.0 + lr as f32] }),
                ][..(seed % 3) as usize]
                    .to_vec(),
            },
        });
    let memory = (any::<String>(), any::<u64>(), tensors()).prop_map(|(param, steps, slots)| SavedMemory {
        param,
        steps,
        slots,
    });
    let counters = prop::collection::vec((any::<String>(), any::<u64>()), 0..3);
    let parts = (plan, any::<String>(), tensors(), counters, prop::collection::vec(memory, 0..3), history());
    (parts, any::<(u64, u32, u64)>()).prop_map(
        |((plan, spec, state, counters, optimizer, history), (epoch, batch, step))| {
            let mut checkpoint = Checkpoint {
                plan,
                spec,
                input: [1, 2, 3],
                class_names: vec!["cat".into(), String::new()],
                state,
                counters,
                optimizer,
                position: Default::default(),
                sums: Default::default(),
                history,
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
    fn what_is_written_is_read_again(checkpoint in checkpoint()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ckpt");
        checkpoint.write(&path).unwrap();
        prop_assert_eq!(&Checkpoint::read(&path).unwrap(), &checkpoint);
        // Again, over the one that is there.
        checkpoint.write(&path).unwrap();
        prop_assert_eq!(&Checkpoint::read(&path).unwrap(), &checkpoint);
    }

    /// A file that claims anything, with a checksum that fits, is refused or read, and never ends the program.
    #[test]
    fn any_payload_is_an_error_at_most(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ckpt");
        fs::write(&path, sealed(&payload)).unwrap();
        let _ = Checkpoint::read(&path);
    }
}

/// A file that version 1 wrote: a linear layer after two steps on the digits.
#[test]
fn version_1_is_still_read() {
    let checkpoint = Checkpoint::read(Path::new("tests/golden/version1.ckpt")).unwrap();
    let plan = &checkpoint.plan;
    assert_eq!((plan.network.as_str(), plan.data.as_str(), plan.limit), ("lenet", "digits", Some(4)));
    assert_eq!(plan.transforms, Pipeline::from([Step::RandomAffine(RandomAffine::HANDWRITING)]));
    assert_eq!((checkpoint.position.epoch, checkpoint.position.step), (1, 2));
    assert_eq!(checkpoint.history.len(), 1);
    let resumed = Trainer::resume(checkpoint.clone(), &Device::Cpu).unwrap().checkpoint().unwrap();
    // The network is the same; the fields of its JSON may be in another order.
    assert_eq!(resumed.spec().unwrap(), checkpoint.spec().unwrap());
    assert_eq!(Checkpoint { spec: checkpoint.spec.clone(), ..resumed }, checkpoint);
    assert_eq!(bytes_of(&checkpoint)[8..12], VERSION.to_le_bytes());
}

#[test]
fn one_flipped_byte_anywhere() {
    let bytes = bytes_of(&trained("lenet"));
    let step = bytes.len() / 300;
    for at in (0..200).chain((200..bytes.len()).step_by(step)).chain([bytes.len() - 1]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let text = complaint(&damaged);
        let expected = match at {
            0..8 => "this is no checkpoint of neocog",
            8..12 => "this program reads versions up to 2",
            12..20 => "the header says that",
            _ => "the checksum does not fit: the file is damaged",
        };
        assert!(text.contains(expected), "byte {at}: {text}");
    }
}

#[test]
fn a_file_that_was_cut_or_grew() {
    let bytes = bytes_of(&trained("lenet"));
    for length in [bytes.len() / 2, bytes.len() - 1, HEADER] {
        let text = complaint(&bytes[..length]);
        assert!(text.contains("truncated"), "{length}: {text}");
    }
    for length in [0, 1, HEADER - 1] {
        assert!(complaint(&bytes[..length]).contains("the header alone has 52"));
    }
    let text = complaint(&[&bytes[..], &[0]].concat());
    assert!(text.contains("something was added to it"), "{text}");
}

#[test]
fn a_header_that_claims_too_much() {
    let mut bytes = bytes_of(&trained("lenet"));
    bytes[12..20].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert!(complaint(&bytes).contains("the header says that 1152921504606846976 bytes follow"));
}

/// The checksum fits, but a length within the payload claims 2^60 bytes or elements.
#[test]
fn a_content_that_claims_too_much() {
    let bytes = bytes_of(&trained("lenet"));
    let payload = &bytes[HEADER..];
    // The plan comes first: its length, then its JSON.
    assert!(payload[8..].starts_with(br#"{"network":"lenet","#));
    assert_eq!(payload[7 + u64::from_le_bytes(payload[..8].try_into().unwrap()) as usize], b'}');
    for claim in [1u64 << 60, u64::MAX, 1 << 34, payload.len() as u64] {
        let mut damaged = payload.to_vec();
        damaged[..8].copy_from_slice(&claim.to_le_bytes());
        assert!(complaint(&sealed(&damaged)).contains("the content is no checkpoint"), "{claim}");
    }
    // The elements of the first parameter: after its name and its shape [6, 1, 5, 5].
    let shape: Vec<u8> = [4u64, 6, 1, 5, 5].iter().flat_map(|n| n.to_le_bytes()).collect();
    let found = payload.windows(shape.len()).position(|w| w == shape).unwrap();
    let count = found + shape.len() + 4;
    assert_eq!(payload[count..count + 8], 150u64.to_le_bytes());
    for claim in [1u64 << 60, u64::MAX, 1 << 34] {
        let mut damaged = payload.to_vec();
        damaged[count..count + 8].copy_from_slice(&claim.to_le_bytes());
        assert!(complaint(&sealed(&damaged)).contains("the content is no checkpoint"), "{claim}");
    }
    // A shape of 2^60 elements over 150 numbers.
    let mut damaged = payload.to_vec();
    damaged[found + 8..found + 16].copy_from_slice(&(1u64 << 60).to_le_bytes());
    let text = complaint(&sealed(&damaged));
    assert!(text.contains("conv.0.weight"), "{text}");
    // Bytes after the content.
    let text = complaint(&sealed(&[payload, &[0; 3]].concat()));
    assert!(text.contains("there are 3 bytes after the content"), "{text}");
}

#[test]
fn a_newer_version() {
    let mut bytes = bytes_of(&trained("lenet"));
    bytes[8..12].copy_from_slice(&3u32.to_le_bytes());
    assert!(complaint(&bytes).contains("this checkpoint has version 3, this program reads versions up to 2"));
}

#[test]
fn a_checkpoint_of_another_network_lists_all_that_differs() {
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
    assert_eq!(before, after, "nothing was changed");
}

#[test]
fn numbers_that_are_not_finite_are_not_saved() {
    let mut plan = TrainConfig::for_network("lenet", "digits").unwrap();
    plan.limit = Some(8);
    let data = plan.load_data(Path::new("data")).unwrap();
    let mut training = Trainer::new(plan, &data.train, &Device::Cpu).unwrap();
    let (_, bias) = neocog_layers::state::params(training.network())[1];
    bias.set(&neocog_tensor::Tensor::full([6], f64::NAN, &Device::Cpu).unwrap()).unwrap();
    let e = training.checkpoint().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    assert!(e.to_string().contains("conv.0.bias"), "{e}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one() {
    let checkpoint = trained("lenet");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.ckpt");
    checkpoint.write(&path).unwrap();
    // Its temporary file cannot be made where a folder has that name.
    let obstacle = folder.path().join(".last.ckpt.part");
    fs::create_dir(&obstacle).unwrap();
    let e = checkpoint.write(&path).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().contains("the one that is there is kept as it was"), "{e}");
    assert_eq!(Checkpoint::read(&path).unwrap(), checkpoint);

    fs::write(folder.path().join("file"), "").unwrap();
    let e = CheckpointDir::create(folder.path().join("file/below")).unwrap_err();
    assert!(e.to_string().contains("cannot write checkpoints to the folder"), "{e}");
}
