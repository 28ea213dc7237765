//! `run`: a network on arrays.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use neocog_base::file::check_distinct;
use neocog_base::program::quoted_path;
use neocog_layers::{Builder, Layer, Predictor, weights};
use neocog_tensor::{Context as _, Device, Error, Result, Shape};
use neocog_train::{Checkpoint, ModelFile};
use serde::Serialize;

use super::network::note_auxiliary;
use super::onnx_network::is_onnx;
use super::run_onnx::run_onnx;
use crate::arguments::{DeviceArg, positive};
use crate::array;
use crate::help::examples;
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
///
/// An ONNX model, a file whose name ends with .onnx, has inputs and outputs with names: --input NAME=FILE for each input, and
/// DIR/NAME.npy for each output, in the types of the model.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog run resnet18 --weights resnet18.pth --input x.npy --output out
  neocog run runs/lenet-digits/best.ckpt --input x.npy --output out
  neocog run net.onnx --input x.npy --output out
  neocog run --spec my.json --weights my.safetensors --input batch.npz --output out"))]
struct Args {
    /// Network, checkpoint, or ONNX model.
    #[arg(
        value_name = "NETWORK|CHECKPOINT|MODEL.onnx",
        required_unless_present = "spec",
        conflicts_with = "spec"
    )]
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
    /// Directory of DIR/output.npy, for ONNX models of a file for each output; created if it does not exist.
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
    /// As it was given.
    text: String,
}

impl FromStr for InputFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A path may contain an equals sign: a name does not.
        Ok(match text.split_once('=') {
            Some((name, path)) if !name.contains(['/', '\\', '.']) && !Path::new(text).exists() => {
                InputFile { name: Some(name.to_string()), path: path.into(), text: text.to_string() }
            }
            _ => InputFile { name: None, path: text.into(), text: text.to_string() },
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
    if let Some(file) = args.network.as_deref().map(Path::new).filter(|file| is_onnx(file)) {
        if args.weights.is_some() || args.classes.is_some() {
            return Err(Error::invalid_argument(
                "an ONNX model contains its network; --weights and --classes are for networks by name",
            ));
        }
        let inputs: Vec<&str> = args.input.iter().map(|input| input.text.as_str()).collect();
        return run_onnx(file, &inputs, &args.output, &args.device.device, args.json);
    }
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
    let x = array::read(&input.path, INPUT, device)?.tensor;
    let (name, network) = open(args, *x.shape(), device)?;
    let predictor = Predictor::new(network);
    output::layer_by_layer(predictor.reason(x.shape(), &x.device()).context(|| name.as_str())?);
    let y = predictor.run(&x).context(|| name.as_str())?;
    output::not_finite(OUTPUT, &y)?;

    fs::create_dir_all(&args.output)
        .map_err(|e| Error::io(format!("cannot create the directory {}", args.output.display()), e))?;
    match device {
        Device::Reference => array::write(&file, y.shape().extents(), y.to_f64()?)?,
        _ => array::write(&file, y.shape().extents(), y.to_f32()?)?,
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
        Some(file) => {
            let loaded = weights::load(&*network, file);
            let of_input = || format!("{name} for an input [n, c, h, w] with c = {c}, h = {h} and w = {w}");
            note_auxiliary(&loaded.context(of_input)?);
        }
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
    if ["pth", "pt", "safetensors"]
        .iter()
        .any(|of_weights| file.extension().is_some_and(|e| e == *of_weights))
    {
        return Err(Error::invalid_argument(format!(
            "{} is a file of weights, without a network; use run NETWORK --weights {}",
            file.display(),
            quoted_path(file)
        )));
    }
    let checkpoint = Checkpoint::read(file)?;
    let network = checkpoint.network(device).context(|| file.display().to_string())?;
    Ok((checkpoint.config.network, network))
}
