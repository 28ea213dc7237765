//! Runs operations: allocates their outputs and dispatches to the device.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::core::call::{self, Call};
use crate::core::device::Device;
use crate::core::op::{Op, Tensors};
use crate::core::profile;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::{Storage, Tensor, allocate, allocate_reference};
use crate::core::view::{View, ViewMut};
use crate::memory::{Buffer, Scratch};
use crate::opencl::{self, Runtime};
use neocog_base::text::count;
use neocog_base::{Context as _, Error, Result};

/// Runs `op` on the device of its inputs and returns its outputs.
///
/// # Errors
/// If the shapes are invalid, the inputs are on different devices, a device fails or is out of memory, or the operation updates
/// state: then use [`update`].
///
/// If the first input is on [`Device::Meta`], so are the outputs: the other inputs, such as parameters, may be on any device. A
/// tensor without data as another input is an error.
pub fn run(op: &dyn Op, inputs: &[&Tensor]) -> Result<Tensors> {
    if op.state_outputs() != 0 {
        return Err(Error::invalid_argument(format!("{} updates state: run it with `update`", op.name())));
    }
    let (device, shapes) = prepare(op, inputs)?;
    execute(op, inputs, &mut [], &shapes, &device)
}

/// Runs an operation with one output, and returns it.
///
/// # Errors
/// As [`run`]; also if the operation has another number of outputs.
pub fn run_single(op: &dyn Op, inputs: &[&Tensor]) -> Result<Tensor> {
    let mut outputs = run(op, inputs)?;
    if outputs.len() != 1 {
        return Err(Error::invalid_argument(format!(
            "{} has {}, not one",
            op.name(),
            count(outputs.len(), "output")
        )));
    }
    Ok(outputs.remove(0))
}

/// Runs an operation that updates `state` in place, and returns its other outputs. State that shares memory with other tensors
/// is copied first; these keep the old values.
///
/// # Errors
/// As [`run`]; also if the state does not have the shapes and the device that the operation expects.
pub fn update(op: &dyn Op, inputs: &[&Tensor], state: &mut [&mut Tensor]) -> Result<Tensors> {
    let (device, shapes) = prepare(op, inputs)?;
    if state.len() != op.state_outputs() {
        return Err(Error::invalid_argument(format!(
            "{} updates {}, found {}",
            op.name(),
            count(op.state_outputs(), "tensor"),
            state.len()
        )));
    }
    for (i, (have, expected)) in state.iter().zip(&shapes).enumerate() {
        if have.shape() != expected || have.device() != device {
            return Err(Error::shape(format!(
                "state {i} of {} should be {expected} on {device}, it is {} on {}",
                op.name(),
                have.shape(),
                have.device()
            )));
        }
    }
    execute(op, inputs, state, &shapes, &device)
}

fn prepare(op: &dyn Op, inputs: &[&Tensor]) -> Result<(Device, Shapes)> {
    #[cfg(debug_assertions)]
    crate::core::registration::check(op);
    let device = common_device(op, inputs)?;
    let shapes = op.infer(&input_shapes(inputs)).context(|| op.name())?;
    if op.state_outputs() > shapes.len() {
        return Err(Error::invalid_argument(format!(
            "{} has {} outputs, of which {} are state",
            op.name(),
            shapes.len(),
            op.state_outputs()
        )));
    }
    Ok((device, shapes))
}

fn common_device(op: &dyn Op, inputs: &[&Tensor]) -> Result<Device> {
    let Some(first) = inputs.first() else {
        return Err(Error::invalid_argument(format!("{} expects at least one input", op.name())));
    };
    let device = first.device();
    if device == Device::Meta {
        return Ok(device);
    }
    match inputs.iter().position(|t| t.device() != device) {
        None => Ok(device),
        Some(i) => Err(Error::device(format!(
            "the inputs of {} are on different devices: input 0 on {device}, input {i} on {}; move them with to_device",
            op.name(),
            inputs[i].device()
        ))),
    }
}

fn execute(
    op: &dyn Op,
    inputs: &[&Tensor],
    state: &mut [&mut Tensor],
    shapes: &[Shape],
    device: &Device,
) -> Result<Tensors> {
    let fresh = &shapes[state.len()..];
    if op.reshapes() {
        let [shape] = fresh else {
            return Err(Error::invalid_argument(format!("{} reshapes, but has not one output", op.name())));
        };
        return Ok(smallvec![inputs[0].reshape(*shape).context(|| op.name())?]);
    }
    let start = if *device == Device::Meta { None } else { profile::start() };
    let made = compute(op, inputs, state, shapes, device)?;
    profile::end(start, op, inputs.iter().map(|t| *t.shape()), shapes);
    Ok(made)
}

/// Checks that the kernels of OpenCL devices can count the elements: their integers have 32 bits.
fn check_positions<'a>(mut shapes: impl Iterator<Item = &'a Shape>) -> Result<()> {
    let fits = |size: usize| i32::try_from(size).is_ok();
    match shapes.find(|shape| !fits(shape.elements()) || !shape.iter().all(|&extent| fits(extent))) {
        None => Ok(()),
        Some(shape) => Err(Error::shape(format!(
            "the shape {shape} is too large for an OpenCL device, which computes positions with 31 bits"
        ))),
    }
}

