//! NetworkArgs network a command is about: a registered one, one in a file, or a trained one.

use std::path::{Path, PathBuf};

use neocog_data::Known;
use neocog_data::transform::Pipeline;
use neocog_layers::{Builder, Layer, LayerSpec, weights};
use neocog_models::Model;
use neocog_tensor::{Context as _, Device, Error, Result, Shape};
use neocog_train::{Checkpoint, ModelFile, TrainConfig};

use crate::input_size::InputSize;
use crate::output;

/// For what input, and how many classes.
#[derive(Clone, Debug, clap::Args)]
pub struct InputArgs {
    /// Channels, height and width of the picture, like 1x28x28; the network's own if absent.
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputSize>,
    /// How many classes a registered network tells apart; its own number if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: Option<u32>,
}

/// A network in a file, and its size.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// A network in a file of JSON, as `spec` writes it, in place of a registered one.
    #[arg(long, value_name = "FILE", conflicts_with = "network")]
    pub spec: Option<PathBuf>,
    #[command(flatten)]
    size: InputArgs,
}

/// Where a network comes from.
enum Source {
    Model(Model),
    File(ModelFile),
}

/// A network that is not trained yet.
pub struct SelectedNetwork {
    source: Source,
    /// The network as a value.
    pub spec: LayerSpec,
    /// `[c, h, w]`; absent when nobody has said it.
    input: Option<[usize; 3]>,
}

impl InputArgs {
    /// A registered network of this size, as a file.
    ///
    /// # Errors
    /// When the input is too small for the network.
    pub fn file_of(&self, model: &Model) -> Result<ModelFile> {
        ModelFile::of(model, self.input_or(model.input), self.classes_of(model))
    }

    fn input_or(&self, own: [usize; 3]) -> [usize; 3] {
        self.input.map_or(own, |input| input.0)
    }

    fn classes_of(&self, model: &Model) -> usize {
        self.classes.map_or(model.classes, |classes| classes as usize)
    }
}

impl NetworkArgs {
    /// The network of the file, or the registered one that is called `name`.
    ///
    /// # Errors
    /// When there is neither, the file is no network, or the input is too small.
    pub fn choose(&self, name: Option<&str>) -> Result<SelectedNetwork> {
        if let Some(path) = &self.spec {
            if self.size.classes.is_some() {
                return Err(Error::invalid_argument(
                    "--classes is for registered networks: a network in a file has as many classes as its last layer has outputs",
                ));
            }
            let file = ModelFile::read(path)?;
            let (spec, input) =
                (file.network.clone(), self.size.input.map(|input| input.0).or(file.recipe.input));
            return Ok(SelectedNetwork { source: Source::File(file), spec, input });
        }
        let Some(name) = name else {
            return Err(Error::invalid_argument("say which network: by its name, or with --spec and a file"));
        };
        let model = neocog_models::find(name)?;
        let input = self.size.input_or(model.input);
        let spec = model.spec_for(input, self.size.classes_of(&model))?;
        Ok(SelectedNetwork { source: Source::Model(model), spec, input: Some(input) })
    }

    /// Whether another input or number of classes is asked for.
    pub fn changes_size(&self) -> bool {
        self.size.input.is_some() || self.size.classes.is_some()
    }
}

impl SelectedNetwork {
    /// What it is called.
    pub fn name(&self) -> &str {
        match &self.source {
            Source::Model(model) => model.name,
            Source::File(file) => &file.name,
        }
    }

    /// What it is, in a line.
    pub fn about(&self) -> &str {
        match &self.source {
            Source::Model(model) => model.about,
            Source::File(file) => &file.about,
        }
    }

    /// Its recipe for a data set.
    ///
    /// # Errors
    /// When the data set is not known.
    pub fn plan(&self, data: &str) -> Result<TrainConfig> {
        match &self.source {
            Source::Model(model) => TrainConfig::for_network(model.name, data),
            Source::File(file) => TrainConfig::for_file(file, data),
        }
    }

    /// `[c, h, w]`: as the options or the recipe say; else `images`, the size of the data's images.
    pub fn input_for(&self, images: [usize; 3]) -> [usize; 3] {
        self.input.unwrap_or(images)
    }

