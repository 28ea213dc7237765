//! Two-dimensional convolution and its gradients.
//!
//! `y[n, o, r, c] = bias[o] + sum over i, u, v of x[n, i, r * stride + u * dilation - padding, …] * weight[o,
//! i, u, v]`, with zeros outside of the image: cross-correlation, as in PyTorch. With `flip` the kernel is
//! rotated by 180 degrees: the convolution of mathematics.
//!
//! Files, from the bottom up: `shape` has the sizes that kernels work with, `geometry` stride, padding,
//! dilation and groups; `algorithm` has what all algorithms have in common, `reference`, `cpu` and `opencl` are the
//! kernels, `winograd` is shared by the latter two; `request` finds algorithms by name; `operation` has the
//! convolution as a value, `packed` one with a packed weight; this file has the operations, on which `cases` builds.

mod algorithm;
mod cases;
mod cpu;
mod geometry;
mod inspect;
mod opencl;
mod operation;
mod packed;
mod reference;
mod request;
mod shape;
#[cfg(test)]
mod shape_samples;
mod winograd;

use std::sync::Arc;

use smallvec::smallvec;

pub use geometry::Conv2dGeometry;
pub use inspect::conv_algorithms;
pub use operation::Conv2d;
use packed::PackedConv2d;
pub use request::{RequestedAlgorithm, requested_algorithm};
pub(crate) use shape::ConvShape;

use super::bias_activation_grad::Fused;
use super::channel_blocks::{BlockKernel, BlockLayout, block_form};
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::fusion::{self, ChannelAffine, Pass};
use crate::core::op::{
    AbsorbedAffine, BlockForm, Gradient, InputGrads, Op, SavedTensors, Window, expect_inputs,
};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::instruction_set;
use crate::memory::Scratch;
use crate::opencl::Call;
use geometry::weight_shape;
use neocog_base::text::count;
use neocog_base::{Error, Result};

