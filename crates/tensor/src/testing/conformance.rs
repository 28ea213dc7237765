//! Conformance checks: runs the cases of operations and checks that these fulfill the contract of [`Op`](crate::Op).
//!
//! Every convolution algorithm that can compute a case runs it, not only the one that would be chosen.
//!
//! [`check_device`] runs a case on a device and compares the results with the reference. Outputs are filled with NaN first, so
//! that unwritten elements are detected, and surrounded by guard values. [`check_gradient`] compares the gradient with central
//! differences in double precision. [`check_split_batch`] compares parts of a batch with the whole. A crate that registers operations calls [`check_all`] in a test.

use std::collections::BTreeMap;
use std::fmt;

use crate::core::call::{self, Call};
use crate::core::device::Device;
use crate::core::op::{Gradient, Tensors};
use crate::core::run::{run, run_opencl, update};
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{Buffer, DeviceId, open};
use crate::testing::cases::{AlgorithmsEntry, Case, registered_ops};
use crate::testing::split::check_split_batch;
use neocog_base::{Error, Result};

/// Result of [`check_all`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Number of operations.
    pub ops: usize,
    /// Number of checked cases.
    pub cases: usize,
    /// Number of checked gradients.
    pub gradients: usize,
    /// Number of timed cases that were skipped because the reference would be too slow; see [`REFERENCE_LIMIT`]. Operations
    /// with such cases need another test, which checks samples.
    pub too_large: usize,
    /// Operations, and in how many ways their cases were split into parts of a batch; see [`check_split_batch`].
    pub splits: BTreeMap<&'static str, usize>,
    /// For each convolution algorithm, the number of cases that it computed: forward passes and gradients.
    pub algorithms: BTreeMap<&'static str, usize>,
    /// One line for each failure.
    pub failures: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations, {} cases ({} too large for the reference), {} gradients, {} failures",
            self.ops,
            self.cases,
            self.too_large,
            self.gradients,
            self.failures.len()
        )?;
        for (i, (name, cases)) in self.algorithms.iter().enumerate() {
            write!(
                f,
                "{} {name} {cases}",
                if i == 0 { "; convolution algorithms and their cases:" } else { "," }
            )?;
        }
        self.failures.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Multiply-adds of the largest timed case that [`check_all`] compares with the reference.
pub const REFERENCE_LIMIT: u64 = 10_000_000;

/// Whether [`check_all`] skips a case: timed, and above [`REFERENCE_LIMIT`].
pub fn is_too_large(case: &Case) -> bool {
    let shapes = shapes_of(case);
    case.bench
        && case.op.infer(&shapes).is_ok_and(|out| case.op.multiply_adds(&shapes, &out) > REFERENCE_LIMIT)
}

/// Checks all cases and gradients of all registered operations on `device`.
pub fn check_all(device: &Device) -> Summary {
    check_ops(device, |_| true)
}

/// As [`check_all`], for the operations whose names `filter` accepts.
pub fn check_ops(device: &Device, filter: impl Fn(&str) -> bool) -> Summary {
    let mut summary = Summary::default();
    for entry in registered_ops().into_iter().filter(|entry| filter(entry.name)) {
        summary.ops += 1;
        let cases = (entry.cases)();
        if cases.is_empty() {
            let failure = format!("{} ({}): no case is registered", entry.name, entry.crate_name);
            summary.failures.push(failure);
        }
        for case in cases {
            if is_too_large(&case) {
                summary.too_large += 1;
                continue;
            }
            summary.cases += 1;
            let name = format!("{} ({}): {}", entry.name, entry.crate_name, case.name);
            check_algorithms(&case, &name, device, &mut summary);
            match check_split_batch(&case) {
                Ok(0) => {}
                Ok(splits) => *summary.splits.entry(entry.name).or_default() += splits,
                Err(e) => summary.failures.push(format!("{name}: split batch: {e}")),
            }
            if case.check_gradient {
                summary.gradients += 1;
                if let Err(e) = check_gradient(&case) {
                    summary.failures.push(format!("{name}: gradient: {e}"));
                }
            }
        }
    }
    summary
}

