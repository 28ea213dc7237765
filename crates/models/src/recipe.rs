//! Recipes: the hyperparameters that a network is trained with, and how they differ between data sets.

use neocog_data::transform::{RandomAffine, Step};
use serde::{Deserialize, Serialize};

use crate::optimizer::{OptimizerConfig, OptimizerKind};
use crate::schedule::{Decay, Schedule};

/// The hyperparameters that a network is trained with.
///
/// `None` stands for the default: [`Recipe::BATCH`], [`Recipe::EPOCHS`], Adam, the default learning rate of the optimizer,
/// a constant learning rate and no transforms. As JSON, in a model file, it has the fields `input`, `batch`, `epochs`,
/// `learning_rate` and `optimizer`, all optional.
///
/// ```
/// use neocog_models::{DataOverride, OptimizerKind, Recipe};
///
/// const RECIPE: Recipe = Recipe::new()
///     .with_batch(64)
///     .with_learning_rate(0.002)
///     .with_optimizer(OptimizerKind::adam())
///     .with_overrides(&[DataOverride::DIGITS.with_learning_rate(0.001)]);
/// assert_eq!(RECIPE.for_data("mnist").batch, Some(64));
/// let digits = RECIPE.for_data("digits");
/// assert_eq!((digits.batch, digits.epochs, digits.learning_rate), (Some(16), Some(60), Some(0.001)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Recipe {
    /// Shape of one input, `[c, h, w]`. Used in model files; a registered network has
    /// [`Model::input`](crate::Model::input).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<[usize; 3]>,
    /// Batch size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Number of epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Base learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Optimization algorithm. JSON holds its name, or an object with its `name` and the hyperparameters that differ from its defaults.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "stored_optimizer")]
    pub optimizer: Option<OptimizerKind>,
    /// Learning-rate schedule. Not part of the JSON.
    #[serde(skip)]
    pub schedule: Option<&'static Schedule>,
    /// Transforms of the images. Not part of the JSON.
    #[serde(skip)]
    pub transforms: Option<&'static [Step]>,
    /// Changes for single data sets, which take precedence over [`DEFAULT_OVERRIDES`]. Not part of the JSON.
    #[serde(skip)]
    pub overrides: &'static [DataOverride],
}

impl Recipe {
    /// Batch size of a recipe that does not set one.
    pub const BATCH: usize = 128;
    /// Number of epochs of a recipe that does not set one.
    pub const EPOCHS: u64 = 5;

    /// Creates a recipe in which every value is the default.
    pub const fn new() -> Self {
        Recipe {
            input: None,
            batch: None,
            epochs: None,
            learning_rate: None,
            optimizer: None,
            schedule: None,
            transforms: None,
            overrides: &[],
        }
    }

    /// Sets the shape of one input, `[c, h, w]`.
    #[must_use]
    pub const fn with_input(mut self, input: [usize; 3]) -> Self {
        self.input = Some(input);
        self
    }

    /// Sets the batch size.
    #[must_use]
    pub const fn with_batch(mut self, batch: usize) -> Self {
        self.batch = Some(batch);
        self
    }

    /// Sets the number of epochs.
    #[must_use]
    pub const fn with_epochs(mut self, epochs: u64) -> Self {
        self.epochs = Some(epochs);
        self
    }