/// Number of pixels from which the output of a convolution of few channels is brought into blocks of channels.
const LARGE_MAP: usize = 256;
/// Number of images up to which no other algorithm fills vectors, so that blocks that are filled in part are faster, too.
const FEW_IMAGES: usize = 4;
/// Number of output channels from which that is so.
const FEW_CHANNELS: usize = 4;

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        requested_algorithm()?;
        let (x, weight) = match inputs {
            [x, weight] | [x, weight, _] => (x, weight),
            _ => {
                return Err(Error::invalid_argument(format!(
                    "conv2d expects an input, a weight and an optional bias, found {}: {inputs:?}",
                    count(inputs.len(), "input")
                )));
            }
        };
        let [n, c, h, w] = x.nchw()?;
        let [out, in_per_group, kh, kw] = weight_shape(weight)?;
        self.geometry().check_groups(c, "input")?;
        self.geometry().check_groups(out, "output")?;
        if in_per_group.checked_mul(self.groups) != Some(c) {
            let groups = if self.groups == 1 { String::new() } else { format!(" in {} groups", self.groups) };
            return Err(Error::shape(format!(
                "the input has {}, the weight expects {}{groups}; input {x}, weight {weight}",
                count(c, "channel"),
                in_per_group as u128 * self.groups as u128
            )));
        }
        if let Some(bias) = inputs.get(2)
            && bias.extents() != [out]
        {
            return Err(Error::shape(format!(
                "the bias should be [{out}], one element for each output channel; it is {bias}"
            )));
        }
        let [oh, ow] = self.geometry().output_size([h, w], [kh, kw])?;
        Ok(smallvec![Shape::new(&[n, out, oh, ow])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let conv = self.geometry().conv_shape(inputs[0].shape, inputs[1].shape, outputs[0].shape);
        reference::forward(&conv, inputs[0].data, inputs[1].data, outputs[0].data);
        let plane = conv.oh * conv.ow;
        for (i, y) in outputs[0].data.iter_mut().enumerate() {
            if let Some(bias) = inputs.get(2) {
                *y += bias.data[i / plane % (conv.groups * conv.out_per_group)];
            }
            if let Some(activation) = self.activation {
                *y = activation.apply(*y);
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let conv = self.geometry().conv_shape(inputs[0].shape, inputs[1].shape, outputs[0].shape);
        if outputs[0].data.is_empty() {
            return;
        }
        self.cpu_packed(&conv, &cpu::pack(&conv, inputs[1].data, scratch), inputs, outputs, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        self.opencl_packed(call, None)
    }

    fn supports_batch_stride(&self) -> bool {
        true
    }

    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        let kernel_size = [inputs[1][2], inputs[1][3]];
        let Conv2d { stride, padding, dilation, .. } = *self;
        Some(Window { kernel_size, stride, padding, dilation })
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        only_first_is_batched(batched).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        let saved = SavedTensors::NONE.inputs(&[0, 1]);
        if self.activation.is_some() { saved.outputs(&[0]) } else { saved }
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let Fused { dy, bias } = Fused::grad(self.activation, node, *node.output_grad().shape())?;
        let geometry = self.geometry();
        let (x, weight) = (&node.input_shapes[0], &node.input_shapes[1]);
        let input_grad = Conv2dInputGrad { geometry, input_size: [x[2], x[3]] };
        let weight_grad = Conv2dWeightGrad { geometry, kernel_size: [weight[2], weight[3]] };
        let mut grads: InputGrads = smallvec![
            node.if_needed(0, || run_single(&input_grad, &[&dy, node.input(1)]))?,
            node.if_needed(1, || run_single(&weight_grad, &[node.input(0), &dy]))?,
        ];
        if node.needs.len() == 3 {
            grads.push(bias);
        }
        Ok(grads)
    }

    fn multiply_adds(&self, inputs: &[Shape], outputs: &[Shape]) -> u64 {
        self.geometry().conv_shape(&inputs[0], &inputs[1], &outputs[0]).multiply_adds()
    }

    fn absorb(&self, next: &dyn Op, pass: Pass) -> Option<Arc<dyn Op>> {
        let activation = fusion::fusible(self.activation, next.activation(), pass)?;
        Some(Arc::new(Conv2d { activation: Some(activation), ..*self }))
    }

    fn absorb_affine(
        &self,
        map: &ChannelAffine,
        _inputs: &[Shape],
        constants: &[Option<&Tensor>],
    ) -> Result<Option<AbsorbedAffine>> {
        let folded = fusion::fold_into_product(map, self.activation, constants)?;
        Ok(folded.map(|constants| (Arc::new(*self) as Arc<dyn Op>, constants)))
    }

    fn pack(&self, inputs: &[Shape], constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Op>>> {
        let [_, Some(weight), ..] = constants else { return Ok(None) };
        Ok(Some(Arc::new(PackedConv2d::new(*self, inputs[0], weight, [false; 2])?)))
    }

    fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<BlockForm> {
        let y = self.infer(inputs).ok()?[0];
        let conv = self.geometry().conv_shape(&inputs[0], &inputs[1], &y);
        if y.elements() == 0 {
            return None;
        }
        let [x_in_blocks, _] = cpu::in_blocks(&conv)?;
        let form = block_form(*self, inputs, x_in_blocks)?;
        // From few channels, many images are brought into blocks if they are large.
        let lanes = instruction_set().1;
        let (pixels, channels) = if conv.n <= FEW_IMAGES {
            (2, FEW_CHANNELS)
        } else if x_in_blocks {
            (2, lanes)
        } else {
            (LARGE_MAP, lanes)
        };
        let is_faster = conv.groups == 1 && conv.out_per_group >= channels && conv.out_pixels() >= pixels;
        Some(BlockForm { is_faster, ..form })
    }
}

impl BlockKernel for Conv2d {
    fn cpu_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        scratch: &Scratch,
    ) {
        let (conv, _) = self.shape_in_blocks(blocks, inputs);
        self.cpu_packed(&conv, &cpu::pack(&conv, inputs[1].data, scratch), inputs, outputs, scratch);
    }

    fn pack_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[Shape],
        constants: &[Option<&Tensor>],
    ) -> Result<Option<Arc<dyn BlockKernel>>> {
        let [_, Some(weight), ..] = constants else { return Ok(None) };
        Ok(Some(Arc::new(PackedConv2d::new(*self, inputs[0], weight, [blocks.inputs[0].is_some(), true])?)))
    }
}

/// The gradient of a convolution with respect to its input: a transposed convolution.
///
/// Inputs: `dy [n, out, oh, ow]`, the gradient of the output, and `weight [out, c / groups, kh, kw]`; output:
/// `[n, c, h, w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dInputGrad {
    /// The geometry of the convolution.
    pub geometry: Conv2dGeometry,
    /// `[h, w]` of the input. With a stride above 1 several input sizes give the same output size.
    pub input_size: [usize; 2],
}

