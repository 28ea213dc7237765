//! Training steps on random data, for tests.

use std::sync::Arc;

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_layers::{Builder, Layer, LayerSpec, TrainPass, state};
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::{Device, Result, Shape, Tensor};
use neocog_train::{MemoryNeed, Optimizer, OptimizerConfig, OptimizerKind};

const LEARNING_RATE: f64 = 1e-3;

/// A network, a batch of random images and labels, and Adam.
#[derive(Debug)]
pub struct Trainer {
    /// The network.
    pub network: Arc<dyn Layer>,
    pass: TrainPass,
    x: Tensor,
    labels: Tensor,
    optimizer: Optimizer,
    step: u64,
}

impl Trainer {
    /// Builds the network, and creates a random batch of shape `input` with 10 classes.
    ///
    /// # Errors
    /// When the network does not accept such an input.
    pub fn new(spec: &LayerSpec, input: Shape, device: &Device, seed: u64) -> Result<Self> {
        let network: Arc<dyn Layer> = Builder::new(device, seed).build(spec, &input)?.into();
        let mut random = Random::stream(seed, "pictures");
        let x: Vec<f32> = (0..input.elements()).map(|_| random.next_unit()).collect();
        let labels: Vec<f32> = (0..input[0]).map(|_| (random.next_u32() % 10) as f32).collect();
        let config = OptimizerConfig { lr: LEARNING_RATE, kind: OptimizerKind::named("adam")? };
        Ok(Trainer {
            x: Tensor::from_f32(input, &x, device)?,
            labels: Tensor::from_f32([labels.len()], &labels, device)?,
            optimizer: Optimizer::new(config, &*network)?,
            pass: TrainPass::new(network.clone()),
            network,
            step: 0,
        })
    }

    /// Makes one step of Adam and returns the loss before the step.
    ///
    /// # Errors
    /// When a device fails.
    pub fn step(&mut self) -> Result<f64> {
        self.step += 1;
        let tape = Tape::new();
        let logits = self.pass.run(&tape, &Var::constant(self.x.clone()), self.step)?;
        let op = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 };
        let loss = tape.apply(op, &[&logits, &Var::constant(self.labels.clone())])?.remove(0);
        let grads = tape.backward(&loss)?;
        self.optimizer.step(&*self.network, &grads, LEARNING_RATE)?;
        loss.tensor().item()
    }

    /// Estimates the memory of a step.
    ///
    /// # Errors
    /// When the network does not accept the input.
    pub fn memory_need(&self) -> Result<MemoryNeed> {
        let shape = self.x.shape().nchw()?;
        MemoryNeed::of_training(&self.pass, self.optimizer.config(), shape, 1, 0, &self.x.device())
    }

    /// Returns all parameters and buffers by name, in single precision.
    ///
    /// # Errors
    /// When a device fails.
    pub fn state(&self) -> Result<Vec<(String, Vec<f32>)>> {
        state::entries(&*self.network)
            .into_iter()
            .filter_map(|(name, entry)| entry.tensor().map(|t| Ok((name, t.value().to_f32()?))))
            .collect()
    }
}
