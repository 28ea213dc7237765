//! Average pooling.
//!
//! `y[n, c, r, s] = sum over u, v of x[n, c, r * stride + u - padding, …] / divisor(r, s)`, where pixels outside of the image
//! are 0.

mod cases;
mod cpu;
mod divisor;

use std::sync::Arc;

use smallvec::smallvec;

use self::divisor::Divisor;
use super::channel_blocks::{BlockKernel, BlockLayout, block_form, for_each_block};
use super::pooling::{Axis, PoolWindow, opencl};
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{self, BlockForm, Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{Arg, Call};
use neocog_base::{Error, Result};

/// Average pooling, as PyTorch's `AvgPool2d`. Input: `[n, c, h, w]`; output: `[n, c, oh, ow]`. Each pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool2d {
    /// Size of the window.
    pub kernel_size: [usize; 2],
    /// Distance between windows, in pixels.
    pub stride: [usize; 2],
    /// Zero padding on each side, at most half of the kernel size.
    pub padding: [usize; 2],
    /// Whether output sizes are rounded up: a last window may extend beyond the padded image if it starts within the image or
    /// the left padding. Elements beyond the padding never count.
    pub ceil_mode: bool,
    /// Whether padding counts in the divisor.
    pub count_include_pad: bool,
    /// Divisor to use instead of the number of elements; not 0.
    pub divisor_override: Option<usize>,
}

impl AvgPool2d {
    fn window(&self) -> PoolWindow {
        let AvgPool2d { kernel_size, stride, padding, ceil_mode, .. } = *self;
        PoolWindow { kernel_size, stride, padding, dilation: [1, 1], ceil_mode }
    }

    fn output_size(&self, input: [usize; 2]) -> Result<[usize; 2]> {
        if self.divisor_override == Some(0) {
            return Err(Error::invalid_argument("divisor_override is 0, it must be at least 1"));
        }
        self.window().output_size(input)
    }

    /// Launches the forward or the backward kernel.
    fn launch(&self, call: &Call<'_>, kernel: &'static str, [rows, columns]: [Axis; 2]) -> Result<()> {
        let (mode, fixed) = match self.divisor() {
            Divisor::Fixed(divisor) => (0, divisor as f32),
            Divisor::WithPadding => (1, 1.0),
            Divisor::PixelsOnly => (2, 1.0),
        };
        let source =
            opencl::program("avg_pool2d", include_str!("kernels.cl"), columns).define("DIVISOR", mode);
        let out = call.output(0);
        let [n, c, h, w] = out.shape.nchw()?;
        let (each, grid) = opencl::lines(call, n * c * h, w);
        let mut args = vec![call.input(0).into(), out.into()];
        args.extend(opencl::arguments([rows, columns])?);
        args.extend([Arg::Float(fixed), (n * c * h).into(), each.into()]);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source, kernel, &args, grid) }
    }

    /// Returns the divisor.
    fn divisor(&self) -> Divisor {
        match (self.divisor_override, self.count_include_pad) {
            (Some(divisor), _) => Divisor::Fixed(divisor),
            (None, true) => Divisor::WithPadding,
            (None, false) => Divisor::PixelsOnly,
        }
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        let [n, c, h, w] = x.nchw()?;
        let [oh, ow] = self.output_size([h, w])?;
        Ok(smallvec![Shape::new(&[n, c, oh, ow])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let axes = self.window().axes(inputs[0].shape, outputs[0].shape);
        let x = inputs[0].nchw();
        for ((n, c, r, s), y) in outputs[0].nchw().indexed_iter_mut() {
            let (pixels, divisor) = self.pixels(axes, r, s);
            *y = pixels.into_iter().map(|(row, column)| x[[n, c, row, column]]).sum::<f64>() / divisor;
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let axes = self.window().axes(inputs[0].shape, outputs[0].shape);
        cpu::forward(axes, self.divisor(), inputs[0].data, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, y) = (call.input(0), call.output(0));
        self.launch(call, "avg_pool2d", self.window().axes(x.shape, y.shape))
    }

    fn window(&self, _inputs: &[Shape]) -> Option<op::Window> {
        let AvgPool2d { kernel_size, stride, padding, .. } = *self;
        Some(op::Window { kernel_size, stride, padding, dilation: [1, 1] })
    }

    fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<BlockForm> {
        block_form(*self, inputs, true)
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        only_first_is_batched(batched).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let x = &node.input_shapes[0];
        let back = AvgPool2dGrad { pool: *self, input_size: [x[2], x[3]] };
        Ok(smallvec![node.if_needed(0, || run_single(&back, &[node.output_grad()]))?])
    }
}

impl BlockKernel for AvgPool2d {
    fn cpu_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        _scratch: &Scratch,
    ) {
        let axes = self.window().axes(inputs[0].shape, outputs[0].shape);
        let map = cpu::Blockwise { axes, divisor: self.divisor() };
        for_each_block(&map, blocks, &inputs[0], &mut outputs[0]);
    }
}

impl AvgPool2d {
    /// Returns the pixels of window `(r, s)`, as row and column, and the divisor; for the reference. Only elements within the
    /// image are visited: a window may have any number of others.
    fn pixels(&self, axes: [Axis; 2], r: usize, s: usize) -> (Vec<(usize, usize)>, f64) {
        let [rows, columns] = axes;
        let mut pixels = Vec::new();
        for u in rows.taps(r) {
            for v in columns.taps(s) {
                pixels.push((rows.pixel(r, u), columns.pixel(s, v)));
            }
        }
        (pixels, self.divisor().of([&rows, &columns], r, s))
    }
}

/// The gradient of [`AvgPool2d`]. Input: `dy [n, c, oh, ow]`; output: `[n, c, h, w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool2dGrad {
    /// The forward operation.
    pub pool: AvgPool2d,
    /// Size `[h, w]` of the forward input.
    pub input_size: [usize; 2],
}

impl Op for AvgPool2dGrad {
    fn name(&self) -> &'static str {
        "avg_pool2d_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [dy] = expect_inputs(self, inputs)?;
        let [n, c, oh, ow] = dy.nchw()?;
        let [h, w] = self.input_size;
        let expected = self.pool.output_size([h, w])?;
        if expected != [oh, ow] {
            return Err(Error::shape(format!(
                "pooling an image of {h} x {w} pixels yields {} x {}, but the gradient is {dy}",
                expected[0], expected[1]
            )));
        }
        Ok(smallvec![Shape::new(&[n, c, h, w])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let axes = self.pool.window().axes(outputs[0].shape, inputs[0].shape);
        let mut dx = outputs[0].nchw();
        dx.fill(0.0);
        for ((n, c, r, s), dy) in inputs[0].nchw().indexed_iter() {
            let (pixels, divisor) = self.pool.pixels(axes, r, s);
            for (row, column) in pixels {
                dx[[n, c, row, column]] += dy / divisor;
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let axes = self.pool.window().axes(outputs[0].shape, inputs[0].shape);
        cpu::backward(axes, self.pool.divisor(), inputs[0].data, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (dy, dx) = (call.input(0), call.output(0));
        self.pool.launch(call, "avg_pool2d_grad", self.pool.window().axes(dx.shape, dy.shape))
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(&self.pool, &[node.output_grad()]))?])
    }
}
