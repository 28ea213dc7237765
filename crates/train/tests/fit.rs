//! The loop: it learns, its bits do not depend on threads or interruptions, and it stops when it diverges.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_data::transform::{ColorJitter, Normalize, Pipeline, RandomAffine, RandomErasing, Step};
use neocog_data::{Loader, LoaderOptions, Split};
use neocog_layers::{Dropout, Linear, Sequential, Sigmoid};
use neocog_tensor::{Device, ErrorKind};
use neocog_train::{
    BatchReport, Checkpoint, CheckpointDir, Decay, EpochReport, FitOutcome, NoProgress, OptimizerKind,
    Progress, Schedule, TrainConfig, Trainer, evaluate,
};

fn plan(network: &str) -> TrainConfig {
    let mut plan = TrainConfig::for_network(network, "digits").unwrap();
    (plan.epochs, plan.limit, plan.batch) = (3, Some(70), 16);
    plan.schedule = Schedule { warm_up: 3, decay: Decay::Cosine { floor: 0.1 } };
    plan
}

fn data(plan: &TrainConfig) -> Split {
    plan.load_data(Path::new("data")).unwrap()
}

/// Asks for a stop after some batches, counted over all epochs.
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

/// A checkpoint without the times, which differ from run to run.
fn timeless(mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.sums.seconds = 0.0;
    for report in &mut checkpoint.history {
        (report.seconds, report.images_per_s) = (0.0, 0.0);
    }
    checkpoint
}

fn unbroken(plan: &TrainConfig, device: &Device) -> Checkpoint {
    let data = data(plan);
    let mut training = Trainer::new(plan.clone(), &data.train, device).unwrap();
    assert_eq!(training.fit(&data, None, &mut NoProgress, &false.into()).unwrap(), FitOutcome::Finished);
    assert_eq!(training.history().len(), plan.epochs as usize);
    timeless(training.checkpoint().unwrap())
}

/// The same run, stopped and resumed from its file after each of these numbers of batches.
fn broken(plan: &TrainConfig, device: &Device, pieces: &[usize]) -> Checkpoint {
    let data = data(plan);
    let place = tempfile::tempdir().unwrap();
    let folder = CheckpointDir::create(place.path()).unwrap();
    let mut training = Trainer::new(plan.clone(), &data.train, device).unwrap();
    for &batches in pieces {
        let stop = AtomicBool::new(false);
        let end = training.fit(&data, Some(&folder), &mut StopAfter { batches, stop: &stop }, &stop).unwrap();
        let FitOutcome::Stopped(Some(file)) = end else { panic!("{end:?}") };
        training = Trainer::resume(Checkpoint::read(&file).unwrap(), device).unwrap();
    }
    assert_eq!(
        training.fit(&data, Some(&folder), &mut NoProgress, &false.into()).unwrap(),
        FitOutcome::Finished
    );
    let last = training.checkpoint().unwrap();
    assert_eq!(Checkpoint::read(&place.path().join(CheckpointDir::LAST)).unwrap(), last);
    timeless(last)
}

/// 70 images are 5 batches: in the middle of an epoch, at its end, before its first batch.
#[test]
fn a_resumed_run_has_the_bits_of_an_unbroken_one() {
    for network in ["lenet", "lenet_bn", "lenet_bn_scratch"] {
        let plan = plan(network);
        assert_eq!(broken(&plan, &Device::Cpu, &[2, 3, 1, 6]), unbroken(&plan, &Device::Cpu), "{network}");
    }
}

#[test]
fn every_optimizer_resumes() {
    for name in OptimizerKind::NAMES {
        let mut plan = plan("lenet");
        plan.optimizer.rule = OptimizerKind::named(name).unwrap();
        if let Ok(rule) = plan.optimizer.rule.with_momentum(0.9) {
            plan.optimizer.rule = rule;
        }
        plan.epochs = 1;
        assert_eq!(broken(&plan, &Device::Cpu, &[3]), unbroken(&plan, &Device::Cpu), "{name}");
    }
}

#[test]
fn the_reference_device_resumes_in_double_precision() {
    let mut plan = plan("lenet");
    (plan.epochs, plan.limit) = (1, Some(6));
    plan.batch = 2;
    assert_eq!(broken(&plan, &Device::Reference, &[2]), unbroken(&plan, &Device::Reference));
}

/// What dropout drops after a stop is what it would have dropped.
#[test]
fn dropout_resumes() {
    let plan = plan("lenet");
    let data = data(&plan);
    let spec = Sequential::new()
        .then(neocog_layers::FlattenLayer {})
        .then(Linear::new(784, 20))
        .then(Sigmoid {})
        .then(Dropout { p: 0.5 })
        .then(Linear::new(20, 10));
    let new = |seed| {
        let plan = TrainConfig { seed, ..plan.clone() };
        Trainer::with_spec(plan, spec.clone().into(), [1, 28, 28], &data.train, &Device::Cpu).unwrap()
    };
    let run = |mut training: Trainer| {
        training.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
        timeless(training.checkpoint().unwrap())
    };
    let mut stopped = new(0);
    let stop = AtomicBool::new(false);
    stopped.fit(&data, None, &mut StopAfter { batches: 7, stop: &stop }, &stop).unwrap();
    let resumed = Trainer::resume(stopped.checkpoint().unwrap(), &Device::Cpu).unwrap();
    let whole = run(new(0));
    assert_eq!(run(resumed), whole);
    assert_ne!(run(new(1)).state, whole.state);
}

