//! Runs the cases of operations on a tape, which computes the gradients.

use std::collections::BTreeMap;

use neocog_autograd::{Tape, Var};
use neocog_layers::{BatchNorm, BatchNorm1d, BatchNorm2d, Builder, Context, Layer, LayerSpec, state};
use neocog_tensor::ops::{self, Reduction};
use neocog_tensor::{Device, Error, Op, Result, Shape, Tensor};
use serde::Deserialize;

use super::attrs::Attrs;
use super::compare::{Checked, DOUBLE, SINGLE_FACTOR, SINGLE_FLOOR, Tally, largest};
use super::dropout;
use super::files::{Array, Case, GradOutput, Output, Suite, Tensors};
use super::optim::Steps;

/// The operations of golden files.
pub const OPS: [&str; 21] = [
    "avg_pool2d",
    "batch_norm",
    "batch_norm_seed",
    "cat",
    "conv2d",
    "cross_entropy",
    "dense_cat",
    "global_avg_pool2d",
    "linear",
    "log_softmax",
    "max_pool2d",
    "optim_adam",
    "optim_adamw",
    "optim_rmsprop",
    "optim_sgd",
    "relu",
    "residual_add_relu",
    "sigmoid",
    "softmax",
    "tanh",
    "dropout",
];

/// Runs all cases of a suite.
pub fn run_suite(suite: &Suite, tensors: &Tensors, device: &Device) -> Tally {
    let mut tally = Tally::default();
    for (i, value) in suite.cases.iter().enumerate() {
        let name = value.get("id").and_then(|v| v.as_str()).map_or(format!("case {i}"), str::to_string);
        match Case::deserialize(value) {
            Err(e) => tally.add_error(name, format!("invalid case: {e}")),
            Ok(case) => match check(&case, tensors, device) {
                Ok(checked) => tally.add(checked),
                Err(e) => tally.add_error(name, e),
            },
        }
    }
    dropout::run(&suite.dropout, device, &mut tally);
    tally
}

fn check(case: &Case, tensors: &Tensors, device: &Device) -> Result<Checked> {
    let values = input_values(case)?;
    let results = run(case, &values, device)?;
    let exact = *device == Device::Reference && is_exact(case, &values)?;
    let mut checked = Checked::new(&case.id);
    for output in &case.outputs {
        let expected = tensors.get(&format!("{}/{}", case.id, output.name))?;
        match results.get(&output.name) {
            None => checked.fail(format!("no result {} of {}", output.name, case.op)),
            Some(got) => {
                checked.require(got.shape == expected.shape, || {
                    format!("{} has the shape {:?}, expected {:?}", output.name, got.shape, expected.shape)
                });
                let allowed = if exact || output.name == "indices" {
                    0.0
                } else {
                    allowed(output, expected, device).max(rounding(output, &values, device))
                };
                checked.compare(&output.name, &got.values, &expected.values, |_| allowed);
            }
        }
    }
    let prefix = format!("{}/", case.id);
    for name in tensors.names(&prefix) {
        let name = &name[prefix.len()..];
        checked.require(case.outputs.iter().any(|o| o.name == name), || {
            format!("the tensor {name} is not among the outputs of the case")
        });
    }
    Ok(checked)
}

/// Returns the tolerance of an inexact result; see the constants of [`super::compare`].
fn allowed(output: &Output, expected: &Array, device: &Device) -> f64 {
    let size = largest(&expected.values);
    match device {
        Device::Reference => DOUBLE * size,
        _ => (SINGLE_FACTOR * output.f32_max_abs_diff).max(SINGLE_FLOOR * size),
    }
}

/// Returns the tolerance of rounding errors. The error of a gradient is at least the rounding error of the gradient of the output,
/// even if terms cancel, and no error is smaller than the smallest positive number.
fn rounding(output: &Output, values: &Values, device: &Device) -> f64 {
    let (epsilon, min_positive) = match device {
        Device::Reference => (f64::EPSILON, f64::MIN_POSITIVE),
        _ => (f64::from(f32::EPSILON), f64::from(f32::MIN_POSITIVE)),
    };
    let magnitude = match values.get(GRAD_OUTPUT) {
        Some((_, direction)) if output.name.starts_with("grad_") => {
            direction.iter().fold(0.0f64, |a, v| a.max(f64::from(v.abs())))
        }
        _ => 0.0,
    };
    (epsilon * magnitude).max(min_positive)
}

