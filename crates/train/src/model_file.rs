//! Model files: a network and its recipe as JSON.
//!
//! ```json
//! {
//!   "name": "my_net",
//!   "about": "one-line description",
//!   "recipe": {"input": [1, 28, 28], "batch": 128, "epochs": 5, "learning_rate": 0.001, "optimizer": "adam"},
//!   "network": {"kind": "Sequential", "layers": []}
//! }
//! ```
//!
//! Only `network` is required, and a file may also consist of the network alone (an object with a "kind"). Defaults: the
//! name is that of the file, with `_` for characters that names do not have, the input is that of the data set; for the recipe see [`Recipe`].

use std::io::ErrorKind;
use std::path::Path;

use neocog_base::file::read_regular;
use neocog_layers::{LayerSpec, spec};
use neocog_models::{Model, OptimizerConfig, Recipe};
use neocog_tensor::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A network with its recipe, as stored in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelFile {
    /// Name: letters, digits, `_`, `-` and `.`, since it becomes part of paths.
    pub name: String,
    /// One-line description.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The recipe; values that it does not set have defaults.
    pub recipe: Recipe,
    /// The network.
    pub network: LayerSpec,
}

impl ModelFile {
    /// Creates a file of a network, with a recipe of defaults.
    pub fn new(name: impl Into<String>, network: impl Into<LayerSpec>) -> Self {
        let (name, network) = (name.into(), network.into());
        ModelFile { name, about: String::new(), recipe: Recipe::new(), network }
    }

    /// Sets the one-line description.
    #[must_use]
    pub fn with_about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// Sets the recipe.
    #[must_use]
    pub fn with_recipe(mut self, recipe: Recipe) -> Self {
        self.recipe = recipe;
        self
    }

    /// Creates the file of a registered network for inputs `[c, h, w]` and a number of classes, with its recipe.
    ///
    /// # Errors
    /// When the input is too small for the network.
    pub fn of(model: &Model, input: [usize; 3], classes: usize) -> Result<Self> {
        Ok(ModelFile {
            name: model.name.to_string(),
            about: model.stored_about().to_string(),
            recipe: Self::stated_recipe(model).with_input(input),
            network: model.spec_for(input, classes)?,
        })
    }

    /// The recipe of a registered network for no data set in particular, with every value that a file can hold.
    pub(crate) fn stated_recipe(model: &Model) -> Recipe {
        let OptimizerConfig { lr, kind } = model.recipe.optimizer_config();
        Recipe::new()
            .with_batch(model.recipe.batch.unwrap_or(Recipe::BATCH))
            .with_epochs(model.recipe.epochs.unwrap_or(Recipe::EPOCHS))
            .with_learning_rate(lr)
            .with_optimizer(kind)
    }

    /// Writes the file as JSON text.
    ///
    /// # Errors
    /// When a field of a layer cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::format("cannot write the network as JSON").with_source(e))
    }

    /// Reads a file from JSON text; `name` is the name of the network if the text has none.
    ///
    /// # Errors
    /// When the text is not JSON, a field is missing, misspelled or out of range, or a layer is invalid: the error has the
    /// path to the field or the layer.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Stored {
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            about: String,
            #[serde(default)]
            recipe: Recipe,
            network: Value,
        }
        let value: Value =
            serde_json::from_str(text).map_err(|e| Error::format("not a network in JSON").with_source(e))?;
        if !value.is_object() {
            return Err(Error::format("a network is an object with a \"kind\", or one with a \"network\""));
        }
        let stored = if value.get("kind").is_some() {
            Stored { name: None, about: String::new(), recipe: Recipe::new(), network: value }
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
        file.recipe.optimizer_config().check().context(|| "recipe")?;
        Ok(file)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Io` when it cannot be read; otherwise as [`ModelFile::from_json`]. The message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        /// A hundred times the size of the largest registered network's file.
        const MAX_BYTES: u64 = 16 << 20;
        let cannot_read = |e| Error::io(format!("cannot read the network {}", path.display()), e);
        let location = || path.display().to_string();
        let bytes = match read_regular(path, MAX_BYTES) {
            Err(e) if e.kind() == ErrorKind::InvalidInput => {
                return Err(Error::format(format!("not a network in JSON: {e}"))).context(location);
            }
            bytes => bytes.map_err(cannot_read)?,
        };
        let text = decode(bytes).context(location)?;
        let stem = path.file_stem().unwrap_or_default();
        Self::from_json(&text, &name_from(&stem.to_string_lossy())).context(location)
    }
}

/// Checks that `[c, h, w]` is a valid shape of an image.
///
/// # Errors
/// `InvalidArgument` when it has no elements, or more than 2^30.
pub fn check_input([c, h, w]: [usize; 3]) -> Result<()> {
    const MAX_ELEMENTS: usize = 1 << 30;
    match c.checked_mul(h).and_then(|n| n.checked_mul(w)) {
        Some(1..=MAX_ELEMENTS) => Ok(()),
        _ => Err(Error::invalid_argument(format!(
            "{c} x {h} x {w} is not a valid image shape: it must have from 1 to {MAX_ELEMENTS} elements"
        ))),
    }
}

/// Decodes UTF-8, with or without a byte order mark, and UTF-16 with one, as some editors write.
fn decode(bytes: Vec<u8>) -> Result<String> {
    let not_text = || Error::format("not a network in JSON");
    let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| -> Result<Vec<u16>> {
        let (pairs, []) = bytes.as_chunks() else {
            return Err(Error::format("not a network in JSON: the UTF-16 text ends within a character"));
        };
        Ok(pairs.iter().map(|&pair| unit(pair)).collect())
    };
    let units = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => {
            return String::from_utf8(rest.to_vec()).map_err(|e| not_text().with_source(e.utf8_error()));
        }
        _ => return String::from_utf8(bytes).map_err(|e| not_text().with_source(e.utf8_error())),
    };
    String::from_utf16(&units).map_err(|e| not_text().with_source(e))
}

/// Makes a valid name of a file's: `my_net` of `my net`.
fn name_from(stem: &str) -> String {
    let name: String = stem.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with('.') { format!("network{name}") } else { name }
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_allowed) {
        return Err(Error::invalid_argument(format!(
            "\"{name}\" is not a valid name of a network: use letters, digits, _, - and ., and do not start with a dot"
        )));
    }
    Ok(())
}
