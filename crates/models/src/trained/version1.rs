//! Checkpoints of version 1: the configuration is in bincode, field by field, with one optional affine transform.

use neocog_data::transform::RandomAffine;
use serde::Deserialize;

use super::tensor::NamedTensor;
use crate::{OptimizerConfig, OptimizerKind, Schedule};

/// The first fields of a checkpoint of version 1, in the order in which they are stored.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the fields are those of a checkpoint")]
pub struct Start1 {
    pub config: Config1,
    pub spec: String,
    pub input: [usize; 3],
    pub class_names: Vec<String>,
    pub state: Vec<NamedTensor>,
    pub counters: Vec<(String, u64)>,
}

/// The configuration of a training in version 1.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the fields are those of a configuration")]
pub struct Config1 {
    pub network: String,
    pub data: String,
    pub limit: Option<usize>,
    pub epochs: u64,
    pub batch: usize,
    pub seed: u64,
    #[serde(deserialize_with = "optimizer")]
    pub optimizer: OptimizerConfig,
    pub schedule: Schedule,
    pub augment: Option<RandomAffine>,
}

fn optimizer<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<OptimizerConfig, D::Error> {
    Optimizer1::deserialize(deserializer).map(OptimizerConfig::from)
}

#[derive(Deserialize)]
struct Optimizer1 {
    lr: f64,
    kind: Kind1,
}

/// The algorithms in the order of their numbers.
#[derive(Deserialize)]
enum Kind1 {
    Sgd { momentum: f64, dampening: f64, nesterov: bool, weight_decay: f64 },
    Adam { betas: [f64; 2], eps: f64, weight_decay: f64, amsgrad: bool },
    AdamW { betas: [f64; 2], eps: f64, weight_decay: f64, amsgrad: bool },
    RmsProp { alpha: f64, eps: f64, weight_decay: f64, momentum: f64, centered: bool },
}

impl From<Optimizer1> for OptimizerConfig {
    fn from(Optimizer1 { lr, kind }: Optimizer1) -> Self {
        let maximize = false;
        let kind = match kind {
            Kind1::Sgd { momentum, dampening, nesterov, weight_decay } => {
                OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay, maximize }
            }
            Kind1::Adam { betas, eps, weight_decay, amsgrad } => {
                OptimizerKind::Adam { betas, eps, weight_decay, amsgrad, maximize }
            }
            Kind1::AdamW { betas, eps, weight_decay, amsgrad } => {
                OptimizerKind::AdamW { betas, eps, weight_decay, amsgrad, maximize }
            }
            Kind1::RmsProp { alpha, eps, weight_decay, momentum, centered } => {
                OptimizerKind::RmsProp { alpha, eps, weight_decay, momentum, centered, maximize }
            }
        };
        OptimizerConfig { lr, kind }
    }
}
