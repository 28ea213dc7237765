//! Arguments that select a network: a registered one, one from a JSON file, or a trained one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neocog_base::text::count;
use neocog_data::transform::Pipeline;
use neocog_data::{DataSource, Dataset, Inversion, Preprocessing, folder};
use neocog_layers::{Builder, Layer, LayerSpec, weights};
use neocog_models::Model;
use neocog_tensor::{Context as _, Device, Error, Result, Shape};
use neocog_train::{Checkpoint, ModelFile, TrainConfig};

use super::onnx_network::{is_onnx, open_onnx};
use super::trained_network::{TrainedNetwork, check_channels, class_names, described_by};
use crate::input_size::InputSize;
use crate::normalization::InputTransforms;
use crate::output;

/// Input and number of classes of a network.
#[derive(Clone, Debug, clap::Args)]
pub struct InputArgs {
    /// Input as channels, height and width, such as 1x28x28 [default: the network's].
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputSize>,
    /// Number of classes of a registered network [default: the network's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: Option<u32>,
}

/// A network from a JSON file, and its input.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// JSON file of a network, as written by `spec`, in place of a registered network.
    #[arg(long, value_name = "FILE", conflicts_with = "network")]
    pub spec: Option<PathBuf>,
    #[command(flatten)]
    size: InputArgs,
}

/// Heights and widths of images in common data sets.
const USUAL_SIZES: [usize; 9] = [8, 28, 32, 64, 96, 128, 224, 256, 299];

enum Origin {
    Registered(Model),
    File(ModelFile),
}

/// A network that is not built yet.
pub struct SelectedNetwork {
    origin: Origin,
    /// The layers.
    pub spec: LayerSpec,
    /// `[c, h, w]`, if the arguments or the file give it.
    input: Option<[usize; 3]>,
    /// Number of classes that the arguments give.
    classes: Option<usize>,
    /// Whether `input` is from the arguments.
    is_input_given: bool,
}

impl InputArgs {
    /// Returns a registered network, with this input and number of classes, as a file.
    ///
    /// # Errors
    /// When the input is too small for the network.
    pub fn file_of(&self, model: &Model) -> Result<ModelFile> {
        ModelFile::of(model, self.input_or(model.input), self.classes_or(model.classes))
    }

    fn input_or(&self, default: [usize; 3]) -> [usize; 3] {
        self.input.map_or(default, |input| input.0)
    }

    fn classes_or(&self, default: usize) -> usize {
        self.classes.map_or(default, |classes| classes as usize)
    }
}

impl NetworkArgs {
    /// Returns the network of the file, or else the registered network called `name`.
    ///
    /// # Errors
    /// When the file is not a network, the name is unknown, or the input is too small. When neither is given, exits with a usage
    /// error.
    pub fn select(&self, name: Option<&str>) -> Result<SelectedNetwork> {
        if let Some(path) = &self.spec {
            if self.size.classes.is_some() {
                output::usage_error(
                    "--classes is for registered networks; in a file, the last layer determines the number of classes",
                );
            }
            let file = ModelFile::read(path)?;
            let (spec, input) =
                (file.network.clone(), self.size.input.map(|input| input.0).or(file.recipe.input));
            let is_input_given = self.size.input.is_some();
            return Ok(SelectedNetwork {
                origin: Origin::File(file),
                spec,
                input,
                classes: None,
                is_input_given,
            });
        }
        let Some(name) = name else {
            output::usage_error("no network given; use --network NAME or --spec FILE");
        };
        let model = neocog_models::find(name)?;
        let input = self.size.input_or(model.input);
        let spec = model.spec_for(input, self.size.classes_or(model.classes))?;
        Ok(SelectedNetwork {
            origin: Origin::Registered(model),
            spec,
            input: Some(input),
            classes: self.size.classes.map(|classes| classes as usize),
            is_input_given: self.size.input.is_some(),
        })
    }

    /// The input of --input, `[c, h, w]`.
    pub fn input(&self) -> Option<[usize; 3]> {
        self.size.input.map(|input| input.0)
    }

    /// Whether --input or --classes is given.
    pub fn changes_size(&self) -> bool {
        self.size.input.is_some() || self.size.classes.is_some()
    }
}