/// The values of all inputs and of the gradient of the output, by name.
type Values = BTreeMap<String, (Shape, Vec<f32>)>;

/// The key of the gradient of the output; no input has an empty name.
const GRAD_OUTPUT: &str = "";

fn input_values(case: &Case) -> Result<Values> {
    let mut values = Values::new();
    for input in &case.inputs {
        values.insert(input.name.clone(), (Shape::new(&input.shape)?, input.make()?));
    }
    match &case.grad_output {
        Some(GradOutput::Tensor(input)) => {
            values.insert(GRAD_OUTPUT.into(), (Shape::new(&input.shape)?, input.make()?));
        }
        Some(GradOutput::Number(number)) => {
            values.insert(GRAD_OUTPUT.into(), (Shape::scalar(), vec![*number as f32]));
        }
        None => {}
    }
    Ok(values)
}

/// Whether the result is exact in double precision: all inputs are multiples of 2^-23, and all sums of products are below 2^7 in any
/// order, which the same computation with absolute values shows.
fn is_exact(case: &Case, values: &Values) -> Result<bool> {
    if !["conv2d", "linear", "max_pool2d", "avg_pool2d"].contains(&case.op.as_str()) {
        return Ok(false);
    }
    let grid = |v: &f32| (f64::from(*v) * 8_388_608.0).fract() == 0.0;
    if !values.values().all(|(_, v)| v.iter().all(grid)) {
        return Ok(false);
    }
    let absolute: Values =
        values.iter().map(|(k, (s, v))| (k.clone(), (*s, v.iter().map(|x| x.abs()).collect()))).collect();
    let results = run(case, &absolute, &Device::Reference)?;
    Ok(results.iter().filter(|(name, _)| *name != "indices").all(|(_, a)| largest(&a.values) < 128.0))
}

/// The results of an operation, by the names of golden files.
type Results = BTreeMap<String, Array>;

fn run(case: &Case, values: &Values, device: &Device) -> Result<Results> {
    let attrs = Attrs::new(&case.attrs);
    let results = match case.op.strip_prefix("optim_") {
        Some(optimizer) => run_optimizer(case, optimizer, &attrs, values, device),
        None => run_operation(case, &attrs, values, device),
    }?;
    attrs.finish()?;
    Ok(results)
}

/// The inputs of a case on a tape.
struct Inputs<'a> {
    case: &'a Case,
    tape: &'a Tape,
    device: &'a Device,
    vars: BTreeMap<String, Var>,
}

impl Inputs<'_> {
    fn get(&self, name: &str) -> Result<&Var> {
        self.vars
            .get(name)
            .ok_or_else(|| Error::format(format!("{} needs an input named {name}", self.case.op)))
    }

    /// Returns the inputs with these names; optional ones may be missing.
    fn of(&self, required: &[&str], optional: &[&str]) -> Result<Vec<&Var>> {
        let mut all = required.iter().map(|n| self.get(n)).collect::<Result<Vec<_>>>()?;
        all.extend(optional.iter().filter_map(|n| self.vars.get(*n)));
        if all.len() != self.vars.len() {
            let names: Vec<&String> = self.vars.keys().collect();
            return Err(Error::format(format!("{} has unknown inputs among {names:?}", self.case.op)));
        }
        Ok(all)
    }

    fn apply(&self, op: impl Op, inputs: &[&Var]) -> Result<Vec<Var>> {
        Ok(self.tape.apply(op, inputs)?.into_iter().collect())
    }
}

