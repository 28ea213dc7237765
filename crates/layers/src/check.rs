//! Gradient checks of registered layers, and comparisons between devices.

use neocog_autograd::check::{Check, Report, Subject, along, compare, direction};
use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};

use crate::builder::Builder;
use crate::layer::{Context, Layer};
use crate::registry::registry;
use crate::spec::{Example, LayerSpec};
use crate::state;

/// Compares the gradients of a layer or network with respect to its input and every parameter with central differences in double
/// precision, in training mode. Parameters and input are random numbers from `seed`.
///
/// # Errors
/// When the layer cannot be built or run. Deviations are not errors, but part of the [`Report`].
pub fn check_layer(spec: &LayerSpec, input: &Shape, seed: u64, check: &Check) -> Result<Report> {
    let (layer, x) = random_layer(spec, input, seed, &Device::Reference)?;
    check_built(&*layer, &x, check)
}

/// Builds a layer or network on `device`, and an input for it, with values that do not depend on the device.
fn random_layer(
    spec: &LayerSpec,
    input: &Shape,
    seed: u64,
    device: &Device,
) -> Result<(Box<dyn Layer>, Tensor)> {
    let layer = Builder::new(device, seed).build(spec, input)?;
    let mut random = Random::stream(seed, "input");
    let values: Vec<f32> = (0..input.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    // Constant parameters, as scales of 1 and shifts of 0, hide errors: they are perturbed. Random parameters are not, because
    // activations of deep networks would grow until rounding hides the differences.
    for (name, param) in state::params(&*layer) {
        let values = param.value().to_f64()?;
        if values.len() > 1 && values.iter().any(|v| *v != values[0]) {
            continue;
        }
        let mut random = Random::stream(seed ^ 1, &name);
        let values: Vec<f64> = values.iter().map(|v| v + f64::from(random.next_uniform(-0.2, 0.2))).collect();
        param.set(&Tensor::from_f64(param.shape(), &values, device)?)?;
    }
    Ok((layer, Tensor::from_f32(*input, &values, device)?))
}

/// As [`check_layer`], for a built layer with its current parameters, on [`Device::Reference`].
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
    compare(&subjects, check, |k, changed| {
        let tape = Tape::no_grad();
        let context = Context::train(&tape, SEED);
        let output = match k {
            0 => layer.forward(&context, &Var::constant(changed.clone()))?,
            k => {
                let param = params[k - 1].1;
                let old = param.value();
                param.set(changed)?;
                let output = layer.forward(&context, &Var::constant(input.clone()));
                param.set(&old)?;
                output?
            }
        };
        along(&output, &direction)
    })
}

/// Compares a layer or network on `device` with the same on [`Device::Reference`]: the output in evaluation and in training mode,
/// its buffers after training, and the gradients of the input and of every parameter. The maximum error of an element is
/// `tolerance` times the largest magnitude in its tensor; for gradients, plus a tenth of `tolerance` times the largest magnitude
/// of all gradients (the gradient of a bias before batch norm consists of rounding errors). Returns the number of elements
/// compared.
///
/// # Errors
/// `Diverged` with the tensor and the first element that exceeds the maximum error.
pub fn check_layer_on(
    device: &Device,
    spec: &LayerSpec,
    input: &Shape,
    seed: u64,
    tolerance: f64,
) -> Result<usize> {
    let [expected, actual] = [&Device::Reference, device].map(|device| run_all(spec, input, seed, device));
    let (expected, actual) = (expected?, actual?);
    let magnitude = |values: &[f64]| values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    let gradients = expected.iter().filter(|result| result.is_gradient);
    let largest_gradient = gradients.map(|result| magnitude(&result.values)).fold(0.0, f64::max);
    if expected.len() != actual.len() {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!("{} tensors on {device}, {} on {}", actual.len(), expected.len(), Device::Reference),
        ));
    }
    let mut compared = 0;
    for (expected, actual) in expected.iter().zip(&actual) {
        let floor = if expected.is_gradient { 0.1 * tolerance * largest_gradient } else { 0.0 };
        let max_error = tolerance * magnitude(&expected.values) + floor;
        for (i, (a, e)) in actual.values.iter().zip(&expected.values).enumerate() {
            let error = (a - e).abs();
            if error > max_error || error.is_nan() {
                let index = expected.shape.unravel(i);
                return Err(Error::new(
                    ErrorKind::Diverged,
                    format!(
                        "{} {}: element {index:?} is {a:e} on {device}, {e:e} in double precision (maximum error {max_error:e})",
                        expected.name, expected.shape
                    ),
                ));
            }
            compared += 1;
        }
    }
    Ok(compared)
}

/// A tensor that [`check_layer_on`] compares.
struct ResultTensor {
    name: String,
    shape: Shape,
    values: Vec<f64>,
    is_gradient: bool,
}

/// Returns the outputs of a layer on a device, its buffers after training, and all gradients.
fn run_all(spec: &LayerSpec, input: &Shape, seed: u64, device: &Device) -> Result<Vec<ResultTensor>> {
    let (layer, x) = random_layer(spec, input, seed, device)?;
    let mut results = Vec::new();
    let mut push = |name: String, tensor: &Tensor, is_gradient| -> Result<()> {
        results.push(ResultTensor { name, shape: *tensor.shape(), values: tensor.to_f64()?, is_gradient });
        Ok(())
    };
    let tape = Tape::no_grad();
    let output = layer.forward(&Context::eval(&tape), &Var::constant(x.clone()))?;
    push("the output in evaluation".into(), output.tensor(), false)?;
    let tape = Tape::new();
    let leaf = tape.leaf(x);
    let output = layer.forward(&Context::train(&tape, seed), &leaf)?;
    push("the output in training".into(), output.tensor(), false)?;
    for (name, entry) in state::entries(&*layer) {
        if let state::Entry::Buffer(buffer) = entry {
            push(name, &buffer.value().value(), false)?;
        }
    }
    let direction = direction(&output)?;
    let grads = tape.backward_from(&[(&output, direction)])?;
    if let Some(gradient) = grads.get(&leaf) {
        push("the gradient of the input".into(), gradient, true)?;
    }
    for (name, param) in state::params(&*layer) {
        if let Some(gradient) = grads.param(param) {
            push(format!("the gradient of {name}"), gradient, true)?;
        }
    }
    Ok(results)
}

/// Runs `check` on every example of every registered layer; errors name the layer and the example. Returns the number of examples.
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

/// Compares every registered layer on `device` with [`Device::Reference`], on its examples, for one seed; see [`check_layer_on`].
/// Returns the number of examples.
///
/// # Errors
/// `Diverged` with the layer, the example and the first element that exceeds the maximum error.
pub fn check_registered_on(device: &Device, seed: u64) -> Result<usize> {
    each_example(|spec, input| check_layer_on(device, spec, input, seed, 1e-4).map(drop))
}

/// Checks the gradients of every registered layer on its examples, for one seed. Meant for tests, including those of plugins.
/// Returns the number of examples.
///
/// # Errors
/// `Diverged` with the layer, the example and the elements that deviate.
pub fn check_registered(seed: u64) -> Result<usize> {
    each_example(|spec, input| {
        check_layer(spec, input, seed, &Check::default()).and_then(Report::into_result).map(drop)
    })
}
