//! Optimizers: the rules that turn gradients into steps.
//!
//! The rules and their defaults are PyTorch's. The steps of all parameters are one operation on the device, in place;
//! what a rule remembers between steps (its *slots*) stays on the device too.

use neocog_autograd::Grads;
use neocog_layers::{Layer, state};
use neocog_tensor::ops::{AdamStep, AdamWStep, OptimizerSteps, RmsPropStep, SgdStep};
use neocog_tensor::{Error, Op, Result, Tensor, update};
use serde::{Deserialize, Serialize};

/// A rule and its step size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// The learning rate, before a schedule changes it.
    pub lr: f64,
    /// The rule.
    pub rule: OptimizerKind,
}

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd {
        /// The share of the last step in the next one.
        momentum: f64,
        /// The share of the gradient that momentum leaves out.
        dampening: f64,
        /// Whether the gradient is that of the place where momentum leads.
        nesterov: bool,
        /// Pulls parameters to 0, through the gradient.
        weight_decay: f64,
    },
    /// D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    Adam {
        /// The decay of the means of the gradient and of its square.
        betas: [f64; 2],
        /// Added to the root of the mean square.
        eps: f64,
        /// Pulls parameters to 0, through the gradient.
        weight_decay: f64,
        /// Whether the largest mean square so far is used.
        amsgrad: bool,
    },
    /// I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    AdamW {
        /// The decay of the means of the gradient and of its square.
        betas: [f64; 2],
        /// Added to the root of the mean square.
        eps: f64,
        /// Pulls parameters to 0, beside the gradient.
        weight_decay: f64,
        /// Whether the largest mean square so far is used.
        amsgrad: bool,
    },
    /// T. Tieleman, G. Hinton, "RMSprop", Neural Networks for Machine Learning, lecture 6, 2012.
    RmsProp {
        /// The decay of the mean square.
        alpha: f64,
        /// Added to the root of the mean square.
        eps: f64,
        /// Pulls parameters to 0, through the gradient.
        weight_decay: f64,
        /// The share of the last step in the next one.
        momentum: f64,
        /// Whether the gradient's variance takes the place of its mean square.
        centered: bool,
    },
}

impl OptimizerKind {
    /// The rules' names, as [`OptimizerKind::named`] takes them.
    pub const NAMES: [&'static str; 4] = ["adam", "adamw", "rmsprop", "sgd"];

    /// The rule of this name, with PyTorch's defaults.
    ///
    /// # Errors
    /// For a name that is not in [`OptimizerKind::NAMES`].
    pub fn named(name: &str) -> Result<Self> {
        let (betas, eps, amsgrad) = ([0.9, 0.999], 1e-8, false);
        match name {
            "sgd" => {
                Ok(OptimizerKind::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 })
            }
            "adam" => Ok(OptimizerKind::Adam { betas, eps, weight_decay: 0.0, amsgrad }),
            "adamw" => Ok(OptimizerKind::AdamW { betas, eps, weight_decay: 0.01, amsgrad }),
            "rmsprop" => Ok(OptimizerKind::RmsProp {
                alpha: 0.99,
                eps,
                weight_decay: 0.0,
                momentum: 0.0,
                centered: false,
            }),
            _ => Err(Error::not_found("optimizer", name, Self::NAMES)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            OptimizerKind::Sgd { .. } => "sgd",
            OptimizerKind::Adam { .. } => "adam",
            OptimizerKind::AdamW { .. } => "adamw",
            OptimizerKind::RmsProp { .. } => "rmsprop",
        }
    }

    /// The same with another weight decay.
    #[must_use]
    pub fn with_weight_decay(mut self, value: f64) -> Self {
        match &mut self {
            OptimizerKind::Sgd { weight_decay, .. }
            | OptimizerKind::Adam { weight_decay, .. }
            | OptimizerKind::AdamW { weight_decay, .. }
            | OptimizerKind::RmsProp { weight_decay, .. } => *weight_decay = value,
        }
        self
    }

    /// The same with another momentum.
    ///
    /// # Errors
    /// For a rule that has none.
    pub fn with_momentum(mut self, value: f64) -> Result<Self> {
        match &mut self {
            OptimizerKind::Sgd { momentum, .. } | OptimizerKind::RmsProp { momentum, .. } => {
                *momentum = value
            }
            OptimizerKind::Adam { .. } | OptimizerKind::AdamW { .. } => {
                return Err(Error::invalid_argument(format!(
                    "{} has betas instead of a momentum; sgd and rmsprop have one",
                    self.name()
                )));
            }
        }
        Ok(self)
    }

    /// PyTorch's default learning rate for it.
    pub fn default_lr(&self) -> f64 {
        if matches!(self, OptimizerKind::RmsProp { .. }) { 0.01 } else { 0.001 }
    }

    /// The names of what it remembers of each parameter between steps, as in PyTorch; all start at 0.
    pub fn slots(&self) -> &'static [&'static str] {
        match *self {
            OptimizerKind::Sgd { momentum: 0.0, .. } => &[],
            OptimizerKind::Sgd { .. } => &["momentum_buffer"],
            OptimizerKind::Adam { amsgrad: false, .. } | OptimizerKind::AdamW { amsgrad: false, .. } => {
                &["exp_avg", "exp_avg_sq"]
            }
            OptimizerKind::Adam { .. } | OptimizerKind::AdamW { .. } => {
                &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
            }
            OptimizerKind::RmsProp { momentum: 0.0, centered: false, .. } => &["square_avg"],
            OptimizerKind::RmsProp { momentum: 0.0, .. } => &["square_avg", "grad_avg"],
            OptimizerKind::RmsProp { centered: false, .. } => &["square_avg", "momentum_buffer"],
            OptimizerKind::RmsProp { .. } => &["square_avg", "momentum_buffer", "grad_avg"],
        }
    }