fn run_operation(case: &Case, attrs: &Attrs<'_>, values: &Values, device: &Device) -> Result<Results> {
    let tape = Tape::new();
    let mut vars = BTreeMap::new();
    for (name, (shape, data)) in values.iter().filter(|(n, _)| *n != GRAD_OUTPUT) {
        let tensor = Tensor::from_f32(*shape, data, device)?;
        let var = if case.grads.contains(name) { tape.leaf(tensor) } else { Var::constant(tensor) };
        vars.insert(name.clone(), var);
    }
    let mut inputs = Inputs { case, tape: &tape, device, vars };
    let mut results = Results::new();
    let y = forward(&mut inputs, attrs, &mut results)?;
    let leaves = inputs.vars;
    results.insert("y".into(), array(y.tensor())?);
    if case.grads.is_empty() {
        return Ok(results);
    }
    let (shape, direction) =
        values.get(GRAD_OUTPUT).ok_or_else(|| Error::format("the case has gradients, but no grad_output"))?;
    let direction = match direction.as_slice() {
        &[number] => Tensor::full(*y.shape(), f64::from(number), device)?,
        many => Tensor::from_f32(*shape, many, device)?,
    };
    let grads = tape.backward_from(&[(&y, direction)])?;
    for name in &case.grads {
        let leaf = leaves
            .get(name)
            .ok_or_else(|| Error::format(format!("there is no input {name} for a gradient")))?;
        let shape = values.get(name).map_or(*leaf.shape(), |(shape, _)| *shape);
        let grad = match grads.get(leaf) {
            Some(grad) => grad.reshape(shape)?,
            None => Tensor::zeros(shape, device)?,
        };
        results.insert(format!("grad_{name}"), array(&grad)?);
    }
    Ok(results)
}

/// Computes the output; adds further results to `results`.
fn forward(inputs: &mut Inputs<'_>, attrs: &Attrs<'_>, results: &mut Results) -> Result<Var> {
    let first = |outputs: Vec<Var>| outputs.into_iter().next().expect("an operation has an output");
    match inputs.case.op.as_str() {
        "conv2d" => {
            let op = ops::Conv2d {
                stride: attrs.pair_or("stride", [1, 1])?,
                padding: attrs.pair_or("padding", [0, 0])?,
                dilation: attrs.pair_or("dilation", [1, 1])?,
                groups: attrs.get_or("groups", 1)?,
                flip: false,
                activation: None,
            };
            inputs.apply(op, &inputs.of(&["x", "weight"], &["bias"])?).map(first)
        }
        "linear" => inputs
            .apply(ops::Linear { activation: None }, &inputs.of(&["x", "weight"], &["bias"])?)
            .map(first),
        "max_pool2d" => {
            let kernel_size = attrs.pair_or("kernel", [0, 0])?;
            let op = ops::MaxPool2d {
                kernel_size,
                stride: attrs.pair_or("stride", kernel_size)?,
                padding: attrs.pair_or("padding", [0, 0])?,
                dilation: attrs.pair_or("dilation", [1, 1])?,
                ceil_mode: attrs.get_or("ceil_mode", false)?,
                return_indices: true,
            };
            let outputs = inputs.apply(op, &inputs.of(&["x"], &[])?)?;
            results.insert("indices".into(), array(outputs[1].tensor())?);
            Ok(first(outputs))
        }
        "avg_pool2d" => {
            let kernel_size = attrs.pair_or("kernel", [0, 0])?;
            let op = ops::AvgPool2d {
                kernel_size,
                stride: attrs.pair_or("stride", kernel_size)?,
                padding: attrs.pair_or("padding", [0, 0])?,
                ceil_mode: attrs.get_or("ceil_mode", false)?,
                count_include_pad: attrs.get_or("count_include_pad", true)?,
                divisor_override: attrs.get_or("divisor_override", None)?,
            };
            inputs.apply(op, &inputs.of(&["x"], &[])?).map(first)
        }
        "global_avg_pool2d" => inputs.apply(ops::GlobalAvgPool2d, &inputs.of(&["x"], &[])?).map(first),
        "batch_norm" => batch_norm(inputs, attrs, results),
        "batch_norm_seed" => batch_norm_from_scratch(inputs, attrs, results),
        "relu" => inputs.apply(ops::Relu, &inputs.of(&["x"], &[])?).map(first),
        "sigmoid" => inputs.apply(ops::Sigmoid, &inputs.of(&["x"], &[])?).map(first),
        "tanh" => inputs.apply(ops::Tanh, &inputs.of(&["x"], &[])?).map(first),
        "softmax" => {
            let dim = attrs.get_or("dim", 1)?;
            inputs.apply(ops::Softmax { dim }, &inputs.of(&["x"], &[])?).map(first)
        }
        "log_softmax" => {
            let dim = attrs.get_or("dim", 1)?;
            inputs.apply(ops::LogSoftmax { dim }, &inputs.of(&["x"], &[])?).map(first)
        }
        "cross_entropy" => {
            let reduction = match attrs.get_or("reduction", "mean".to_string())?.as_str() {
                "mean" => Reduction::Mean,
                "sum" => Reduction::Sum,
                "none" => Reduction::None,
                other => return Err(Error::format(format!("unknown reduction {other}"))),
            };
            let label_smoothing = attrs.get_or("label_smoothing", 0.0)?;
            let op = ops::CrossEntropy { reduction, label_smoothing };
            inputs.apply(op, &inputs.of(&["logits", "target"], &[])?).map(first)
        }
        "cat" => {
            let dim = attrs.get_or("dim", 0)?;
            let names: Vec<&str> = inputs.case.inputs.iter().map(|i| i.name.as_str()).collect();
            inputs.apply(ops::Concat { dim }, &inputs.of(&names, &[])?).map(first)
        }
        "residual_add_relu" => {
            let (x, z) = (inputs.get("x")?, inputs.get("z")?);
            let product = inputs.apply(ops::Mul, &[z, x])?;
            inputs.apply(ops::AddRelu, &[&product[0], x]).map(first)
        }
        "dense_cat" => {
            let (x, z) = (inputs.get("x")?, inputs.get("z")?);
            let product = inputs.apply(ops::Mul, &[x, z])?;
            inputs.apply(ops::Concat { dim: 1 }, &[x, &product[0]]).map(first)
        }
        other => Err(Error::not_found("operation that golden files can name", other, OPS)),
    }
}