/// All steps that there are.
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
fn changed_images_resume_and_do_not_depend_on_who_makes_them() {
    let mut plan = plan("lenet");
    plan.transforms = transforms();
    let whole = unbroken(&plan, &Device::Cpu);
    assert_eq!(broken(&plan, &Device::Cpu, &[2, 3, 1, 6]), whole);
    let data = data(&plan);
    let mut training = Trainer::new(plan.clone(), &data.train, &Device::Cpu).unwrap();
    training.set_workers(4);
    training.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    assert_eq!(timeless(training.checkpoint().unwrap()), whole);
    // They are changed indeed.
    plan.transforms = plan.transforms.fixed();
    assert_ne!(unbroken(&plan, &Device::Cpu).state, whole.state);
}

/// Test images are normalised like those for training, and not changed at random.
#[test]
fn normalising_belongs_to_evaluation() {
    let mut plan = plan("lenet_bn");
    plan.epochs = 1;
    plan.transforms = transforms();
    let data = data(&plan);
    let mut training = Trainer::new(plan.clone(), &data.train, &Device::Cpu).unwrap();
    training.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let loss = |transforms: Pipeline| {
        let augment = transforms.into_augment(9);
        let options = LoaderOptions::new().batch_size(plan.batch).augment(augment);
        let loader = Loader::new(data.test.clone(), options).unwrap();
        evaluate(training.network(), &loader, &Device::Cpu).unwrap().loss
    };
    let normalize = Step::Normalize(Normalize { mean: vec![0.3], std: vec![0.4] });
    assert_eq!(training.history()[0].test_loss, loss(Pipeline::from([normalize])));
    assert_ne!(training.history()[0].test_loss, loss(Pipeline::default()));
}

#[test]
fn threads_do_not_change_the_bits() {
    for network in ["lenet", "lenet_bn"] {
        let plan = plan(network);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| unbroken(&plan, &Device::Cpu))
        };
        assert_eq!(on(1), on(2), "{network}");
        assert_eq!(on(1), on(3), "{network}");
    }
}

#[test]
fn it_learns() {
    let mut plan = plan("lenet_bn");
    (plan.epochs, plan.limit, plan.transforms) = (8, Some(400), Default::default());
    (plan.optimizer.lr, plan.schedule) = (0.01, Schedule::default());
    let data = data(&plan);
    let mut training = Trainer::new(plan, &data.train, &Device::Cpu).unwrap();
    training.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let (first, last) = (training.history()[0], training.history()[7]);
    assert!(last.train_loss < 0.5 * first.train_loss && last.train_acc > 0.9, "{first:?} {last:?}");
    assert!(training.best().unwrap().test_acc > 0.8, "{:?}", training.best());
}

#[test]
fn a_loss_that_runs_away_stops_and_keeps_the_last_checkpoint() {
    let mut plan = plan("lenet");
    plan.epochs = 1;
    let data = data(&plan);
    let place = tempfile::tempdir().unwrap();
    let folder = CheckpointDir::create(place.path()).unwrap();
    let mut training = Trainer::new(plan.clone(), &data.train, &Device::Cpu).unwrap();
    training.fit(&data, Some(&folder), &mut NoProgress, &false.into()).unwrap();
    let file = place.path().join(CheckpointDir::LAST);
    let before = std::fs::read(&file).unwrap();

    // The next epoch starts with a parameter that is no number.
    training.set_epochs(2).unwrap();
    let bias = neocog_layers::state::params(training.network()).pop().unwrap().1;
    bias.set(&neocog_tensor::Tensor::full([10], f64::NAN, &Device::Cpu).unwrap()).unwrap();
    let e = training.fit(&data, Some(&folder), &mut NoProgress, &false.into()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    let text = e.to_string();
    assert!(text.starts_with("epoch 2, step 6: the loss became NaN"), "{text}");
    assert!(text.contains("the last good checkpoint is kept") && text.contains("last.ckpt"), "{text}");
    assert_eq!(std::fs::read(&file).unwrap(), before);

    plan.optimizer.lr = 1e38;
    plan.optimizer.rule = OptimizerKind::named("sgd").unwrap();
    plan.schedule = Schedule::default();
    let mut training = Trainer::new(plan, &data.train, &Device::Cpu).unwrap();
    let e = training.fit(&data, None, &mut NoProgress, &false.into()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    assert!(e.to_string().contains("no checkpoint was written by this run"), "{e}");
}

#[test]
fn numbers_that_are_not_allowed() {
    let check = |change: fn(&mut TrainConfig), says: &str| {
        let mut plan = plan("lenet");
        change(&mut plan);
        let e = plan.check().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains(says), "{e}");
    };
    check(|plan| plan.batch = 0, "the batch must be at least 1");
    check(|plan| plan.epochs = 0, "epochs must be at least 1");
    check(|plan| plan.limit = Some(0), "the limit must be at least 1");
    check(
        |plan| plan.optimizer.lr = f64::NAN,
        "the learning rate must be a finite number that is not negative, not NaN",
    );
    check(|plan| plan.optimizer.lr = -1.0, "not -1");
    check(|plan| plan.optimizer.lr = f64::INFINITY, "not inf");
    check(|plan| plan.optimizer.rule = plan.optimizer.rule.with_weight_decay(f64::NAN), "weight_decay");
    let e = TrainConfig::for_network("lenett", "digits").unwrap_err();
    assert!(e.to_string().contains("did you mean `lenet`"), "{e}");
}

#[test]
fn images_that_do_not_fit_the_network() {
    let plan = plan("lenet");
    let data = data(&plan);
    let spec = Sequential::new().then(neocog_layers::FlattenLayer {}).then(Linear::new(784, 7));
    let mut training = Trainer::with_spec(plan, spec.into(), [1, 28, 28], &data.train, &Device::Cpu).unwrap();
    let e = training.fit(&data, None, &mut NoProgress, &false.into()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(e.to_string().contains("the 10 classes of digits"), "{e}");
}
