//! Max pooling.
//!
//! `y[n, c, r, s] = max over u, v of x[n, c, r * stride + u * dilation - padding, …]`, where padding is minus infinity. The first
//! of equal numbers in row-major order is selected; NaN is larger than all numbers and than NaNs before it, as in PyTorch.

mod cases;
mod cpu;

use std::sync::Arc;

use smallvec::smallvec;

use super::Activation;
use super::channel_blocks::{BlockKernel, BlockLayout, block_form, for_each_block};
use super::pooling::{LARGEST_INDEXED_PLANE, PoolWindow, opencl};
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{self, BlockForm, Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{Arg, Call, Grid, Source};
use neocog_base::{Error, Result};

/// Max pooling, as PyTorch's `MaxPool2d`. Input: `[n, c, h, w]`. Outputs: `[n, c, oh, ow]`, and optionally the indices in the same
/// shape. Each pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2d {
    /// Size of the window.
    pub kernel_size: [usize; 2],
    /// Distance between windows, in pixels.
    pub stride: [usize; 2],
    /// Padding with minus infinity on each side, at most half of the kernel size.
    pub padding: [usize; 2],
    /// Distance between the elements of a window, in pixels.
    pub dilation: [usize; 2],
    /// Whether output sizes are rounded up: a last window may extend beyond the padded image if it starts within the image or
    /// the left padding.
    pub ceil_mode: bool,
    /// Whether there is a second output, the index `row * w + column` of each maximum in its channel plane. The gradient needs
    /// it.
    pub return_indices: bool,
}

impl MaxPool2d {
    fn window(&self) -> PoolWindow {
        let MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode, .. } = *self;
        PoolWindow { kernel_size, stride, padding, dilation, ceil_mode }
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        let [n, c, h, w] = x.nchw()?;
        let [oh, ow] = self.window().output_size([h, w])?;
        let y = Shape::new(&[n, c, oh, ow])?;
        if !self.return_indices {
            return Ok(smallvec![y]);
        }
        if h * w > LARGEST_INDEXED_PLANE {
            return Err(Error::shape(format!(
                "images of {h} x {w} pixels are too large for indices, which are exact up to {LARGEST_INDEXED_PLANE} pixels"
            )));
        }
        Ok(smallvec![y, y])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let [rows, columns] = self.window().axes(inputs[0].shape, outputs[0].shape);
        let x = inputs[0].nchw();
        let w = columns.input;
        let mut outputs = outputs.iter_mut();
        let mut y = outputs.next().expect("infer returns y").nchw();
        let mut indices = outputs.next().map(ViewMut::nchw);
        for ((n, c, r, s), y) in y.indexed_iter_mut() {
            let mut best: Option<(f64, usize)> = None;
            // Only elements within the image: a window may have any number of others.
            for u in rows.taps(r) {
                for v in columns.taps(s) {
                    let (row, column) = (rows.pixel(r, u), columns.pixel(s, v));
                    let value = x[[n, c, row, column]];
                    if best.is_none_or(|(largest, _)| value > largest || value.is_nan()) {
                        best = Some((value, row * w + column));
                    }
                }
            }
            let (largest, at) = best.expect("infer has checked that each window contains a pixel");
            *y = largest;
            if let Some(indices) = &mut indices {
                indices[[n, c, r, s]] = at as f64;
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let axes = self.window().axes(inputs[0].shape, outputs[0].shape);
        match outputs {
            [y] => cpu::forward(axes, inputs[0].data, y.data, None, scratch),
            [y, indices, ..] => cpu::forward(axes, inputs[0].data, y.data, Some(&mut *indices.data), scratch),
            [] => unreachable!("infer returns one or two outputs"),
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, y) = (call.input(0), call.output(0));
        let [rows, columns] = self.window().axes(x.shape, y.shape);
        let source = opencl::program("max_pool2d", include_str!("kernels.cl"), columns)
            .define("INDICES", u8::from(self.return_indices));
        let lines = y.shape[0] * y.shape[1] * rows.output;
        let (each, grid) = opencl::lines(call, lines, columns.output);
        let mut args = vec![Arg::from(x)];
        args.extend(call.outputs().iter().map(|&output| Arg::from(output)));
        args.extend(opencl::arguments([rows, columns])?);
        args.extend([Arg::from(lines), each.into()]);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source, "max_pool2d", &args, grid) }
    }

    fn window(&self, _inputs: &[Shape]) -> Option<op::Window> {
        let MaxPool2d { kernel_size, stride, padding, dilation, .. } = *self;
        Some(op::Window { kernel_size, stride, padding, dilation })
    }

    fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<BlockForm> {
        if self.return_indices { None } else { block_form(*self, inputs, true) }
    }

    /// The maximum of a window is the same before and after a ReLU, and so is its index where the gradient is not 0.
    fn commutes_with(&self, before: &dyn Op) -> bool {
        matches!(before.activation(), Some(Activation::Relu | Activation::Relu6))
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        only_first_is_batched(batched).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        if self.return_indices { SavedTensors::NONE.outputs(&[1]) } else { SavedTensors::NONE }
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        if !self.return_indices {
            return Err(Error::invalid_argument(
                "the gradient of max_pool2d needs the indices of the maxima: set return_indices to true",
            ));
        }
        let x = &node.input_shapes[0];
        let back = MaxPool2dGrad { input_size: [x[2], x[3]] };
        let dy = node.first_output_grad(self)?;
        Ok(smallvec![node.if_needed(0, || run_single(&back, &[dy, node.output(1)]))?])
    }
}

