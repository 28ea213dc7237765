//! The configuration of a training run.

use std::path::Path;

use neocog_data::transform::{Pipeline, Step};
use neocog_data::{DataOptions, DataSource, Part, Split};
use neocog_layers::Layer;
use neocog_layers::freeze::freeze;
use neocog_models::{OptimizerConfig, ParamGroup, Recipe, Schedule};
use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::class_balance::ClassBalance;
use crate::environment::Environment;
use crate::model_file::ModelFile;
use crate::optimizer::Optimizer;
use crate::options::TrainOptions;

/// The configuration of a training run. Together with the network and the data it determines the result.
///
/// Checkpoints store it as JSON: a new field needs a default, so that older checkpoints can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainConfig {
    /// Name of the network: that of a registered one, or of the model file.
    pub network: String,
    /// Name of the data set, or path of the folder of images.
    pub data: String,
    /// How the data set is read and divided into parts, besides the limit.
    #[serde(default, skip_serializing_if = "DataOptions::is_default")]
    pub data_options: DataOptions,
    /// Use only the first `limit` training and test images; `None` for all.
    pub limit: Option<usize>,
    /// Number of epochs.
    pub epochs: u64,
    /// Batch size; the last batch of an epoch may be smaller.
    pub batch: usize,
    /// Number of shards: a batch is divided into as many parts, and their gradients are added. Activations need the memory of one
    /// part. Each part has its own statistics in batch norm, and its own random numbers.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shards: usize,
    /// Seed of the initial parameters, the order of the images, augmentation and dropout.
    pub seed: u64,
    /// Optimizer and base learning rate.
    pub optimizer: OptimizerConfig,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// The epoch, counted from 0, at whose start the schedule starts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub schedule_from: u64,
    /// How training makes up for classes with few images.
    #[serde(default, skip_serializing_if = "ClassBalance::is_none")]
    pub class_balance: ClassBalance,
    /// The part on which the network is evaluated after each epoch, and the best epoch is chosen; set when the run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_on: Option<Part>,
    /// Transforms of the images: random ones in training only, the others in evaluation and prediction too.
    #[serde(default)]
    pub transforms: Pipeline,
    /// Whether training images are decoded at a smaller size where they are only resized; see
    /// [`LoaderOptions::fast_decode`](neocog_data::LoaderOptions::fast_decode). Other images are decoded whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fast_decode: bool,
    /// Regular expression: parameters and buffers whose dotted names match it are frozen; see
    /// [`freeze`](neocog_layers::freeze::freeze).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<String>,
    /// Learning rates and weight decays of some parameters; see [`Optimizer::with_groups`](crate::Optimizer::with_groups).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub param_groups: Vec<ParamGroup>,
    /// Whether biases and the parameters of norms have no weight decay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decay_weights_only: bool,
    /// Techniques of training that the run uses.
    #[serde(default, skip_serializing_if = "TrainOptions::is_default")]
    pub options: TrainOptions,
    /// What else the bits of the run depend on, set when it starts; with it, a resumed run is checked.
    #[serde(default, skip_serializing_if = "Environment::is_unknown")]
    pub environment: Environment,
}

