//! `run`: a network on arrays.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ndarray::ArrayViewD;
use ndarray_npy::{ViewElement, ViewNpyError, ViewNpyExt};
use neocog_base::file::check_distinct;
use neocog_layers::{Builder, Layer, Predictor, weights};
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};
use neocog_train::{Checkpoint, ModelFile};
use serde::Serialize;
use zip::ZipArchive;

use crate::arguments::{DeviceArg, positive};
use crate::help::examples;
use crate::npy;
use crate::output;
use crate::register_command;

/// The name of the input and of the output of a network.
const INPUT: &str = "input";
const OUTPUT: &str = "output";

/// Run a network on arrays.
///
/// Reads a NumPy array [n, c, h, w] of numbers and passes it to the network as it is, without preprocessing. Writes the output,
/// for classifiers the logits [n, classes], to DIR/output.npy. Without --weights, a network has the initial parameters of
/// --seed.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog run resnet18 --weights resnet18.pth --input x.npy --output out
  neocog run runs/lenet-digits/best.ckpt --input x.npy --output out
  neocog run --spec my.json --weights my.safetensors --input batch.npz --output out"))]
struct Args {
    /// Network, or checkpoint.
    #[arg(value_name = "NETWORK|CHECKPOINT", required_unless_present = "spec", conflicts_with = "spec")]
    network: Option<String>,
    /// JSON file of a network, as written by `spec`.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// File with the weights of the network, safetensors or of torch.save.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Number of classes of a registered network [default: the network's].
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "spec")]
    classes: Option<usize>,
    /// Array: an .npy file, or an .npz file with one array, or one that is called input.
    #[arg(long, value_name = "[NAME=]FILE", required = true)]
    input: Vec<InputFile>,
    /// Directory of DIR/output.npy; created if it does not exist.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Seed of the initial parameters.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

/// A file with the name of the input that it is for.
#[derive(Clone, Debug)]
struct InputFile {
    name: Option<String>,
    path: PathBuf,
}

impl FromStr for InputFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A path may contain an equals sign: a name does not.
        Ok(match text.split_once('=') {
            Some((name, path)) if !name.contains(['/', '\\', '.']) && !Path::new(text).exists() => {
                InputFile { name: Some(name.to_string()), path: path.into() }
            }
            _ => InputFile { name: None, path: text.into() },
        })
    }
}

#[derive(Serialize)]
struct JsonRow<'a> {
    network: &'a str,
    input: &'a [usize],
    output: &'a [usize],
    file: String,
}

register_command!("run", 55, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let [input] = args.input.as_slice() else {
        return Err(Error::invalid_argument(format!(
            "the network has one input, but {} were given",
            args.input.len()
        )));
    };
    if let Some(name) = input.name.as_deref().filter(|name| *name != INPUT) {
        return Err(Error::not_found("input", name, [INPUT]));
    }
    let file = args.output.join(format!("{OUTPUT}.npy"));
    check_distinct(&input.path, &file)?;
    let device = &args.device.device;
    let x = read_array(&input.path, device)?;
    let (name, network) = open(args, *x.shape(), device)?;
    let y = Predictor::new(network).run(&x).context(|| name.as_str())?;

    fs::create_dir_all(&args.output)
        .map_err(|e| Error::io(format!("cannot create the directory {}", args.output.display()), e))?;
    match device {
        Device::Reference => npy::write(&file, y.shape().extents(), y.to_f64()?)?,
        _ => npy::write(&file, y.shape().extents(), y.to_f32()?)?,
    }
    if args.json {
        let file = file.display().to_string();
        return output::json(&JsonRow { network: &name, input: x.shape(), output: y.shape(), file });
    }
    output::line(format_args!("wrote {} to {}", y.shape(), file.display()))
}

/// Builds the network for an input, with its weights; also returns its name.
fn open(args: &Args, input: Shape, device: &Device) -> Result<(String, Box<dyn Layer>)> {
    let [_, c, h, w] = input.nchw().context(|| "the input")?;
    let (name, spec) = match (&args.spec, &args.network) {
        (Some(file), _) => {
            let file = ModelFile::read(file)?;
            (file.name, file.network)
        }
        (None, Some(name)) => match neocog_models::find(name) {
            Ok(model) => (name.clone(), model.spec_for([c, h, w], args.classes.unwrap_or(model.classes))?),
            Err(_) if Path::new(name).exists() => return open_checkpoint(args, Path::new(name), device),
            Err(e) => {
                return Err(Error::invalid_argument(format!("{e}; nor does a checkpoint {name} exist")));
            }
        },
        (None, None) => {
            return Err(Error::invalid_argument("no network given; use its name, a checkpoint, or --spec"));
        }
    };
    let shape = Shape::new(&[1, c, h, w])?;
    let network = Builder::new(device, args.seed).build(&spec, &shape).context(|| name.as_str())?;
    match &args.weights {
        Some(file) => drop(weights::load(&*network, file)?),
        None => output::note(format_args!("{name} has the initial parameters of seed {}", args.seed)),
    }
    Ok((name, network))
}

