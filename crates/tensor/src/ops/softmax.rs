//! Softmax and its logarithm along any axis.

use smallvec::smallvec;

use super::axis_of;
use crate::cases::{Case, CaseInput};
use crate::error::{Error, Result};
use crate::memory::Scratch;
use crate::op::{Gradient, InputGrads, Keeps, Op, expect_inputs, no_gradient};
use crate::parallel::for_each_chunk;
use crate::register_op;
use crate::run::run1;
use crate::shape::{Shape, Shapes};
use crate::view::{View, ViewMut};

/// `y = e^x / Σ e^x` along axis `dim`; negative numbers count from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis.
    pub dim: isize,
}

/// `y = x - ln Σ e^x` along axis `dim`; negative numbers count from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSoftmax {
    /// The axis.
    pub dim: isize,
}

/// The gradient of [`Softmax`]: inputs `y`, its output, and `dy`; `dx = y (dy - Σ y dy)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftmaxGrad {
    /// The axis.
    pub dim: isize,
}

/// The gradient of [`LogSoftmax`]: inputs `y`, its output, and `dy`; `dx = dy - e^y Σ dy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSoftmaxGrad {
    /// The axis.
    pub dim: isize,
}

/// What is computed of one line along the axis. Lines are short, so all is done in double precision.
trait Line<const N: usize> {
    /// `out[k]` of the numbers `inputs[..][k]`; `len` of them.
    fn line(len: usize, input: impl Fn(usize, usize) -> f64, out: impl FnMut(usize, f64));
}

impl Line<1> for Softmax {
    fn line(len: usize, input: impl Fn(usize, usize) -> f64, mut out: impl FnMut(usize, f64)) {
        let largest = (0..len).fold(f64::NEG_INFINITY, |a, k| a.max(input(0, k)));
        let sum: f64 = (0..len).map(|k| (input(0, k) - largest).exp()).sum();
        (0..len).for_each(|k| out(k, (input(0, k) - largest).exp() / sum));
    }
}

impl Line<1> for LogSoftmax {
    fn line(len: usize, input: impl Fn(usize, usize) -> f64, mut out: impl FnMut(usize, f64)) {
        let largest = (0..len).fold(f64::NEG_INFINITY, |a, k| a.max(input(0, k)));
        let sum: f64 = (0..len).map(|k| (input(0, k) - largest).exp()).sum();
        (0..len).for_each(|k| out(k, input(0, k) - largest - sum.ln()));
    }
}

impl Line<2> for SoftmaxGrad {
    fn line(len: usize, input: impl Fn(usize, usize) -> f64, mut out: impl FnMut(usize, f64)) {
        let dot: f64 = (0..len).map(|k| input(0, k) * input(1, k)).sum();
        (0..len).for_each(|k| out(k, input(0, k) * (input(1, k) - dot)));
    }
}

impl Line<2> for LogSoftmaxGrad {
    fn line(len: usize, input: impl Fn(usize, usize) -> f64, mut out: impl FnMut(usize, f64)) {
        let sum: f64 = (0..len).map(|k| input(1, k)).sum();
        (0..len).for_each(|k| out(k, input(1, k) - input(0, k).exp() * sum));
    }
}

/// Calls `line` for all lines along axis `axis`: an outer slice of `len · inner` numbers holds `inner` lines.
fn each_line<L: Line<N>, const N: usize, T: Copy + Into<f64>>(
    [len, inner]: [usize; 2],
    inputs: [&[T]; N],
    out: &mut [T],
    narrow: impl Fn(f64) -> T,
) {
    for (slice, out) in out.chunks_mut((len * inner).max(1)).enumerate() {
        for i in 0..inner {
            let at = |k: usize| k * inner + i;
            L::line(
                len,
                |input, k| inputs[input][slice * len * inner + at(k)].into(),
                |k, v| out[at(k)] = narrow(v),
            );
        }
    }
}

fn sizes(dim: isize, shape: &Shape) -> Result<[usize; 2]> {
    let axis = axis_of(dim, shape)?;
    Ok([shape[axis], shape[axis + 1..].iter().product()])
}