const fn one() -> usize {
    1
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TrainConfig {
    /// Creates the configuration for the network and the data set of these names that `recipe` gives, with seed 0. Overrides
    /// of the recipe are not applied; see [`Recipe::for_data`].
    pub fn new(network: impl Into<String>, data: impl Into<String>, recipe: &Recipe) -> Self {
        TrainConfig {
            network: network.into(),
            data: data.into(),
            data_options: DataOptions::default(),
            limit: None,
            class_balance: ClassBalance::None,
            selected_on: None,
            epochs: recipe.epochs.unwrap_or(Recipe::EPOCHS),
            batch: recipe.batch.unwrap_or(Recipe::BATCH),
            shards: 1,
            seed: 0,
            optimizer: recipe.optimizer_config(),
            schedule: recipe.schedule.cloned().unwrap_or_default(),
            schedule_from: 0,
            transforms: recipe.transforms.unwrap_or_default().to_vec().into(),
            fast_decode: false,
            freeze: None,
            param_groups: Vec::new(),
            decay_weights_only: false,
            options: TrainOptions::default(),
            environment: Environment::default(),
        }
    }

    /// Creates the configuration for a registered network: its recipe for the data set.
    ///
    /// # Errors
    /// `NotFound` for an unknown network or data set; the message suggests similar names.
    pub fn for_network(network: &str, data: &str) -> Result<Self> {
        let model = neocog_models::find(network)?;
        let source = DataSource::find(data)?;
        Ok(Self::new(network, data, &model.recipe.for_data(data)).for_source(&source))
    }

    /// Creates the configuration for the network of a model file. Values that the file states apply to every data set; the
    /// others are those of [`Recipe::new`] for the data set. A file with the name and the values of a registered network, as
    /// [`ModelFile::of`] makes it, has that network's recipe, with its changes for the data set.
    ///
    /// # Errors
    /// `NotFound` for an unknown data set; the message suggests similar names.
    pub fn for_file(file: &ModelFile, data: &str) -> Result<Self> {
        let source = DataSource::find(data)?;
        let registered = neocog_models::find(&file.name).ok().filter(|model| {
            let mut stated = ModelFile::stated_recipe(model);
            stated.input = file.recipe.input;
            file.recipe == stated
        });
        let recipe = match registered {
            Some(model) => model.recipe.for_data(data),
            None => file.recipe.or(&Recipe::new().for_data(data)),
        };
        Ok(Self::new(&file.name, data, &recipe).for_source(&source))
    }

    /// Photographs are flipped at random, if the recipe has no transforms.
    fn for_source(mut self, source: &DataSource) -> Self {
        if matches!(source, DataSource::Folder(_)) && self.transforms.is_empty() {
            self.transforms = Pipeline::from([Step::RandomHorizontalFlip { p: 0.5 }]);
        }
        self
    }

    /// Sets how the data set is read and divided into parts.
    #[must_use]
    pub fn with_data_options(mut self, options: DataOptions) -> Self {
        self.data_options = options;
        self
    }

    /// Sets how training makes up for classes with few images.
    #[must_use]
    pub fn with_class_balance(mut self, class_balance: ClassBalance) -> Self {
        self.class_balance = class_balance;
        self
    }

    /// Sets the number of first training and test images to use.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets the number of epochs.
    #[must_use]
    pub fn with_epochs(mut self, epochs: u64) -> Self {
        self.epochs = epochs;
        self
    }

    /// Sets the batch size.
    #[must_use]
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets the number of shards.
    #[must_use]
    pub fn with_shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the optimizer and the base learning rate.
    #[must_use]
    pub fn with_optimizer(mut self, optimizer: OptimizerConfig) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// Sets the learning-rate schedule.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the transforms of the images.
    #[must_use]
    pub fn with_transforms(mut self, transforms: Pipeline) -> Self {
        self.transforms = transforms;
        self
    }

    /// Freezes the parameters and buffers whose dotted names match a regular expression.
    #[must_use]
    pub fn with_freeze(mut self, pattern: impl Into<String>) -> Self {
        self.freeze = Some(pattern.into());
        self
    }

    /// Adds a group of parameters with a learning rate of its own.
    #[must_use]
    pub fn with_param_group(mut self, group: ParamGroup) -> Self {
        self.param_groups.push(group);
        self
    }

    /// Sets whether biases and the parameters of norms have no weight decay.
    #[must_use]
    pub fn with_decay_weights_only(mut self, decay_weights_only: bool) -> Self {
        self.decay_weights_only = decay_weights_only;
        self
    }

    /// Sets techniques of training.
    #[must_use]
    pub fn with_options(mut self, options: TrainOptions) -> Self {
        self.options = options;
        self
    }

    /// Returns the largest number of images in a shard, which are computed at the same time.
    pub fn shard_size(&self) -> usize {
        self.batch.div_ceil(self.shards)
    }

    /// Freezes what the configuration says, and creates the optimizer.
    ///
    /// # Errors
    /// When a pattern is invalid or selects nothing, or memory cannot be allocated.
    pub(crate) fn prepare(&self, network: &dyn Layer) -> Result<Optimizer> {
        if let Some(pattern) = &self.freeze {
            freeze(network, pattern)?;
        }
        Optimizer::with_groups(self.optimizer, &self.param_groups, self.decay_weights_only, network)
    }

    /// Checks that all values are in their valid ranges.
    ///
    /// # Errors
    /// `InvalidArgument` for a batch size, limit or number of epochs of 0, and for an invalid optimizer, schedule or transform.
    pub fn check(&self) -> Result<()> {
        let at_least_one = |name, value: u64| {
            if value == 0 {
                Err(Error::invalid_argument(format!("{name} must be at least 1, not 0")))
            } else {
                Ok(())
            }
        };
        at_least_one("epochs", self.epochs)?;
        at_least_one("the batch size", self.batch as u64)?;
        at_least_one("the number of shards", self.shards as u64)?;
        if self.batch < self.shards {
            return Err(Error::invalid_argument(format!(
                "a batch of {} cannot be divided into {} shards; use a larger batch or fewer shards",
                self.batch, self.shards
            )));
        }
        at_least_one("the limit", self.limit.unwrap_or(1) as u64)?;
        self.optimizer.check()?;
        self.param_groups.iter().try_for_each(ParamGroup::check)?;
        self.schedule.check()?;
        if self.schedule.sets_momentum() && !self.optimizer.kind.has_momentum() {
            return Err(Error::invalid_argument(format!(
                "the schedule changes the momentum, but {} has none; give it one, or use one-cycle:momentum=none",
                self.optimizer.kind.name()
            )));
        }
        self.data_options.split.check()?;
        self.options.check()?;
        self.transforms.check()
    }

    /// Loads the data set, divided into parts with the seed of the run, and with the limit applied.
    ///
    /// # Errors
    /// When the configuration is invalid, or the data set is unknown, missing, damaged, or too small for its parts.
    pub fn load_data(&self, root: &Path) -> Result<Split> {
        self.check()?;
        let options = self.data_options.limit(self.limit);
        DataSource::find(&self.data)?.open(root, &options, self.seed)
    }
}
