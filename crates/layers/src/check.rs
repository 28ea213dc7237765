//! Proves the gradients of layers, found through the registry.

use neocog_autograd::check::{Check, Report, Subject, along, compare, direction};
use neocog_autograd::{Tape, Var};
use neocog_tensor::random::Random;
use neocog_tensor::{At, Device, Result, Shape, Tensor};

use crate::builder::Builder;
use crate::context::Context;
use crate::layer::Layer;
use crate::registry::registry;
use crate::spec::{Example, LayerSpec};
use crate::state;

/// Compares the gradients of a layer or network, of its input and of every parameter, with central differences in
/// double precision, in training mode. Parameters and input are drawn from `seed`.
///
/// # Errors
/// When the layer cannot be built or run; what is off is in the [`Report`].
pub fn check_layer(spec: &LayerSpec, input: &Shape, seed: u64, check: &Check) -> Result<Report> {
    let layer = Builder::new(&Device::Reference, seed).build(spec, input)?;
    let mut random = Random::stream(seed, "input");
    let values: Vec<f32> = (0..input.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    let x = Tensor::from_f32(*input, &values, &Device::Reference)?;
    // Scales and shifts that start at 1 and 0 hide mistakes: they are moved a little. Drawn parameters are left as they are,
    // or the numbers of deep networks would grow until rounding hides the differences.
    for (name, param) in state::params(&*layer) {
        let values = param.value().to_f64()?;
        if values.len() > 1 && values.iter().any(|v| *v != values[0]) {
            continue;
        }
        let mut random = Random::stream(seed ^ 1, &name);
        let moved: Vec<f64> = values.iter().map(|v| v + f64::from(random.next_uniform(-0.2, 0.2))).collect();
        param.set(&Tensor::from_f64(param.shape(), &moved, &Device::Reference)?)?;
    }
    check_built(&*layer, &x, check)
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
        vec![Subject { name: "input".into(), value: input.clone(), gradient: grads.of(&leaf).cloned() }];
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

/// Proves the gradients of every registered layer from its examples, for one seed. Tests call it, those of other
/// crates too: `check_registered(seed)?`. Returns how many examples were checked.
///
/// # Errors
/// Names the layer, its example and the elements that are off.
pub fn check_registered(seed: u64) -> Result<usize> {
    let mut checked = 0;
    for entry in registry()?.iter() {
        for Example { spec, input } in entry.examples() {
            check_layer(&spec, &input, seed, &Check::default())
                .and_then(Report::into_result)
                .at(|| format!("{spec:?} with input {input}"))
                .at(|| format!("{} of {}", entry.kind, entry.crate_name))?;
            checked += 1;
        }
    }
    Ok(checked)
}
