//! Elementwise maps with parameters: several inputs, several outputs, state updated in place. Each is one formula on
//! [`Real`] numbers, for the reference, the CPU kernels and the OpenCL kernels.

use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, join};
use crate::cpu::simd::{Kernel, Real, Simd, dispatch};
use crate::opencl::Call;
use neocog_base::Result;

/// A function from `I` inputs and the old values of `O` outputs to the new values.
pub(in crate::ops) trait ElementwiseMap<const I: usize, const O: usize>:
    Copy + Send + Sync
{
    /// Computes the new values. The old value of an output that is not state is unspecified.
    fn eval<R: Real>(&self, inputs: [R; I], old: [R; O]) -> [R; O];
}

/// Reference implementation.
pub(in crate::ops) fn reference<P: ElementwiseMap<I, O>, const I: usize, const O: usize>(
    op: &P,
    inputs: &[View<'_, f64>],
    outputs: &mut [ViewMut<'_, f64>],
) {
    for i in 0..outputs[0].data.len() {
        let old = std::array::from_fn(|k| outputs[k].data[i]);
        let new = op.eval(std::array::from_fn(|k| inputs[k].data[i]), old);
        for (out, value) in outputs.iter_mut().zip(new) {
            out.data[i] = value;
        }
    }
}

/// CPU kernel: one pass over memory, on all threads.
pub(in crate::ops) fn cpu<P: ElementwiseMap<I, O>, const I: usize, const O: usize>(
    op: P,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
) {
    let mut outputs = outputs.iter_mut();
    let outputs = std::array::from_fn(|_| &mut *outputs.next().expect("infer gives all outputs").data);
    split(op, std::array::from_fn(|k| inputs[k].data), outputs);
}

/// OpenCL kernel, for operations whose outputs are all state.
pub(in crate::ops) fn opencl<P: ElementwiseMap<I, O>, const I: usize, const O: usize>(
    op: P,
    name: &'static str,
    call: &Call<'_>,
) -> Result<()> {
    super::opencl::apply::<I, O, O>(call, name, |inputs, old| op.eval(inputs, old))
}

/// Splits the work in halves, at multiples of [`CHUNK`].
fn split<P: ElementwiseMap<I, O>, const I: usize, const O: usize>(
    op: P,
    inputs: [&[f32]; I],
    outputs: [&mut [f32]; O],
) {
    let len = outputs[0].len();
    if len <= CHUNK {
        dispatch(Apply { op, inputs, outputs });
        return;
    }
    let middle = len.div_ceil(CHUNK) / 2 * CHUNK;
    let mut right = [const { None }; O];
    let mut k = 0;
    let left = outputs.map(|out| {
        let (a, b) = out.split_at_mut(middle);
        right[k] = Some(b);
        k += 1;
        a
    });
    let right = right.map(|b| b.expect("all were set"));
    join(|| split(op, inputs.map(|x| &x[..middle]), left), || split(op, inputs.map(|x| &x[middle..]), right));
}

/// Holds a copy of the operation: subexpressions of its parameters are then computed once, not for every vector.
struct Apply<'a, P, const I: usize, const O: usize> {
    op: P,
    inputs: [&'a [f32]; I],
    outputs: [&'a mut [f32]; O],
}

impl<P: ElementwiseMap<I, O>, const I: usize, const O: usize> Kernel for Apply<'_, P, I, O> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Apply { op, inputs, mut outputs } = self;
        let len = outputs[0].len();
        let inputs = inputs.map(|x| &x[..len]);
        let whole = len / S::LANES * S::LANES;
        let mut i = 0;
        // Loops instead of `map`: a closure that is not inlined is compiled without the instruction set of `S`.
        let mut args = [S::splat(0.0); I];
        let mut old = [S::splat(0.0); O];
        while i < whole {
            for (arg, x) in args.iter_mut().zip(&inputs) {
                *arg = S::from_slice(&x[i..]);
            }
            for (old, out) in old.iter_mut().zip(&outputs) {
                *old = S::from_slice(&out[i..]);
            }
            for (out, value) in outputs.iter_mut().zip(op.eval(args, old)) {
                value.to_slice(&mut out[i..]);
            }
            i += S::LANES;
        }
        if whole < len {
            for (arg, x) in args.iter_mut().zip(&inputs) {
                *arg = S::from_short_slice(&x[whole..]);
            }
            for (old, out) in old.iter_mut().zip(&outputs) {
                *old = S::from_short_slice(&out[whole..]);
            }
            for (out, value) in outputs.iter_mut().zip(op.eval(args, old)) {
                value.to_short_slice(&mut out[whole..]);
            }
        }
    }
}
