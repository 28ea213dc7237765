//! The machinery of operations with parameters that work element by element: several inputs, several outputs, state
//! updated in place. Written once in terms of [`Real`], for the reference, for vectors and for OpenCL.

use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::CHUNK;
use crate::cpu::simd::{Kernel, Real, Simd, dispatch};
use crate::opencl::{Call, formula};
use neocog_base::Result;

/// A function of `I` inputs and the old values of `O` outputs, which gives the new ones.
pub(super) trait Pointwise<const I: usize, const O: usize>: Copy + Send + Sync {
    /// The new values. For outputs that are not state the old ones have no meaning.
    fn eval<R: Real>(&self, inputs: [R; I], old: [R; O]) -> [R; O];
}

/// The definition: element by element, in double precision.
pub(super) fn reference<P: Pointwise<I, O>, const I: usize, const O: usize>(
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

/// The kernel: one pass over memory, on all threads.
pub(super) fn cpu<P: Pointwise<I, O>, const I: usize, const O: usize>(
    op: P,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
) {
    let mut outputs = outputs.iter_mut();
    let outputs = std::array::from_fn(|_| &mut *outputs.next().expect("infer gives all outputs").data);
    split(op, std::array::from_fn(|k| inputs[k].data), outputs);
}

/// The kernel of OpenCL devices, for operations whose outputs are all state.
pub(super) fn opencl<P: Pointwise<I, O>, const I: usize, const O: usize>(
    op: P,
    name: &'static str,
    call: &Call<'_>,
) -> Result<()> {
    formula::apply::<I, O, O>(call, name, |inputs, old| op.eval(inputs, old))
}

/// Halves the work, at a multiple of [`CHUNK`], until it is small.
fn split<P: Pointwise<I, O>, const I: usize, const O: usize>(
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
    rayon::join(
        || split(op, inputs.map(|x| &x[..middle]), left),
        || split(op, inputs.map(|x| &x[middle..]), right),
    );
}

/// The operation is a copy: what its formula makes of its parameters alone is then computed once, not for every vector.
struct Apply<'a, P, const I: usize, const O: usize> {
    op: P,
    inputs: [&'a [f32]; I],
    outputs: [&'a mut [f32]; O],
}

impl<P: Pointwise<I, O>, const I: usize, const O: usize> Kernel for Apply<'_, P, I, O> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Apply { op, inputs, mut outputs } = self;
        let len = outputs[0].len();
        let inputs = inputs.map(|x| &x[..len]);
        let whole = len / S::LANES * S::LANES;
        let mut i = 0;
        // Loops instead of `map`: closures that the library does not inline would leave the instruction set.
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
