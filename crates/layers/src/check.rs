//! Proves the gradients of layers, found through the registry, and that devices agree on them.

use neocog_autograd::check::{Check, Report, Subject, along, compare, direction};
use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};

use crate::builder::Builder;
use crate::layer::{Context, Layer};
use crate::registry::registry;
use crate::spec::{Example, LayerSpec};
use crate::state;

/// Compares the gradients of a layer or network, of its input and of every parameter, with central differences in
/// double precision, in training mode. Parameters and input are drawn from `seed`.
///
/// # Errors
/// When the layer cannot be built or run; what is off is in the [`Report`].
pub fn check_layer(spec: &LayerSpec, input: &Shape, seed: u64, check: &Check) -> Result<Report> {
    let (layer, x) = drawn(spec, input, seed, &Device::Reference)?;
    check_built(&*layer, &x, check)
}

/// A layer or network on `device`, and an input for it: the same numbers on every device.
fn drawn(spec: &LayerSpec, input: &Shape, seed: u64, device: &Device) -> Result<(Box<dyn Layer>, Tensor)> {
    let layer = Builder::new(device, seed).build(spec, input)?;
    let mut random = Random::stream(seed, "input");
    let values: Vec<f32> = (0..input.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    // Scales and shifts that start at 1 and 0 hide mistakes: they are moved a little. Drawn parameters are left as they are,
    // or the numbers of deep networks would grow until rounding hides the differences.
    for (name, param) in state::params(&*layer) {
        let values = param.value().to_f64()?;
        if values.len() > 1 && values.iter().any(|v| *v != values[0]) {
            continue;
        }
        let mut random = Random::stream(seed ^ 1, &name);
        let moved: Vec<f64> = values.iter().map(|v| v + f64::from(random.next_uniform(-0.2, 0.2))).collect();
        param.set(&Tensor::from_f64(param.shape(), &moved, device)?)?;
    }
    Ok((layer, Tensor::from_f32(*input, &values, device)?))
}

/// As [`check_layer`], of a layer that was built already, with its parameters as they are. The layer must be on
/// [`Device::Reference`].
///
/// # Errors
/// When the layer cannot be run.
pub fn check_built(layer: &dyn Layer, input: &Tensor, check: &Check) -> Result<Report> {
    const SEED: u64 = 5;
    let tape = Tape::new();
    let leaf = tape.leaf(input.clone());
    let output = layer.forward(&Context::train(&tape, SEED), &leaf)?;
    let direction = direction(&output)?;
    let grads = tape.backward_from(&[(&output, direction.clone())])?;
    let params = state::params(layer);
    let mut subjects =
        vec![Subject { name: "input".into(), value: input.clone(), gradient: grads.get(&leaf).cloned() }];
    subjects.extend(params.iter().map(|(name, param)| Subject {
        name: name.clone(),
        value: param.value(),
        gradient: grads.param(param).cloned(),
    }));
    compare(&subjects, check, |k, moved| {
        let tape = Tape::no_grad();
        let context = Context::train(&tape, SEED);
        let output = match k {
            0 => layer.forward(&context, &Var::constant(moved.clone()))?,
            k => {
                let param = params[k - 1].1;
                let old = param.value();
                param.set(moved)?;
                let output = layer.forward(&context, &Var::constant(input.clone()));
                param.set(&old)?;
                output?
            }
        };
        along(&output, &direction)
    })
}

/// Compares a layer or network on `device` with the same on [`Device::Reference`]: the output in evaluation and in training,
/// what training leaves in its buffers, and the gradients of the input and of every parameter. A value may be off by
/// `tolerance` times the largest of its tensor, a gradient by a tenth of `tolerance` times the largest of all gradients as
/// well (that of a bias before a batch norm is nothing but rounding). Returns how many numbers were compared.
///
/// # Errors
/// Names the tensor and the element that is off.
pub fn check_layer_on(
    device: &Device,
    spec: &LayerSpec,
    input: &Shape,
    seed: u64,
    tolerance: f64,
) -> Result<usize> {
    let [exact, got] = [&Device::Reference, device].map(|device| everything(spec, input, seed, device));
    let (exact, got) = (exact?, got?);
    let size = |values: &[f64]| values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    let steepest = exact.iter().filter(|v| v.is_gradient).map(|v| size(&v.numbers)).fold(0.0, f64::max);
    if exact.len() != got.len() {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!("{} tensors on {device}, {} on {}", got.len(), exact.len(), Device::Reference),
        ));
    }
    let mut compared = 0;
    for (exact, got) in exact.iter().zip(&got) {
        let floor = if exact.is_gradient { 0.1 * tolerance * steepest } else { 0.0 };
        let allowed = tolerance * size(&exact.numbers) + floor;
        for (i, (g, e)) in got.numbers.iter().zip(&exact.numbers).enumerate() {
            let off = (g - e).abs();
            if off > allowed || off.is_nan() {
                let at = exact.shape.unravel(i);
                return Err(Error::new(
                    ErrorKind::Diverged,
                    format!(
                        "{} {}: element {at:?} is {g:e} on {device}, {e:e} in double precision (allowed {allowed:e})",
                        exact.name, exact.shape
                    ),
                ));
            }
            compared += 1;
        }
    }
    Ok(compared)
}