impl SelectedNetwork {
    /// The name.
    pub fn name(&self) -> &str {
        match &self.origin {
            Origin::Registered(model) => model.name,
            Origin::File(file) => &file.name,
        }
    }

    /// The description, a line.
    pub fn about(&self) -> &str {
        match &self.origin {
            Origin::Registered(model) => model.about,
            // The file of a registered network has the description of version 0.1.
            Origin::File(file) => match neocog_models::find(&file.name) {
                Ok(model) if model.stored_about() == file.about => model.about,
                _ => &file.about,
            },
        }
    }

    /// Returns the training recipe for a data set.
    ///
    /// # Errors
    /// When the data set is unknown.
    pub fn config(&self, data: &str) -> Result<TrainConfig> {
        match &self.origin {
            Origin::Registered(model) => TrainConfig::for_network(model.name, data),
            Origin::File(file) => TrainConfig::for_file(file, data),
        }
    }

    /// Sets the height and width of a registered network's input, unless the arguments give the input.
    pub fn default_input(&mut self, [_, h, w]: [usize; 3]) {
        if let (Origin::Registered(_), Some([c, ..]), false) = (&self.origin, self.input, self.is_input_given)
        {
            self.input = Some([c, h, w]);
        }
    }

    /// Takes the channels and the number of classes of a registered network from the data set, unless the arguments give
    /// them.
    ///
    /// # Errors
    /// When the network cannot be built for them.
    pub fn adapt(&mut self, data: &dyn Dataset) -> Result<()> {
        let (Origin::Registered(model), Some([_, h, w])) = (&self.origin, self.input) else { return Ok(()) };
        if !self.is_input_given {
            self.input = Some([data.channels(), h, w]);
        }
        let input = self.input.unwrap_or(model.input);
        self.spec = model.spec_for(input, self.classes.unwrap_or(data.classes()))?;
        Ok(())
    }

    /// Takes the input and the number of classes of a registered network from the metadata of a weights file, or else from the data
    /// set, unless the arguments give them.
    ///
    /// # Errors
    /// When the file or the data cannot be read, or the network cannot be built for them.
    pub fn adapt_to_weights(
        &mut self,
        metadata: &BTreeMap<String, String>,
        data: Option<&str>,
    ) -> Result<()> {
        let (Origin::Registered(model), Some(mut input)) = (&self.origin, self.input) else { return Ok(()) };
        let preprocessing = Preprocessing::from_metadata(metadata)?;
        let names = class_names(metadata, data)?;
        // A data set has classes, even if it has no names for them.
        let classes = (data.is_some() || !names.is_empty()).then_some(names.len());
        if !self.is_input_given {
            match (preprocessing, data.map(DataSource::find).transpose()?) {
                (Some(preprocessing), _) => input = preprocessing.input,
                (None, Some(DataSource::Folder(path))) => {
                    input[0] = folder::open(&path, true)?.train.channels();
                }
                _ => {}
            }
        }
        self.input = Some(input);
        self.spec = model.spec_for(input, self.classes.or(classes).unwrap_or(model.classes))?;
        Ok(())
    }

    /// The input, `[c, h, w]`, from the arguments or the recipe, or else the shape of the data set's images.
    ///
    /// # Errors
    /// When neither gives it, and the images have different sizes.
    pub fn input_for(&self, data: &dyn Dataset) -> Result<[usize; 3]> {
        match (self.input, data.size()) {
            (Some(input), _) => Ok(input),
            (None, Some((h, w))) => Ok([data.channels(), h, w]),
            (None, None) => Err(Error::invalid_argument(format!(
                "the images of {} have different sizes, and the file of {} does not contain the input size; use --input, \
                 such as --input {}x224x224",
                data.name(),
                self.name(),
                data.channels()
            ))),
        }
    }

    /// The input, `[c, h, w]`, from the arguments or the recipe.
    ///
    /// # Errors
    /// When neither gives it.
    pub fn input(&self) -> Result<[usize; 3]> {
        self.input.ok_or_else(|| {
            Error::invalid_argument(format!(
                "the file of {} does not contain the input size; use --input, such as --input 1x28x28",
                self.name()
            ))
        })
    }

