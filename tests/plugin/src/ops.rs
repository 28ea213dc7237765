//! The operation `pixel_unshuffle` and its inverse, which is also its gradient.

use neocog_tensor::cases::{Case, CaseInput};
use neocog_tensor::op::expect_inputs;
use neocog_tensor::opencl::{Call, Grid, Source};
use neocog_tensor::{
    Error, Gradient, InputGrads, Op, Result, SavedTensors, Scratch, Shape, Shapes, View, ViewMut, Window,
    check_call, register_op, run_single,
};
use rayon::prelude::*;

/// Rearranges blocks of `r` x `r` pixels to `r²` channels, `[n, c, h, w]` to `[n, c·r², h/r, w/r]`:
/// `y[n, (c·r + i)·r + j, p, q] = x[n, c, p·r + i, q·r + j]`, as PyTorch's `pixel_unshuffle`.
#[derive(Clone, Copy, Debug)]
pub struct PixelUnshuffle {
    /// Side of a block in pixels.
    pub downscale_factor: usize,
}

/// The inverse, `[n, c·r², h, w]` to `[n, c, h·r, w·r]`, as PyTorch's `pixel_shuffle`.
#[derive(Clone, Copy, Debug)]
pub struct PixelShuffle {
    /// Side of a block in pixels.
    pub upscale_factor: usize,
}

/// Returns the index `[c, h, w]` in the shuffled image of the element `[channel, p, q]` of the unshuffled one.
fn shuffled_index(r: usize, channel: usize, p: usize, q: usize) -> (usize, usize, usize) {
    (channel / (r * r), p * r + channel / r % r, q * r + channel % r)
}

impl Op for PixelUnshuffle {
    fn name(&self) -> &'static str {
        "pixel_unshuffle"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        let ([n, c, h, w], r) = (x.nchw()?, self.downscale_factor);
        if r == 0 {
            return Err(Error::invalid_argument("the downscale_factor must be at least 1"));
        }
        if !h.is_multiple_of(r) || !w.is_multiple_of(r) {
            return Err(Error::shape(format!(
                "{h} x {w} pixels cannot be cut into blocks of {r} x {r}; input {x}"
            )));
        }
        Ok([Shape::new(&[n, c * r * r, h / r, w / r])?].into_iter().collect())
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, mut y) = (inputs[0].nchw(), outputs[0].nchw());
        for ((n, channel, p, q), y) in y.indexed_iter_mut() {
            let (c, h, w) = shuffled_index(self.downscale_factor, channel, p, q);
            *y = x[[n, c, h, w]];
        }
    }

    /// Parallel over the rows of the output, so the result does not depend on the number of threads.
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let ([_, channels, height, width], r) = (extents(outputs[0].shape()), self.downscale_factor);
        let x = inputs[0].data();
        outputs[0].data_mut().par_chunks_mut(width.max(1)).with_min_len(64).enumerate().for_each(
            |(row, y)| {
                let (n, channel, p) = (row / (channels * height), row / height % channels, row % height);
                let (c, h, w) = shuffled_index(r, channel, p, 0);
                let from = ((n * (channels / (r * r)) + c) * height * r + h) * width * r + w;
                y.iter_mut().zip(x[from..].iter().step_by(r)).for_each(|(y, x)| *y = *x);
            },
        );
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        launch(call, self.downscale_factor, call.output(0).shape, true)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    /// A pixel of the output depends on a block of the input.
    fn window(&self, _inputs: &[Shape]) -> Option<Window> {
        let block = [self.downscale_factor; 2];
        Some(Window { kernel_size: block, stride: block, padding: [0, 0], dilation: [1, 1] })
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let back = PixelShuffle { upscale_factor: self.downscale_factor };
        Ok([node.if_needed(0, || run_single(&back, &[node.output_grad()]))?].into_iter().collect())
    }
}

