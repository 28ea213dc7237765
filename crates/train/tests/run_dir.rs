//! The directory of a run: one run at a time, and a best checkpoint that is never older than the history of the last one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_data::{DatasetParts, Loader, LoaderOptions, MemoryDataset, Split};
use neocog_layers::{Dropout, FlattenLayer, Linear, Predictor, Sequential, Sigmoid};
use neocog_tensor::{Device, ErrorKind};
use neocog_train::{
    BatchReport, Checkpoint, CheckpointDir, EpochReport, FitOutcome, NoProgress, Progress, SaveEvery,
    TrainConfig, Trainer, evaluate_until,
};

const LAST: &str = CheckpointDir::LAST;
const BEST: &str = CheckpointDir::BEST;

/// Five batches in an epoch; the test accuracy rises in each.
fn config() -> TrainConfig {
    let mut config = TrainConfig::for_network("lenet", "digits").unwrap();
    (config.epochs, config.limit, config.batch) = (3, Some(150), 30);
    (config.optimizer.lr, config.transforms) = (0.01, Default::default());
    config
}

fn data() -> Split {
    config().load_data(Path::new("data")).unwrap()
}

fn new() -> Trainer {
    let spec = Sequential::new()
        .then(FlattenLayer {})
        .then(Linear::new(784, 20))
        .then(Sigmoid {})
        .then(Dropout { p: 0.1 })
        .then(Linear::new(20, 10));
    Trainer::with_spec(config(), spec.into(), [1, 28, 28], &*data().train, &Device::Cpu).unwrap()
}

fn resumed(checkpoint: Checkpoint) -> Trainer {
    Trainer::resume(checkpoint, &Device::Cpu).unwrap()
}

fn finish(trainer: &mut Trainer, dir: Option<&CheckpointDir>) -> Checkpoint {
    let end = trainer.fit(&data(), dir, &mut NoProgress, &false.into()).unwrap();
    assert_eq!(end, FitOutcome::Finished);
    trainer.checkpoint().unwrap()
}

/// Copies the directory of a run, as a kill would leave it, before the report of each batch and epoch.
struct Copies<'a> {
    run: &'a Path,
    to: &'a Path,
    count: usize,
}

impl Copies<'_> {
    fn copy(&mut self) {
        let to = self.to.join(self.count.to_string());
        fs::create_dir(&to).unwrap();
        for name in [LAST, BEST] {
            if self.run.join(name).exists() {
                fs::copy(self.run.join(name), to.join(name)).unwrap();
            }
        }
        self.count += 1;
    }
}

impl Progress for Copies<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.copy();
    }
    fn epoch(&mut self, _report: &EpochReport) {
        self.copy();
    }
}

/// The epoch of the best checkpoint is the best of the last one's history.
fn assert_best_is_right(dir: &Path) {
    let (last, best) =
        (Checkpoint::read(&dir.join(LAST)).unwrap(), Checkpoint::read(&dir.join(BEST)).unwrap());
    let expected = *resumed(last).best().unwrap();
    assert_eq!(best.history.last(), Some(&expected));
}

#[test]
fn a_run_that_was_killed_resumes_within_an_epoch_with_the_same_bits() {
    let whole = finish(&mut new(), None);
    let root = tempfile::tempdir().unwrap();
    let (run, copies) = (root.path().join("run"), root.path().join("copies"));
    fs::create_dir(&copies).unwrap();
    let dir = CheckpointDir::create(&run).unwrap();
    let mut trainer = new();
    trainer.set_save_every(SaveEvery::Steps(2));
    let mut progress = Copies { run: &run, to: &copies, count: 0 };
    trainer.fit(&data(), Some(&dir), &mut progress, &false.into()).unwrap();
    assert_eq!(trainer.checkpoint().unwrap(), whole);
    assert_eq!(progress.count, 18, "5 batches and a report in each of 3 epochs");
    // The report of batch 3 comes after the checkpoint of step 2, and before that of step 4.
    for (copy, step) in [(2, 2), (3, 2), (4, 4), (5, 5), (7, 6), (16, 14)] {
        let killed = copies.join(copy.to_string());
        let checkpoint = Checkpoint::read(&killed.join(LAST)).unwrap();
        assert_eq!(checkpoint.position.step, step, "copy {copy}");
        let dir = CheckpointDir::create(&killed).unwrap();
        assert_eq!(finish(&mut resumed(checkpoint), Some(&dir)), whole, "copy {copy}");
        assert_best_is_right(&killed);
    }
    assert!(!copies.join("0").join(LAST).exists());
}

