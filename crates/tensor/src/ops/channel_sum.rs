//! Sums over everything but the channel.

use rayon::prelude::*;
use smallvec::smallvec;

use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::CHUNK;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::opencl::{self, Call};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// `y[c] = sum over all other axes of x[n, c, ..]`: the gradient of a bias. Input: `[n, c, ..]`; output: `[c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelSum;

impl Op for ChannelSum {
    fn name(&self) -> &'static str {
        "channel_sum"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        match x.extents() {
            [_, c, ..] => Ok(smallvec![Shape::from([*c])]),
            _ => Err(Error::shape(format!("expected a shape [n, c, ..], found {x}"))),
        }
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (channels, plane) = channels_and_plane(inputs[0].shape);
        outputs[0].data.fill(0.0);
        for (i, v) in inputs[0].data.iter().enumerate() {
            outputs[0].data[i / plane % channels] += v;
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let (channels, plane) = channels_and_plane(inputs[0].shape);
        let x = inputs[0].data;
        let sum = |start: usize, y: &mut [f32]| dispatch(Sum { x, channels, plane, start, y });
        // A channel is summed by one thread, from the first picture to the last.
        let each = (CHUNK * channels).checked_div(x.len()).unwrap_or(channels).max(16);
        if channels <= each {
            sum(0, outputs[0].data);
        } else {
            outputs[0].data.par_chunks_mut(each).enumerate().for_each(|(i, y)| sum(i * each, y));
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0), call.output(0));
        let (channels, plane) = channels_and_plane(x.shape);
        let (x_shape, out_shape) = (Shape::from([x.shape[0], channels, plane]), Shape::from([channels, 1]));
        super::reduce::opencl::sum(
            call,
            opencl::View { shape: &x_shape, ..x },
            opencl::View { shape: &out_shape, ..out },
            1.0,
        )
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

/// Channels, and elements of each in a picture.
pub(super) fn channels_and_plane(shape: &Shape) -> (usize, usize) {
    (shape[1], shape[2..].iter().product())
}

struct Sum<'a> {
    x: &'a [f32],
    channels: usize,
    plane: usize,
    /// The channel of `y[0]`.
    start: usize,
    y: &'a mut [f32],
}

impl Kernel for Sum<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Sum { x, channels, plane, start, y } = self;
        y.fill(0.0);
        if plane == 1 {
            for row in x.chunks_exact(channels) {
                let row = &row[start..start + y.len()];
                for (y, x) in y.chunks_mut(S::LANES).zip(row.chunks(S::LANES)) {
                    (S::from_short_slice(y) + S::from_short_slice(x)).to_short_slice(y);
                }
            }
            return;
        }
        for (c, y) in y.iter_mut().enumerate() {
            for picture in x.chunks_exact((channels * plane).max(1)) {
                *y += sum::<S>(&picture[(start + c) * plane..][..plane]);
            }
        }
    }
}

/// The sum of a row, in four interleaved parts.
#[inline(always)]
pub(super) fn sum<S: Simd>(row: &[f32]) -> f32 {
    let mut parts = [S::splat(0.0); 4];
    let mut blocks = row.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        for (part, v) in parts.iter_mut().zip(block.chunks_exact(S::LANES)) {
            *part = *part + S::from_slice(v);
        }
    }
    for (part, v) in parts.iter_mut().zip(blocks.remainder().chunks(S::LANES)) {
        *part = *part + S::from_short_slice(v);
    }
    ((parts[0] + parts[1]) + (parts[2] + parts[3])).sum()
}

/// Shapes with channels, for cases: flat ones, empty ones, and enough for several threads.
pub(super) const SHAPES: [&[usize]; 8] = [
    &[3, 5],
    &[1, 1],
    &[4, 3, 7],
    &[2, 3, 4, 5],
    &[2, 3, 0, 5],
    &[0, 4, 3, 3],
    &[33, 100],
    &[64, 16, 24, 24],
];

register_op!("channel_sum", || {
    let mut cases: Vec<Case> = SHAPES
        .into_iter()
        .chain([&[2, 3, 11, 17][..]])
        .map(|shape| {
            let shape = Shape::new(shape).expect("a small shape");
            Case::new(shape.to_string(), ChannelSum, [CaseInput::uniform(shape)]).without_gradient()
        })
        .collect();
    cases.push(Case::new("lenet", ChannelSum, [CaseInput::uniform([256, 6, 24, 24])]).timed());
    cases
});
