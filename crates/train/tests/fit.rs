//! The trainer loop: it learns, its result does not depend on threads or interruptions, and it stops when it diverges.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_data::transform::{ColorJitter, Normalize, Pipeline, RandomAffine, RandomErasing, Step};
use neocog_data::{Loader, LoaderOptions, Split};
use neocog_layers::{Dropout, Linear, Predictor, Sequential, Sigmoid};
use neocog_tensor::{Device, ErrorKind};
use neocog_train::checkpoint::{NamedTensor, Values};
use neocog_train::schedule::ScheduleStep;
use neocog_train::{
    AverageReport, BatchReport, Checkpoint, CheckpointDir, ClassBalance, Decay, EpochReport, FitOutcome,
    LogLine, LossKind, NoProgress, OptimizerKind, Progress, Schedule, TrainConfig, Trainer, evaluate,
};

fn config(network: &str) -> TrainConfig {
    let mut config = TrainConfig::for_network(network, "digits").unwrap();
    (config.epochs, config.limit, config.batch) = (3, Some(70), 16);
    config.schedule = Schedule { warm_up: 3, decay: Decay::Cosine { floor: 0.1 } };
    config
}

fn data(config: &TrainConfig) -> Split {
    config.load_data(Path::new("data")).unwrap()
}

/// Requests a stop after a number of batches, counted over all epochs.
struct StopAfter<'a> {
    batches: usize,
    stop: &'a AtomicBool,
}

impl Progress for StopAfter<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.batches -= 1;
        if self.batches == 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn epoch(&mut self, _report: &EpochReport) {}
}

fn uninterrupted(config: &TrainConfig, device: &Device) -> Checkpoint {
    let data = data(config);
    let mut trainer = Trainer::new(config.clone(), &*data.train, device).unwrap();
    assert_eq!(trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap(), FitOutcome::Finished);
    assert_eq!(trainer.history().len(), config.epochs as usize);
    trainer.checkpoint().unwrap()
}

/// The same run, stopped and resumed from its checkpoint after each of these numbers of batches.
fn interrupted(config: &TrainConfig, device: &Device, pieces: &[usize]) -> Checkpoint {
    let data = data(config);
    let root = tempfile::tempdir().unwrap();
    let checkpoints = CheckpointDir::create(root.path()).unwrap();
    let mut trainer = Trainer::new(config.clone(), &*data.train, device).unwrap();
    for &batches in pieces {
        let stop = AtomicBool::new(false);
        let end =
            trainer.fit(&data, Some(&checkpoints), &mut StopAfter { batches, stop: &stop }, &stop).unwrap();
        let FitOutcome::Stopped(Some(file)) = end else { panic!("{end:?}") };
        trainer = Trainer::resume(Checkpoint::read(&file).unwrap(), device).unwrap();
    }
    assert_eq!(
        trainer.fit(&data, Some(&checkpoints), &mut NoProgress, &false.into()).unwrap(),
        FitOutcome::Finished
    );
    let last = trainer.checkpoint().unwrap();
    assert_eq!(Checkpoint::read(&root.path().join(CheckpointDir::LAST)).unwrap(), last);
    last
}

/// 70 images are 5 batches: stops in the middle of an epoch, at its end, and before its first batch.
#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    for network in ["lenet", "lenet_bn", "lenet_bn_scratch"] {
        let config = config(network);
        assert_eq!(
            interrupted(&config, &Device::Cpu, &[2, 3, 1, 6]),
            uninterrupted(&config, &Device::Cpu),
            "{network}"
        );
    }
}

#[test]
fn every_optimizer_resumes() {
    for name in OptimizerKind::NAMES {
        let mut config = config("lenet");
        config.optimizer.kind = OptimizerKind::named(name).unwrap();
        if let Ok(kind) = config.optimizer.kind.with_momentum(0.9) {
            config.optimizer.kind = kind;
        }
        config.epochs = 1;
        assert_eq!(interrupted(&config, &Device::Cpu, &[3]), uninterrupted(&config, &Device::Cpu), "{name}");
    }
}

