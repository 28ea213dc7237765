//! Batches that are computed in parts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_data::Split;
use neocog_data::transform::Pipeline;
use neocog_layers::state::{self, Entry};
use neocog_layers::{BatchNorm1d, Dropout, FlattenLayer, LayerSpec, Linear, Sequential};
use neocog_tensor::Device;
use neocog_train::{
    BatchReport, Checkpoint, CheckpointDir, ClassBalance, EpochReport, FitOutcome, NoProgress,
    OptimizerConfig, OptimizerKind, Progress, Schedule, TrainConfig, TrainOptions, Trainer,
};

fn config(limit: usize, batch: usize, shards: usize) -> TrainConfig {
    let mut config = TrainConfig::for_network("lenet", "digits").unwrap();
    (config.epochs, config.limit, config.batch, config.shards) = (1, Some(limit), batch, shards);
    config.transforms = Pipeline::default();
    config.optimizer = OptimizerConfig { lr: 0.1, kind: OptimizerKind::sgd() };
    config.schedule = Schedule::default();
    config
}

fn plain() -> LayerSpec {
    Sequential::new().then(FlattenLayer {}).then(Linear::new(784, 10)).into()
}

fn with_batch_norm() -> LayerSpec {
    Sequential::new()
        .then(FlattenLayer {})
        .then(Linear::new(784, 12))
        .then(BatchNorm1d::new(12))
        .then(Dropout { p: 0.5 })
        .then(Linear::new(12, 10))
        .into()
}

fn data(config: &TrainConfig) -> Split {
    config.load_data(Path::new("data")).unwrap()
}

fn trained(config: &TrainConfig, spec: LayerSpec, device: &Device) -> Trainer {
    let data = data(config);
    let mut trainer = Trainer::with_spec(config.clone(), spec, [1, 28, 28], &*data.train, device).unwrap();
    let end = trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false)).unwrap();
    assert_eq!(end, FitOutcome::Finished);
    trainer
}

/// The tensors of a network, and the counters.
fn values(trainer: &Trainer, name: &str) -> Vec<f64> {
    let entries = state::entries(trainer.network());
    let found = entries.iter().filter(|(entry, _)| entry.ends_with(name));
    let found = found.flat_map(|(_, entry)| match entry {
        Entry::Counter(counter) => vec![counter.get() as f64],
        _ => entry.tensor().unwrap().value().to_f64().unwrap(),
    });
    found.collect()
}

#[track_caller]
fn assert_close(a: &[f64], b: &[f64]) {
    assert!(!a.is_empty() && a.len() == b.len());
    let distance = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(distance < 1e-12, "{distance:e}");
}

/// In double precision, without batch norm.
#[test]
fn parts_of_a_batch_add_up_to_the_batch() {
    let weights = (0..10).map(|class| 1.0 + 0.5 * class as f64).collect();
    for balance in [ClassBalance::None, ClassBalance::BalancedWeights, ClassBalance::Weights(weights)] {
        // Batches of 24, 24 and 10.
        let mut whole = config(58, 24, 1);
        whole.class_balance = balance;
        let expected = trained(&whole, plain(), &Device::Reference);
        for shards in [2, 3, 4, 16] {
            let parts = whole.clone().with_shards(shards);
            let found = trained(&parts, plain(), &Device::Reference);
            assert_close(&values(&found, "weight"), &values(&expected, "weight"));
            assert_close(&values(&found, "bias"), &values(&expected, "bias"));
            let (found, expected) = (found.history()[0], expected.history()[0]);
            assert_eq!(found.train_acc, expected.train_acc);
            assert!((found.train_loss - expected.train_loss).abs() < 1e-12);
        }
    }
}

/// The mean over the parts of running means is that of the batch; that of variances is not.
#[test]
fn running_statistics_are_the_mean_over_the_parts() {
    let expected = trained(&config(10, 10, 1), with_batch_norm(), &Device::Reference);
    let found = trained(&config(10, 10, 4), with_batch_norm(), &Device::Reference);
    assert_close(&values(&found, "running_mean"), &values(&expected, "running_mean"));
    assert_eq!(values(&found, "num_batches_tracked"), [1.0]);
    let [found, expected] = [found, expected].map(|trainer| values(&trainer, "running_var"));
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() > 1e-9), "{found:?} {expected:?}");
}

/// As a last batch of one is.
#[test]
fn a_part_of_one_image_that_batch_norm_cannot_normalize_is_left_out() {
    // Parts of 4 images; then one of 2 and three of a single image.
    let trainer = trained(&config(21, 16, 4), with_batch_norm(), &Device::Cpu);
    assert_eq!(trainer.position().step, 2);
    // The accuracy is a number of 18 images.
    let correct = trainer.history()[0].train_acc * 18.0;
    assert!((correct - correct.round()).abs() < 1e-9);
    // No part is left of 3 images.
    trained(&config(19, 16, 4), with_batch_norm(), &Device::Cpu);
}

/// Stops after each batch.
struct EachBatch<'a>(&'a AtomicBool);

impl Progress for EachBatch<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn epoch(&mut self, _report: &EpochReport) {}
}

#[test]
fn a_run_in_parts_resumes_within_an_epoch() {
    let mut config = config(70, 20, 4);
    config.options = {
        let mut options = TrainOptions::default();
        options.mixup = Some(0.4);
        options
    };
    let whole = trained(&config, with_batch_norm(), &Device::Cpu).checkpoint().unwrap();
    let data = data(&config);
    let folder = tempfile::tempdir().unwrap();
    let mut trainer =
        Trainer::with_spec(config, with_batch_norm(), [1, 28, 28], &*data.train, &Device::Cpu).unwrap();
    loop {
        let directory = CheckpointDir::create(folder.path()).unwrap();
        let stop = AtomicBool::new(false);
        match trainer.fit(&data, Some(&directory), &mut EachBatch(&stop), &stop).unwrap() {
            FitOutcome::Finished => break,
            FitOutcome::Stopped(file) => {
                let checkpoint = Checkpoint::read(&file.unwrap()).unwrap();
                assert_eq!(checkpoint.config.shards, 4);
                trainer = Trainer::resume(checkpoint, &Device::Cpu).unwrap();
            }
        }
    }
    let resumed = trainer.checkpoint().unwrap();
    assert_eq!((resumed.state, resumed.counters), (whole.state, whole.counters));
}

#[test]
fn a_batch_smaller_than_its_parts_is_an_error() {
    let e = config(10, 4, 8).check().unwrap_err().to_string();
    assert!(e.contains("a batch of 4 cannot be divided into 8 shards"), "{e}");
    let e = config(10, 4, 0).check().unwrap_err().to_string();
    assert!(e.contains("the number of shards must be at least 1"), "{e}");
}
