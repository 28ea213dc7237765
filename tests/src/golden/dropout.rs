//! Properties of dropout, whose random numbers differ from those of PyTorch.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Builder, Context, Dropout};
use neocog_tensor::{Device, Error, Result, Shape, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::compare::{Checked, Tally};

/// The expected properties of dropout of ones, for one probability.
#[derive(Debug, Deserialize)]
struct Expected {
    p: f64,
    n: usize,
    /// Tolerance of the fraction of zeros.
    zero_fraction_5_sigma: f64,
    /// The value of elements that are not dropped; `None` if all are.
    kept_value: Option<f64>,
    /// Tolerance of the mean, which is 1, or 0 if all elements are dropped.
    mean_5_sigma: f64,
    grad_equals_mask_over_1_minus_p: bool,
    eval_is_identity: bool,
}

/// Checks dropout for each of `expected`.
pub fn run(expected: &[Value], device: &Device, tally: &mut Tally) {
    for value in expected {
        let name = format!("dropout {}", value.get("p").unwrap_or(&Value::Null));
        let checked = Expected::deserialize(value)
            .map_err(|e| Error::format("invalid case").with_source(e))
            .and_then(|expected| check(&name, &expected, device));
        match checked {
            Ok(checked) => tally.add(checked),
            Err(e) => tally.add_error(name, e),
        }
    }
}

fn check(name: &str, expected: &Expected, device: &Device) -> Result<Checked> {
    const SEED: u64 = 20;
    let mut checked = Checked::new(name);
    let Expected { p, n, .. } = *expected;
    let shape = Shape::new(&[n])?;
    let layer = Builder::new(device, 0).build(&Dropout { p }.into(), &shape)?;

    let tape = Tape::new();
    let ones = tape.leaf(Tensor::full(shape, 1.0, device)?);
    let y = Context::train(&tape, SEED).run(&*layer, &ones)?;
    let values = y.tensor().to_f64()?;
    let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / n as f64;
    checked.compare("fraction of zeros", &[zeros], &[p], |_| expected.zero_fraction_5_sigma);
    let mean = values.iter().sum::<f64>() / n as f64;
    let expected_mean = if expected.kept_value.is_some() { 1.0 } else { 0.0 };
    // The sum has rounding errors, even if nothing is dropped.
    checked.compare("mean", &[mean], &[expected_mean], |_| expected.mean_5_sigma + 1e-9);
    let kept = match device {
        Device::Reference => expected.kept_value,
        _ => expected.kept_value.map(|v| f64::from(v as f32)),
    };
    let unexpected = values.iter().find(|v| **v != 0.0 && Some(**v) != kept);
    checked.require(unexpected.is_none(), || format!("a one became {unexpected:?}, expected 0 or {kept:?}"));

    let grads = tape.backward_from(&[(&y, Tensor::full(shape, 1.0, device)?)])?;
    let grad = match grads.get(&ones) {
        Some(grad) => grad.to_f64()?,
        None => vec![0.0; n],
    };
    checked.require(expected.grad_equals_mask_over_1_minus_p && grad == values, || {
        "the gradient with respect to ones is not the output for ones".into()
    });

    let tape = Tape::no_grad();
    let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let x = Var::constant(Tensor::from_f32(shape, &x, device)?);
    let y = Context::eval(&tape).run(&*layer, &x)?;
    checked.require(expected.eval_is_identity && y.tensor().to_f32()? == x.tensor().to_f32()?, || {
        "evaluation is not the identity".into()
    });
    Ok(checked)
}
