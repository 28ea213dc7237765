//! All networks that were linked in, by name.

use std::collections::BTreeMap;
use std::fmt;

use neocog_layers::LayerSpec;
use neocog_tensor::{Context as _, Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// A network: a spec, a recipe and a result; made known by [`register_model!`](crate::register_model).
#[derive(Clone, Copy)]
pub struct Model {
    /// The name, as on the command line.
    pub name: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    /// One line on what it is, with its source.
    pub about: &'static str,
    /// The network as a spec, for an input `[c, h, w]` and a number of classes.
    pub build: fn(input: [usize; 3], classes: usize) -> Result<LayerSpec>,
    /// How it is trained.
    pub recipe: Recipe,
    /// What to expect of Fashion-MNIST after the recipe, if it is known.
    pub expected: Option<Expected>,
}

inventory::collect!(Model);

/// How a network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// How many classes there are.
    pub classes: usize,
    /// Images in a batch.
    pub batch: usize,
    /// How often all images are seen.
    pub epochs: usize,
    /// The step size.
    pub learning_rate: f64,
    /// The rule for the steps.
    pub optimizer: Optimizer,
    /// Images in a batch when its speed is measured.
    pub bench_batch: usize,
}

/// A rule for the steps of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam with β 0.9 and 0.999, ε 1e-8.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// RMSprop.
    RmsProp,
}

/// What the notes' book reports of Fashion-MNIST after the recipe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Accuracy on the training images, in the last epoch.
    pub train_accuracy: f64,
    /// Accuracy on the test images: after the last epoch, or of the best one where `best_epoch` says so.
    pub test_accuracy: f64,
    /// Whether the best epoch's test accuracy is meant: with batch norm it jumps between epochs.
    pub best_epoch: bool,
}

impl Model {
    /// The network as a spec, for the recipe's input and classes.
    ///
    /// # Errors
    /// As [`Model::spec_for`].
    pub fn spec(&self) -> Result<LayerSpec> {
        self.spec_for(self.recipe.input, self.recipe.classes)
    }

    /// The network as a spec, for inputs `[c, h, w]` and a number of classes.
    ///
    /// # Errors
    /// When the picture is too small for the network: the error names the layer where it ran out.
    pub fn spec_for(&self, input: [usize; 3], classes: usize) -> Result<LayerSpec> {
        (self.build)(input, classes).context(|| self.name)
    }

    /// The shape of a batch of `n` inputs.
    pub fn input_shape(&self, n: usize) -> Shape {
        let [c, h, w] = self.recipe.input;
        [n, c, h, w].into()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.crate_name)
    }
}

/// Makes a network known: `register_model!(Model { name: "lenet", crate_name: env!("CARGO_PKG_NAME"), … });`.
#[macro_export]
macro_rules! register_model {
    ($model:expr) => {
        $crate::inventory::submit! { $model }
    };
}

/// All networks, sorted by name.
///
/// # Errors
/// When two have the same name; both crates are named.
pub fn models() -> Result<Vec<Model>> {
    let mut map = BTreeMap::<&'static str, Model>::new();
    for model in inventory::iter::<Model> {
        if let Some(other) = map.insert(model.name, *model) {
            let mut crates = [other.crate_name, model.crate_name];
            crates.sort_unstable();
            return Err(Error::invalid_argument(format!(
                "the network {} is registered twice, by the crates {} and {}; one of them must be renamed",
                model.name, crates[0], crates[1]
            )));
        }
    }
    Ok(map.into_values().collect())
}

/// The network of this name.
///
/// # Errors
/// When there is none; near names are offered.
pub fn find(name: &str) -> Result<Model> {
    let models = models()?;
    models
        .iter()
        .find(|m| m.name == name)
        .copied()
        .ok_or_else(|| Error::not_found("network", name, models.iter().map(|m| m.name)))
}