/// Checks a case with every algorithm that can compute it on `device`.
fn check_algorithms(case: &Case, name: &str, device: &Device, summary: &mut Summary) {
    if let Err(e) = try_check_algorithms(case, name, device, summary) {
        summary.failures.push(format!("{name}: on {device}: {e}"));
    }
}

/// As [`check_algorithms`], but returns the error of an operation without a choice of algorithms.
fn try_check_algorithms(case: &Case, name: &str, device: &Device, summary: &mut Summary) -> Result<()> {
    let exact = Exact::of(case)?;
    for entry in inventory::iter::<AlgorithmsEntry> {
        let names = (entry.names)(&*case.op, &shapes_of(case), device)?;
        for &algorithm in &names {
            let mut checked = Ok(());
            let used = (entry.with)(algorithm, &mut || checked = exact.check(case, device));
            match used {
                // Nothing computes an empty output.
                None => {}
                Some(used) if used == algorithm => *summary.algorithms.entry(used).or_default() += 1,
                Some(used) => {
                    summary.failures.push(format!("{name}: {used} ran on {device} in place of {algorithm}"));
                }
            }
            if let Err(e) = checked {
                summary.failures.push(format!("{name}: {algorithm} on {device}: {e}"));
            }
        }
        if !names.is_empty() {
            return Ok(());
        }
    }
    exact.check(case, device)
}

/// Returns the values of a case's inputs and of its state, in single precision.
fn values_of(case: &Case) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let inputs = case.inputs.iter().enumerate().map(|(i, x)| x.make(i as u64 + 1)).collect();
    let state = case.state.iter().enumerate().map(|(i, x)| x.make(i as u64 + 1001)).collect();
    (inputs, state)
}

fn shapes_of(case: &Case) -> Vec<Shape> {
    case.inputs.iter().map(|x| x.shape).collect()
}

/// Runs a case on `device` and compares all outputs with the reference.
///
/// # Errors
/// If an output deviates by more than the case's tolerance, is not written completely, or the kernel writes outside of it.
pub fn check_device(case: &Case, device: &Device) -> Result<()> {
    Exact::of(case)?.check(case, device)
}

/// The inputs of a case and the exact outputs.
struct Exact {
    inputs: Vec<Vec<f32>>,
    state: Vec<Vec<f32>>,
    output_shapes: Shapes,
    outputs: Vec<Vec<f64>>,
}

impl Exact {
    fn of(case: &Case) -> Result<Self> {
        let (inputs, state) = values_of(case);
        let output_shapes = case.op.infer(&shapes_of(case))?;
        let outputs = run_reference(case, &inputs, &state, &output_shapes);
        Ok(Exact { inputs, state, output_shapes, outputs })
    }

