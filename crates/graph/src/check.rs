//! Checks of rewrites: the graph before and after give the same numbers.

use neocog_base::random::Random;
use neocog_base::{Context as _, Error, ErrorKind, Result};
use neocog_tensor::{Device, Pass, Tensor};

use crate::graph::Graph;
use crate::plan::Plan;
use crate::rewrite::{Case, Rewrite, Target, registered_rewrites};

/// Applies every registered rewrite, alone, to its cases on `device`, for all passes that it applies for, and compares operations
/// and outputs. Returns the number of comparisons. Meant for tests, including those of plugins.
///
/// # Errors
/// `Diverged` with the rewrite, the case and the first element that differs.
pub fn check_rewrites(device: &Device) -> Result<usize> {
    let mut compared = 0;
    for rewrite in registered_rewrites() {
        for pass in [Pass::Inference, Pass::Training] {
            let target = Target { pass, device };
            if !(rewrite.applies)(&target) {
                continue;
            }
            for case in (rewrite.cases)() {
                check_case(rewrite, &case, &target)
                    .context(|| format!("{} in {pass:?} on {device}", case.name))
                    .context(|| format!("{} of {}", rewrite.name, rewrite.crate_name))?;
                compared += 1;
            }
        }
    }
    Ok(compared)
}

/// Returns the graph of a case before and after its rewrite, with random inputs.
///
/// # Errors
/// When the graph cannot be created or rewritten; `Diverged` when other operations are left than expected.
pub fn before_and_after(
    rewrite: &Rewrite,
    case: &Case,
    target: &Target<'_>,
) -> Result<([Graph; 2], Vec<Tensor>)> {
    let before = (case.graph)(target.device)?;
    let mut after = before.clone();
    (rewrite.apply)(&mut after, target)?;
    let operations: Vec<&str> = after.operations().collect();
    if operations != case.expected {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!("the operations are {operations:?}, expected {:?}", case.expected),
        ));
    }
    let mut random = Random::new(1);
    let inputs = (0..before.input_count()).map(|value| {
        let shape = *before.shape(value);
        let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
        Tensor::from_f32(shape, &values, target.device)
    });
    let inputs = inputs.collect::<Result<_>>()?;
    Ok(([before, after], inputs))
}

fn check_case(rewrite: &Rewrite, case: &Case, target: &Target<'_>) -> Result<()> {
    let ([before, after], inputs) = before_and_after(rewrite, case, target)?;
    let expected = before.run(&inputs)?;
    let actual = match target.pass {
        Pass::Inference if inputs.len() == 1 && expected.len() == 1 => {
            vec![Plan::new(after, target.device)?.run(&inputs[0])?]
        }
        _ => after.run(&inputs)?,
    };
    let tolerance = if *target.device == Device::Reference { 1e-12 } else { 1e-5 };
    expected.iter().zip(&actual).try_for_each(|(expected, actual)| compare(expected, actual, tolerance))
}

/// Compares two tensors; the maximum error of an element is `tolerance` times the largest magnitude.
///
/// # Errors
/// `Diverged` with the first element that differs.
pub fn compare(expected: &Tensor, actual: &Tensor, tolerance: f64) -> Result<()> {
    let (shape, values) = (expected.shape(), expected.to_f64()?);
    if shape != actual.shape() {
        let what = format!("the shape is {}, expected {shape}", actual.shape());
        return Err(Error::new(ErrorKind::Diverged, what));
    }
    let magnitude = values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    for (i, (e, a)) in values.iter().zip(actual.to_f64()?).enumerate() {
        let error = (a - e).abs();
        if error > tolerance * magnitude || error.is_nan() {
            let index = shape.unravel(i);
            return Err(Error::new(
                ErrorKind::Diverged,
                format!("element {index:?} is {a:e}, expected {e:e}"),
            ));
        }
    }
    Ok(())
}
