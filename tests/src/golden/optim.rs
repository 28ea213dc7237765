//! Optimizers of golden files: a name and hyperparameters.

use neocog_layers::Layer;
use neocog_tensor::ops::{AdamStep, AdamWStep, RmsPropStep, SgdStep};
use neocog_tensor::{Error, Op, Result, Tensor, update};
use neocog_train::{Optimizer, OptimizerConfig, OptimizerKind};

use super::attrs::Attrs;

/// An optimization algorithm; the step number is set for each step.
#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Sgd(SgdStep),
    Adam(AdamStep),
    AdamW(AdamWStep),
    RmsProp(RmsPropStep),
}

/// An optimizer of one tensor.
#[derive(Debug)]
pub struct Steps {
    algorithm: Algorithm,
    step: u64,
    state: Vec<Tensor>,
}

impl Steps {
    /// Creates the optimizer `name` (`sgd`, `adam`, `adamw` or `rmsprop`) with these hyperparameters for a tensor of the shape of
    /// `value`.
    ///
    /// # Errors
    /// When there is no such optimizer, or a hyperparameter is missing or invalid.
    pub fn new(name: &str, attrs: &Attrs<'_>, value: &Tensor) -> Result<Self> {
        let algorithm = Algorithm::new(name, attrs)?;
        // The first state output is the parameter itself.
        let count = algorithm.op(1).state_outputs() - 1;
        let zeros = || Tensor::zeros(*value.shape(), &value.device());
        let state = (0..count).map(|_| zeros()).collect::<Result<_>>()?;
        Ok(Steps { algorithm, step: 0, state })
    }

    /// Makes one step of `value`.
    ///
    /// # Errors
    /// When a hyperparameter is out of range or the device fails.
    pub fn step(&mut self, value: &mut Tensor, grad: &Tensor) -> Result<()> {
        self.step += 1;
        let op = self.algorithm.op(self.step);
        let mut state: Vec<&mut Tensor> = vec![value];
        state.extend(&mut self.state);
        update(&*op, &[grad], &mut state)?;
        Ok(())
    }
}

/// Creates the optimizer `name` for a network.
///
/// # Errors
/// As [`Steps::new`].
pub fn optimizer(name: &str, attrs: &Attrs<'_>, network: &dyn Layer) -> Result<Optimizer> {
    Optimizer::new(Algorithm::new(name, attrs)?.config()?, network)
}

impl Algorithm {
    fn new(name: &str, attrs: &Attrs<'_>) -> Result<Self> {
        let lr = attrs.get("lr")?;
        let weight_decay = |default| attrs.get_or("weight_decay", default);
        let maximize = attrs.get_or("maximize", false)?;
        Ok(match name {
            "sgd" => Algorithm::Sgd(SgdStep {
                lr,
                momentum: attrs.get_or("momentum", 0.0)?,
                dampening: attrs.get_or("dampening", 0.0)?,
                nesterov: attrs.get_or("nesterov", false)?,
                weight_decay: weight_decay(0.0)?,
                maximize,
                first: true,
            }),
            "adam" => Algorithm::Adam(AdamStep {
                lr,
                betas: attrs.get_or("betas", [0.9, 0.999])?,
                eps: attrs.get_or("eps", 1e-8)?,
                weight_decay: weight_decay(0.0)?,
                amsgrad: attrs.get_or("amsgrad", false)?,
                maximize,
                step: 1,
            }),
            "adamw" => Algorithm::AdamW(AdamWStep {
                lr,
                betas: attrs.get_or("betas", [0.9, 0.999])?,
                eps: attrs.get_or("eps", 1e-8)?,
                weight_decay: weight_decay(0.01)?,
                amsgrad: attrs.get_or("amsgrad", false)?,
                maximize,
                step: 1,
            }),
            "rmsprop" => Algorithm::RmsProp(RmsPropStep {
                lr,
                alpha: attrs.get_or("alpha", 0.99)?,
                eps: attrs.get_or("eps", 1e-8)?,
                weight_decay: weight_decay(0.0)?,
                momentum: attrs.get_or("momentum", 0.0)?,
                centered: attrs.get_or("centered", false)?,
                maximize,
            }),
            other => return Err(Error::not_found("optimizer", other, ["adam", "adamw", "rmsprop", "sgd"])),
        })
    }

    /// Returns the configuration of the optimizer for networks.
    fn config(self) -> Result<OptimizerConfig> {
        let (lr, kind) = match self {
            Algorithm::Sgd(SgdStep {
                lr,
                momentum,
                dampening,
                nesterov,
                weight_decay,
                maximize,
                first: _,
            }) => (lr, OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay, maximize }),
            Algorithm::Adam(AdamStep { lr, betas, eps, weight_decay, amsgrad, maximize, step: _ }) => {
                (lr, OptimizerKind::Adam { betas, eps, weight_decay, amsgrad, maximize })
            }
            Algorithm::AdamW(AdamWStep { lr, betas, eps, weight_decay, amsgrad, maximize, step: _ }) => {
                (lr, OptimizerKind::AdamW { betas, eps, weight_decay, amsgrad, maximize })
            }
            Algorithm::RmsProp(RmsPropStep {
                lr,
                alpha,
                eps,
                weight_decay,
                momentum,
                centered,
                maximize,
            }) => (lr, OptimizerKind::RmsProp { alpha, eps, weight_decay, momentum, centered, maximize }),
        };
        Ok(OptimizerConfig { lr, kind })
    }

    fn op(self, step: u64) -> Box<dyn Op> {
        match self {
            Algorithm::Sgd(op) => Box::new(SgdStep { first: step == 1, ..op }),
            Algorithm::Adam(op) => Box::new(AdamStep { step, ..op }),
            Algorithm::AdamW(op) => Box::new(AdamWStep { step, ..op }),
            Algorithm::RmsProp(op) => Box::new(op),
        }
    }
}