    /// Runs the case on `device` and compares all outputs.
    fn check(&self, case: &Case, device: &Device) -> Result<()> {
        let Exact { inputs, state, output_shapes, outputs } = self;
        let got = match device {
            Device::Cpu => {
                let got = run_cpu(case, inputs, state, output_shapes)?;
                if case.op.supports_batch_stride() {
                    check_batch_stride(case, inputs, &output_shapes[0], &got[0])?;
                }
                got
            }
            Device::OpenCl(id) => run_on_opencl(case, *id, inputs, state, output_shapes)?,
            other => run_through_tensors(case, inputs, state, other)?,
        };
        for (k, (got, exact)) in got.iter().zip(outputs).enumerate() {
            let largest = exact.iter().filter(|v| v.is_finite()).fold(0.0f64, |a, v| a.max(v.abs()));
            for (i, (&g, &e)) in got.iter().zip(exact).enumerate() {
                let same = g == e || g.is_nan() && e.is_nan() || (g - e).abs() <= case.tolerance * largest;
                if !same {
                    return Err(Error::new(
                        crate::ErrorKind::Mismatch,
                        format!(
                            "output {k} {}: element {:?} is {g:e}, expected {e:e} with a tolerance of {:e} (NaN may mean that it was not written)",
                            output_shapes[k],
                            output_shapes[k].unravel(i),
                            case.tolerance * largest
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn run_reference(case: &Case, inputs: &[Vec<f32>], state: &[Vec<f32>], shapes: &[Shape]) -> Vec<Vec<f64>> {
    let wide: Vec<Vec<f64>> = inputs.iter().map(|v| v.iter().map(|&x| f64::from(x)).collect()).collect();
    let views: Vec<View<'_, f64>> =
        case.inputs.iter().zip(&wide).map(|(x, v)| View::new(&x.shape, v)).collect();
    let mut outputs: Vec<Vec<f64>> = shapes.iter().map(|s| vec![f64::NAN; s.elements()]).collect();
    for (out, old) in outputs.iter_mut().zip(state) {
        out.iter_mut().zip(old).for_each(|(o, &v)| *o = f64::from(v));
    }
    let mut views_mut: Vec<ViewMut<'_, f64>> =
        outputs.iter_mut().zip(shapes).map(|(v, shape)| ViewMut::new(shape, v)).collect();
    case.op.reference(&views, &mut views_mut);
    outputs
}

/// Number of guard values before and after every output.
const GUARD: usize = 64;
/// The guard value.
const SENTINEL: f32 = -7.25e33;

/// Checks the guard values around an output, and returns the output.
fn unguard(k: usize, out: &[f32], shape: &Shape) -> Result<Vec<f64>> {
    let end = GUARD + shape.elements();
    if out[..GUARD].iter().chain(&out[end..]).any(|v| *v != SENTINEL) {
        return Err(Error::new(
            crate::ErrorKind::Mismatch,
            format!("the kernel writes outside of output {k}"),
        ));
    }
    Ok(out[GUARD..end].iter().map(|&x| f64::from(x)).collect())
}

fn run_cpu(case: &Case, inputs: &[Vec<f32>], state: &[Vec<f32>], shapes: &[Shape]) -> Result<Vec<Vec<f64>>> {
    let views: Vec<View<'_, f32>> =
        case.inputs.iter().zip(inputs).map(|(x, v)| View::new(&x.shape, v)).collect();
    let mut outputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|s| {
            let mut v = vec![SENTINEL; s.elements() + 2 * GUARD];
            v[GUARD..GUARD + s.elements()].fill(f32::NAN);
            v
        })
        .collect();
    for (out, old) in outputs.iter_mut().zip(state) {
        out[GUARD..GUARD + old.len()].copy_from_slice(old);
    }
    let mut views_mut: Vec<ViewMut<'_, f32>> = outputs
        .iter_mut()
        .zip(shapes)
        .map(|(v, shape)| ViewMut::new(shape, &mut v[GUARD..GUARD + shape.elements()]))
        .collect();
    Scratch::with(|scratch| case.op.cpu(&views, &mut views_mut, scratch))?;
    outputs.iter().zip(shapes).enumerate().map(|(k, (out, shape))| unguard(k, out, shape)).collect()
}

/// Runs a case with a larger batch stride of its first input and of its output, as slices of concatenated tensors have, and
/// compares the result with that of contiguous tensors.
fn check_batch_stride(case: &Case, inputs: &[Vec<f32>], shape: &Shape, expected: &[f64]) -> Result<()> {
    // The stride of images with one more channel.
    let stride = |shape: &Shape| shape.row() + shape[2..].iter().product::<usize>();
    let span = |shape: &Shape| shape.elements() + shape[0].saturating_sub(1) * (stride(shape) - shape.row());
    let x = &case.inputs[0].shape;
    let mut wide = vec![f32::NAN; span(x)];
    for (to, from) in wide.chunks_mut(stride(x).max(1)).zip(inputs[0].chunks(x.row().max(1))) {
        to[..from.len()].copy_from_slice(from);
    }
    let mut views: Vec<View<'_, f32>> =
        case.inputs.iter().zip(inputs).map(|(x, v)| View::new(&x.shape, v)).collect();
    views[0] = View::strided(x, &wide, stride(x))?;
    let mut y = vec![SENTINEL; span(shape)];
    let mut outputs = [ViewMut::strided(shape, &mut y, stride(shape))?];
    Scratch::with(|scratch| case.op.cpu(&views, &mut outputs, scratch))?;
    for (got, expected) in y.chunks(stride(shape).max(1)).zip(expected.chunks(shape.row().max(1))) {
        let (image, between) = got.split_at(expected.len());
        let same = image.iter().zip(expected).all(|(&g, &e)| f64::from(g) == e || g.is_nan() && e.is_nan());
        if !same || between.iter().any(|v| *v != SENTINEL) {
            return Err(Error::new(
                crate::ErrorKind::Mismatch,
                "with a batch stride the kernel computes another result, or writes between the images",
            ));
        }
    }
    Ok(())
}

fn run_on_opencl(
    case: &Case,
    id: DeviceId,
    inputs: &[Vec<f32>],
    state: &[Vec<f32>],
    shapes: &[Shape],
) -> Result<Vec<Vec<f64>>> {
    let runtime = open(id)?;
    let filled = |values: &[f32]| {
        let buffer = runtime.allocate(values.len())?;
        buffer.write(values.to_vec())?;
        Ok::<_, Error>(buffer)
    };
    let inputs: Vec<Buffer> = inputs.iter().map(|v| filled(v)).collect::<Result<_>>()?;
    let views: Vec<call::View<'_>> =
        case.inputs.iter().zip(&inputs).map(|(x, buffer)| call::View { shape: &x.shape, buffer }).collect();
    let mut guarded = Vec::new();
    for (k, shape) in shapes.iter().enumerate() {
        let mut values = vec![SENTINEL; shape.elements() + 2 * GUARD];
        let end = GUARD + shape.elements();
        match state.get(k) {
            Some(old) => values[GUARD..end].copy_from_slice(old),
            None => values[GUARD..end].fill(f32::NAN),
        }
        let whole = filled(&values)?;
        let output = whole.part(GUARD..end)?;
        guarded.push((whole, output));
    }
    let outputs: Vec<call::View<'_>> =
        guarded.iter().zip(shapes).map(|((_, buffer), shape)| call::View { shape, buffer }).collect();
    let call = Call::new(runtime, case.op.name(), &views, &outputs).poisoned();
    run_opencl(&*case.op, runtime, &call)?;
    guarded
        .iter()
        .zip(shapes)
        .enumerate()
        .map(|(k, ((whole, _), shape))| unguard(k, &whole.read(0..whole.len())?, shape))
        .collect()
}

fn run_through_tensors(
    case: &Case,
    inputs: &[Vec<f32>],
    state: &[Vec<f32>],
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    let on_device =
        |specs: &[crate::testing::cases::CaseInput], values: &[Vec<f32>]| -> Result<Vec<Tensor>> {
            specs.iter().zip(values).map(|(x, v)| Tensor::from_f32(x.shape, v, device)).collect()
        };
    let inputs = on_device(&case.inputs, inputs)?;
    let mut state = on_device(&case.state, state)?;
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let fresh = update(&*case.op, &refs, &mut state.iter_mut().collect::<Vec<_>>())?;
    state.iter().chain(&fresh).map(Tensor::to_f64).collect()
}

/// Compares the gradients of all outputs of a case with central differences, in double precision: of the first output, of each
/// other output alone, and of the first and the other together. [`Op::grad`](crate::Op::grad) may return the error
/// `InvalidArgument` for an output that is not differentiable, except the first.
///
/// # Errors
/// If an element deviates by more than 1e-6 of the largest.
pub fn check_gradient(case: &Case) -> Result<()> {
    let device = Device::Reference;
    let (values, _) = values_of(case);
    let inputs: Vec<Tensor> = case
        .inputs
        .iter()
        .zip(&values)
        .map(|(x, v)| Tensor::from_f32(x.shape, v, &device))
        .collect::<Result<_>>()?;
    let outputs = run(&*case.op, &inputs.iter().collect::<Vec<_>>())?;
    // A fixed direction for each output.
    let directions: Vec<Tensor> = outputs
        .iter()
        .zip(77..)
        .map(|(y, stream)| {
            let values = crate::testing::cases::CaseInput::uniform(*y.shape()).make(stream);
            Tensor::from_f32(*y.shape(), &values, &device)
        })
        .collect::<Result<_>>()?;
    check_gradient_of(case, &inputs, &outputs, &directions, &[0])?;
    for k in 1..outputs.len() {
        for of in [&[k][..], &[0, k]] {
            match check_gradient_of(case, &inputs, &outputs, &directions, of) {
                Err(e) if e.kind() != crate::ErrorKind::InvalidArgument => {
                    return Err(e.context(format!("of the outputs {of:?}")));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Compares the gradient of the scalar products of some outputs and their directions.
fn check_gradient_of(
    case: &Case,
    inputs: &[Tensor],
    outputs: &Tensors,
    directions: &[Tensor],
    of: &[usize],
) -> Result<()> {
    const STEP: f64 = 1e-5;
    const TOLERANCE: f64 = 1e-6;
    let op = &*case.op;
    let run_all = |inputs: &[Tensor]| run(op, &inputs.iter().collect::<Vec<_>>());
    let value = |outputs: &Tensors| -> Result<f64> {
        let mut sum = 0.0;
        for &k in of {
            let (y, direction) = (outputs[k].to_f64()?, directions[k].to_f64()?);
            sum += y.iter().zip(&direction).map(|(y, d)| y * d).sum::<f64>();
        }
        Ok(sum)
    };

    let saved = op.saves();
    let needs: Vec<bool> = case.inputs.iter().map(|x| x.differentiable).collect();
    let output_grads: Vec<Option<Tensor>> =
        directions.iter().enumerate().map(|(k, dy)| of.contains(&k).then(|| dy.clone())).collect();
    let output_shapes: Shapes = outputs.iter().map(|t| *t.shape()).collect();
    let grads = op.grad(&Gradient {
        input_shapes: &shapes_of(case),
        output_shapes: &output_shapes,
        inputs: &inputs
            .iter()
            .enumerate()
            .map(|(i, t)| saved.saves_input(i).then(|| t.clone()))
            .collect::<Vec<_>>(),
        outputs: &outputs
            .iter()
            .enumerate()
            .map(|(i, t)| saved.saves_output(i).then(|| t.clone()))
            .collect::<Vec<_>>(),
        output_grads: &output_grads,
        needs: &needs,
    })?;
    if grads.len() != inputs.len() {
        return Err(Error::shape(format!("{} gradients for {} inputs", grads.len(), inputs.len())));
    }

    for (k, grad) in grads.iter().enumerate().filter(|(k, _)| needs[*k]) {
        let Some(grad) = grad else {
            return Err(Error::shape(format!("input {k} is differentiable but has no gradient")));
        };
        if grad.shape() != inputs[k].shape() {
            return Err(Error::shape(format!(
                "the gradient of input {k} is {}, the input {}",
                grad.shape(),
                inputs[k].shape()
            )));
        }
        let analytic = grad.to_f64()?;
        let base = inputs[k].to_f64()?;
        let mut numeric = Vec::with_capacity(base.len());
        for i in 0..base.len() {
            let at = |shift: f64| -> Result<f64> {
                let mut moved = base.clone();
                moved[i] += shift;
                let mut inputs = inputs.to_vec();
                inputs[k] = Tensor::from_f64(*inputs[k].shape(), &moved, &Device::Reference)?;
                value(&run_all(&inputs)?)
            };
            numeric.push((at(STEP)? - at(-STEP)?) / (2.0 * STEP));
        }
        let largest = numeric.iter().fold(1e-3f64, |a, v| a.max(v.abs()));
        for (i, (a, n)) in analytic.iter().zip(&numeric).enumerate() {
            let near = (a - n).abs() <= TOLERANCE * largest;
            if !near {
                return Err(Error::new(
                    crate::ErrorKind::Mismatch,
                    format!(
                        "input {k}, element {:?}: the gradient is {a:e}, the central difference is {n:e}",
                        inputs[k].shape().unravel(i)
                    ),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_operations_conform_on_every_device() {
        for device in [Device::Cpu, Device::Reference] {
            let summary = check_all(&device);
            assert!(summary.failures.is_empty(), "{device}: {summary}");
            assert_eq!(summary.ops, 110, "{summary}");
            assert!(summary.gradients > 100, "{summary}");
            if device == Device::Cpu {
                assert!(summary.algorithms.len() >= 6, "{summary}");
                assert!(summary.algorithms.values().all(|&cases| cases >= 10), "{summary}");
            }
        }
    }
}