/// PyTorch's batch norm, as a layer.
fn batch_norm(inputs: &mut Inputs<'_>, attrs: &Attrs<'_>, results: &mut Results) -> Result<Var> {
    let x = inputs.get("x")?.clone();
    let num_features = x.shape().extents().get(1).copied().unwrap_or(0);
    let (eps, momentum) = (attrs.get_or("eps", 1e-5)?, attrs.get_or("momentum", Some(0.1))?);
    let (affine, track_running_stats) =
        (attrs.get_or("affine", true)?, attrs.get_or("track_running_stats", true)?);
    let spec: LayerSpec = match x.shape().rank() {
        4 => BatchNorm2d { num_features, eps, momentum, affine, track_running_stats }.into(),
        _ => BatchNorm1d { num_features, eps, momentum, affine, track_running_stats }.into(),
    };
    let training = attrs.get_or("training", true)?;
    let steps: usize = attrs.get_or("steps", 1)?;
    run_layer(inputs, results, &spec, training, steps)
}

/// The batch norm of the notes, as a layer.
fn batch_norm_from_scratch(inputs: &mut Inputs<'_>, attrs: &Attrs<'_>, results: &mut Results) -> Result<Var> {
    let x = inputs.get("x")?;
    let num_features = x.shape().extents().get(1).copied().unwrap_or(0);
    let spec = BatchNorm {
        num_features,
        num_dims: x.shape().rank(),
        eps: attrs.get_or("eps", 1e-5)?,
        momentum: attrs.get_or("momentum", 0.9)?,
    };
    let training = attrs.get_or("training", true)?;
    let steps: usize = attrs.get_or("steps", 1)?;
    run_layer(inputs, results, &spec.into(), training, steps)
}

