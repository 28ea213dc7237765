//! Checkpoints of version 1: the plan was in bincode, field by field, and turning was all that could be done to images.

use neocog_data::transform::{Pipeline, RandomAffine, Step};
use serde::Deserialize;

use super::{Checkpoint, NamedTensor, SavedMemory};
use crate::fit::{EpochReport, Position};
use crate::meter::Totals;
use crate::optimizer::OptimizerConfig;
use crate::plan::TrainConfig;
use crate::schedule::Schedule;

/// What they hold, in their order.
#[derive(Deserialize)]
pub(super) struct Version1 {
    plan: Plan1,
    spec: String,
    input: [usize; 3],
    class_names: Vec<String>,
    state: Vec<NamedTensor>,
    counters: Vec<(String, u64)>,
    optimizer: Vec<SavedMemory>,
    position: Position,
    sums: Totals,
    history: Vec<EpochReport>,
}

#[derive(Deserialize)]
struct Plan1 {
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
        let Plan1 { network, data, limit, epochs, batch, seed, optimizer, schedule, augment } = old.plan;
        let transforms = Pipeline { steps: augment.into_iter().map(Step::RandomAffine).collect() };
        Checkpoint {
            plan: TrainConfig { network, data, limit, epochs, batch, seed, optimizer, schedule, transforms },
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
