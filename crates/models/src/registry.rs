//! The registry of networks: all that are linked in, by name.

use std::fmt;
use std::str::FromStr;

use neocog_base::registry::{self, Registered};
use neocog_layers::LayerSpec;
use neocog_tensor::{Context as _, Error, Result, Shape};

use crate::recipe::Recipe;

/// Builds the spec of a network for inputs `[c, h, w]` and a number of classes.
pub type BuildSpec = fn(input: [usize; 3], classes: usize) -> Result<LayerSpec>;

/// A network: its spec, its recipe and the accuracy to expect. Registered with
/// [`register_model!`](crate::register_model).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Model {
    /// Name, as on the command line.
    pub name: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    /// The collection that it belongs to.
    pub family: Family,
    /// One-line description with the source.
    pub about: &'static str,
    stored_about: Option<&'static str>,
    /// Builds the spec for inputs `[c, h, w]` and a number of classes.
    pub build: BuildSpec,
    /// Default shape of one input, `[c, h, w]`.
    pub input: [usize; 3],
    /// Default number of classes.
    pub classes: usize,
    /// The hyperparameters to train it with.
    pub recipe: Recipe,
    /// Accuracy on Fashion-MNIST after training with the recipe, if known.
    pub expected: Option<Expected>,
}

inventory::collect!(Model);

/// A collection of networks. Commands and tests that go over all networks take those of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// The networks of "Dive into Deep Learning", chapter 5, and those of other crates that name no family.
    #[default]
    Notes,
    /// The networks of torchvision, under torchvision's names.
    Torchvision,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 2] = [Family::Notes, Family::Torchvision];

    /// Returns the name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Notes => "notes",
            Family::Torchvision => "torchvision",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|family| family.name() == text)
            .ok_or_else(|| Error::not_found("family", text, Self::ALL.map(Self::name)))
    }
}

/// Accuracy on Fashion-MNIST that "Dive into Deep Learning" reports for the recipe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Training accuracy in the last epoch.
    pub train_accuracy: f64,
    /// Test accuracy: after the last epoch, or of the best epoch if `best_epoch` is set.
    pub test_accuracy: f64,
    /// Whether `test_accuracy` is that of the best epoch. With batch norm it varies much between epochs.
    pub best_epoch: bool,
}

impl Model {
    /// Creates a network with default shape `input`, `[c, h, w]`, and default number of `classes`, and a recipe of
    /// defaults.
    pub const fn new(name: &'static str, build: BuildSpec, input: [usize; 3], classes: usize) -> Self {
        Model {
            name,
            crate_name: "",
            family: Family::Notes,
            about: "",
            stored_about: None,
            build,
            input,
            classes,
            recipe: Recipe::new(),
            expected: None,
        }
    }

    /// Sets the name of the crate that registers the network; [`register_model!`](crate::register_model) calls it.
    #[must_use]
    pub const fn with_crate_name(mut self, crate_name: &'static str) -> Self {
        self.crate_name = crate_name;
        self
    }

    /// Sets the collection that the network belongs to.
    #[must_use]
    pub const fn with_family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Sets the one-line description.
    #[must_use]
    pub const fn with_about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Sets the description in JSON files, where it differs from [`Model::about`]: files of earlier versions do not change.
    #[must_use]
    pub const fn with_stored_about(mut self, about: &'static str) -> Self {
        self.stored_about = Some(about);
        self
    }

    /// Returns the description in JSON files.
    pub fn stored_about(&self) -> &'static str {
        self.stored_about.unwrap_or(self.about)
    }

    /// Sets the recipe.
    #[must_use]
    pub const fn with_recipe(mut self, recipe: Recipe) -> Self {
        self.recipe = recipe;
        self
    }

    /// Sets the accuracy to expect.
    #[must_use]
    pub const fn with_expected(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    /// Returns the spec for the default input and number of classes.
    ///
    /// # Errors
    /// As [`Model::spec_for`].
    pub fn spec(&self) -> Result<LayerSpec> {
        self.spec_for(self.input, self.classes)
    }

    /// Returns the spec for inputs `[c, h, w]` and a number of classes.
    ///
    /// # Errors
    /// When the input is too small for the network; the error names the layer.
    pub fn spec_for(&self, input: [usize; 3], classes: usize) -> Result<LayerSpec> {
        (self.build)(input, classes).context(|| self.name)
    }

    /// Returns the shape `[n, c, h, w]` of a batch of `n` inputs.
    pub fn input_shape(&self, n: usize) -> Shape {
        let [c, h, w] = self.input;
        [n, c, h, w].into()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.name)
            .field("crate_name", &self.crate_name)
            .finish_non_exhaustive()
    }
}

/// Registers a network: `register_model!(Model::new("lenet", lenet, [1, 28, 28], 10));`.
#[macro_export]
macro_rules! register_model {
    ($model:expr) => {
        $crate::inventory::submit! { $crate::Model::with_crate_name($model, env!("CARGO_PKG_NAME")) }
    };
}

impl Registered for Model {
    const NOUN: &'static str = "network";
    fn name(&self) -> &'static str {
        self.name
    }
    fn crate_name(&self) -> &'static str {
        self.crate_name
    }
}

/// Returns all registered networks, sorted by name.
///
/// # Errors
/// When two networks have the same name; the message names both crates.
pub fn models() -> Result<Vec<Model>> {
    Ok(registry::by_name(inventory::iter::<Model>.into_iter().copied())?.into_values().collect())
}

/// Returns the registered networks of one family, sorted by name.
///
/// # Errors
/// As [`models`].
pub fn models_of(family: Family) -> Result<Vec<Model>> {
    let mut all = models()?;
    all.retain(|model| model.family == family);
    Ok(all)
}

/// Returns the network called `name`.
///
/// # Errors
/// `NotFound` when there is none; the message suggests similar names.
pub fn find(name: &str) -> Result<Model> {
    let models = models()?;
    models
        .iter()
        .find(|m| m.name == name)
        .copied()
        .ok_or_else(|| Error::not_found("network", name, models.iter().map(|m| m.name)))
}