impl BlockKernel for MaxPool2d {
    fn cpu_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        _scratch: &Scratch,
    ) {
        let axes = self.window().axes(inputs[0].shape, outputs[0].shape);
        for_each_block(&cpu::Blockwise { axes }, blocks, &inputs[0], &mut outputs[0]);
    }
}

/// The gradient of [`MaxPool2d`]. Inputs: `dy` and the indices, both `[n, c, oh, ow]`; output: `[n, c, h, w]`.
///
/// Each gradient is added at its index. Indices outside of the channel plane are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2dGrad {
    /// Size `[h, w]` of the forward input.
    pub input_size: [usize; 2],
}

impl Op for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        "max_pool2d_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [dy, indices] = expect_inputs(self, inputs)?;
        let [n, c, _, _] = dy.nchw()?;
        if dy != indices {
            return Err(Error::shape(format!("the gradient is {dy}, but the indices are {indices}")));
        }
        let [h, w] = self.input_size;
        Ok(smallvec![Shape::new(&[n, c, h, w])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let plane = self.input_size[0] * self.input_size[1];
        let (dy, indices) = (inputs[0].nchw(), inputs[1].nchw());
        let mut dx = outputs[0].nchw();
        dx.fill(0.0);
        for ((n, c, r, s), d) in dy.indexed_iter() {
            let at = indices[[n, c, r, s]];
            if at >= 0.0 && at < plane as f64 {
                let at = at as usize;
                dx[[n, c, at / self.input_size[1], at % self.input_size[1]]] += d;
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let output_size = [inputs[0].shape[2], inputs[0].shape[3]];
        cpu::backward(self.input_size, output_size, inputs[0].data, inputs[1].data, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let [dy, indices, dx] = [call.input(0), call.input(1), call.output(0)];
        let [n, c, oh, ow] = dy.shape.nchw()?;
        let [h, w] = self.input_size;
        let team = if call.on_cpu() { 1 } else { 64 };
        let source = Source::new("max_pool2d_grad", include_str!("grad.cl")).define("TEAM", team);
        let args = [dy.into(), indices.into(), dx.into(), (oh * ow).into(), (h * w).into()];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source, "max_pool2d_grad", &args, Grid::new([n * c * team], [team])) }
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}