/// Stops in the middle of the first and of the last epoch, and between epochs.
#[test]
fn every_technique_resumes() {
    let with = |change: fn(&mut TrainConfig)| {
        let mut config = config("lenet_bn");
        change(&mut config);
        config
    };
    let all: [fn(&mut TrainConfig); 9] = [
        |c| (c.options.label_smoothing, c.options.mixup) = (0.1, Some(0.4)),
        |c| (c.options.cutmix, c.class_balance) = (Some(1.0), ClassBalance::BalancedWeights),
        |c| (c.options.mixup, c.options.cutmix, c.options.drop_last) = (Some(0.2), Some(1.0), true),
        |c| (c.options.clip_norm, c.options.clip_value) = (Some(0.1), Some(0.01)),
        |c| (c.options.ema, c.options.loss) = (Some(0.9), LossKind::Focal { gamma: 2.0 }),
        |c| (c.options.swa, c.options.loss) = (Some(2), LossKind::Bce),
        |c| c.options.early_stopping = Some(5),
        |c| c.schedule.decay = "one-cycle".parse().unwrap(),
        |c| {
            c.schedule.decay =
                "plateau:patience=0,threshold=10,absolute=true for 2 then exponential".parse().unwrap()
        },
    ];
    for (i, change) in all.into_iter().enumerate() {
        let config = with(change);
        let whole = uninterrupted(&config, &Device::Cpu);
        assert_eq!(interrupted(&config, &Device::Cpu, &[2, 3, 7]), whole, "technique {i}");
        let plain = uninterrupted(&with(|_| ()), &Device::Cpu);
        if config.options.early_stopping.is_none() && config.options.swa.is_none() {
            assert_ne!(whole.state, plain.state, "technique {i} changes nothing");
        }
    }
}

#[test]
fn an_average_is_evaluated_and_saved() {
    struct Averages(Vec<AverageReport>);
    impl Progress for Averages {
        fn batch(&mut self, _report: &BatchReport) {}
        fn epoch(&mut self, _report: &EpochReport) {}
        fn average(&mut self, report: &AverageReport) {
            self.0.push(*report);
        }
    }
    let mut config = config("lenet_bn");
    config.options.swa = Some(2);
    let data = data(&config);
    let root = tempfile::tempdir().unwrap();
    let folder = CheckpointDir::create(root.path()).unwrap();
    let mut trainer = Trainer::new(config.clone(), &*data.train, &Device::Cpu).unwrap();
    trainer.set_keep(2);
    let mut progress = Averages(Vec::new());
    trainer.fit(&data, Some(&folder), &mut progress, &false.into()).unwrap();
    assert_eq!(progress.0.iter().map(|report| report.epoch).collect::<Vec<_>>(), [2, 3]);

    // The average of the kept checkpoints of epochs 2 and 3; that of epoch 1 is not kept.
    let read = |name: &str| Checkpoint::read(&root.path().join(name)).unwrap();
    assert!(!root.path().join("epoch-1.ckpt").exists());
    let (two, three, averaged) = (read("epoch-2.ckpt"), read("epoch-3.ckpt"), read("averaged.ckpt"));
    assert_eq!(three.average.as_ref().unwrap().updates, 2);
    for ((a, b), mean) in two.state.iter().zip(&three.state).zip(&averaged.state) {
        let values = |tensor: &NamedTensor| match &tensor.values {
            Values::F32(values) => values.clone(),
            Values::F64(_) => panic!("on the CPU"),
        };
        for ((a, b), mean) in values(a).into_iter().zip(values(b)).zip(values(mean)) {
            assert!((0.5 * (a + b) - mean).abs() <= 1e-6 * a.abs().max(b.abs()), "{a} {b} {mean}");
        }
    }
    let network = averaged.network(&Device::Cpu).unwrap();
    let loader =
        Loader::new(data.test.clone().unwrap(), LoaderOptions::new().batch_size(16).image_size((28, 28)));
    let result = evaluate(&Predictor::new(network), &loader.unwrap(), &Device::Cpu).unwrap();
    let last = progress.0.last().unwrap();
    assert_eq!((result.loss, result.accuracy), (last.loss, last.acc));
    let lines = LogLine::read(&root.path().join(LogLine::FILE)).unwrap();
    assert_eq!(
        lines.iter().map(|line| line.average_acc).collect::<Vec<_>>(),
        [None, Some(progress.0[0].acc), Some(last.acc)]
    );
}

