//! A network in a file, with how it is trained: to be written, edited and trained.
//!
//! ```json
//! {
//!   "name": "my_net",
//!   "about": "what it is, in a line",
//!   "recipe": {"input": [1, 28, 28], "batch": 128, "epochs": 5, "learning_rate": 0.001, "optimizer": "adam"},
//!   "network": {"kind": "Sequential", "layers": []}
//! }
//! ```
//!
//! Only the network must be there; a file that holds the network alone (an object with a "kind") will do as well. The
//! name is then the file's, the input that of the data, the batch [`BATCH`], the epochs [`EPOCHS`], the optimizer Adam,
//! and the learning rate that of the optimizer in PyTorch.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use neocog_layers::{LayerSpec, spec};
use neocog_models::Model;
use neocog_tensor::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::optimizer::{OptimizerConfig, OptimizerKind};

/// Images in a batch, where a file does not say it.
pub const BATCH: usize = 128;
/// How often all images are seen, where a file does not say it.
pub const EPOCHS: u64 = 5;

/// A network in a file, with how it is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFile {
    /// What it is called: letters, digits, `_`, `-` and `.`, for it becomes a part of paths.
    pub name: String,
    /// What it is, in a line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// How it is trained.
    pub recipe: FileRecipe,
    /// The network.
    pub network: LayerSpec,
}

/// How the network of a file is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecipe {
    /// Channels, height and width of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<[usize; 3]>,
    /// Images in a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// How often all images are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// The step size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// The rule for the steps, one of [`OptimizerKind::NAMES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<String>,
}

impl ModelFile {
    /// A registered network for inputs `[c, h, w]` and a number of classes, with its recipe.
    ///
    /// # Errors
    /// When the input is too small for the network.
    pub fn of(model: &Model, input: [usize; 3], classes: usize) -> Result<Self> {
        let recipe = &model.recipe;
        Ok(ModelFile {
            name: model.name.to_string(),
            about: model.about.to_string(),
            recipe: FileRecipe {
                input: Some(input),
                batch: Some(recipe.batch),
                epochs: Some(recipe.epochs as u64),
                learning_rate: Some(recipe.learning_rate),
                optimizer: Some(OptimizerKind::from(recipe.optimizer).name().to_string()),
            },
            network: model.spec_for(input, classes)?,
        })
    }

    /// The text of such a file.
    ///
    /// # Errors
    /// When a field of a layer cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::format("cannot write the network as JSON").with_source(e))
    }

    /// The network that a text describes; `name` is its name if the text has none.
    ///
    /// # Errors
    /// When the text is not JSON, a field is missing, misspelt or not allowed, or a layer is wrong: the error tells the
    /// way to the field or the layer.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Stored {
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            about: String,
            #[serde(default)]
            recipe: FileRecipe,
            network: Value,
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Error::format("this is not the JSON of a network").with_source(e))?;
        let stored = if value.get("kind").is_some() {
            Stored { name: None, about: String::new(), recipe: FileRecipe::default(), network: value }
        } else {
            spec::read(value)
                .context(|| "a network is an object with a \"kind\", or one with a \"network\"")?
        };
        let file = ModelFile {
            name: stored.name.unwrap_or_else(|| name.to_string()),
            about: stored.about,
            recipe: stored.recipe,
            network: LayerSpec::from_value(stored.network)?,
        };
        check_name(&file.name)?;
        file.recipe.input.map_or(Ok(()), check_input).context(|| "recipe.input")?;
        file.optimizer()?.check()?;
        Ok(file)
    }

    /// The network in the file at `path`.
    ///
    /// # Errors
    /// `Io` when it cannot be read; else as [`ModelFile::from_json`]. The message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        /// A hundred times the largest here; more is no network but a mistake.
        const MOST: u64 = 16 << 20;
        let cannot = |e| Error::io(format!("cannot read the network {}", path.display()), e);
        let place = || path.display().to_string();
        let about = fs::metadata(path).map_err(cannot)?;
        if !about.is_file() || about.len() > MOST {
            return Err(Error::format(format!(
                "this is not the JSON of a network: that is a file of at most {MOST} bytes"
            )))
            .context(place);
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)).map_err(cannot)?;
        let text = String::from_utf8(bytes)
            .map_err(|e| Error::format("this is not the JSON of a network").with_source(e.utf8_error()))
            .context(place)?;
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Self::from_json(&text, &name).context(place)
    }

    /// The recipe's optimizer, with defaults where the recipe does not say.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn optimizer(&self) -> Result<OptimizerConfig> {
        let rule = OptimizerKind::named(self.recipe.optimizer.as_deref().unwrap_or("adam"))?;
        Ok(OptimizerConfig { lr: self.recipe.learning_rate.unwrap_or(rule.default_lr()), rule })
    }
}

/// Checks that pictures `[c, h, w]` are something to compute with.
///
/// # Errors
/// When there is no pixel, or more than any picture has.
pub fn check_input([c, h, w]: [usize; 3]) -> Result<()> {
    const MOST: usize = 1 << 30;
    match c.checked_mul(h).and_then(|n| n.checked_mul(w)) {
        Some(1..=MOST) => Ok(()),
        _ => Err(Error::invalid_argument(format!(
            "{c} x {h} x {w} is no picture: from 1 to {MOST} numbers are"
        ))),
    }
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(Error::invalid_argument(format!(
            "\"{name}\" cannot be a network's name: it is made of letters, digits, _, - and ., and does not begin with a dot"
        )));
    }
    Ok(())
}
