//! Training on an OpenCL device: it learns as on the processor, and checkpoints go from one to the other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_tensor::Device;
use neocog_tests as _;
use neocog_train::{
    BatchReport, Checkpoint, EpochReport, FitOutcome, NoProgress, Progress, TrainConfig, Trainer,
};

fn opencl() -> Device {
    "opencl".parse().unwrap()
}

fn plan(network: &str) -> TrainConfig {
    let mut plan = TrainConfig::for_network(network, "digits").unwrap();
    (plan.epochs, plan.limit, plan.batch) = (3, Some(200), 16);
    plan
}

/// Asks for a stop after some batches.
struct StopAfter<'a>(usize, &'a AtomicBool);

impl Progress for StopAfter<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.0 -= 1;
        self.1.store(self.0 == 0, Ordering::Relaxed);
    }
    fn epoch(&mut self, _report: &EpochReport) {}
}

/// Losses of training images, epoch by epoch: begun on the first device, stopped in the second epoch, and finished on
/// the other, by way of a file.
fn losses(network: &str, [first, second]: [&Device; 2]) -> Vec<f64> {
    let plan = plan(network);
    let data = plan.load_data(Path::new("data")).unwrap();
    let mut training = Trainer::new(plan, &data.train, first).unwrap();
    let stop = AtomicBool::new(false);
    let end = training.fit(&data, None, &mut StopAfter(17, &stop), &stop).unwrap();
    assert_eq!(end, FitOutcome::Stopped(None));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.ckpt");
    training.checkpoint().unwrap().write(&path).unwrap();

    let mut training = Trainer::resume(Checkpoint::read(&path).unwrap(), second).unwrap();
    assert_eq!(training.fit(&data, None, &mut NoProgress, &false.into()).unwrap(), FitOutcome::Finished);
    training.history().iter().map(|epoch| epoch.train_loss).collect()
}

#[test]
fn a_run_begun_on_one_device_goes_on_on_the_other() {
    let opencl = opencl();
    for network in ["lenet", "lenet_bn"] {
        let expected = losses(network, [&Device::Cpu, &Device::Cpu]);
        for devices in [[&opencl, &opencl], [&opencl, &Device::Cpu], [&Device::Cpu, &opencl]] {
            let got = losses(network, devices);
            println!("{network}: {got:?} on {devices:?}, {expected:?} on the processor");
            assert_eq!(got.len(), 3);
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() <= 1e-3 * expected, "{network} on {devices:?}");
            }
        }
    }
}

#[test]
fn a_run_that_is_stopped_and_goes_on_gives_the_bits_of_one_that_is_not() {
    let device = opencl();
    let plan = plan("lenet_bn");
    let data = plan.load_data(Path::new("data")).unwrap();
    let mut unbroken = Trainer::new(plan, &data.train, &device).unwrap();
    unbroken.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let unbroken: Vec<f64> = unbroken.history().iter().map(|epoch| epoch.train_loss).collect();
    assert_eq!(losses("lenet_bn", [&device, &device]), unbroken);
}