    /// `[c, h, w]`, where there is no data to tell it.
    ///
    /// # Errors
    /// When neither the options nor a recipe say it.
    pub fn input(&self) -> Result<[usize; 3]> {
        self.input.ok_or_else(|| {
            Error::invalid_argument(format!(
                "the file of {} does not say how large the input is; say it: --input 1x28x28",
                self.name()
            ))
        })
    }

    /// Builds the network on `device`; errors name the file, if it is from one.
    ///
    /// # Errors
    /// When the network does not take such an input.
    pub fn build(&self, which: &NetworkArgs, device: &Device) -> Result<Box<dyn Layer>> {
        let [c, h, w] = self.input()?;
        let built = Builder::new(device, 0).build(&self.spec, &Shape::new(&[1, c, h, w])?);
        match &which.spec {
            Some(path) => built.context(|| path.display().to_string()),
            None => built,
        }
    }
}

/// Weights in place of a checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct Weights {
    /// A safetensors file with the weights of --network or --spec, in place of a checkpoint.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The registered network that the weights are for.
    #[arg(long, value_name = "NAME", requires = "weights")]
    network: Option<String>,
    #[command(flatten)]
    which: NetworkArgs,
}

/// A network that can be used.
pub struct Trained {
    /// The network.
    pub network: Box<dyn Layer>,
    /// What it is called.
    pub name: String,
    /// `[c, h, w]`.
    pub input: [usize; 3],
    /// What the classes are called, as far as it is known.
    pub class_names: Vec<String>,
    /// How it was trained, if it is from a checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

impl Trained {
    /// What is done to every image that it sees.
    pub fn transforms(&self) -> Pipeline {
        self.checkpoint
            .as_ref()
            .map_or_else(Pipeline::default, |checkpoint| checkpoint.config.transforms.fixed())
    }

    /// What a class is called.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }
}

impl Weights {
    /// Whether there are weights in place of a checkpoint.
    pub fn given(&self) -> bool {
        self.weights.is_some()
    }

    /// The network with these weights, or that of the checkpoint `file`. `data` is the data set that the classes are of.
    ///
    /// # Errors
    /// When neither or both are given, or the file is not right.
    pub fn open(&self, file: Option<&Path>, data: Option<&str>, device: &Device) -> Result<Trained> {
        let class_names = |data: &str| -> Result<Vec<String>> {
            Ok(Known::find(data)?.class_names.iter().map(ToString::to_string).collect())
        };
        match (&self.weights, file) {
            (Some(weights), None) => {
                let chosen = self.which.choose(self.network.as_deref())?;
                let network = chosen.build(&self.which, device)?;
                weights::load(&*network, weights)?;
                Ok(Trained {
                    network,
                    name: chosen.name().to_string(),
                    input: chosen.input()?,
                    class_names: data.map_or(Ok(Vec::new()), class_names)?,
                    checkpoint: None,
                })
            }
            (None, Some(file)) => {
                if self.which.spec.is_some() || self.which.changes_size() {
                    return Err(Error::invalid_argument(
                        "a checkpoint holds its network: --spec, --input and --classes are for --weights",
                    ));
                }
                let checkpoint = Checkpoint::read(file)?;
                Ok(Trained {
                    network: checkpoint.network(device).context(|| file.display().to_string())?,
                    name: checkpoint.config.network.clone(),
                    input: checkpoint.input,
                    class_names: checkpoint.class_names.clone(),
                    checkpoint: Some(checkpoint),
                })
            }
            (Some(_), Some(file)) => Err(Error::invalid_argument(format!(
                "--weights takes the place of the checkpoint, but {} was given too",
                file.display()
            ))),
            (None, None) => Err(Error::invalid_argument(
                "say which network: a checkpoint, or --weights with --network or --spec",
            )),
        }
    }
}

/// Gives a network the weights of a file, all of them or those that fit, and says so on standard error. Returns what was
/// loaded and what was not.
///
/// # Errors
/// Those of [`weights::load`] and [`weights::load_partial`].
pub fn load_weights(network: &dyn Layer, path: &Path, partial: bool) -> Result<weights::Loaded> {
    let done = if partial { weights::load_partial(network, path) } else { weights::load(network, path) }?;
    let (loaded, left) = (done.loaded.len(), &done.skipped);
    output::note(format_args!("{loaded} tensors from {}", path.display()));
    if !left.is_empty() {
        let lines: String = left.iter().map(|difference| format!("\n  {difference}")).collect();
        output::note(format_args!("not loaded:{lines}"));
    }
    Ok(done)
}
