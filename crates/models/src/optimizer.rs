//! Optimizer settings: the algorithm, its hyperparameters and the learning rate.
//!
//! Names and defaults are those of `torch.optim`. The steps themselves are computed by `neocog-train`.

use std::str::FromStr;

use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

/// An optimization algorithm and its learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// The base learning rate, which a schedule scales.
    pub lr: f64,
    /// The algorithm with its hyperparameters. Stored as `rule`, as in 0.1.
    #[serde(rename = "rule", alias = "kind")]
    pub kind: OptimizerKind,
}

impl OptimizerConfig {
    /// Checks that the learning rate and all hyperparameters are in their valid ranges.
    ///
    /// # Errors
    /// `InvalidArgument` for a value that is NaN, infinite or out of range.
    pub fn check(&self) -> Result<()> {
        non_negative("the learning rate", self.lr)?;
        self.kind.check()
    }
}

/// The learning rate and weight decay of some parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamGroup {
    /// Regular expression that matches the dotted names of the parameters anywhere; `head` for the last layer.
    pub pattern: String,
    /// The base learning rate of these parameters.
    pub lr: f64,
    /// Their weight decay; that of the algorithm if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

impl ParamGroup {
    /// Creates a group with the weight decay of the algorithm.
    pub fn new(pattern: impl Into<String>, lr: f64) -> Self {
        ParamGroup { pattern: pattern.into(), lr, weight_decay: None }
    }

    /// Checks that learning rate and weight decay are in their valid ranges.
    ///
    /// # Errors
    /// `InvalidArgument` for a value that is NaN, infinite or negative.
    pub fn check(&self) -> Result<()> {
        non_negative("the learning rate", self.lr)?;
        non_negative("weight_decay", self.weight_decay.unwrap_or(0.0))
    }
}

impl FromStr for ParamGroup {
    type Err = Error;

    /// Parses `PATTERN=LR` or `PATTERN=LR,WEIGHT_DECAY`.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::invalid_argument(format!(
                "expected PATTERN=LR or PATTERN=LR,WEIGHT_DECAY, such as head=1e-3, found {text:?}"
            ))
        };
        let (pattern, values) = text.rsplit_once('=').ok_or_else(invalid)?;
        let (lr, weight_decay) = match values.split_once(',') {
            Some((lr, weight_decay)) => (lr, Some(weight_decay)),
            None => (values, None),
        };
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| invalid());
        if pattern.is_empty() {
            return Err(invalid());
        }
        let weight_decay = weight_decay.map(number).transpose()?;
        let group = ParamGroup { pattern: pattern.to_string(), lr: number(lr)?, weight_decay };
        group.check()?;
        Ok(group)
    }
}

/// An optimization algorithm with its hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent, as `torch.optim.SGD`.
    Sgd {
        /// Momentum factor.
        momentum: f64,
        /// Dampening of the momentum.
        dampening: f64,
        /// Whether to use Nesterov momentum.
        nesterov: bool,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
        /// Whether to maximize the objective instead of minimizing it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        maximize: bool,
    },
    /// Adam: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    Adam {
        /// Decay rates of the running averages of the gradient and of its square.
        betas: [f64; 2],
        /// Term added to the denominator for numerical stability.
        eps: f64,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
        /// Whether to use the AMSGrad variant, which keeps the maximum of the second moment.
        amsgrad: bool,
        /// Whether to maximize the objective instead of minimizing it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        maximize: bool,
    },
    /// AdamW: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    AdamW {
        /// Decay rates of the running averages of the gradient and of its square.
        betas: [f64; 2],
        /// Term added to the denominator for numerical stability.
        eps: f64,
        /// Decoupled weight decay, applied to the parameter.
        weight_decay: f64,
        /// Whether to use the AMSGrad variant, which keeps the maximum of the second moment.
        amsgrad: bool,
        /// Whether to maximize the objective instead of minimizing it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        maximize: bool,
    },
    /// RMSprop: T. Tieleman, G. Hinton, Neural Networks for Machine Learning, lecture 6, 2012.
    RmsProp {
        /// Smoothing constant of the squared average.
        alpha: f64,
        /// Term added to the denominator for numerical stability.
        eps: f64,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
        /// Momentum factor.
        momentum: f64,
        /// Whether to normalize by an estimate of the variance instead of the second moment.
        centered: bool,
        /// Whether to maximize the objective instead of minimizing it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        maximize: bool,
    },
    /// LAMB: Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", ICLR 2020. The step of each
    /// parameter is scaled by the ratio of its norm to that of the step.
    Lamb {
        /// Decay rates of the running averages of the gradient and of its square.
        betas: [f64; 2],
        /// Term added to the denominator for numerical stability.
        eps: f64,
        /// Decoupled weight decay, part of the step.
        weight_decay: f64,
    },
    /// Lion: X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    Lion {
        /// Shares of the momentum in the step, and in the next momentum.
        betas: [f64; 2],
        /// Decoupled weight decay, applied to the parameter.
        weight_decay: f64,
    },
    /// Muon: K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024. The momentum of a weight, as a matrix with a
    /// row for each output, is made orthogonal by Newton-Schulz iterations, and scaled to the size of a step of AdamW (J. Liu et al.,
    /// "Muon is scalable for LLM training", 2025). Parameters with at most one axis are trained by AdamW.
    Muon {
        /// Momentum factor.
        momentum: f64,
        /// Whether to use Nesterov momentum.
        nesterov: bool,
        /// Decoupled weight decay, applied to the parameter.
        weight_decay: f64,
    },
}