/// Trains to the end, with the state of the directory after each epoch.
fn epochs(root: &Path) -> Vec<PathBuf> {
    let (run, copies) = (root.join("run"), root.join("copies"));
    fs::create_dir(&copies).unwrap();
    let dir = CheckpointDir::create(&run).unwrap();
    let mut progress = Copies { run: &run, to: &copies, count: 0 };
    new().fit(&data(), Some(&dir), &mut progress, &false.into()).unwrap();
    [5, 11, 17].map(|copy| copies.join(copy.to_string())).into()
}

#[test]
fn a_kill_between_the_two_checkpoints_of_an_epoch_is_repaired() {
    let whole = finish(&mut new(), None);
    let root = tempfile::tempdir().unwrap();
    let epochs = epochs(root.path());
    // The order of writing: the best is of epoch 2, the last of epoch 1.
    fs::copy(epochs[1].join(LAST), epochs[0].join(BEST)).unwrap();
    let checkpoint = CheckpointDir::read_to_resume(&epochs[0].join(LAST)).unwrap();
    assert_eq!(checkpoint.position.epoch, 2, "the epoch is finished");
    let dir = CheckpointDir::create(&epochs[0]).unwrap();
    assert_eq!(finish(&mut resumed(checkpoint), Some(&dir)), whole);
    assert_best_is_right(&epochs[0]);
    // Earlier versions wrote the last one first: the last one has epoch 2, and the best was not there yet.
    let checkpoint = CheckpointDir::read_to_resume(&epochs[1].join(LAST)).unwrap();
    assert_eq!(checkpoint.position.epoch, 2);
    assert!(checkpoint.history[1].eval_acc > checkpoint.history[0].eval_acc, "{:?}", checkpoint.history);
    fs::remove_file(epochs[1].join(BEST)).unwrap();
    let dir = CheckpointDir::create(&epochs[1]).unwrap();
    let mut trainer = resumed(checkpoint.clone());
    let copies = root.path().join("repaired");
    fs::create_dir(&copies).unwrap();
    let mut progress = Copies { run: &epochs[1], to: &copies, count: 0 };
    trainer.fit(&data(), Some(&dir), &mut progress, &false.into()).unwrap();
    assert_best_is_right(&copies.join("0"));
    let held = trainer.best_saved().copied();
    assert_eq!(held.as_ref(), trainer.best());
    let best = Checkpoint::read(&epochs[1].join(BEST)).unwrap();
    assert_eq!(best.history.last(), held.as_ref(), "what is said of best.ckpt is what it holds");
}

#[test]
fn the_first_of_equal_epochs_is_the_best() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.optimizer.lr = 0.0;
    let mut trainer =
        Trainer::with_spec(config, new().spec().clone(), [1, 28, 28], &*data().train, &Device::Cpu).unwrap();
    finish(&mut trainer, Some(&CheckpointDir::create(root.path()).unwrap()));
    assert_eq!(trainer.history()[0].eval_acc, trainer.history()[2].eval_acc);
    assert_eq!(trainer.best().unwrap().epoch, 1);
    assert_best_is_right(root.path());
}

#[test]
fn a_best_checkpoint_of_another_run_is_not_mixed_in() {
    let root = tempfile::tempdir().unwrap();
    let epochs = epochs(root.path());
    // A run resumed from epoch 1 in a directory with epoch 3: those files are kept under another name.
    let first = Checkpoint::read(&epochs[0].join(LAST)).unwrap();
    for name in [LAST, BEST] {
        fs::copy(epochs[2].join(LAST), root.path().join("run").join(name)).unwrap();
    }
    let later = fs::read(epochs[2].join(LAST)).unwrap();
    let run = root.path().join("run");
    let dir = CheckpointDir::create(&run).unwrap();
    let mut trainer = resumed(first);
    trainer.set_epochs(2).unwrap();
    finish(&mut trainer, Some(&dir));
    let aside = [run.join("best.ckpt.old"), run.join("last.ckpt.old")];
    assert_eq!(dir.set_aside(), aside);
    for file in aside {
        assert_eq!(fs::read(file).unwrap(), later);
    }
    let best = Checkpoint::read(&run.join(BEST));
    match trainer.best_saved() {
        Some(saved) => assert_eq!(best.unwrap().history.last(), Some(saved)),
        None => assert!(best.is_err()),
    }
    drop(dir);
    // A new run that replaces another one, stopped in its first epoch: there is no best yet.
    let dir = CheckpointDir::create(&run).unwrap();
    let mut fresh = new();
    fresh.set_save_every(SaveEvery::Steps(1));
    let stop = AtomicBool::new(true);
    fresh.fit(&data(), Some(&dir), &mut NoProgress, &stop).unwrap();
    assert!(!run.join(BEST).exists());
    assert_eq!(Checkpoint::read(&run.join(LAST)).unwrap().position, fresh.position());
}

