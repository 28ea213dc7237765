//! Global average pooling.

mod cases;
mod cpu;

use std::sync::Arc;

use smallvec::smallvec;

use super::channel_blocks::{BlockKernel, BlockLayout, block_form, for_each_block};
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{BlockForm, Gradient, InputGrads, Op, SavedTensors, Window, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{Call, Grid, Source};
use neocog_base::{Error, Result};

/// The mean of each channel plane. Input: `[n, c, h, w]`; output: `[n, c, 1, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlobalAvgPool2d;

/// The gradient of [`GlobalAvgPool2d`]: `dx[n, c, r, s] = dy[n, c, 0, 0] / (h * w)`. Input: `[n, c, 1, 1]`; output:
/// `[n, c, h, w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlobalAvgPool2dGrad {
    /// Size `[h, w]` of the forward input.
    pub input_size: [usize; 2],
}

impl Op for GlobalAvgPool2d {
    fn name(&self) -> &'static str {
        "global_avg_pool2d"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        let [n, c, h, w] = x.nchw()?;
        if h == 0 || w == 0 {
            return Err(Error::shape(format!("cannot average an empty image: {x}")));
        }
        Ok(smallvec![Shape::new(&[n, c, 1, 1])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let plane = inputs[0].shape[2] * inputs[0].shape[3];
        for (x, y) in inputs[0].data.chunks(plane).zip(outputs[0].data.iter_mut()) {
            *y = x.iter().sum::<f64>() / plane as f64;
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let plane = inputs[0].shape[2] * inputs[0].shape[3];
        cpu::forward(plane, inputs[0].data, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, y) = (call.input(0), call.output(0));
        let planes = y.buffer.len();
        let args = [x.into(), y.into(), planes.into(), (x.buffer.len() / planes).into()];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&program(), "global_avg_pool2d", &args, Grid::line(planes)) }
    }

    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        Window::whole(&inputs[0])
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
        let back = GlobalAvgPool2dGrad { input_size: [x[2], x[3]] };
        Ok(smallvec![node.if_needed(0, || run_single(&back, &[node.output_grad()]))?])
    }
}

impl BlockKernel for GlobalAvgPool2d {
    fn cpu_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        _scratch: &Scratch,
    ) {
        for_each_block(&cpu::Blockwise, blocks, &inputs[0], &mut outputs[0]);
    }
}

fn program() -> Source {
    Source::new("global_avg_pool2d", include_str!("kernels.cl"))
}

impl Op for GlobalAvgPool2dGrad {
    fn name(&self) -> &'static str {
        "global_avg_pool2d_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [dy] = expect_inputs(self, inputs)?;
        let [h, w] = self.input_size;
        match dy.nchw()? {
            [n, c, 1, 1] if h > 0 && w > 0 => Ok(smallvec![Shape::new(&[n, c, h, w])?]),
            [_, _, 1, 1] => Err(Error::shape(format!("cannot average an empty image: {h} x {w} pixels"))),
            _ => Err(Error::shape(format!("expected a shape [n, c, 1, 1], found {dy}"))),
        }
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let plane = self.input_size[0] * self.input_size[1];
        for (i, dx) in outputs[0].data.iter_mut().enumerate() {
            *dx = inputs[0].data[i / plane] / plane as f64;
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let plane = self.input_size[0] * self.input_size[1];
        cpu::backward(plane, inputs[0].data, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (dy, dx) = (call.input(0), call.output(0));
        let (planes, pixels) = (dy.buffer.len(), dx.buffer.len() / dy.buffer.len());
        let block = if call.on_cpu() { pixels } else { call.width() };
        let args = [dy.into(), dx.into(), planes.into(), pixels.into(), block.into()];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe {
            call.launch(
                &program(),
                "global_avg_pool2d_grad",
                &args,
                Grid::line(planes * pixels.div_ceil(block)),
            )
        }
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(&GlobalAvgPool2d, &[node.output_grad()]))?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_shapes_are_errors() {
        let error = |op: &dyn Op, shape: Shape| op.infer(&[shape]).unwrap_err().to_string();
        assert!(error(&GlobalAvgPool2d, Shape::from([1, 2, 0, 3])).contains("empty image: [1, 2, 0, 3]"));
        assert!(error(&GlobalAvgPool2d, Shape::from([1, 2])).contains("[n, c, h, w]"));
        let back = GlobalAvgPool2dGrad { input_size: [2, 3] };
        assert!(error(&back, Shape::from([1, 2, 2, 1])).contains("found [1, 2, 2, 1]"));
        let empty = GlobalAvgPool2dGrad { input_size: [0, 3] };
        assert!(error(&empty, Shape::from([1, 2, 1, 1])).contains("0 x 3 pixels"));
    }
}