#[test]
fn a_run_ends_early_or_after_its_time() {
    let mut config = config("lenet");
    (config.optimizer.lr, config.epochs, config.options.early_stopping) = (0.0, 9, Some(2));
    let data = data(&config);
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    let end = trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    // The accuracy never changes: the first epoch is the best.
    assert_eq!((end, trainer.position().epoch), (FitOutcome::Finished, 3));
    assert!(trainer.has_stopped_early());
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    assert_eq!(trainer.position().epoch, 3);

    let config = self::config("lenet");
    let mut trainer = Trainer::new(config.clone(), &*data.train, &Device::Cpu).unwrap();
    let mut steps = Vec::new();
    loop {
        trainer.set_time_budget(Some(std::time::Duration::from_nanos(1)));
        let end = trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
        steps.push(trainer.position().step);
        if end == FitOutcome::Finished || steps.len() > 3 {
            break;
        }
        assert_eq!(end, FitOutcome::Stopped(None));
    }
    assert_eq!(steps, [0; 4], "no time, no step");
    trainer.set_time_budget(None);
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    assert_eq!(trainer.checkpoint().unwrap(), uninterrupted(&config, &Device::Cpu));
}

#[test]
fn a_schedule_starts_anew_where_it_is_asked_to() {
    let mut config = config("lenet");
    config.epochs = 1;
    let data = data(&config);
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    trainer.set_epochs(3).unwrap();
    let stretched = trainer.lr_at(5, 5, 3);
    trainer.restart_schedule();
    // Warm-up again, then the cosine over what is left.
    let expected = Schedule { warm_up: 3, decay: Decay::Cosine { floor: 0.1 } };
    for step in 0..10 {
        let now = ScheduleStep { step, steps_per_epoch: 5, epochs: 2 };
        let lr = trainer.config().optimizer.lr * expected.lr_factor(now);
        assert_eq!(trainer.lr_at(5 + step, 5, 3), lr);
    }
    assert_ne!(trainer.lr_at(5, 5, 3), stretched);
    let mut again = Trainer::resume(trainer.checkpoint().unwrap(), &Device::Cpu).unwrap();
    for trainer in [&mut trainer, &mut again] {
        trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    }
    assert_eq!(trainer.checkpoint().unwrap(), again.checkpoint().unwrap());
}

#[test]
fn the_reference_device_resumes_in_double_precision() {
    let mut config = config("lenet");
    (config.epochs, config.limit) = (1, Some(6));
    config.batch = 2;
    assert_eq!(interrupted(&config, &Device::Reference, &[2]), uninterrupted(&config, &Device::Reference));
}

/// The dropout masks after a stop are those of an uninterrupted run.
#[test]
fn dropout_resumes() {
    let config = config("lenet");
    let data = data(&config);
    let spec = Sequential::new()
        .then(neocog_layers::FlattenLayer {})
        .then(Linear::new(784, 20))
        .then(Sigmoid {})
        .then(Dropout { p: 0.5 })
        .then(Linear::new(20, 10));
    let new = |seed| {
        let config = config.clone().with_seed(seed);
        Trainer::with_spec(config, spec.clone().into(), [1, 28, 28], &*data.train, &Device::Cpu).unwrap()
    };
    let run = |mut trainer: Trainer| {
        trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
        trainer.checkpoint().unwrap()
    };
    let mut stopped = new(0);
    let stop = AtomicBool::new(false);
    stopped.fit(&data, None, &mut StopAfter { batches: 7, stop: &stop }, &stop).unwrap();
    let resumed = Trainer::resume(stopped.checkpoint().unwrap(), &Device::Cpu).unwrap();
    let whole = run(new(0));
    assert_eq!(run(resumed), whole);
    assert_ne!(run(new(1)).state, whole.state);
}