impl Op for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        requested_algorithm()?;
        let [dy, weight] = expect_inputs(self, inputs)?;
        let [n, out, oh, ow] = dy.nchw()?;
        let [weight_out, in_per_group, kh, kw] = weight_shape(&weight)?;
        self.geometry.check_groups(out, "output")?;
        if out != weight_out {
            return Err(Error::shape(format!(
                "the gradient of the output has {}, the weight {}; gradient {dy}, weight {weight}",
                count(out, "channel"),
                count(weight_out, "output channel")
            )));
        }
        let [h, w] = self.input_size;
        check_output_size(self.geometry.output_size([h, w], [kh, kw])?, [oh, ow])?;
        let channels = in_per_group.checked_mul(self.geometry.groups).ok_or_else(|| {
            let groups = self.geometry.groups;
            Error::shape(format!(
                "{groups} groups of {in_per_group} input channels are too many; weight {weight}"
            ))
        })?;
        Ok(smallvec![Shape::new(&[n, channels, h, w])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let conv = self.geometry.conv_shape(outputs[0].shape, inputs[1].shape, inputs[0].shape);
        reference::input_grad(&conv, inputs[0].data, inputs[1].data, outputs[0].data);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let conv = self.geometry.conv_shape(outputs[0].shape, inputs[1].shape, inputs[0].shape);
        cpu::input_grad(&conv, inputs[0].data, inputs[1].data, outputs[0].data, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (dy, weight, dx) = (call.input(0), call.input(1), call.output(0));
        let conv = self.geometry.conv_shape(dx.shape, weight.shape, dy.shape);
        opencl::input_grad(call, &conv, dy.buffer, weight.buffer, dx.buffer)
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        only_first_is_batched(batched).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE.inputs(&[0, 1])
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let weight = &node.input_shapes[1];
        let weight_grad = Conv2dWeightGrad { geometry: self.geometry, kernel_size: [weight[2], weight[3]] };
        let d = node.output_grad();
        Ok(smallvec![
            node.if_needed(0, || run_single(&Conv2d::new(self.geometry, None), &[d, node.input(1)]))?,
            node.if_needed(1, || run_single(&weight_grad, &[d, node.input(0)]))?,
        ])
    }

    fn multiply_adds(&self, inputs: &[Shape], outputs: &[Shape]) -> u64 {
        self.geometry.conv_shape(&outputs[0], &inputs[1], &inputs[0]).multiply_adds()
    }
}

/// The gradient of a convolution with respect to its weight.
///
/// Inputs: `x [n, c, h, w]` and `dy [n, out, oh, ow]`, the gradient of the output; output:
/// `[out, c / groups, kh, kw]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dWeightGrad {
    /// The geometry of the convolution.
    pub geometry: Conv2dGeometry,
    /// `[kh, kw]` of the weight.
    pub kernel_size: [usize; 2],
}

impl Op for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        requested_algorithm()?;
        let [x, dy] = expect_inputs(self, inputs)?;
        let [n, c, h, w] = x.nchw()?;
        let [dy_n, out, oh, ow] = dy.nchw()?;
        if n != dy_n {
            return Err(Error::shape(format!(
                "the input has a batch size of {n}, the gradient of the output {dy_n}; input {x}, gradient {dy}"
            )));
        }
        self.geometry.check_groups(c, "input")?;
        self.geometry.check_groups(out, "output")?;
        check_output_size(self.geometry.output_size([h, w], self.kernel_size)?, [oh, ow])?;
        let shape = Shape::new(&[out, c / self.geometry.groups, self.kernel_size[0], self.kernel_size[1]])?;
        weight_shape(&shape)?;
        Ok(smallvec![shape])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let conv = self.geometry.conv_shape(inputs[0].shape, outputs[0].shape, inputs[1].shape);
        reference::weight_grad(&conv, inputs[0].data, inputs[1].data, outputs[0].data);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let conv = self.geometry.conv_shape(inputs[0].shape, outputs[0].shape, inputs[1].shape);
        cpu::weight_grad(&conv, inputs[0].data, inputs[1].data, outputs[0].data, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, dy, dw) = (call.input(0), call.input(1), call.output(0));
        let conv = self.geometry.conv_shape(x.shape, dw.shape, dy.shape);
        opencl::weight_grad(call, &conv, x.buffer, dy.buffer, dw.buffer)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE.inputs(&[0, 1])
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let x = &node.input_shapes[0];
        let input_grad = Conv2dInputGrad { geometry: self.geometry, input_size: [x[2], x[3]] };
        let d = node.output_grad();
        Ok(smallvec![
            node.if_needed(0, || run_single(&input_grad, &[node.input(1), d]))?,
            node.if_needed(1, || run_single(&Conv2d::new(self.geometry, None), &[node.input(0), d]))?,
        ])
    }

    fn multiply_adds(&self, inputs: &[Shape], outputs: &[Shape]) -> u64 {
        self.geometry.conv_shape(&inputs[0], &outputs[0], &inputs[1]).multiply_adds()
    }
}

fn check_output_size(expected: [usize; 2], found: [usize; 2]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(format!(
        "the gradient of the output is {} x {} pixels, the convolution's output is {} x {}",
        found[0], found[1], expected[0], expected[1]
    )))
}