#[test]
fn a_run_that_is_resumed_elsewhere_takes_its_best_checkpoint_along() {
    let root = tempfile::tempdir().unwrap();
    let epochs = epochs(root.path());
    let checkpoint = Checkpoint::read(&epochs[1].join(LAST)).unwrap();
    let dir = CheckpointDir::create(root.path().join("other")).unwrap();
    dir.adopt_best(&epochs[1], &checkpoint.history).unwrap();
    assert_eq!(fs::read(dir.path().join(BEST)).unwrap(), fs::read(epochs[1].join(BEST)).unwrap());
    let mut trainer = resumed(checkpoint.clone());
    finish(&mut trainer, Some(&dir));
    assert_best_is_right(dir.path());
    // Not that of another run.
    let mut other = checkpoint;
    other.history[0].train_loss += 1.0;
    let dir = CheckpointDir::create(root.path().join("third")).unwrap();
    dir.adopt_best(&epochs[1], &other.history).unwrap();
    assert!(!dir.path().join(BEST).exists());
}

#[test]
fn one_run_at_a_time_writes_to_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let first = CheckpointDir::create_numbered(&run).unwrap();
    assert_eq!(first.path(), run);
    assert!(!first.holds_run() && first.is_exclusive());
    let e = CheckpointDir::create(&run).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    let text = e.to_string();
    assert!(text.contains("another run writes to the directory"), "{text}");
    if cfg!(unix) {
        let process = format!("process {} on ", std::process::id());
        assert!(text.contains(&process) && text.contains(" since 20"), "{text}");
    }
    // The next ones count up: past a directory that is in use, one with checkpoints, and one with other files.
    let second = CheckpointDir::create_numbered(&run).unwrap();
    assert_eq!(second.path(), root.path().join("run-2"));
    drop((first, second));
    fs::write(run.join(LAST), "").unwrap();
    fs::write(root.path().join("run-2/notes.txt"), "").unwrap();
    assert!(CheckpointDir::create(&run).unwrap().holds_run());
    assert_eq!(CheckpointDir::create_numbered(&run).unwrap().path(), root.path().join("run-3"));
    // A run that was killed before its first checkpoint left nothing but this.
    fs::write(root.path().join("run-3/.last.ckpt.17-0.neocog.part"), "half").unwrap();
    let third = CheckpointDir::create_numbered(&run).unwrap();
    assert_eq!(third.path(), root.path().join("run-3"));
    assert_eq!(fs::read_dir(third.path()).unwrap().count(), 1, "only the lock is left");
}