/// One of each kind of transform.
fn transforms() -> Pipeline {
    Pipeline::from([
        Step::RandomHorizontalFlip { p: 0.5 },
        Step::RandomVerticalFlip { p: 0.5 },
        Step::RandomCrop { padding: 2 },
        Step::RandomAffine(RandomAffine::HANDWRITING),
        Step::ColorJitter(ColorJitter { brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.1 }),
        Step::Normalize(Normalize { mean: vec![0.3], std: vec![0.4] }),
        Step::RandomErasing(RandomErasing::default()),
    ])
}

#[test]
fn augmentation_resumes_and_does_not_depend_on_the_number_of_workers() {
    let mut config = config("lenet");
    config.transforms = transforms();
    let whole = uninterrupted(&config, &Device::Cpu);
    assert_eq!(interrupted(&config, &Device::Cpu, &[2, 3, 1, 6]), whole);
    let data = data(&config);
    let mut trainer = Trainer::new(config.clone(), &*data.train, &Device::Cpu).unwrap();
    trainer.set_workers(4);
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    assert_eq!(trainer.checkpoint().unwrap(), whole);
    // Augmentation has an effect.
    config.transforms = config.transforms.fixed();
    assert_ne!(uninterrupted(&config, &Device::Cpu).state, whole.state);
}

/// Test images are normalized, but not augmented.
#[test]
fn normalization_applies_to_evaluation() {
    let mut config = config("lenet_bn");
    config.epochs = 1;
    config.transforms = transforms();
    let data = data(&config);
    let mut trainer = Trainer::new(config.clone(), &*data.train, &Device::Cpu).unwrap();
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let loss = |transforms: Pipeline| {
        let augment = transforms.into_augment(9);
        let options = LoaderOptions::new().batch_size(config.batch).augment(augment);
        let loader = Loader::new(data.test.clone().unwrap(), options).unwrap();
        evaluate(&Predictor::new(trainer.shared_network()), &loader, &Device::Cpu).unwrap().loss
    };
    let normalize = Step::Normalize(Normalize { mean: vec![0.3], std: vec![0.4] });
    assert_eq!(trainer.history()[0].eval_loss, loss(Pipeline::from([normalize])));
    assert_ne!(trainer.history()[0].eval_loss, loss(Pipeline::default()));
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    for network in ["lenet", "lenet_bn"] {
        let config = config(network);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| uninterrupted(&config, &Device::Cpu))
        };
        assert_eq!(on(1), on(2), "{network}");
        assert_eq!(on(1), on(3), "{network}");
    }
}

/// 33 images are 4 batches of 8 and a single image, which batch norm cannot normalize.
#[test]
fn a_single_image_at_the_end_is_left_out_of_an_epoch_with_batch_norm() {
    struct Batches(usize);
    impl Progress for Batches {
        fn batch(&mut self, report: &BatchReport) {
            self.0 = report.batch;
        }
        fn epoch(&mut self, _report: &EpochReport) {}
    }
    let mut config = config("lenet_bn");
    (config.epochs, config.limit, config.batch) = (1, Some(33), 8);
    let data = data(&config);
    let mut trainer = Trainer::new(config.clone(), &*data.train, &Device::Cpu).unwrap();
    let mut seen = Batches(0);
    trainer.fit(&data, None, &mut seen, &false.into()).unwrap();
    assert_eq!((trainer.history().len(), seen.0), (1, 5));
    assert!(trainer.history()[0].train_loss.is_finite());
    // Not one batch of an epoch can be trained on.
    (config.limit, config.batch) = (Some(3), 1);
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    let e = trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap_err();
    assert!(e.to_string().contains("more than 1 value per channel"), "{e}");
}

