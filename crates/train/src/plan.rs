//! The plan of a run: what is trained, on what, and how.

use std::path::Path;
use std::sync::Arc;

use neocog_data::transform::{Pipeline, RandomAffine, Step};
use neocog_data::{Dataset, DatasetParts, Split};
use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::model_file::{BATCH, EPOCHS, ModelFile};
use crate::optimizer::{OptimizerConfig, OptimizerKind};
use crate::schedule::{Decay, Schedule};

/// What is trained, on what, and how: with it a run can be repeated.
///
/// Checkpoints hold it as JSON. A field that is added must have a default, so that older ones can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The network's name: in the registry of models, or that of its file.
    pub network: String,
    /// The data set's name.
    pub data: String,
    /// How many of the first training images, and of the first test images, are used; all if absent.
    pub limit: Option<usize>,
    /// How often all training images are seen.
    pub epochs: u64,
    /// Images in a batch; the last batch of an epoch may be smaller.
    pub batch: usize,
    /// Decides the initial parameters, the order of the images, and what dropout drops.
    pub seed: u64,
    /// The rule for the steps, and their size.
    pub optimizer: OptimizerConfig,
    /// How the size of the steps changes.
    pub schedule: Schedule,
    /// What is done to the images: the random steps to those for training each time they are seen, the others to all
    /// images that the network sees, later too.
    #[serde(default)]
    pub transforms: Pipeline,
}

impl TrainConfig {
    /// The network's recipe, with the changes that a small data set asks for.
    ///
    /// # Errors
    /// For a name that is not known; near names are offered.
    pub fn for_network(network: &str, data: &str) -> Result<Self> {
        let recipe = neocog_models::find(network)?.recipe;
        let optimizer = OptimizerConfig { lr: recipe.learning_rate, rule: recipe.optimizer.into() };
        Self::from_recipe(network, data, (recipe.epochs as u64, recipe.batch), optimizer)
    }

    /// The recipe of a network in a file, likewise; what the file does not say is as in [`crate::model_file`].
    ///
    /// # Errors
    /// When the data set or the optimizer is not known; near names are offered.
    pub fn for_file(file: &ModelFile, data: &str) -> Result<Self> {
        let size = (file.recipe.epochs.unwrap_or(EPOCHS), file.recipe.batch.unwrap_or(BATCH));
        Self::from_recipe(&file.name, data, size, file.optimizer()?)
    }

    fn from_recipe(
        network: &str,
        data: &str,
        (epochs, batch): (u64, usize),
        optimizer: OptimizerConfig,
    ) -> Result<Self> {
        neocog_data::DatasetInfo::find(data)?;
        let mut plan = TrainConfig {
            network: network.to_string(),
            data: data.to_string(),
            limit: None,
            epochs,
            batch,
            seed: 0,
            optimizer,
            schedule: Schedule::default(),
            transforms: Pipeline::default(),
        };
        if data == neocog_data::catalog::DEFAULT_DATASET {
            plan.suit_digits();
        }
        Ok(plan)
    }

    /// The recipes are for 60,000 images. The digits are 1,437: smaller batches and more epochs give as many steps,
    /// and changed images keep them from being learnt by heart. Small networks need larger steps to leave the plateau
    /// that sigmoids start on, and smaller ones at the end.
    fn suit_digits(&mut self) {
        self.batch = self.batch.min(16);
        self.epochs = self.epochs.max(60);
        self.transforms = Pipeline::from([Step::RandomAffine(RandomAffine::HANDWRITING)]);
        self.schedule.decay = Decay::Cosine { floor: 0.0 };
        if self.network.starts_with("lenet") && matches!(self.optimizer.rule, OptimizerKind::Adam { .. }) {
            self.optimizer.lr = 0.002;
        }
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// For a batch or limit of 0, no epochs, or a number of the optimizer, the schedule or the transforms that is not
    /// allowed.
    pub fn check(&self) -> Result<()> {
        let at_least_one = |name, value: u64| {
            if value == 0 {
                Err(Error::invalid_argument(format!("{name} must be at least 1, not 0")))
            } else {
                Ok(())
            }
        };
        at_least_one("epochs", self.epochs)?;
        at_least_one("the batch", self.batch as u64)?;
        at_least_one("the limit", self.limit.unwrap_or(1) as u64)?;
        self.optimizer.check()?;
        self.schedule.check()?;
        self.transforms.check()
    }

    /// The data set, with the plan's limit.
    ///
    /// # Errors
    /// When it is not known, not there, or damaged.
    pub fn load_data(&self, root: &Path) -> Result<Split> {
        self.check()?;
        load_data(&self.data, self.limit, root)
    }
}

/// A data set, with only so many of the first training images, and of the first test images.
///
/// # Errors
/// When it is not known, not there, or damaged.
pub fn load_data(name: &str, limit: Option<usize>, root: &Path) -> Result<Split> {
    let Split { train, test, .. } = neocog_data::load(name, root)?;
    match limit {
        None => Ok(Split::new(train, test)),
        Some(limit) => Ok(Split::new(first(&train, limit)?, first(&test, limit)?)),
    }
}

/// The first `count` images.
fn first(dataset: &Arc<Dataset>, count: usize) -> Result<Arc<Dataset>> {
    if count >= dataset.len() {
        return Ok(Arc::clone(dataset));
    }
    let shape = dataset.shape();
    let pixels = dataset.pixels()[..count * shape.iter().product::<usize>()].to_vec();
    let labels = dataset.labels()[..count].to_vec();
    let parts = DatasetParts::new(dataset.name(), shape, pixels, labels, dataset.class_names().to_vec());
    Ok(Arc::new(Dataset::new(parts.max_value(dataset.max_value()))?))
}
