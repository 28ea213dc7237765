//! The gradient of a fused bias and activation, in one pass.

use rayon::prelude::*;
use smallvec::smallvec;

use super::Activation;
use super::channel_sum::{ChannelSum, SHAPES, channels_and_plane};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::{run, run_single};
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::CHUNK;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// The gradients of `z` and of `b` in `y = activation(z + b)`, where `b` has a number for each channel. Inputs: the output
/// `y [n, c, ..]` and its gradient `dy`; outputs: `dz [n, c, ..]` and `db [c]`, the sum of `dz` over all other axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BiasActivationGrad {
    /// The activation.
    pub activation: Activation,
}

/// What an operation that ends with a bias and perhaps an activation does first in its gradient.
pub(crate) struct Fused {
    /// The gradient of what the bias is added to.
    pub dy: Tensor,
    /// The bias's gradient, if there is a bias, at position 2, and it is needed.
    pub bias: Option<Tensor>,
}

impl Fused {
    /// The gradients of `activation(z + bias)`, taken for a tensor of this shape, whose channels are the second axis.
    pub fn grad(activation: Option<Activation>, node: &Gradient<'_>, shape: Shape) -> Result<Self> {
        let dy = node.output_grad().reshape(shape)?;
        let y = || node.output(0).reshape(shape);
        let needed = node.needs.get(2) == Some(&true);
        Ok(match activation {
            Some(activation) if needed => {
                let mut both = run(&BiasActivationGrad { activation }, &[&y()?, &dy])?;
                let bias = both.pop();
                Fused { dy: both.remove(0), bias }
            }
            _ => {
                let dy = match activation {
                    Some(activation) => activation.grad(&y()?, &dy)?,
                    None => dy,
                };
                let bias = if needed { Some(run_single(&ChannelSum, &[&dy])?) } else { None };
                Fused { dy, bias }
            }
        })
    }
}

/// Tasks to aim at where there are few pictures.
const TASKS: usize = 16;