#[test]
fn training_reduces_the_loss() {
    let mut config = config("lenet_bn");
    (config.epochs, config.limit, config.transforms) = (8, Some(400), Default::default());
    (config.optimizer.lr, config.schedule) = (0.01, Schedule::default());
    let data = data(&config);
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let (first, last) = (trainer.history()[0], trainer.history()[7]);
    assert!(last.train_loss < 0.5 * first.train_loss && last.train_acc > 0.9, "{first:?} {last:?}");
    assert!(trainer.best().unwrap().eval_acc > 0.8, "{:?}", trainer.best());
}

#[test]
fn a_diverging_run_stops_and_keeps_the_last_checkpoint() {
    let mut config = config("lenet");
    config.epochs = 1;
    let data = data(&config);
    let root = tempfile::tempdir().unwrap();
    let checkpoints = CheckpointDir::create(root.path()).unwrap();
    let mut trainer = Trainer::new(config.clone(), &*data.train, &Device::Cpu).unwrap();
    trainer.fit(&data, Some(&checkpoints), &mut NoProgress, &false.into()).unwrap();
    let file = root.path().join(CheckpointDir::LAST);
    let before = std::fs::read(&file).unwrap();

    // The next epoch starts with a NaN parameter.
    trainer.set_epochs(2).unwrap();
    let bias = neocog_layers::state::params(trainer.network()).pop().unwrap().1;
    bias.set(&neocog_tensor::Tensor::full([10], f64::NAN, &Device::Cpu).unwrap()).unwrap();
    let e = trainer.fit(&data, Some(&checkpoints), &mut NoProgress, &false.into()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    let text = e.to_string();
    assert!(text.starts_with("epoch 2, step 6: the loss became NaN"), "{text}");
    assert!(text.contains("the last good checkpoint is kept") && text.contains("last.ckpt"), "{text}");
    assert_eq!(std::fs::read(&file).unwrap(), before);

    config.optimizer.lr = 1e38;
    config.optimizer.kind = OptimizerKind::named("sgd").unwrap();
    config.schedule = Schedule::default();
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    let e = trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    assert!(e.to_string().contains("no checkpoint was written by this run"), "{e}");
}

#[test]
fn check_rejects_values_out_of_range() {
    let check = |change: fn(&mut TrainConfig), message: &str| {
        let mut config = config("lenet");
        change(&mut config);
        let e = config.check().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains(message), "{e}");
    };
    check(|config| config.batch = 0, "the batch size must be at least 1");
    check(|config| config.epochs = 0, "epochs must be at least 1");
    check(|config| config.limit = Some(0), "the limit must be at least 1");
    check(
        |config| config.optimizer.lr = f64::NAN,
        "the learning rate must be a finite, non-negative number, not NaN",
    );
    check(|config| config.optimizer.lr = -1.0, "not -1");
    check(|config| config.optimizer.lr = f64::INFINITY, "not inf");
    check(|config| config.optimizer.kind = config.optimizer.kind.with_weight_decay(f64::NAN), "weight_decay");
    let e = TrainConfig::for_network("lenett", "digits").unwrap_err();
    assert!(e.to_string().contains("did you mean `lenet`"), "{e}");
}

#[test]
fn a_network_with_too_few_classes_is_an_error() {
    let config = config("lenet");
    let data = data(&config);
    let spec = Sequential::new().then(neocog_layers::FlattenLayer {}).then(Linear::new(784, 7));
    let mut trainer =
        Trainer::with_spec(config, spec.into(), [1, 28, 28], &*data.train, &Device::Cpu).unwrap();
    let e = trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(e.to_string().contains("the 10 classes of digits"), "{e}");
}