fn open_checkpoint(args: &Args, file: &Path, device: &Device) -> Result<(String, Box<dyn Layer>)> {
    if args.weights.is_some() || args.classes.is_some() {
        return Err(Error::invalid_argument(
            "a checkpoint contains its network; --weights and --classes are for networks by name",
        ));
    }
    let checkpoint = Checkpoint::read(file)?;
    let network = checkpoint.network(device).context(|| file.display().to_string())?;
    Ok((checkpoint.config.network, network))
}

/// Reads an array from an .npy or .npz file.
fn read_array(path: &Path, device: &Device) -> Result<Tensor> {
    let location = || path.display().to_string();
    let cannot_read = |e| Error::io(format!("cannot read the array {}", path.display()), e);
    let metadata = fs::metadata(path).map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err(Error::format("not an array: it is not a regular file")).context(location);
    }
    let mut bytes = Aligned::with_length(metadata.len()).context(location)?;
    File::open(path).and_then(|mut file| file.read_exact(bytes.as_mut())).map_err(cannot_read)?;
    let bytes =
        if bytes.as_ref().starts_with(b"PK\x03\x04") { array_of_archive(bytes.as_ref()) } else { Ok(bytes) };
    bytes.and_then(|bytes| tensor(bytes.as_ref(), device)).context(location)
}

/// Bytes that start at a multiple of eight, as arrays in memory must.
struct Aligned {
    words: Vec<u64>,
    length: usize,
}

impl Aligned {
    fn with_length(length: u64) -> Result<Self> {
        let too_large = || Error::invalid_argument(format!("cannot allocate {length} bytes for the array"));
        let length = usize::try_from(length).map_err(|_| too_large())?;
        let mut words = Vec::new();
        words.try_reserve_exact(length.div_ceil(8)).map_err(|_| too_large())?;
        words.resize(length.div_ceil(8), 0);
        Ok(Aligned { words, length })
    }

    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.length]
    }
}

/// Returns the .npy file of an archive: the only one, or that of the input.
fn array_of_archive(archive: &[u8]) -> Result<Aligned> {
    let invalid = |e| Error::format("not an .npz file: the archive is damaged").with_source(e);
    let mut archive_file = ZipArchive::new(Cursor::new(archive)).map_err(invalid)?;
    let names: Vec<String> = archive_file.file_names().map(String::from).collect();
    let own = format!("{INPUT}.npy");
    let name = match names.as_slice() {
        [only] => only,
        names => names.iter().find(|name| **name == own).ok_or_else(|| {
            Error::invalid_argument(format!(
                "the archive has the arrays {}; expected one, or one called {INPUT}",
                names.join(", ")
            ))
        })?,
    };
    let mut entry = archive_file.by_name(name).map_err(|e| {
        Error::format(format!(
            "cannot read {name} in the archive; numpy.savez writes archives without compression"
        ))
        .with_source(e)
    })?;
    if entry.size() > archive.len() as u64 {
        return Err(Error::format(format!("{name} is longer than the archive: the file is damaged")));
    }
    let mut bytes = Aligned::with_length(entry.size())?;
    entry.read_exact(bytes.as_mut()).map_err(|e| Error::io(format!("cannot read {name}"), e))?;
    Ok(bytes)
}

/// Converts an .npy file to a tensor.
fn tensor(bytes: &[u8], device: &Device) -> Result<Tensor> {
    fn view<T: ViewElement + Copy>(bytes: &[u8]) -> Result<Option<(Shape, Vec<T>)>> {
        match ArrayViewD::<T>::view_npy(bytes) {
            Ok(array) => {
                let values = array.iter().copied().collect();
                Ok(Some((Shape::new(array.shape())?, values)))
            }
            Err(ViewNpyError::WrongDescriptor(_)) => Ok(None),
            Err(e) => Err(Error::format("not an .npy file").with_source(e)),
        }
    }
    if let Some((shape, values)) = view::<f32>(bytes)? {
        return Tensor::from_f32(shape, &values, device);
    }
    macro_rules! wide {
        ($($number:ty),*) => {$(
            if let Some((shape, values)) = view::<$number>(bytes)? {
                let values: Vec<f64> = values.into_iter().map(|value| value as f64).collect();
                return Tensor::from_f64(shape, &values, device);
            }
        )*};
    }
    wide!(f64, u8, i8, i16, u16, i32, u32, i64, u64);
    Err(Error::format("the array has a type that is not supported; use .astype(numpy.float32)"))
}
