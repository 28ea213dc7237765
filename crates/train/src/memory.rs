//! The memory that a run needs, estimated before its first step.

use std::fmt;

use neocog_base::memory::{available_bytes, readable_bytes};
use neocog_data::Loader;
use neocog_layers::{Predictor, TrainPass, state};
use neocog_models::OptimizerConfig;
use neocog_tensor::{Device, Result, Shape};

/// The memory that the batches of a run need at the same time, in bytes: an estimate, with a quarter of a training step for
/// scratch memory, and without the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Images in a batch.
    pub batch: usize,
    /// Parts that a batch is computed in.
    pub shards: usize,
    /// Parameters and the state of the optimizer.
    pub state: u64,
    /// Activations and gradients, or the values of a plan and its packed weights.
    pub step: u64,
    /// Values and packed weights of the evaluation after an epoch. Its plan for the last, smaller batch packs them again.
    pub evaluation: u64,
    /// A checkpoint while it is written, between two steps: a copy of the state.
    pub checkpoint: u64,
    /// Batches that the loader prepares.
    pub loader: u64,
    /// Whether the batches are for training.
    is_training: bool,
}

impl MemoryNeed {
    /// Estimates the need of training steps on batches of `shape`, `[n, c, h, w]`, in `shards` parts.
    ///
    /// # Errors
    /// When the network does not accept such an input.
    pub fn of_training(
        pass: &TrainPass,
        optimizer: &OptimizerConfig,
        shape: [usize; 4],
        shards: usize,
        workers: usize,
        device: &Device,
    ) -> Result<Self> {
        let [n, c, h, w] = shape;
        let input = Shape::new(&[n.div_ceil(shards), c, h, w])?;
        let scale = element_scale(device);
        let copies = 1 + optimizer.kind.state_tensors().len() as u64;
        let parameters = (state::param_count(pass.network()) as u64).saturating_mul(FLOAT);
        let state = parameters.saturating_mul(copies * scale);
        // The sums of gradients that wait for their neighbors.
        let sums = parameters.saturating_mul(u64::from(shards.ilog2()));
        let step = with_scratch(pass.step_bytes(&input, device)? as u64).saturating_add(sums);
        let predictor = Predictor::new(pass.shared_network());
        let batch = Shape::new(&shape)?;
        let evaluation = (predictor.inference_bytes(&batch)?.saturating_add(predictor.packed_bytes())) as u64;
        Ok(MemoryNeed {
            batch: n,
            shards,
            state,
            evaluation: evaluation.saturating_sub(parameters).saturating_mul(scale),
            checkpoint: state,
            step: step.saturating_mul(scale),
            loader: loader_bytes(&batch, workers),
            is_training: true,
        })
    }

    /// Estimates the need of inference on batches of `shape`, `[n, c, h, w]`.
    ///
    /// # Errors
    /// When the network does not accept such an input.
    pub fn of_inference(
        predictor: &Predictor,
        shape: [usize; 4],
        workers: usize,
        device: &Device,
    ) -> Result<Self> {
        let input = Shape::new(&shape)?;
        let scale = element_scale(device);
        let state = (state::param_count(predictor.network()) as u64).saturating_mul(FLOAT * scale);
        let all = (predictor.inference_bytes(&input)? as u64).saturating_mul(scale);
        Ok(MemoryNeed {
            batch: shape[0],
            shards: 1,
            state,
            step: all.saturating_sub(state),
            evaluation: 0,
            checkpoint: 0,
            loader: loader_bytes(&input, workers),
            is_training: false,
        })
    }

    /// Returns the bytes that are needed at the same time: buffers of a step are kept for the next one.
    pub fn total(&self) -> u64 {
        let MemoryNeed { state, step, evaluation, checkpoint, loader, .. } = *self;
        [state, step, evaluation, checkpoint, loader].into_iter().fold(0, u64::saturating_add)
    }

    /// Returns a warning if the system has less memory than that. `None` also where it does not tell.
    pub fn warning(&self) -> Option<String> {
        let available = available_bytes().filter(|&available| available < self.total())?;
        Some(format!(
            "about {} are needed, but {} are available; a smaller batch needs less",
            readable_bytes(self.total()),
            readable_bytes(available)
        ))
    }
}

/// One line: the total and its parts.
impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [total, state, step, loader] =
            [self.total(), self.state, self.step, self.loader].map(readable_bytes);
        let (of_state, of_step) = if self.is_training {
            ("parameters and optimizer", "activations and gradients")
        } else {
            ("parameters", "activations and packed weights")
        };
        let n = self.batch;
        write!(f, "memory: about {total} for batches of {n}")?;
        if self.shards > 1 {
            write!(f, " in {} shards", self.shards)?;
        }
        write!(f, " ({of_state} {state}, {of_step} {step}, loader {loader}")?;
        if self.is_training {
            let [evaluation, checkpoint] = [self.evaluation, self.checkpoint].map(readable_bytes);
            write!(f, ", evaluation {evaluation}, a checkpoint while it is written {checkpoint}")?;
        }
        f.write_str(")")
    }
}

const FLOAT: u64 = size_of::<f32>() as u64;

/// Adds a quarter, for scratch memory of kernels and for sizes that are rounded up.
fn with_scratch(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4)
}

/// The reference device computes in double precision.
fn element_scale(device: &Device) -> u64 {
    if *device == Device::Reference { 2 } else { 1 }
}

fn loader_bytes(input: &Shape, workers: usize) -> u64 {
    (input.elements() as u64).saturating_mul(FLOAT).saturating_mul(Loader::batches_in_memory(workers) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_beyond_the_memory_is_a_warning() {
        let [state, step, evaluation, checkpoint, loader] = [3 << 20, 2 << 20, 4 << 20, 3 << 20, 1 << 20];
        let (batch, shards, is_training) = (7, 1, true);
        let need = MemoryNeed { batch, shards, state, step, evaluation, checkpoint, loader, is_training };
        assert_eq!(need.warning(), None);
        assert_eq!(
            need.to_string(),
            "memory: about 13.0 MiB for batches of 7 (parameters and optimizer 3.0 MiB, activations and gradients 2.0 MiB, \
             loader 1.0 MiB, evaluation 4.0 MiB, a checkpoint while it is written 3.0 MiB)"
        );
        let inference = MemoryNeed { evaluation: 0, checkpoint: 0, is_training: false, ..need };
        assert!(inference.to_string().ends_with("packed weights 2.0 MiB, loader 1.0 MiB)"), "{inference}");
        let sharded = MemoryNeed { shards: 4, ..need };
        assert!(sharded.to_string().contains("for batches of 7 in 4 shards (parameters"), "{sharded}");
        let huge = MemoryNeed { step: u64::MAX, is_training: false, ..need };
        if cfg!(target_os = "linux") {
            assert!(
                huge.warning().unwrap().starts_with("about 16384.0 PiB are needed"),
                "{:?}",
                huge.warning()
            );
        }
    }
}