    /// Sets the base learning rate.
    #[must_use]
    pub const fn with_learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = Some(learning_rate);
        self
    }

    /// Sets the optimization algorithm.
    #[must_use]
    pub const fn with_optimizer(mut self, optimizer: OptimizerKind) -> Self {
        self.optimizer = Some(optimizer);
        self
    }

    /// Sets the learning-rate schedule.
    #[must_use]
    pub const fn with_schedule(mut self, schedule: &'static Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Sets the transforms of the images.
    #[must_use]
    pub const fn with_transforms(mut self, transforms: &'static [Step]) -> Self {
        self.transforms = Some(transforms);
        self
    }

    /// Sets the changes for single data sets.
    #[must_use]
    pub const fn with_overrides(mut self, overrides: &'static [DataOverride]) -> Self {
        self.overrides = overrides;
        self
    }

    /// Returns the recipe for the data set called `data`: this one with the override for the data set applied, if there
    /// is one in [`Recipe::overrides`] or else in [`DEFAULT_OVERRIDES`].
    #[must_use]
    pub fn for_data(&self, data: &str) -> Self {
        let found = self.overrides.iter().chain(DEFAULT_OVERRIDES).find(|o| o.data == data);
        found.map_or(*self, |o| o.apply(self))
    }

    /// Returns this recipe with the values that it does not set taken from `other`. A learning rate is taken only
    /// together with the optimizer that it is meant for.
    #[must_use]
    pub fn or(&self, other: &Recipe) -> Self {
        let other_lr = if self.optimizer.is_none() { other.learning_rate } else { None };
        Recipe {
            input: self.input.or(other.input),
            batch: self.batch.or(other.batch),
            epochs: self.epochs.or(other.epochs),
            learning_rate: self.learning_rate.or(other_lr),
            optimizer: self.optimizer.or(other.optimizer),
            schedule: self.schedule.or(other.schedule),
            transforms: self.transforms.or(other.transforms),
            overrides: if self.overrides.is_empty() { other.overrides } else { self.overrides },
        }
    }

    /// Returns the optimizer and its learning rate, with defaults for what the recipe does not set.
    pub fn optimizer_config(&self) -> OptimizerConfig {
        let kind = self.optimizer.unwrap_or(OptimizerKind::adam());
        OptimizerConfig { lr: self.learning_rate.unwrap_or(kind.default_lr()), kind }
    }
}

/// The recipe of the notes, for data sets of 60,000 images; the batch size differs between networks.
pub(crate) const NOTES: Recipe =
    Recipe::new().with_epochs(5).with_learning_rate(0.001).with_optimizer(OptimizerKind::adam());

/// Changes to a [`Recipe`] for one data set.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DataOverride {
    /// Name of the data set.
    pub data: &'static str,
    /// Upper bound of the batch size.
    pub max_batch: Option<usize>,
    /// Lower bound of the number of epochs.
    pub min_epochs: Option<u64>,
    /// Base learning rate.
    pub learning_rate: Option<f64>,
    /// Learning-rate schedule.
    pub schedule: Option<&'static Schedule>,
    /// Transforms of the images.
    pub transforms: Option<&'static [Step]>,
}

/// Cosine decay to 0.
static COSINE: Schedule = Schedule { warm_up: 0, decay: Decay::Cosine { floor: 0.0 } };

/// Small rotations, translations and scalings.
const HANDWRITING: &[Step] = &[Step::RandomAffine(RandomAffine::HANDWRITING)];

/// The overrides of every recipe that has none of its own for the data set.
pub const DEFAULT_OVERRIDES: &[DataOverride] = &[DataOverride::DIGITS];

impl DataOverride {
    /// The `digits` have 1,437 training images, where the recipes are made for 60,000: batches of at most 16 and at least
    /// 60 epochs give a similar number of steps, augmentation counters overfitting, and the learning rate decays to 0.
    pub const DIGITS: DataOverride = DataOverride::new("digits")
        .with_max_batch(16)
        .with_min_epochs(60)
        .with_schedule(&COSINE)
        .with_transforms(HANDWRITING);

    /// Creates an override for the data set called `data` that changes nothing.
    pub const fn new(data: &'static str) -> Self {
        DataOverride {
            data,
            max_batch: None,
            min_epochs: None,
            learning_rate: None,
            schedule: None,
            transforms: None,
        }
    }

    /// Sets the upper bound of the batch size.
    #[must_use]
    pub const fn with_max_batch(mut self, max_batch: usize) -> Self {
        self.max_batch = Some(max_batch);
        self
    }