    /// Every number with what it may be.
    fn check(&self) -> Result<()> {
        let share = |name, value: f64| {
            if (0.0..1.0).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid_argument(format!("{name} must be at least 0 and below 1, not {value}")))
        };
        match *self {
            OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay } => {
                not_negative("momentum", momentum)?;
                not_negative("dampening", dampening)?;
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    return Err(Error::invalid_argument("nesterov needs a momentum and no dampening"));
                }
                not_negative("weight_decay", weight_decay)
            }
            OptimizerKind::Adam { betas, eps, weight_decay, .. }
            | OptimizerKind::AdamW { betas, eps, weight_decay, .. } => {
                share("the first beta", betas[0])?;
                share("the second beta", betas[1])?;
                not_negative("eps", eps)?;
                not_negative("weight_decay", weight_decay)
            }
            OptimizerKind::RmsProp { alpha, eps, weight_decay, momentum, .. } => {
                not_negative("alpha", alpha)?;
                not_negative("eps", eps)?;
                not_negative("momentum", momentum)?;
                not_negative("weight_decay", weight_decay)
            }
        }
    }
}

impl From<neocog_models::Optimizer> for OptimizerKind {
    fn from(optimizer: neocog_models::Optimizer) -> Self {
        use neocog_models::Optimizer;
        let name = match optimizer {
            Optimizer::Sgd => "sgd",
            Optimizer::Adam => "adam",
            Optimizer::AdamW => "adamw",
            Optimizer::RmsProp => "rmsprop",
        };
        OptimizerKind::named(name).expect("these are the names")
    }
}

impl OptimizerConfig {
    /// Checks all numbers.
    ///
    /// # Errors
    /// For a learning rate, or another number, that is NaN, infinite or not in its range.
    pub fn check(&self) -> Result<()> {
        not_negative("the learning rate", self.lr)?;
        self.rule.check()
    }
}

fn not_negative(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("{name} must be a finite number that is not negative, not {value}")))
}

/// Changes the parameters of one network, step by step.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// One for each parameter, in the network's order.
    memory: Vec<OptimizerState>,
}

/// What is remembered of one parameter.
#[derive(Clone, Debug)]
pub struct OptimizerState {
    /// The parameter's dotted name.
    pub name: String,
    /// How many steps it has made.
    pub steps: u64,
    /// A tensor of the parameter's shape for each of [`OptimizerKind::slots`].
    pub slots: Vec<Tensor>,
}