/// A tensor that [`check_layer_on`] compares.
struct Seen {
    name: String,
    shape: Shape,
    numbers: Vec<f64>,
    is_gradient: bool,
}

/// What a layer computes and leaves behind on a device, and all gradients.
fn everything(spec: &LayerSpec, input: &Shape, seed: u64, device: &Device) -> Result<Vec<Seen>> {
    let (layer, x) = drawn(spec, input, seed, device)?;
    let mut seen = Vec::new();
    let mut keep = |name: String, tensor: &Tensor, is_gradient| -> Result<()> {
        seen.push(Seen { name, shape: *tensor.shape(), numbers: tensor.to_f64()?, is_gradient });
        Ok(())
    };
    let tape = Tape::no_grad();
    let output = layer.forward(&Context::eval(&tape), &Var::constant(x.clone()))?;
    keep("the output in evaluation".into(), output.tensor(), false)?;
    let tape = Tape::new();
    let leaf = tape.leaf(x);
    let output = layer.forward(&Context::train(&tape, seed), &leaf)?;
    keep("the output in training".into(), output.tensor(), false)?;
    for (name, entry) in state::entries(&*layer) {
        if let state::Entry::Buffer(buffer) = entry {
            keep(name, &buffer.value().value(), false)?;
        }
    }
    let direction = direction(&output)?;
    let grads = tape.backward_from(&[(&output, direction)])?;
    if let Some(gradient) = grads.get(&leaf) {
        keep("the gradient of the input".into(), gradient, true)?;
    }
    for (name, param) in state::params(&*layer) {
        if let Some(gradient) = grads.param(param) {
            keep(format!("the gradient of {name}"), gradient, true)?;
        }
    }
    Ok(seen)
}

/// Runs `check` on every example of every registered layer; what goes wrong says where. Returns how many there were.
fn each_example(check: impl Fn(&LayerSpec, &Shape) -> Result<()>) -> Result<usize> {
    let mut checked = 0;
    for entry in registry()?.iter() {
        for Example { spec, input } in entry.examples() {
            check(&spec, &input)
                .context(|| format!("{spec:?} with input {input}"))
                .context(|| format!("{} of {}", entry.kind, entry.crate_name))?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// Holds every registered layer on `device` to the same in double precision, on its examples, for one seed: see
/// [`check_layer_on`]. Returns how many examples were checked.
///
/// # Errors
/// Names the layer, its example and the element that is off.
pub fn check_registered_on(device: &Device, seed: u64) -> Result<usize> {
    each_example(|spec, input| check_layer_on(device, spec, input, seed, 1e-4).map(drop))
}

/// Proves the gradients of every registered layer from its examples, for one seed. Tests call it, those of other
/// crates too: `check_registered(seed)?`. Returns how many examples were checked.
///
/// # Errors
/// Names the layer, its example and the elements that are off.
pub fn check_registered(seed: u64) -> Result<usize> {
    each_example(|spec, input| {
        check_layer(spec, input, seed, &Check::default()).and_then(Report::into_result).map(drop)
    })
}
