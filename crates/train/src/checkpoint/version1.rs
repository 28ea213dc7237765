//! Checkpoints of version 1: the configuration is in bincode, field by field, with one optional affine transform.

use neocog_data::DataOptions;
use neocog_data::transform::{Pipeline, Step};
use neocog_models::trained::{Config1, Start1};
use serde::Deserialize;

use super::content::{Checkpoint, SavedOptimizerState};
use crate::class_balance::ClassBalance;
use crate::config::TrainConfig;
use crate::environment::Environment;
use crate::meter::Totals;
use crate::options::TrainOptions;
use crate::progress::{EpochReport, Position};

/// The fields in the order in which they are stored.
#[derive(Deserialize)]
pub(super) struct Version1 {
    start: Start1,
    optimizer: Vec<SavedOptimizerState>,
    position: Position,
    sums: Totals,
    history: Vec<EpochReport>,
}

impl From<Version1> for Checkpoint {
    fn from(old: Version1) -> Self {
        let Start1 { config, spec, input, class_names, state, counters } = old.start;
        let Config1 { network, data, limit, epochs, batch, seed, optimizer, schedule, augment } = config;
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
                optimizer,
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
            spec,
            input,
            class_names,
            state,
            counters,
            optimizer: old.optimizer,
            position: old.position,
            sums: old.sums,
            history: old.history,
            average: None,
            feedback: Vec::new(),
        }
    }
}