impl Optimizer {
    /// An optimizer for the parameters of `network`, before the first step.
    ///
    /// # Errors
    /// When a number in `config` is not allowed, or the device has no memory left.
    pub fn new(config: OptimizerConfig, network: &dyn Layer) -> Result<Self> {
        config.check()?;
        let memory = state::params(network)
            .into_iter()
            .map(|(name, param)| {
                let value = param.value();
                let slots = config
                    .rule
                    .slots()
                    .iter()
                    .map(|_| Tensor::zeros(*value.shape(), &value.device()))
                    .collect::<Result<_>>()?;
                Ok(OptimizerState { name, steps: 0, slots })
            })
            .collect::<Result<_>>()?;
        Ok(Optimizer { config, memory })
    }

    /// The rule and its numbers.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// What is remembered, for each parameter in the network's order: all that a checkpoint needs.
    pub fn memory(&self) -> &[OptimizerState] {
        &self.memory
    }

    /// Takes over what was remembered elsewhere.
    ///
    /// # Errors
    /// When it is not the memory of the same parameters and the same rule.
    pub fn set_state(&mut self, memory: Vec<OptimizerState>) -> Result<()> {
        if memory.len() != self.memory.len() {
            return Err(Error::format(format!(
                "the optimizer's memory is of {} parameters, the network has {}",
                memory.len(),
                self.memory.len()
            )));
        }
        for (old, new) in self.memory.iter().zip(&memory) {
            let shapes = |m: &OptimizerState| m.slots.iter().map(|t| *t.shape()).collect::<Vec<_>>();
            if old.name != new.name || shapes(old) != shapes(new) {
                return Err(Error::format(format!(
                    "the optimizer's memory of {} has the shapes {:?}; {} remembers {:?} of {}",
                    new.name,
                    shapes(new),
                    self.config.rule.name(),
                    shapes(old),
                    old.name
                )));
            }
        }
        self.memory = memory;
        Ok(())
    }

    /// Makes one step with the learning rate `lr`. A parameter without a gradient stays as it is.
    ///
    /// # Errors
    /// When a device fails.
    ///
    /// # Panics
    /// When `network` is not the one that the optimizer was made for.
    pub fn step(&mut self, network: &dyn Layer, grads: &Grads, lr: f64) -> Result<()> {
        let params = state::params(network);
        assert_eq!(params.len(), self.memory.len(), "an optimizer belongs to one network");
        let (mut steps, mut changing) = (Vec::with_capacity(params.len()), Vec::with_capacity(params.len()));
        let mut given = Vec::with_capacity(params.len());
        for ((name, param), memory) in params.iter().zip(&mut self.memory) {
            assert_eq!(*name, memory.name, "an optimizer belongs to one network");
            let Some(grad) = grads.param(param) else { continue };
            memory.steps += 1;
            steps.push(step_op(&self.config.rule, lr, memory.steps));
            given.push(grad);
            changing.push((param.write(), &mut memory.slots));
        }
        if steps.is_empty() {
            return Ok(());
        }
        let mut state: Vec<&mut Tensor> = Vec::new();
        for (value, slots) in &mut changing {
            state.push(value);
            state.extend(slots.iter_mut());
        }
        update(&OptimizerSteps { steps }, &given, &mut state).map(drop)
    }
}

fn step_op(rule: &OptimizerKind, lr: f64, step: u64) -> Box<dyn Op> {
    let maximize = false;
    match *rule {
        OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay } => {
            Box::new(SgdStep { lr, momentum, dampening, nesterov, weight_decay, maximize, first: step == 1 })
        }
        OptimizerKind::Adam { betas, eps, weight_decay, amsgrad } => {
            Box::new(AdamStep { lr, betas, eps, weight_decay, amsgrad, maximize, step })
        }
        OptimizerKind::AdamW { betas, eps, weight_decay, amsgrad } => {
            Box::new(AdamWStep { lr, betas, eps, weight_decay, amsgrad, maximize, step })
        }
        OptimizerKind::RmsProp { alpha, eps, weight_decay, momentum, centered } => {
            Box::new(RmsPropStep { lr, alpha, eps, weight_decay, momentum, centered, maximize })
        }
    }
}
