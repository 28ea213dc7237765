//! Checkpoints of version 1: the configuration is in bincode, field by field, with one optional affine transform.

use neocog_data::DataOptions;
use neocog_data::transform::{Pipeline, RandomAffine, Step};
use neocog_models::{OptimizerConfig, OptimizerKind, Schedule};
use serde::Deserialize;

use super::content::{Checkpoint, NamedTensor, SavedOptimizerState};
use crate::config::{ClassBalance, TrainConfig};
use crate::environment::Environment;
use crate::meter::Totals;
use crate::options::TrainOptions;
use crate::progress::{EpochReport, Position};

/// The fields in the order in which they are stored.
#[derive(Deserialize)]
pub(super) struct Version1 {
    config: Config1,
    spec: String,
    input: [usize; 3],
    class_names: Vec<String>,
    state: Vec<NamedTensor>,
    counters: Vec<(String, u64)>,
    optimizer: Vec<SavedOptimizerState>,
    position: Position,
    sums: Totals,
    history: Vec<EpochReport>,
}

#[derive(Deserialize)]
struct Config1 {
    network: String,
    data: String,
    limit: Option<usize>,
    epochs: u64,
    batch: usize,
    seed: u64,
    optimizer: Optimizer1,
    schedule: Schedule,
    augment: Option<RandomAffine>,
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

impl From<Version1> for Checkpoint {
    fn from(old: Version1) -> Self {
        let Config1 { network, data, limit, epochs, batch, seed, optimizer, schedule, augment } = old.config;
        let transforms = Pipeline::from_iter(augment.map(Step::RandomAffine));
        Checkpoint {
            config: TrainConfig {
                shards: 1,
                network,
                data,
                data_options: DataOptions::default(),
                limit,
                class_balance: ClassBalance::None,
                selected_on: None,
                epochs,
                batch,
                seed,
                optimizer: optimizer.into(),
                schedule,
                schedule_from: 0,
                transforms,
                fast_decode: false,
                freeze: None,
                param_groups: Vec::new(),
                decay_weights_only: false,
                options: TrainOptions::default(),
                environment: Environment::default(),
            },
            spec: old.spec,
            input: old.input,
            class_names: old.class_names,
            state: old.state,
            counters: old.counters,
            optimizer: old.optimizer,
            position: old.position,
            sums: old.sums,
            history: old.history,
            average: None,
            feedback: Vec::new(),
        }
    }
}
