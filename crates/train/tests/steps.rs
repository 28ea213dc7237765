//! The steps of a run: learning rates, dropout masks, counters, the best epoch, and data that do not fit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_data::transform::Pipeline;
use neocog_data::{DatasetParts, MemoryDataset, Split};
use neocog_layers::{BatchNorm1d, Dropout, FlattenLayer, LayerSpec, Linear, Sequential};
use neocog_tensor::{Device, ErrorKind};
use neocog_train::{
    BatchReport, Decay, EpochReport, FitOutcome, NoProgress, OptimizerConfig, OptimizerKind, Progress,
    Schedule, TrainConfig, Trainer,
};

/// Without augmentation, momentum and schedule.
fn config(lr: f64, epochs: u64, limit: usize) -> TrainConfig {
    let mut config = TrainConfig::for_network("lenet", "digits").unwrap();
    (config.epochs, config.limit, config.batch) = (epochs, Some(limit), 8);
    config.transforms = Pipeline::default();
    config.optimizer = OptimizerConfig { lr, kind: OptimizerKind::sgd() };
    config.schedule = Schedule::default();
    config
}

fn data(config: &TrainConfig) -> Split {
    config.load_data(Path::new("data")).unwrap()
}

fn trainer(config: TrainConfig, spec: impl Into<LayerSpec>, data: &Split) -> Trainer {
    Trainer::with_spec(config, spec.into(), [1, 28, 28], &*data.train, &Device::Cpu).unwrap()
}

fn linear() -> Sequential {
    Sequential::new().then(FlattenLayer {}).then(Linear::new(784, 10))
}

/// Stops after each batch.
struct EachBatch<'a>(&'a AtomicBool);

impl Progress for EachBatch<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn epoch(&mut self, _report: &EpochReport) {}
}

/// The parameters after each step.
fn parameters(config: &TrainConfig) -> Vec<Vec<f32>> {
    let data = data(config);
    let mut trainer = trainer(config.clone(), linear(), &data);
    let mut all = Vec::new();
    loop {
        let stop = AtomicBool::new(false);
        let end = trainer.fit(&data, None, &mut EachBatch(&stop), &stop).unwrap();
        if all.len() < trainer.position().step as usize {
            let params = neocog_layers::state::params(trainer.network());
            all.push(params.iter().flat_map(|(_, p)| p.value().to_f32().unwrap()).collect());
        }
        if end == FitOutcome::Finished {
            return all;
        }
    }
}

/// The first step has the rate of step 0: the rates of an epoch of two steps that decay to 0 are 1, 1, 0, 0.
#[test]
fn each_step_has_the_learning_rate_of_the_schedule() {
    let mut decay = config(0.1, 2, 16);
    decay.schedule.decay = Decay::Step { epochs: 1, factor: 0.0 };
    let after = parameters(&decay);
    let constant = parameters(&config(0.1, 2, 16));
    assert_eq!((after.len(), constant.len()), (4, 4));
    assert_eq!(after[..2], constant[..2]);
    assert!(after[0] != after[1] && constant[1] != constant[2]);
    assert!(after[2] == after[1] && after[3] == after[1]);

    // The first of two steps of warm-up has half of the rate.
    let mut warm_up = config(0.2, 1, 8);
    warm_up.schedule.warm_up = 2;
    assert_eq!(parameters(&warm_up), parameters(&config(0.1, 1, 8)));
}

/// The network does not learn: the losses of an image differ because its masks do.
#[test]
fn each_step_has_its_own_dropout_mask() {
    let config = config(0.0, 4, 1);
    let data = data(&config);
    let spec = Sequential::new().then(FlattenLayer {}).then(Dropout { p: 0.5 }).then(Linear::new(784, 10));
    let mut trainer = trainer(config, spec, &data);
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let losses: Vec<f64> = trainer.history().iter().map(|report| report.train_loss).collect();
    for (i, loss) in losses.iter().enumerate() {
        assert!(losses[i + 1..].iter().all(|other| other != loss), "{losses:?}");
    }
}

/// Batch norm with `momentum: null` averages over all steps, whose number is a counter.
#[test]
fn counters_are_saved() {
    let config = config(0.05, 2, 24);
    let data = data(&config);
    let norm = BatchNorm1d { momentum: None, ..BatchNorm1d::new(10) };
    let spec = || linear().then(norm.clone());
    let mut whole = trainer(config.clone(), spec(), &data);
    whole.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let expected = whole.checkpoint().unwrap();
    assert_eq!(expected.counters, [("2.num_batches_tracked".to_string(), 6)]);

    let mut stopped = trainer(config, spec(), &data);
    let stop = AtomicBool::new(false);
    stopped.fit(&data, None, &mut EachBatch(&stop), &stop).unwrap();
    let checkpoint = stopped.checkpoint().unwrap();
    assert_eq!(checkpoint.counters[0].1, 1);
    let mut resumed = Trainer::resume(checkpoint, &Device::Cpu).unwrap();
    resumed.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let resumed = resumed.checkpoint().unwrap();
    assert_eq!((resumed.counters, resumed.state), (expected.counters, expected.state));
}

#[test]
fn the_best_epoch_is_the_first_of_equals() {
    let config = config(0.1, 1, 8);
    let data = data(&config);
    let mut first = trainer(config, linear(), &data);
    first.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let mut checkpoint = first.checkpoint().unwrap();
    let report = |epoch, eval_acc| EpochReport { epoch, eval_acc, ..checkpoint.history[0] };
    checkpoint.history = vec![report(1, 0.5), report(2, 0.75), report(3, 0.75), report(4, 0.5)];
    let resumed = Trainer::resume(checkpoint, &Device::Cpu).unwrap();
    assert_eq!(resumed.best().unwrap().epoch, 2);
}

#[test]
fn images_with_other_channels_are_an_error() {
    let config = config(0.1, 1, 8);
    let names = || (0..10).map(|i| i.to_string()).collect();
    let two_channels = DatasetParts::new("colors", [2, 28, 28], vec![7; 2 * 2 * 784], vec![1, 2], names());
    let two_channels = MemoryDataset::new(two_channels).unwrap();
    let data = Split::new(two_channels.clone(), two_channels);
    // A network that takes images of any number of channels.
    let spec = Sequential::new()
        .then(neocog_layers::GlobalAvgPool2d {})
        .then(FlattenLayer {})
        .then(Linear::new(1, 10));
    let e = trainer(config, spec, &data).fit(&data, None, &mut NoProgress, &false.into()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(e.to_string().contains("images of 1 channel, those of colors have 2"), "{e}");
}