/// The four operations are alike but for their line.
macro_rules! line_op {
    ($op:ident, $name:literal, $inputs:literal, $keeps:expr, |$self:ident, $node:ident| $grad:expr) => {
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let shapes: [Shape; $inputs] = expect_inputs(self, inputs)?;
                axis_of(self.dim, &shapes[0])?;
                match shapes.iter().find(|s| **s != shapes[0]) {
                    None => Ok(smallvec![shapes[0]]),
                    Some(other) => {
                        Err(Error::shape(format!("the inputs have shapes {} and {other}", shapes[0])))
                    }
                }
            }

            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                let sizes = sizes(self.dim, inputs[0].shape).expect("checked by infer");
                let inputs: [&[f64]; $inputs] = std::array::from_fn(|i| inputs[i].data);
                each_line::<Self, $inputs, f64>(sizes, inputs, outputs[0].data, |v| v);
            }

            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                let [len, inner] = sizes(self.dim, inputs[0].shape).expect("checked by infer");
                let slice = (len * inner).max(1);
                for_each_chunk(outputs[0].data, (4096 / slice).max(1) * slice, |start, out| {
                    let inputs: [&[f32]; $inputs] =
                        std::array::from_fn(|i| &inputs[i].data[start..][..out.len()]);
                    each_line::<Self, $inputs, f32>([len, inner], inputs, out, |v| v as f32);
                });
            }

            fn keeps(&self) -> Keeps {
                $keeps
            }

            fn grad(&self, $node: &Gradient<'_>) -> Result<InputGrads> {
                let $self = self;
                $grad
            }
        }
    };
}

line_op!(Softmax, "softmax", 1, Keeps::NOTHING.outputs(&[0]), |op, node| {
    let grad = SoftmaxGrad { dim: op.dim };
    Ok(smallvec![node.if_needed(0, || run1(&grad, &[node.output(0), node.output_grad()]))?])
});
line_op!(LogSoftmax, "log_softmax", 1, Keeps::NOTHING.outputs(&[0]), |op, node| {
    let grad = LogSoftmaxGrad { dim: op.dim };
    Ok(smallvec![node.if_needed(0, || run1(&grad, &[node.output(0), node.output_grad()]))?])
});
line_op!(SoftmaxGrad, "softmax_grad", 2, Keeps::NOTHING, |op, _node| no_gradient(op));
line_op!(LogSoftmaxGrad, "log_softmax_grad", 2, Keeps::NOTHING, |op, _node| no_gradient(op));

fn shapes_and_axes() -> impl Iterator<Item = (Shape, isize)> {
    [
        (Shape::from([4, 10]), 1),
        (Shape::from([4, 10]), 0),
        (Shape::from([2, 3, 2, 4]), 1),
        (Shape::from([2, 3, 5]), -1),
        (Shape::from([0, 3]), 1),
        (Shape::from([5]), 0),
    ]
    .into_iter()
}

register_op!("softmax", || {
    let mut cases: Vec<Case> = shapes_and_axes()
        .map(|(s, dim)| {
            Case::new(format!("{s} along {dim}"), Softmax { dim }, [CaseInput::between(s, -3.0, 3.0)])
        })
        .collect();
    let huge = CaseInput::between([9, 10], -1e4, 1e4);
    cases.push(Case::new("huge", Softmax { dim: 1 }, [huge]).without_gradient());
    cases
});
register_op!("log_softmax", || {
    let mut cases: Vec<Case> = shapes_and_axes()
        .map(|(s, dim)| {
            Case::new(format!("{s} along {dim}"), LogSoftmax { dim }, [CaseInput::between(s, -3.0, 3.0)])
        })
        .collect();
    let huge = CaseInput::between([9, 10], -1e4, 1e4);
    cases.push(Case::new("huge", LogSoftmax { dim: 1 }, [huge]).without_gradient());
    cases
});
register_op!("softmax_grad", || {
    shapes_and_axes()
        .map(|(s, dim)| {
            let inputs = [CaseInput::between(s, 0.0, 0.5), CaseInput::uniform(s)];
            Case::new(format!("{s} along {dim}"), SoftmaxGrad { dim }, inputs).without_gradient()
        })
        .collect()
});
register_op!("log_softmax_grad", || {
    shapes_and_axes()
        .map(|(s, dim)| {
            let inputs = [CaseInput::between(s, -3.0, 0.0), CaseInput::uniform(s)];
            Case::new(format!("{s} along {dim}"), LogSoftmaxGrad { dim }, inputs).without_gradient()
        })
        .collect()
});