/// Builds a layer, sets its state from the inputs with the same names, and runs it `steps` times: on the input `x` multiplied by
/// 0.5, 1.5 and so on, and finally on `x`. Its buffers after that are results.
fn run_layer(
    inputs: &mut Inputs<'_>,
    results: &mut Results,
    spec: &LayerSpec,
    training: bool,
    steps: usize,
) -> Result<Var> {
    let x = inputs.get("x")?.clone();
    let layer = Builder::new(inputs.device, 0).build(spec, x.shape())?;
    let mut unused: Vec<&str> = inputs.vars.keys().map(String::as_str).filter(|name| *name != "x").collect();
    let mut shapes = BTreeMap::new();
    for (name, entry) in state::entries(&*layer) {
        let Some(param) = entry.tensor() else { continue };
        let value = inputs.get(&name)?.tensor();
        shapes.insert(name.clone(), *value.shape());
        param.set(&value.reshape(param.shape())?)?;
        unused.retain(|n| *n != name);
    }
    if !unused.is_empty() {
        return Err(Error::format(format!("the layer {} has no state named {unused:?}", spec.kind())));
    }
    let forward = |layer: &dyn Layer, tape: &Tape, x: &Var| {
        let context = if training { Context::train(tape, 0) } else { Context::eval(tape) };
        context.run(layer, x)
    };
    for step in 0..steps.saturating_sub(1) {
        let scaled: Vec<f64> = x.tensor().to_f64()?.iter().map(|v| v * (0.5 + step as f64)).collect();
        let scaled = Tensor::from_f64(*x.shape(), &scaled, inputs.device)?;
        forward(&*layer, &Tape::no_grad(), &Var::constant(scaled))?;
    }
    let y = forward(&*layer, inputs.tape, &x)?;
    for (name, entry) in state::entries(&*layer) {
        match entry {
            // The leaf of the parameter on the tape, which gets the gradient.
            state::Entry::Param(param) => {
                inputs.vars.insert(name, inputs.tape.param(param));
            }
            state::Entry::Buffer(buffer) => {
                let value = buffer.value().value().reshape(shapes[&name])?;
                results.insert(format!("{name}_after"), array(&value)?);
            }
            state::Entry::Counter(_) => {}
        }
    }
    Ok(y)
}

/// Runs an optimizer on the loss `0.5 * Σ a * (w - t)^2`, a step for each row of the result `w`.
fn run_optimizer(
    case: &Case,
    name: &str,
    attrs: &Attrs<'_>,
    values: &Values,
    device: &Device,
) -> Result<Results> {
    let input = |name: &str| -> Result<Tensor> {
        let (shape, data) =
            values.get(name).ok_or_else(|| Error::format(format!("{} needs an input {name}", case.op)))?;
        Tensor::from_f32(*shape, data, device)
    };
    let (mut w, a, t) = (input("w0")?, input("a")?, input("t")?);
    let count = case
        .outputs
        .iter()
        .find(|o| o.name == "w")
        .and_then(|o| o.shape.first().copied())
        .ok_or_else(|| Error::format("the case has no result w, whose rows give the number of steps"))?;
    let mut steps = Steps::new(name, attrs, &w)?;
    let (mut all, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let tape = Tape::new();
        let leaf = tape.leaf(w.clone());
        let difference = tape.apply_single(ops::Sub, &[&leaf, &Var::constant(t.clone())])?;
        let square = tape.apply_single(ops::Mul, &[&difference, &difference])?;
        let weighted = tape.apply_single(ops::Mul, &[&square, &Var::constant(a.clone())])?;
        let sum = tape.apply_single(ops::Sum, &[&weighted])?;
        let loss = tape.apply_single(ops::Scale { factor: 0.5 }, &[&sum])?;
        losses.push(loss.tensor().item()?);
        let grads = tape.backward(&loss)?;
        let grad = grads.get(&leaf).ok_or_else(|| Error::format("the loss has no gradient"))?.clone();
        drop(leaf);
        steps.step(&mut w, &grad)?;
        all.extend(w.to_f64()?);
    }
    let shape = std::iter::once(count).chain(w.shape().iter().copied()).collect();
    Ok(Results::from([
        ("w".to_string(), Array { shape, values: all }),
        ("loss".to_string(), Array { shape: vec![count], values: losses }),
    ]))
}

/// Converts a tensor; scalars have the shape `[1]` in golden files.
fn array(tensor: &Tensor) -> Result<Array> {
    let shape = if tensor.shape().rank() == 0 { vec![1] } else { tensor.shape().to_vec() };
    Ok(Array { shape, values: tensor.to_f64()? })
}
