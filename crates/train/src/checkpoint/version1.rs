//! Checkpoints of version 1: the configuration is in bincode, field by field, with one optional affine transform.

use neocog_data::DataOptions;
use neocog_data::transform::{Pipeline, RandomAffine, Step};
use neocog_models::{OptimizerConfig, Schedule};
use serde::Deserialize;

use super::content::{Checkpoint, NamedTensor, SavedOptimizerState};
use crate::config::{ClassBalance, TrainConfig};
use crate::environment::Environment;
use crate::meter::Totals;
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
    optimizer: OptimizerConfig,
    schedule: Schedule,
    augment: Option<RandomAffine>,
}

impl From<Version1> for Checkpoint {
    fn from(old: Version1) -> Self {
        let Config1 { network, data, limit, epochs, batch, seed, optimizer, schedule, augment } = old.config;
        let transforms = Pipeline::from_iter(augment.map(Step::RandomAffine));
        Checkpoint {
            config: TrainConfig {
                network,
                data,
                data_options: DataOptions::default(),
                limit,
                class_balance: ClassBalance::None,
                selected_on: None,
                epochs,
                batch,
                seed,
                optimizer,
                schedule,
                schedule_from: 0,
                transforms,
                fast_decode: false,
                freeze: None,
                param_groups: Vec::new(),
                decay_weights_only: false,
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
        }
    }
}