    /// Sets the lower bound of the number of epochs.
    #[must_use]
    pub const fn with_min_epochs(mut self, min_epochs: u64) -> Self {
        self.min_epochs = Some(min_epochs);
        self
    }

    /// Sets the base learning rate.
    #[must_use]
    pub const fn with_learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = Some(learning_rate);
        self
    }

    /// Sets the learning-rate schedule.
    #[must_use]
    pub const fn with_schedule(mut self, schedule: &'static Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Sets the transforms of the images.
    #[must_use]
    pub const fn with_transforms(mut self, transforms: &'static [Step]) -> Self {
        self.transforms = Some(transforms);
        self
    }

    fn apply(&self, recipe: &Recipe) -> Recipe {
        let batch = recipe.batch.unwrap_or(Recipe::BATCH);
        let epochs = recipe.epochs.unwrap_or(Recipe::EPOCHS);
        Recipe {
            batch: Some(self.max_batch.map_or(batch, |max| batch.min(max))),
            epochs: Some(self.min_epochs.map_or(epochs, |min| epochs.max(min))),
            learning_rate: self.learning_rate.or(recipe.learning_rate),
            schedule: self.schedule.or(recipe.schedule),
            transforms: self.transforms.or(recipe.transforms),
            ..*recipe
        }
    }
}

/// An optimizer as its name, or as an object with its `name` and the hyperparameters that differ from its defaults.
mod stored_optimizer {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::{Map, Value, json};

    use crate::optimizer::OptimizerKind;

