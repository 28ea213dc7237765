//! Optimizers as golden files describe them: a name and all hyperparameters.

use neocog_layers::Layer;
use neocog_tensor::ops::{AdamStep, AdamWStep, RmsPropStep, SgdStep};
use neocog_tensor::{Error, Op, Result, Tensor, update};

use neocog_train::{Optimizer, OptimizerConfig};

use super::attrs::Attrs;

/// A rule for steps; its number of the step is filled in for each.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Sgd(SgdStep),
    Adam(AdamStep),
    AdamW(AdamWStep),
    RmsProp(RmsPropStep),
}

/// The steps of one tensor.
#[derive(Debug)]
pub struct Steps {
    rule: Rule,
    step: u64,
    memory: Vec<Tensor>,
}

impl Steps {
    /// The optimizer `name` (`sgd`, `adam`, `adamw`, `rmsprop`) with these hyperparameters, before its first step of a
    /// tensor like `value`.
    ///
    /// # Errors
    /// When there is no such optimizer, or a hyperparameter is missing or not understood.
    pub fn new(name: &str, attrs: &Attrs<'_>, value: &Tensor) -> Result<Self> {
        let rule = Rule::new(name, attrs)?;
        // All of the state but the parameter itself starts as zeros.
        let remembered = rule.op(1).state_outputs() - 1;
        let zeros = || Tensor::zeros(*value.shape(), &value.device());
        let memory = (0..remembered).map(|_| zeros()).collect::<Result<_>>()?;
        Ok(Steps { rule, step: 0, memory })
    }

    /// Makes one step of `value`.
    ///
    /// # Errors
    /// When a hyperparameter is not allowed or the device fails.
    pub fn step(&mut self, value: &mut Tensor, grad: &Tensor) -> Result<()> {
        self.step += 1;
        let op = self.rule.op(self.step);
        let mut state: Vec<&mut Tensor> = vec![value];
        state.extend(&mut self.memory);
        update(&*op, &[grad], &mut state)?;
        Ok(())
    }
}

/// The optimizer `name` of a whole network, as training uses it.
///
/// # Errors
/// As [`Steps::new`].
pub fn optimizer(name: &str, attrs: &Attrs<'_>, network: &dyn Layer) -> Result<Optimizer> {
    Optimizer::new(Rule::new(name, attrs)?.config()?, network)
}

impl Rule {
    fn new(name: &str, attrs: &Attrs<'_>) -> Result<Self> {
        let lr = attrs.get("lr")?;
        let weight_decay = |default| attrs.get_or("weight_decay", default);
        let maximize = attrs.get_or("maximize", false)?;
        Ok(match name {
            "sgd" => Rule::Sgd(SgdStep {
                lr,
                momentum: attrs.get_or("momentum", 0.0)?,
                dampening: attrs.get_or("dampening", 0.0)?,
                nesterov: attrs.get_or("nesterov", false)?,
                weight_decay: weight_decay(0.0)?,
                maximize,
                first: true,
            }),
            "adam" => Rule::Adam(AdamStep {
                lr,
                betas: attrs.get_or("betas", [0.9, 0.999])?,
                eps: attrs.get_or("eps", 1e-8)?,
                weight_decay: weight_decay(0.0)?,
                amsgrad: attrs.get_or("amsgrad", false)?,
                maximize,
                step: 1,
            }),
            "adamw" => Rule::AdamW(AdamWStep {
                lr,
                betas: attrs.get_or("betas", [0.9, 0.999])?,
                eps: attrs.get_or("eps", 1e-8)?,
                weight_decay: weight_decay(0.01)?,
                amsgrad: attrs.get_or("amsgrad", false)?,
                maximize,
                step: 1,
            }),
            "rmsprop" => Rule::RmsProp(RmsPropStep {
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

    /// The same for the optimizer that trains networks.
    fn config(self) -> Result<OptimizerConfig> {
        let (lr, maximize, rule) = match self {
            Rule::Sgd(SgdStep { lr, momentum, dampening, nesterov, weight_decay, maximize, first: _ }) => (
                lr,
                maximize,
                neocog_train::OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay },
            ),
            Rule::Adam(AdamStep { lr, betas, eps, weight_decay, amsgrad, maximize, step: _ }) => {
                (lr, maximize, neocog_train::OptimizerKind::Adam { betas, eps, weight_decay, amsgrad })
            }
            Rule::AdamW(AdamWStep { lr, betas, eps, weight_decay, amsgrad, maximize, step: _ }) => {
                (lr, maximize, neocog_train::OptimizerKind::AdamW { betas, eps, weight_decay, amsgrad })
            }
            Rule::RmsProp(RmsPropStep { lr, alpha, eps, weight_decay, momentum, centered, maximize }) => (
                lr,
                maximize,
                neocog_train::OptimizerKind::RmsProp { alpha, eps, weight_decay, momentum, centered },
            ),
        };
        if maximize {
            return Err(Error::invalid_argument("networks are trained downhill: there is no maximize"));
        }
        Ok(OptimizerConfig { lr, rule })
    }

    fn op(self, step: u64) -> Box<dyn Op> {
        match self {
            Rule::Sgd(op) => Box::new(SgdStep { first: step == 1, ..op }),
            Rule::Adam(op) => Box::new(AdamStep { step, ..op }),
            Rule::AdamW(op) => Box::new(AdamWStep { step, ..op }),
            Rule::RmsProp(op) => Box::new(op),
        }
    }
}