    /// Sets the input of a file that does not contain one, if exactly one of the usual sizes fits its layers.
    pub fn infer_input(&mut self) {
        if self.input.is_some() {
            return;
        }
        let inputs = [1, 3].into_iter().flat_map(|c| USUAL_SIZES.map(|size| [c, size, size]));
        let fits = |[c, h, w]: &[usize; 3]| {
            let shape = Shape::from([1, *c, *h, *w]);
            Builder::new(&Device::Meta, 0).build(&self.spec, &shape).is_ok()
        };
        if let [[c, h, w]] = inputs.filter(fits).collect::<Vec<_>>()[..] {
            output::note(format_args!(
                "the file of {} does not contain the input size; of the usual sizes, only {c}x{h}x{w} fits",
                self.name()
            ));
            self.input = Some([c, h, w]);
        }
    }

    /// Builds the network on `device`.
    ///
    /// # Errors
    /// When the network does not accept the input; the error names the file, if the network is from one.
    pub fn build(&self, args: &NetworkArgs, device: &Device) -> Result<Box<dyn Layer>> {
        let [c, h, w] = self.input()?;
        let built = Builder::new(device, 0).build(&self.spec, &Shape::new(&[1, c, h, w])?);
        match &args.spec {
            Some(path) => built.context(|| path.display().to_string()),
            None => built,
        }
    }
}

/// Weights in place of a checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct WeightsArgs {
    /// File with the weights of --network or --spec, safetensors or of torch.save, in place of a checkpoint.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Network of the weights; `summary` lists them.
    #[arg(long, value_name = "NAME", requires = "weights")]
    network: Option<String>,
    #[command(flatten)]
    network_args: NetworkArgs,
    #[command(flatten)]
    transforms: InputTransforms,
}

impl WeightsArgs {
    /// The arguments that choose a network in place of a checkpoint.
    pub const IN_PLACE_OF_CHECKPOINT: [&str; 4] = ["weights", "network", "spec", "classes"];

    /// The file of --weights.
    pub fn file(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// Whether --weights is given.
    pub fn is_given(&self) -> bool {
        self.weights.is_some()
    }

    /// Loads the network of --weights, or else of the checkpoint `file`. `data` is the data set that names the classes.
    ///
    /// # Errors
    /// When a file cannot be loaded. Exits with a usage error when neither or both are given.
    pub fn open(&self, file: Option<&Path>, data: Option<&str>, device: &Device) -> Result<TrainedNetwork> {
        let mut trained = self.open_either(file, data, device)?;
        let transforms = self.transforms.apply(&trained.preprocessing.transforms, trained.input)?;
        check_channels(&transforms, trained.input[0])?;
        trained.preprocessing.transforms = transforms;
        Ok(trained)
    }

    fn open_either(
        &self,
        file: Option<&Path>,
        data: Option<&str>,
        device: &Device,
    ) -> Result<TrainedNetwork> {
        match (&self.weights, file) {
            (Some(weights), None) => self.open_weights(weights, data, device),
            (None, Some(file)) if is_onnx(file) => {
                if self.network_args.spec.is_some() || self.network_args.size.classes.is_some() {
                    output::usage_error(
                        "an ONNX model is a whole network; use --spec and --classes with --weights",
                    );
                }
                open_onnx(file, self.network_args.input(), data, device)
            }
            (None, Some(file)) => self.open_checkpoint(file, device),
            (Some(_), Some(file)) => output::usage_error(format_args!(
                "--weights replaces the checkpoint {}; use one of the two",
                file.display()
            )),
            (None, None) => output::usage_error(
                "no network given; use a checkpoint, or --weights FILE with --network NAME or --spec FILE",
            ),
        }
    }

    /// Returns the checkpoint and the input, an image or another `what`, of a command that takes both, or the input alone with
    /// --weights; ends the program if `files` are others.
    pub fn checkpoint_and_input<'a>(&self, files: &'a [PathBuf], what: &str) -> (Option<&'a Path>, &'a Path) {
        match files {
            [input] if self.is_given() => (None, input),
            [file, input] if !self.is_given() => (Some(file), input),
            [_] => output::usage_error(format!("no {what} given; name it after the checkpoint")),
            _ => output::usage_error(format!("--weights replaces the checkpoint; name one {what} only")),
        }
    }