impl Op for PixelShuffle {
    fn name(&self) -> &'static str {
        "pixel_shuffle"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        let ([n, c, h, w], r) = (x.nchw()?, self.upscale_factor);
        if r == 0 {
            return Err(Error::invalid_argument("the upscale_factor must be at least 1"));
        }
        if !c.is_multiple_of(r * r) {
            return Err(Error::shape(format!("{c} channels are not a multiple of {r} x {r}; input {x}")));
        }
        Ok([Shape::new(&[n, c / (r * r), h * r, w * r])?].into_iter().collect())
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, mut y) = (inputs[0].nchw(), outputs[0].nchw());
        for ((n, channel, p, q), x) in x.indexed_iter() {
            let (c, h, w) = shuffled_index(self.upscale_factor, channel, p, q);
            y[[n, c, h, w]] = *x;
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let ([_, channels, height, width], r) = (extents(outputs[0].shape()), self.upscale_factor);
        let (x, plane) = (inputs[0].data(), height / r * (width / r));
        outputs[0].data_mut().par_chunks_mut(width.max(1)).with_min_len(64).enumerate().for_each(
            |(row, y)| {
                let (image, h) = (row / height, row % height);
                let (n, c) = (image / channels, image % channels);
                let first = ((n * channels + c) * r + h % r) * r;
                for (w, y) in y.iter_mut().enumerate() {
                    *y = x[(first + w % r) * plane + h / r * (width / r) + w / r];
                }
            },
        );
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        launch(call, self.upscale_factor, call.input(0).shape, false)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let back = PixelUnshuffle { downscale_factor: self.upscale_factor };
        Ok([node.if_needed(0, || run_single(&back, &[node.output_grad()]))?].into_iter().collect())
    }
}

/// Launches the OpenCL kernel; `unshuffled` is the shape of the unshuffled image.
fn launch(call: &Call<'_>, r: usize, unshuffled: &Shape, unshuffle: bool) -> Result<()> {
    let ([_, channels, h, w], count) = (extents(unshuffled), unshuffled.elements());
    let args = [
        call.input(0).into(),
        call.output(0).into(),
        usize::from(unshuffle).into(),
        count.into(),
        r.into(),
        channels.into(),
        h.into(),
        w.into(),
    ];
    let source = Source::new("pixel_shuffle", include_str!("ops.cl"));
    // SAFETY: the callers have checked that the buffers have the sizes of the shapes; each of the `count` work-items reads one
    // element and writes another one of them, and the kernel ignores work-items behind the last.
    unsafe { call.launch(&source, "shuffle_pixels", &args, Grid::line(count)) }
}

/// Returns `[n, c, h, w]` of a shape whose rank was checked by `infer`.
fn extents(shape: &Shape) -> [usize; 4] {
    [shape[0], shape[1], shape[2], shape[3]]
}

// The conformance tests run these cases: every device is compared with `reference`, every element must be written, and gradients are
// compared with central differences. Benchmarks measure the `timed` cases.
register_op!("pixel_unshuffle", || {
    let case = |name: &str, r, x: [usize; 4]| {
        Case::new(name, PixelUnshuffle { downscale_factor: r }, [CaseInput::uniform(x)])
    };
    vec![
        case("one pixel", 1, [2, 3, 1, 1]),
        case("blocks of two", 2, [2, 3, 4, 6]),
        case("blocks of three", 3, [1, 2, 3, 9]),
        case("no images", 2, [0, 3, 4, 4]),
        case("no pixels", 2, [2, 3, 4, 0]),
        case("many rows", 2, [3, 5, 64, 62]).without_gradient(),
        case("a batch", 2, [64, 16, 56, 56]).timed(),
    ]
});

register_op!("pixel_shuffle", || {
    let case = |name: &str, r, x: [usize; 4]| {
        Case::new(name, PixelShuffle { upscale_factor: r }, [CaseInput::uniform(x)])
    };
    vec![
        case("one pixel", 1, [2, 3, 1, 1]),
        case("blocks of two", 2, [2, 8, 2, 3]),
        case("blocks of three", 3, [1, 18, 1, 3]),
        case("no images", 2, [0, 4, 4, 4]),
        case("no pixels", 2, [2, 4, 4, 0]),
        case("many rows", 2, [3, 20, 32, 31]).without_gradient(),
        case("a batch", 2, [64, 64, 28, 28]).timed(),
    ]
});
