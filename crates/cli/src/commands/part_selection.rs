//! The part of a data set that a command reads.

use std::path::Path;
use std::sync::Arc;

use neocog_base::file::is_same;
use neocog_data::{DataOptions, DataSource, Dataset, Part};
use neocog_tensor::Result;
use neocog_train::TrainConfig;

use crate::arguments::PartArg;
use crate::output;

/// A part of a data set, as arguments name it.
pub struct PartSelection<'a> {
    /// Data set, or folder of images.
    pub data: &'a str,
    /// Root directory of the data sets.
    pub root: &'a Path,
    /// The part; `None` for test, or validation, or all images, the first that is there.
    pub part: Option<PartArg>,
    /// Only the first images.
    pub limit: Option<usize>,
    /// Whether images that cannot be read are left out.
    pub skip_broken: bool,
}

impl PartSelection<'_> {
    /// Loads the data set, divided as in the training `config` if that was on it, under this path or another one; returns the name of
    /// the part and the images.
    ///
    /// # Errors
    /// When the data set cannot be read, or has no such part.
    pub fn open(&self, config: Option<&TrainConfig>) -> Result<(&'static str, Arc<dyn Dataset>)> {
        let data = self.data;
        let source = DataSource::find(data)?;
        let open = |config: &TrainConfig, limit: Option<usize>| {
            let options =
                config.data_options.skip_broken(config.data_options.skip_broken || self.skip_broken);
            source.open(self.root, &options.limit(limit), config.seed)
        };
        let is_named =
            |config: &TrainConfig| config.data == data || is_same(Path::new(data), Path::new(&config.data));
        // A folder that was moved, or packed, has the same images.
        let is_moved = |config: &TrainConfig| {
            matches!(source, DataSource::Folder(_))
                && config.environment.data.is_some()
                && open(config, config.limit)
                    .is_ok_and(|split| config.environment.data_difference(&split).is_none())
        };
        let config = config.filter(|config| is_named(config) || is_moved(config));
        let mut split = match config {
            Some(config) => open(config, None)?,
            None => source.read(self.root, &DataOptions::new().skip_broken(self.skip_broken))?,
        };
        output::warnings(&split);
        if let Some(config) = config {
            if let Some(changed) = config.environment.data_difference(&split)
                && config.limit.is_none()
            {
                output::note(format_args!(
                    "warning: {data} has changed since the training ({changed}): its parts may be others, and hold images that the \
                     network was trained on"
                ));
            } else if config.environment.data_changed {
                output::note(format_args!("warning: {}", other_parts(data)));
            }
        }
        if let Some(limit) = self.limit {
            split.limit(limit)?;
        }
        let part = match self.part {
            Some(part) => part.into(),
            None if split.test.is_some() => Part::Test,
            None if split.validation.is_some() => Part::Validation,
            None => return Ok(("all", split.train)),
        };
        Ok((part.name(), Arc::clone(split.part(part)?)))
    }
}

/// What is to be known of the parts of a data set that changed while a network was trained.
pub fn other_parts(data: &str) -> String {
    format!(
        "{data} changed during the training: its parts are others, so that validation and test images may be among those that the \
         network was trained on before"
    )
}

/// What to do if the data set of a training is not found.
pub fn elsewhere(data: &str) -> String {
    format!("the network was trained on {data}; if that is elsewhere now, use --data DIR")
}