impl OptimizerKind {
    /// The names that [`OptimizerKind::named`] accepts.
    pub const NAMES: [&'static str; 7] = ["adam", "adamw", "lamb", "lion", "muon", "rmsprop", "sgd"];

    /// SGD with PyTorch's defaults: no momentum, no weight decay.
    pub const fn sgd() -> Self {
        OptimizerKind::Sgd {
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            maximize: false,
        }
    }

    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8.
    pub const fn adam() -> Self {
        OptimizerKind::Adam {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            amsgrad: false,
            maximize: false,
        }
    }

    /// AdamW with PyTorch's defaults: as [`OptimizerKind::adam`], with weight decay 0.01.
    pub const fn adamw() -> Self {
        OptimizerKind::AdamW {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            amsgrad: false,
            maximize: false,
        }
    }

    /// RMSprop with PyTorch's defaults: alpha 0.99, eps 1e-8.
    pub const fn rmsprop() -> Self {
        OptimizerKind::RmsProp {
            alpha: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum: 0.0,
            centered: false,
            maximize: false,
        }
    }

    /// LAMB with the defaults of timm: betas 0.9 and 0.999, eps 1e-6, weight decay 0.01.
    pub const fn lamb() -> Self {
        OptimizerKind::Lamb { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.01 }
    }

    /// Lion with the defaults of its authors: betas 0.9 and 0.99, no weight decay.
    pub const fn lion() -> Self {
        OptimizerKind::Lion { betas: [0.9, 0.99], weight_decay: 0.0 }
    }

    /// Muon with PyTorch's defaults: Nesterov momentum 0.95, weight decay 0.1.
    pub const fn muon() -> Self {
        OptimizerKind::Muon { momentum: 0.95, nesterov: true, weight_decay: 0.1 }
    }

    /// Returns the algorithm for a parameter of so many axes: of Muon, AdamW where there is no matrix.
    #[must_use]
    pub fn for_rank(self, rank: usize) -> Self {
        match self {
            OptimizerKind::Muon { weight_decay, .. } if rank < 2 => {
                Self::adamw().with_weight_decay(weight_decay)
            }
            other => other,
        }
    }

    /// Returns the algorithm called `name`, with PyTorch's defaults.
    ///
    /// # Errors
    /// `NotFound` for a name that is not in [`OptimizerKind::NAMES`].
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "sgd" => Ok(Self::sgd()),
            "adam" => Ok(Self::adam()),
            "adamw" => Ok(Self::adamw()),
            "rmsprop" => Ok(Self::rmsprop()),
            "lamb" => Ok(Self::lamb()),
            "lion" => Ok(Self::lion()),
            "muon" => Ok(Self::muon()),
            _ => Err(Error::not_found("optimizer", name, Self::NAMES)),
        }
    }

    /// Returns the name of the algorithm.
    pub const fn name(&self) -> &'static str {
        match self {
            OptimizerKind::Sgd { .. } => "sgd",
            OptimizerKind::Adam { .. } => "adam",
            OptimizerKind::AdamW { .. } => "adamw",
            OptimizerKind::RmsProp { .. } => "rmsprop",
            OptimizerKind::Lamb { .. } => "lamb",
            OptimizerKind::Lion { .. } => "lion",
            OptimizerKind::Muon { .. } => "muon",
        }
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn with_weight_decay(mut self, value: f64) -> Self {
        match &mut self {
            OptimizerKind::Sgd { weight_decay, .. }
            | OptimizerKind::Adam { weight_decay, .. }
            | OptimizerKind::AdamW { weight_decay, .. }
            | OptimizerKind::RmsProp { weight_decay, .. }
            | OptimizerKind::Lamb { weight_decay, .. }
            | OptimizerKind::Lion { weight_decay, .. }
            | OptimizerKind::Muon { weight_decay, .. } => *weight_decay = value,
        }
        self
    }

    /// Sets the momentum.
    ///
    /// # Errors
    /// `InvalidArgument` for Adam and AdamW, which have none.
    pub fn with_momentum(mut self, value: f64) -> Result<Self> {
        match &mut self {
            OptimizerKind::Sgd { momentum, .. }
            | OptimizerKind::RmsProp { momentum, .. }
            | OptimizerKind::Muon { momentum, .. } => *momentum = value,
            _ => {
                return Err(Error::invalid_argument(format!(
                    "{} has betas instead of a momentum; sgd, rmsprop and muon have one",
                    self.name()
                )));
            }
        }
        Ok(self)
    }

    /// Returns the algorithm with the momentum that a schedule sets: of Adam and AdamW it is the first of the betas.
    #[must_use]
    pub fn with_scheduled_momentum(mut self, value: f64) -> Self {
        match &mut self {
            OptimizerKind::Sgd { momentum, .. }
            | OptimizerKind::RmsProp { momentum, .. }
            | OptimizerKind::Muon { momentum, .. } => *momentum = value,
            OptimizerKind::Adam { betas, .. }
            | OptimizerKind::AdamW { betas, .. }
            | OptimizerKind::Lamb { betas, .. }
            | OptimizerKind::Lion { betas, .. } => betas[0] = value,
        }
        self
    }

    /// Whether a schedule can set the momentum: the algorithm has one, and it is not 0.
    pub fn has_momentum(&self) -> bool {
        match *self {
            OptimizerKind::Sgd { momentum, .. } | OptimizerKind::RmsProp { momentum, .. } => momentum != 0.0,
            _ => true,
        }
    }

    /// Returns PyTorch's default learning rate for the algorithm.
    pub const fn default_lr(&self) -> f64 {
        match self {
            OptimizerKind::RmsProp { .. } => 0.01,
            OptimizerKind::Lion { .. } => 0.0001,
            _ => 0.001,
        }
    }

    /// Returns the names of the state tensors that the algorithm keeps for each parameter, as in PyTorch. They are
    /// initialized to zeros.
    pub fn state_tensors(&self) -> &'static [&'static str] {
        match *self {
            OptimizerKind::Sgd { momentum: 0.0, .. } => &[],
            OptimizerKind::Sgd { .. } => &["momentum_buffer"],
            OptimizerKind::Adam { amsgrad: false, .. } | OptimizerKind::AdamW { amsgrad: false, .. } => {
                &["exp_avg", "exp_avg_sq"]
            }
            OptimizerKind::Adam { .. } | OptimizerKind::AdamW { .. } => {
                &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
            }
            OptimizerKind::Lamb { .. } => &["exp_avg", "exp_avg_sq"],
            OptimizerKind::Lion { .. } => &["exp_avg"],
            OptimizerKind::Muon { .. } => &["momentum_buffer"],
            OptimizerKind::RmsProp { momentum: 0.0, centered: false, .. } => &["square_avg"],
            OptimizerKind::RmsProp { momentum: 0.0, .. } => &["square_avg", "grad_avg"],
            OptimizerKind::RmsProp { centered: false, .. } => &["square_avg", "momentum_buffer"],
            OptimizerKind::RmsProp { .. } => &["square_avg", "momentum_buffer", "grad_avg"],
        }
    }

    fn check(&self) -> Result<()> {
        let below_one = |name, value: f64| {
            if (0.0..1.0).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid_argument(format!("{name} must be at least 0 and below 1, not {value}")))
        };
        match *self {
            OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay, .. } => {
                non_negative("momentum", momentum)?;
                non_negative("dampening", dampening)?;
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    return Err(Error::invalid_argument("nesterov needs a momentum and no dampening"));
                }
                non_negative("weight_decay", weight_decay)
            }
            OptimizerKind::Adam { betas, eps, weight_decay, .. }
            | OptimizerKind::AdamW { betas, eps, weight_decay, .. }
            | OptimizerKind::Lamb { betas, eps, weight_decay } => {
                below_one("the first beta", betas[0])?;
                below_one("the second beta", betas[1])?;
                non_negative("eps", eps)?;
                non_negative("weight_decay", weight_decay)
            }
            OptimizerKind::Lion { betas, weight_decay } => {
                below_one("the first beta", betas[0])?;
                below_one("the second beta", betas[1])?;
                non_negative("weight_decay", weight_decay)
            }
            OptimizerKind::Muon { momentum, weight_decay, .. } => {
                below_one("momentum", momentum)?;
                non_negative("weight_decay", weight_decay)
            }
            OptimizerKind::RmsProp { alpha, eps, weight_decay, momentum, .. } => {
                non_negative("alpha", alpha)?;
                non_negative("eps", eps)?;
                non_negative("momentum", momentum)?;
                non_negative("weight_decay", weight_decay)
            }
        }
    }
}

fn non_negative(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("{name} must be a finite, non-negative number, not {value}")))
}
