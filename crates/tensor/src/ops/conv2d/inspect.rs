//! Which algorithms compute an operation.

use std::any::Any;

use super::shape::{ConvShape, Pass};
use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad, cpu, opencl};
use crate::core::call::Call;
use crate::core::device::Device;
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::ops::InChannelBlocks;
use neocog_base::Result;

/// Returns the names of the algorithms that can compute `op` on inputs of these shapes on `device`, the one that is used
/// first; none if `op` is not a [`Conv2d`] or a gradient of it, or the device has one algorithm only.
///
/// # Errors
/// If the shapes do not match, or the device cannot be opened.
pub fn conv_algorithms(op: &dyn Op, inputs: &[Shape], device: &Device) -> Result<Vec<&'static str>> {
    let Some((conv, pass)) = conv_shape(op, inputs)? else { return Ok(Vec::new()) };
    Ok(match device {
        Device::Cpu => cpu::applicable(&conv, pass),
        // It brings everything out of blocks.
        Device::OpenCl(_) if conv.in_blocks != [false; 2] => Vec::new(),
        Device::OpenCl(id) => {
            let call = Call::new(crate::opencl::open(*id)?, op.name(), &[], &[]);
            opencl::applicable(&call, &conv, pass)
        }
        Device::Reference | Device::Meta => Vec::new(),
    })
}

/// Returns the convolution and the pass that an operation computes, or `None` if it is another operation.
fn conv_shape(op: &dyn Op, inputs: &[Shape]) -> Result<Option<(ConvShape, Pass)>> {
    let any = op as &dyn Any;
    let shapes = |x: &Shape, weight: &Shape, y: &Shape| [*x, *weight, *y];
    let (geometry, [x, weight, y], pass) = if let Some(op) = any.downcast_ref::<Conv2d>() {
        let y = op.infer(inputs)?[0];
        (op.geometry(), shapes(&inputs[0], &inputs[1], &y), Pass::Forward)
    } else if let Some(op) = any.downcast_ref::<Conv2dInputGrad>() {
        let x = op.infer(inputs)?[0];
        (op.geometry, shapes(&x, &inputs[1], &inputs[0]), Pass::InputGrad)
    } else if let Some(op) = any.downcast_ref::<Conv2dWeightGrad>() {
        let weight = op.infer(inputs)?[0];
        (op.geometry, shapes(&inputs[0], &weight, &inputs[1]), Pass::WeightGrad)
    } else if let Some(op) = any.downcast_ref::<InChannelBlocks>() {
        let plain = op.blocks.plain(inputs)?;
        let Some((conv, pass)) = conv_shape(&*op.op, &plain)? else { return Ok(None) };
        return Ok(Some((ConvShape { in_blocks: [op.blocks.inputs[0].is_some(), true], ..conv }, pass)));
    } else {
        return Ok(None);
    };
    Ok(Some((geometry.conv_shape(&x, &weight, &y), pass)))
}
