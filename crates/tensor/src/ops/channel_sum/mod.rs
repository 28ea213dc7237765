//! Sums over all axes but the channels.

pub(super) mod cases;
pub(super) mod cpu;

use smallvec::smallvec;

use crate::core::call::{self, Call};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use neocog_base::{Error, Result};

/// The sum over all axes but the channels: the gradient of a bias. Input: `[n, c, ..]`; output: `[c]`.
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
        cpu::channel_sum(inputs[0].data, channels, plane, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0), call.output(0));
        let (channels, plane) = channels_and_plane(x.shape);
        let (x_shape, out_shape) = (Shape::from([x.shape[0], channels, plane]), Shape::from([channels, 1]));
        super::reduce::opencl::sum(
            call,
            call::View { shape: &x_shape, ..x },
            call::View { shape: &out_shape, ..out },
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

/// Returns the number of channels, and the size of a channel plane.
pub(super) fn channels_and_plane(shape: &Shape) -> (usize, usize) {
    (shape[1], shape[2..].iter().product())
}