impl Op for BiasActivationGrad {
    fn name(&self) -> &'static str {
        "bias_activation_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [y, dy] = expect_inputs(self, inputs)?;
        match y.extents() {
            _ if y != dy => Err(Error::shape(format!("the output is {y}, its gradient {dy}"))),
            [_, c, ..] => Ok(smallvec![y, Shape::from([*c])]),
            _ => Err(Error::shape(format!("expected a shape [n, c, ..], found {y}"))),
        }
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (channels, plane) = channels_and_plane(inputs[0].shape);
        let [dz, db] = outputs else { return };
        db.data.fill(0.0);
        for (i, dz) in dz.data.iter_mut().enumerate() {
            *dz = self.activation.grad_value(inputs[0].data[i], inputs[1].data[i]);
            db.data[i / plane % channels] += *dz;
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        let (channels, plane) = channels_and_plane(inputs[0].shape);
        let [dz, db] = outputs else { return };
        db.data.fill(0.0);
        if dz.data.is_empty() {
            return;
        }
        // A task has some pictures, or of few pictures some channels. Its sums lie at its first picture and channel.
        let n = inputs[0].shape[0];
        let parts =
            (1..=channels).find(|parts| channels % parts == 0 && n * parts >= TASKS).unwrap_or(channels);
        let pictures = if parts > 1 { 1 } else { CHUNK.div_ceil(channels * plane).min(n) };
        let channels_each = channels / parts;
        let mut sums = scratch.take(n.div_ceil(pictures) * channels);
        let each = pictures * channels_each * plane;
        let activation = self.activation;
        dz.data
            .par_chunks_mut(each)
            .zip(inputs[0].data.par_chunks(each))
            .zip(inputs[1].data.par_chunks(each))
            .zip(sums.par_chunks_mut(channels_each))
            .for_each(|(((dz, y), dy), sums)| dispatch(Part { activation, plane, y, dy, dz, sums }));
        for sums in sums.chunks(channels) {
            db.data.iter_mut().zip(sums).for_each(|(db, sum)| *db += sum);
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let dz = &call.outputs()[..1];
        let activation = self.activation.grad_op();
        activation.opencl(&call.part(activation, call.inputs(), dz))?;
        ChannelSum.opencl(&call.part(&ChannelSum, dz, &call.outputs()[1..]))
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

/// Some planes: all of `sums.len()` channels, again and again.
struct Part<'a> {
    activation: Activation,
    plane: usize,
    y: &'a [f32],
    dy: &'a [f32],
    dz: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        // The activation is known outside of the loops.
        match self.activation {
            Activation::Relu => self.with::<S>(|y, dy| Activation::Relu.grad_value(y, dy)),
            Activation::Sigmoid => self.with::<S>(|y, dy| Activation::Sigmoid.grad_value(y, dy)),
            Activation::Tanh => self.with::<S>(|y, dy| Activation::Tanh.grad_value(y, dy)),
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn with<S: Simd>(self, value: impl Fn(S, S) -> S) {
        let Part { plane, y, dy, dz, sums, .. } = self;
        sums.fill(0.0);
        if plane == 1 {
            let rows = y.chunks_exact(sums.len()).zip(dy.chunks_exact(sums.len()));
            for (dz, (y, dy)) in dz.chunks_exact_mut(sums.len()).zip(rows) {
                let vectors = y.chunks(S::LANES).zip(dy.chunks(S::LANES));
                for ((dz, sum), (y, dy)) in
                    dz.chunks_mut(S::LANES).zip(sums.chunks_mut(S::LANES)).zip(vectors)
                {
                    let v = value(S::from_short_slice(y), S::from_short_slice(dy));
                    v.to_short_slice(dz);
                    (S::from_short_slice(sum) + v).to_short_slice(sum);
                }
            }
            return;
        }
        let channels = sums.len();
        let planes = y.chunks_exact(plane).zip(dy.chunks_exact(plane));
        for (i, (dz, (y, dy))) in dz.chunks_exact_mut(plane).zip(planes).enumerate() {
            sums[i % channels] += row::<S>(y, dy, dz, &value);
        }
    }
}

/// The values of a plane, and their sum in four interleaved parts.
#[inline(always)]
fn row<S: Simd>(y: &[f32], dy: &[f32], dz: &mut [f32], value: &impl Fn(S, S) -> S) -> f32 {
    let mut parts = [S::splat(0.0); 4];
    let block = 4 * S::LANES;
    let whole = y.len() / block * block;
    let blocks = y[..whole].chunks_exact(block).zip(dy[..whole].chunks_exact(block));
    for (dz, (y, dy)) in dz[..whole].chunks_exact_mut(block).zip(blocks) {
        for (k, part) in parts.iter_mut().enumerate() {
            let v = value(S::from_slice(&y[k * S::LANES..]), S::from_slice(&dy[k * S::LANES..]));
            v.to_slice(&mut dz[k * S::LANES..]);
            *part = *part + v;
        }
    }
    let rest = y[whole..].chunks(S::LANES).zip(dy[whole..].chunks(S::LANES));
    for ((dz, (y, dy)), part) in dz[whole..].chunks_mut(S::LANES).zip(rest).zip(&mut parts) {
        // Lanes beyond the end hold zeros, whose gradient is zero as dy is.
        let v = value(S::from_short_slice(y), S::from_short_slice(dy));
        v.to_short_slice(dz);
        *part = *part + v;
    }
    ((parts[0] + parts[1]) + (parts[2] + parts[3])).sum()
}

register_op!("bias_activation_grad", || {
    let case = |shape: &[usize], activation: Activation| {
        let shape = Shape::new(shape).expect("a small shape");
        let y = CaseInput::between(shape, -0.5, 0.9);
        let name = format!("{activation:?} {shape}");
        Case::new(name, BiasActivationGrad { activation }, [y, CaseInput::uniform(shape)]).without_gradient()
    };
    let shapes = SHAPES.into_iter().chain([&[1, 12, 11, 17][..], &[5, 6, 9, 8]]);
    let mut cases: Vec<Case> = shapes.map(|shape| case(shape, Activation::Relu)).collect();
    for activation in [Activation::Sigmoid, Activation::Tanh] {
        cases.push(case(&[3, 5, 6, 7], activation));
    }
    cases.push(case(&[32, 192, 24, 24], Activation::Relu).timed());
    cases
});
