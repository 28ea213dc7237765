//! Several ranks that train one network, as threads of this process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_data::Split;
use neocog_data::transform::{Pipeline, Step};
use neocog_tensor::{Device, Error, Result};
use neocog_train::checkpoint::{NamedTensor, Values};
use neocog_train::ranks::{Ranks, in_process};
use neocog_train::{
    BatchReport, Checkpoint, CheckpointDir, ClassBalance, Compression, EpochReport, FitOutcome, NoProgress,
    OptimizerConfig, OptimizerKind, Predictions, Progress, SaveEvery, TrainConfig, TrainOptions, Trainer,
};

fn config(network: &str) -> TrainConfig {
    let mut config = TrainConfig::for_network(network, "digits").unwrap();
    // Batches of 16, 16, 16 and 2: of the last one, two shards are empty.
    (config.epochs, config.limit, config.batch, config.shards) = (2, Some(50), 16, 4);
    config.transforms = Pipeline::from([Step::RandomHorizontalFlip { p: 0.5 }]);
    config
}

fn data(config: &TrainConfig) -> Split {
    config.load_data(Path::new("data")).unwrap()
}

/// Runs `f` on `size` ranks, and returns what it returns on each.
fn on_ranks<T: Send + 'static>(size: usize, f: impl Fn(Ranks) -> T + Clone + Send + 'static) -> Vec<T> {
    let threads: Vec<_> = in_process(size)
        .into_iter()
        .map(|transport| {
            let f = f.clone();
            std::thread::spawn(move || f(Ranks::connect(|| Ok(transport)).unwrap()))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn trained(config: &TrainConfig, ranks: Ranks, device: &Device, shard_optimizer: bool) -> Checkpoint {
    let data = data(config);
    let mut trainer = Trainer::new(config.clone(), &*data.train, device).unwrap();
    trainer.set_ranks(ranks).unwrap();
    if shard_optimizer {
        trainer.shard_optimizer();
    }
    let end = trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false)).unwrap();
    assert_eq!(end, FitOutcome::Finished);
    trainer.checkpoint().unwrap()
}

/// Checks that all numbers of ranks have the same result.
fn assert_same(config: TrainConfig, device: Device) {
    let alone = trained(&config, Ranks::single(), &device, false);
    for size in [2, 4] {
        for shard_optimizer in [false, true] {
            let config = config.clone();
            let all = on_ranks(size, move |ranks| trained(&config, ranks, &device, shard_optimizer));
            for (rank, checkpoint) in all.into_iter().enumerate() {
                assert!(checkpoint == alone, "rank {rank} of {size}, {shard_optimizer}");
            }
        }
    }
}

/// Batch norm, dropout, augmentation, class weights, a norm that all gradients have a part in, and an average.
#[test]
fn any_number_of_ranks_has_the_same_bits() {
    let mut config = config("lenet_bn");
    config.class_balance = ClassBalance::BalancedWeights;
    let mut options = TrainOptions::default();
    (options.clip_norm, options.ema) = (Some(0.5), Some(0.9));
    assert_same(config.with_options(options), Device::Cpu);
}

#[test]
fn any_number_of_ranks_has_the_same_bits_in_double_precision() {
    let mut config = config("lenet");
    (config.epochs, config.limit) = (1, Some(18));
    config.optimizer = OptimizerConfig { lr: 0.01, kind: OptimizerKind::named("lamb").unwrap() };
    assert_same(config, Device::Reference);
}

/// In bf16, with what rounding leaves out: checkpoints hold it whole.
#[test]
fn any_number_of_ranks_compresses_alike() {
    let exact = trained(&config("lenet_bn"), Ranks::single(), &Device::Cpu, false);
    let config = compressed(config("lenet_bn"));
    let rounded = trained(&config, Ranks::single(), &Device::Cpu, false);
    assert_eq!(rounded.feedback.len(), 7, "four shards and three sums");
    let kept = rounded.feedback.iter().flat_map(|saved| &saved.gradients);
    let is_zero = |tensor: &NamedTensor| match &tensor.values {
        Values::F32(values) => values.iter().all(|value| *value == 0.0),
        Values::F64(_) => true,
    };
    assert!(kept.clone().any(|tensor| !is_zero(tensor)) && rounded.state != exact.state);
    assert_same(config, Device::Cpu);
}

#[test]
fn any_number_of_ranks_compresses_alike_in_double_precision() {
    let mut config = compressed(config("lenet"));
    (config.epochs, config.limit) = (1, Some(18));
    assert_same(config, Device::Reference);
}

fn compressed(mut config: TrainConfig) -> TrainConfig {
    config.options.compression = Some(Compression::Bf16);
    config
}

#[test]
fn predictions_of_all_ranks_are_those_of_one() {
    #[derive(Default)]
    struct Kept(Option<Predictions>);
    impl Progress for Kept {
        fn batch(&mut self, _: &BatchReport) {}
        fn epoch(&mut self, _: &EpochReport) {}
        fn wants_predictions(&self) -> bool {
            true
        }
        fn evaluated(&mut self, _: &EpochReport, predictions: Option<&Predictions>) {
            self.0 = predictions.cloned();
        }
    }
    let predictions = |ranks: Ranks| {
        let config = config("lenet").with_epochs(1);
        let data = data(&config);
        let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
        let is_first = ranks.is_first();
        trainer.set_ranks(ranks).unwrap();
        let mut kept = Kept::default();
        let never = AtomicBool::new(false);
        if is_first {
            trainer.fit(&data, None, &mut kept, &never).unwrap();
        } else {
            trainer.fit(&data, None, &mut NoProgress, &never).unwrap();
        }
        kept.0
    };
    let expected = predictions(Ranks::single()).unwrap();
    assert_eq!(expected.len(), 50);
    assert_eq!(on_ranks(4, predictions)[0].as_ref(), Some(&expected));
}

/// One rank is asked to stop: all do, and another number of ranks goes on.
#[test]
fn a_stopped_run_goes_on_with_another_number_of_ranks() {
    stop_and_go_on(config("lenet_bn"));
}

#[test]
fn a_stopped_run_with_compression_goes_on_with_another_number_of_ranks() {
    stop_and_go_on(compressed(config("lenet_bn")));
}

fn stop_and_go_on(config: TrainConfig) {
    struct StopAfter<'a>(u64, &'a AtomicBool);
    impl Progress for StopAfter<'_> {
        fn batch(&mut self, report: &BatchReport) {
            self.1.fetch_or(report.epoch == 2 && report.batch as u64 == self.0, Ordering::Relaxed);
        }
        fn epoch(&mut self, _: &EpochReport) {}
    }
    let expected = trained(&config, Ranks::single(), &Device::Cpu, false);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    let outcomes = on_ranks(4, move |ranks| {
        let config = config.clone();
        let data = data(&config);
        let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
        let rank = ranks.rank();
        trainer.set_ranks(ranks).unwrap();
        trainer.shard_optimizer();
        trainer.set_save_every(SaveEvery::Steps(1));
        let folder = (rank == 0).then(|| CheckpointDir::create(&path).unwrap());
        let stop = AtomicBool::new(false);
        let mut progress = StopAfter(if rank == 2 { 2 } else { u64::MAX }, &stop);
        trainer
            .fit(&data, folder.as_ref(), &mut progress, &stop)
            .map(|outcome| (matches!(outcome, FitOutcome::Stopped(_)), trainer.position().batch))
    });
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, [(true, 2); 4]);

    let last = folder.path().join(CheckpointDir::LAST);
    for size in [1, 2] {
        let last = last.clone();
        let all = on_ranks(size, move |ranks| {
            let mut trainer = Trainer::resume(Checkpoint::read(&last).unwrap(), &Device::Cpu).unwrap();
            trainer.set_ranks(ranks).unwrap();
            trainer.shard_optimizer();
            let data = data(trainer.config());
            trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false)).unwrap();
            trainer.checkpoint().unwrap()
        });
        assert!(all.into_iter().all(|checkpoint| checkpoint == expected), "{size}");
    }
}

#[test]
fn ranks_that_differ_do_not_start() {
    let run = |ranks: Ranks| -> Result<()> {
        let mut config = config("lenet");
        if ranks.rank() == 1 {
            (config.seed, config.optimizer.lr) = (7, 0.5);
        }
        let data = data(&config);
        let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu)?;
        trainer.set_ranks(ranks)?;
        trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false)).map(drop)
    };
    let errors: Vec<Error> = on_ranks(2, run).into_iter().map(Result::unwrap_err).collect();
    for e in errors {
        let text = e.to_string();
        for part in
            ["process 1: seed: 7 here, 0 there", "process 1: optimizer", "initial values of the network"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn shards_must_be_divisible_among_the_ranks() {
    let errors = on_ranks(4, |ranks| {
        let config = config("lenet").with_shards(2);
        let data = data(&config);
        let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
        trainer.set_ranks(ranks).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|e| e.contains("2 shards cannot be divided among 4 processes")), "{errors:?}");
    let mut three = in_process(3);
    let e = Ranks::connect(move || Ok(three.remove(0))).unwrap_err();
    assert!(e.to_string().contains("must be a power of two, such as 4"), "{e}");
}