#[test]
fn a_run_with_other_data_is_not_resumed_in_silence() {
    let mut trainer = new();
    trainer.set_epochs(1).unwrap();
    finish(&mut trainer, None);
    let checkpoint = trainer.checkpoint().unwrap();
    let environment = &checkpoint.config.environment;
    assert_eq!(
        (environment.device.as_deref(), environment.version.as_deref()),
        (Some("cpu"), Some(env!("CARGO_PKG_VERSION")))
    );
    assert!(environment.simd.is_some() && environment.data.as_ref().is_some_and(|sum| sum.len() == 64));
    let Split { train, test, .. } = data();
    let mut labels = train.labels().to_vec();
    labels[3] ^= 1;
    // The first images of the digits, which the limit took.
    let whole = neocog_data::load("digits", "data".as_ref()).unwrap().train;
    let whole: &MemoryDataset = (&*whole as &dyn std::any::Any).downcast_ref().unwrap();
    let pixels = whole.pixels()[..64 * train.len()].to_vec();
    let parts = DatasetParts::new("digits", [1, 8, 8], pixels, labels, train.class_names().to_vec());
    let other = Split::new(MemoryDataset::new(parts.max_value(train.max_value())).unwrap(), test.unwrap());
    let resume = |change: fn(&mut TrainConfig), allow| {
        let mut checkpoint = checkpoint.clone();
        change(&mut checkpoint.config);
        let mut trainer = resumed(checkpoint);
        trainer.set_epochs(2).unwrap();
        trainer.set_allow_different(allow);
        trainer
    };
    // Whether the run says that its data are not those that it began with.
    let fit = |mut trainer: Trainer, data: &Split| {
        trainer
            .fit(data, None, &mut NoProgress, &false.into())
            .map(|_| trainer.config().environment.data_changed)
    };
    let e = fit(resume(|_| {}, false), &other).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Mismatch);
    assert!(e.to_string().contains("data (SHA-256): ") && e.to_string().contains("--allow-different"), "{e}");
    assert!(fit(resume(|_| {}, true), &other).unwrap());
    assert!(!fit(resume(|_| {}, false), &data()).unwrap());
    assert!(fit(resume(|config| config.environment.data_changed = true, false), &data()).unwrap());
    // What is not known is not compared.
    assert!(!fit(resume(|config| config.environment = Default::default(), false), &other).unwrap());
    type Change = fn(&mut TrainConfig);
    let changes: [(Change, &str); 3] = [
        (|c| c.environment.version = Some("0.1.0".into()), "version of neocog: 0.1.0 then"),
        (|c| c.environment.simd = Some("mmx".into()), "instruction set (NEOCOG_SIMD): mmx then"),
        (|c| c.environment.device = Some("opencl".into()), "device: opencl then, cpu now"),
    ];
    for (change, expected) in changes {
        let e = fit(resume(change, false), &data()).unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
    }
}

#[test]
fn an_evaluation_stops_at_the_next_batch_and_the_epoch_is_kept() {
    let trainer = new();
    let loader = Loader::new(data().test.unwrap(), LoaderOptions::new().batch_size(16)).unwrap();
    let predictor = Predictor::new(trainer.shared_network());
    let stopped = evaluate_until(&predictor, &loader, &Device::Cpu, &true.into()).unwrap();
    assert!(stopped.is_none());
    assert!(evaluate_until(&predictor, &loader, &Device::Cpu, &false.into()).unwrap().is_some());

    // Stopped after the last batch of an epoch: its training is in the checkpoint.
    struct StopAtEnd<'a>(&'a AtomicBool);
    impl Progress for StopAtEnd<'_> {
        fn batch(&mut self, report: &BatchReport) {
            self.0.store(report.batch == report.batches, Ordering::Relaxed);
        }
        fn epoch(&mut self, _report: &EpochReport) {}
    }
    let root = tempfile::tempdir().unwrap();
    let dir = CheckpointDir::create(root.path()).unwrap();
    let stop = AtomicBool::new(false);
    let mut trainer = new();
    let end = trainer.fit(&data(), Some(&dir), &mut StopAtEnd(&stop), &stop).unwrap();
    assert_eq!(end, FitOutcome::Stopped(Some(root.path().join(LAST))));
    let last = Checkpoint::read(&root.path().join(LAST)).unwrap();
    assert_eq!((last.position.epoch, last.position.batch, last.position.step), (0, 5, 5));
    assert_eq!(finish(&mut resumed(last), Some(&dir)), finish(&mut new(), None));
}

/// A configuration without the environment, as in checkpoints of earlier versions.
#[test]
fn the_environment_is_optional() {
    let mut trainer = new();
    trainer.set_epochs(1).unwrap();
    finish(&mut trainer, None);
    let mut json = serde_json::to_value(trainer.config()).unwrap();
    let environment = json.as_object_mut().unwrap().remove("environment").unwrap();
    assert_eq!(environment["device"], "cpu");
    let read: TrainConfig = serde_json::from_value(json).unwrap();
    assert!(read.environment.is_unknown());
    assert!(!serde_json::to_string(&read).unwrap().contains("environment"));
}