    pub(super) fn serialize<S: Serializer>(
        optimizer: &Option<OptimizerKind>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Some(kind) = optimizer else { return serializer.serialize_none() };
        let default = OptimizerKind::named(kind.name()).map_err(S::Error::custom)?;
        if *kind == default {
            return kind.name().serialize(serializer);
        }
        let (values, defaults) = (values(kind), values(&default));
        let mut stored = Map::from_iter([("name".to_string(), json!(kind.name()))]);
        stored.extend(values.into_iter().filter(|(name, value)| defaults.get(name) != Some(value)));
        stored.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OptimizerKind>, D::Error> {
        let mut given = match Option::<Value>::deserialize(deserializer)? {
            None => return Ok(None),
            Some(Value::String(name)) => Map::from_iter([("name".to_string(), json!(name))]),
            Some(Value::Object(given)) => given,
            Some(_) => {
                return Err(D::Error::custom(
                    "expected the name of an optimizer, or an object with a \"name\"",
                ));
            }
        };
        let Some(Value::String(name)) = given.remove("name") else {
            return Err(D::Error::custom("the optimizer has no \"name\""));
        };
        let kind = OptimizerKind::named(&name).map_err(D::Error::custom)?;
        let mut values = values(&kind);
        // The only one that is not stored where it has its default.
        if !matches!(
            kind,
            OptimizerKind::Lamb { .. } | OptimizerKind::Lion { .. } | OptimizerKind::Muon { .. }
        ) {
            values.entry("maximize").or_insert(json!(false));
        }
        for (key, value) in given {
            if !values.contains_key(&key) {
                let known: Vec<&str> = values.keys().map(String::as_str).collect();
                let known = known.join(", ");
                return Err(D::Error::custom(format!(
                    "{name} has no hyperparameter {key:?}; it has {known}"
                )));
            }
            values.insert(key, value);
        }
        let tag =
            serde_json::to_value(kind).ok().and_then(|kind| Some(kind.as_object()?.keys().next()?.clone()));
        let kind = serde_json::from_value(json!({ tag.unwrap_or_default(): values }));
        kind.map(Some).map_err(|e| D::Error::custom(format!("{name}: {e}")))
    }

    /// The hyperparameters of an optimizer by name.
    fn values(kind: &OptimizerKind) -> Map<String, Value> {
        let stored = serde_json::to_value(kind).unwrap_or_default();
        let fields = stored.as_object().and_then(|kind| kind.values().next()?.as_object().cloned());
        fields.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const DIGITS: Option<&[Step]> = Some(HANDWRITING);

    #[test]
    fn a_recipe_without_overrides_gets_the_default_ones() {
        let recipe = NOTES.with_batch(64);
        assert_eq!(recipe.for_data("mnist"), recipe);
        let digits = recipe.for_data("digits");
        assert_eq!((digits.batch, digits.epochs, digits.learning_rate), (Some(16), Some(60), Some(0.001)));
        assert_eq!(
            (&digits.schedule.unwrap().decay, digits.transforms),
            (&Decay::Cosine { floor: 0.0 }, DIGITS)
        );
        let digits = recipe.with_batch(8).with_epochs(100).for_data("digits");
        assert_eq!((digits.batch, digits.epochs), (Some(8), Some(100)));
        assert_eq!(Recipe::new().for_data("digits").optimizer_config().lr, 0.001);
    }

    #[test]
    fn own_overrides_replace_the_default_ones() {
        const RECIPE: Recipe = NOTES.with_batch(64).with_overrides(&[DataOverride::new("digits")]);
        let digits = RECIPE.for_data("digits");
        assert_eq!((digits.batch, digits.epochs, digits.transforms), (Some(64), Some(5), None));
    }

    #[test]
    fn hyperparameters_of_the_optimizer_are_stored() {
        let read = |text: &str| serde_json::from_str::<Recipe>(text);
        let sgd = OptimizerKind::Sgd {
            momentum: 0.9,
            dampening: 0.0,
            nesterov: true,
            weight_decay: 0.0,
            maximize: false,
        };
        let text = r#"{"optimizer":{"name":"sgd","momentum":0.9,"nesterov":true}}"#;
        assert_eq!(read(text).unwrap().optimizer, Some(sgd));
        for name in OptimizerKind::NAMES {
            let kind = OptimizerKind::named(name).unwrap();
            let recipe = Recipe::new().with_optimizer(kind);
            assert_eq!(serde_json::to_string(&recipe).unwrap(), format!(r#"{{"optimizer":"{name}"}}"#));
            let other = recipe.with_optimizer(kind.with_weight_decay(0.25));
            let stored = serde_json::to_string(&other).unwrap();
            assert_eq!(stored, format!(r#"{{"optimizer":{{"name":"{name}","weight_decay":0.25}}}}"#));
            assert_eq!(read(&stored).unwrap(), other);
            let object = format!(r#"{{"optimizer":{{"name":"{name}"}}}}"#);
            assert_eq!(read(&object).unwrap(), recipe);
        }
        for (text, expected) in [
            (r#"{"name":"sgd","betas":[0,0]}"#, "sgd has no hyperparameter \"betas\"; it has "),
            (r#"{"name":"lamb","maximize":true}"#, "lamb has no hyperparameter \"maximize\"; it has "),
            (r#"{"name":"sgd","momentum":"high"}"#, "sgd: invalid type: string \"high\""),
            (r#"{"momentum":0.9}"#, "the optimizer has no \"name\""),
            ("3", "expected the name of an optimizer"),
            (r#""sdg""#, "sdg"),
        ] {
            let e = read(&format!(r#"{{"optimizer":{text}}}"#)).unwrap_err().to_string();
            assert!(e.contains(expected), "{e}");
        }
    }

    #[test]
    fn a_learning_rate_is_not_combined_with_another_optimizer() {
        let recipe = Recipe::new().with_optimizer(OptimizerKind::rmsprop()).or(&NOTES);
        assert_eq!(recipe.optimizer_config().lr, 0.01);
        assert_eq!((recipe.epochs, Recipe::new().or(&NOTES).learning_rate), (Some(5), Some(0.001)));
    }
}