fn compute(
    op: &dyn Op,
    inputs: &[&Tensor],
    state: &mut [&mut Tensor],
    shapes: &[Shape],
    device: &Device,
) -> Result<Tensors> {
    let fresh = &shapes[state.len()..];
    Ok(match device {
        Device::Meta => fresh.iter().map(|&s| Tensor::new(s, Storage::Meta)).collect(),
        Device::Reference => {
            let views: SmallVec<[View<'_, f64>; 6]> =
                inputs.iter().map(|t| View::new(t.shape(), t.reference())).collect();
            let mut made: Vec<Vec<f64>> =
                fresh.iter().map(allocate_reference).collect::<Result<_>>().context(|| op.name())?;
            let updated: Vec<&mut [f64]> =
                state.iter_mut().map(|t| t.reference_mut()).collect::<Result<_>>().context(|| op.name())?;
            let mut outputs: SmallVec<[ViewMut<'_, f64>; 4]> = updated
                .into_iter()
                .chain(made.iter_mut().map(Vec::as_mut_slice))
                .zip(shapes)
                .map(|(data, shape)| ViewMut::new(shape, data))
                .collect();
            op.reference(&views, &mut outputs);
            drop(outputs);
            made.into_iter()
                .zip(fresh)
                .map(|(v, &s)| Tensor::new(s, Storage::Reference(Arc::new(v))))
                .collect()
        }
        Device::Cpu => {
            let views: SmallVec<[View<'_, f32>; 6]> =
                inputs.iter().map(|t| View::new(t.shape(), t.cpu())).collect();
            let mut made: SmallVec<[Buffer; 4]> =
                fresh.iter().map(allocate).collect::<Result<_>>().context(|| op.name())?;
            let updated: SmallVec<[&mut [f32]; 4]> =
                state.iter_mut().map(|t| t.cpu_mut()).collect::<Result<_>>().context(|| op.name())?;
            let mut outputs: SmallVec<[ViewMut<'_, f32>; 4]> = updated
                .into_iter()
                .chain(made.iter_mut().map(|b| &mut **b))
                .zip(shapes)
                .map(|(data, shape)| ViewMut::new(shape, data))
                .collect();
            Scratch::with(|scratch| op.cpu(&views, &mut outputs, scratch)).context(|| op.name())?;
            drop(outputs);
            made.into_iter().zip(fresh).map(|(b, &s)| Tensor::new(s, Storage::Cpu(Arc::new(b)))).collect()
        }
        Device::OpenCl(id) => {
            let runtime = opencl::open(*id)?;
            let sizes = || format!("{} of {:?} to {shapes:?}", op.name(), input_shapes(inputs));
            check_positions(inputs.iter().map(|t| t.shape()).chain(shapes)).context(sizes)?;
            let read: Vec<Arc<opencl::Buffer>> =
                inputs.iter().map(|t| t.opencl()).collect::<Result<_>>().context(sizes)?;
            let made: Vec<opencl::Buffer> =
                fresh.iter().map(|s| runtime.allocate(s.elements())).collect::<Result<_>>().context(sizes)?;
            let updated: Vec<&opencl::Buffer> =
                state.iter_mut().map(|t| t.opencl_mut()).collect::<Result<_>>().context(sizes)?;
            let views: Vec<call::View<'_>> =
                inputs.iter().zip(&read).map(|(t, buffer)| call::View { shape: t.shape(), buffer }).collect();
            let outputs: Vec<call::View<'_>> = updated
                .into_iter()
                .chain(&made)
                .zip(shapes)
                .map(|(buffer, shape)| call::View { shape, buffer })
                .collect();
            run_opencl(op, runtime, &Call::new(runtime, op.profile_name(), &views, &outputs))?;
            drop(outputs);
            made.into_iter().zip(fresh).map(|(b, &s)| Tensor::new(s, Storage::OpenCl(Arc::new(b)))).collect()
        }
    })
}

/// Runs an operation on an OpenCL device: launches its kernels, and adds it to the device's profile.
pub(crate) fn run_opencl(op: &dyn Op, runtime: &'static Runtime, call: &Call<'_>) -> Result<()> {
    if call.outputs().iter().all(|out| out.buffer.is_empty()) {
        return Ok(());
    }
    let shapes = |views: &[call::View<'_>]| views.iter().map(|view| *view.shape).collect::<Vec<Shape>>();
    let (inputs, outputs) = (call.inputs(), call.outputs());
    op.opencl(call).context(|| {
        format!("{} of {:?} to {:?} on {}", op.name(), shapes(inputs), shapes(outputs), runtime.info().id)
    })?;
    runtime.note_run(op.profile_name(), || op.multiply_adds(&shapes(inputs), &shapes(outputs)));
    Ok(())
}

fn input_shapes(inputs: &[&Tensor]) -> Shapes {
    inputs.iter().map(|t| *t.shape()).collect()
}
