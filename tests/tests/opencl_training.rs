//! Training on an OpenCL device: results agree with the CPU, and checkpoints can be resumed on another device.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_tensor::Device;
use neocog_tests as _;
use neocog_train::{
    BatchReport, Checkpoint, EpochReport, FitOutcome, NoProgress, Progress, TrainConfig, Trainer,
};

fn opencl() -> Option<Device> {
    neocog_base::testing::require("opencl", "opencl".parse())
}

fn config(network: &str) -> TrainConfig {
    TrainConfig::for_network(network, "digits").unwrap().with_epochs(3).with_limit(200).with_batch(16)
}

/// Requests a stop after a number of batches.
struct StopAfter<'a>(usize, &'a AtomicBool);

impl Progress for StopAfter<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.0 -= 1;
        self.1.store(self.0 == 0, Ordering::Relaxed);
    }
    fn epoch(&mut self, _report: &EpochReport) {}
}

/// Training loss of each epoch of a run that starts on the first device, is stopped in the second epoch, and is resumed from a
/// checkpoint on the second device, which is an error unless another device is allowed.
fn losses(network: &str, [first, second]: [&Device; 2]) -> Vec<f64> {
    let config = config(network);
    let data = config.load_data(Path::new("data")).unwrap();
    let mut trainer = Trainer::new(config, &*data.train, first).unwrap();
    let stop = AtomicBool::new(false);
    let end = trainer.fit(&data, None, &mut StopAfter(17, &stop), &stop).unwrap();
    assert_eq!(end, FitOutcome::Stopped(None));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.ckpt");
    trainer.checkpoint().unwrap().write(&path).unwrap();

    let mut trainer = Trainer::resume(Checkpoint::read(&path).unwrap(), second).unwrap();
    if *first != *second {
        let error = trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap_err().to_string();
        assert!(error.contains("device: ") && error.contains("--allow-different"), "{error}");
        trainer.set_allow_different(true);
    }
    assert_eq!(trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap(), FitOutcome::Finished);
    trainer.history().iter().map(|epoch| epoch.train_loss).collect()
}

#[test]
fn a_run_can_be_resumed_on_another_device() {
    let Some(opencl) = opencl() else { return };
    for network in ["lenet", "lenet_bn"] {
        let expected = losses(network, [&Device::Cpu, &Device::Cpu]);
        for devices in [[&opencl, &opencl], [&opencl, &Device::Cpu], [&Device::Cpu, &opencl]] {
            let got = losses(network, devices);
            println!("{network}: {got:?} on {devices:?}, {expected:?} on the CPU");
            assert_eq!(got.len(), 3);
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() <= 1e-3 * expected, "{network} on {devices:?}");
            }
        }
    }
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let Some(device) = opencl() else { return };
    let config = config("lenet_bn");
    let data = config.load_data(Path::new("data")).unwrap();
    let mut uninterrupted = Trainer::new(config, &*data.train, &device).unwrap();
    uninterrupted.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let expected: Vec<f64> = uninterrupted.history().iter().map(|epoch| epoch.train_loss).collect();
    assert_eq!(losses("lenet_bn", [&device, &device]), expected);
}