    fn open_weights(&self, weights: &Path, data: Option<&str>, device: &Device) -> Result<TrainedNetwork> {
        let mut selected = self.network_args.select(self.network.as_deref())?;
        let metadata = weights::metadata(weights)?;
        let location = || weights.display().to_string();
        selected.adapt_to_weights(&metadata, data).context(location)?;
        let network = selected.build(&self.network_args, device)?;
        note_auxiliary(&weights::load(&*network, weights)?);
        let input = selected.input()?;
        let mut preprocessing = Preprocessing::new(input, &Pipeline::default(), data);
        if self.network_args.spec.is_some() && data.is_none() {
            // Nothing says that it was trained on bright objects.
            preprocessing.inversion = Inversion::Never;
        }
        if !metadata.contains_key(Preprocessing::METADATA) && self.transforms.is_empty() {
            output::note(format_args!(
                "{} does not say how images were preprocessed: they are resized to {}x{} and not normalized; --preset, --resize and \
                 --normalize change that",
                weights.display(),
                input[1],
                input[2]
            ));
        }
        let (preprocessing, class_names) = described_by(&metadata, preprocessing, data).context(location)?;
        Ok(TrainedNetwork {
            network: network.into(),
            name: selected.name().to_string(),
            input,
            class_names,
            preprocessing,
            checkpoint: None,
            max_batch: None,
        }
        .with_warnings())
    }

    fn open_checkpoint(&self, file: &Path, device: &Device) -> Result<TrainedNetwork> {
        if self.network_args.spec.is_some() || self.network_args.changes_size() {
            output::usage_error(
                "a checkpoint contains its network; use --spec, --input and --classes with --weights",
            );
        }
        let checkpoint = Checkpoint::read(file)?;
        Ok(TrainedNetwork {
            network: checkpoint.network(device).context(|| file.display().to_string())?.into(),
            name: checkpoint.config.network.clone(),
            input: checkpoint.input,
            class_names: checkpoint.class_names.clone(),
            preprocessing: checkpoint.preprocessing(),
            checkpoint: Some(checkpoint),
            max_batch: None,
        }
        .with_warnings())
    }
}

/// Prints a note about tensors of a file that the network has no use for.
pub fn note_auxiliary(loaded: &weights::Loaded) {
    if let Some(note) = loaded.auxiliary_note() {
        output::note(format_args!("{note}"));
    }
}

/// Loads the weights of a file into a network, all or, if `partial`, those that match. Prints a summary to standard error and
/// returns the names of loaded and skipped tensors.
///
/// # Errors
/// Those of [`weights::load`] and [`weights::load_partial`].
pub fn load_weights(network: &dyn Layer, path: &Path, partial: bool) -> Result<weights::Loaded> {
    let loaded = if partial { weights::load_partial(network, path) } else { weights::load(network, path) }?;
    output::note(format_args!("loaded {} from {}", count(loaded.loaded.len(), "tensor"), path.display()));
    note_auxiliary(&loaded);
    if !loaded.differences().is_empty() {
        let lines: String =
            loaded.differences().iter().map(|difference| format!("\n  {difference}")).collect();
        output::note(format_args!("not loaded:{lines}"));
    }
    Ok(loaded)
}

/// Loads the weights of a file into a network; the head is left out if it has another number of classes. Prints a summary to
/// standard error.
///
/// # Errors
/// Those of [`weights::load_except_head`].
pub fn load_pretrained(network: &dyn Layer, path: &Path) -> Result<()> {
    let loaded = weights::load_except_head(network, path)?;
    output::note(format_args!("loaded {} tensors from {}", loaded.loaded.len(), path.display()));
    note_auxiliary(&loaded);
    if !loaded.differences().is_empty() {
        let lines: String =
            loaded.differences().iter().map(|difference| format!("\n  {difference}")).collect();
        output::note(format_args!(
            "not loaded is the head, which has another number of classes and starts from random values:{lines}"
        ));
    }
    Ok(())
}
