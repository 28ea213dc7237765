//! Elementwise expressions: one formula for the reference, the CPU kernels and the OpenCL kernels.

use std::marker::PhantomData;

use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Real, Simd, dispatch};

/// A function of `N` numbers, applied element by element.
pub(crate) trait Expression<const N: usize> {
    /// Computes its value.
    fn eval<R: Real>(args: [R; N]) -> R;
}

/// Implements [`Expression`] for a type. In the expression, `c(1.0)` is a constant.
macro_rules! expression {
    ($op:ident ($c:ident; $($x:ident),+) = $value:expr) => {
        impl Expression<{ [$(stringify!($x)),+].len() }> for $op {
            #[inline(always)]
            fn eval<R: $crate::cpu::simd::Real>([$($x),+]: [R; [$(stringify!($x)),+].len()]) -> R {
                #[allow(unused_variables, reason = "not every expression has a constant")]
                let $c = <R as $crate::cpu::simd::Real>::constant;
                $value
            }
        }
    };
}
pub(in crate::ops) use expression;

/// Computes `out[i] = E(inputs[0][i], …)`, on all threads.
pub(crate) fn apply<E: Expression<N>, const N: usize>(inputs: [&[f32]; N], out: &mut [f32]) {
    for_each_chunk(out, CHUNK, |start, out| {
        let inputs = inputs.map(|x| &x[start..start + out.len()]);
        dispatch(Apply::<E, N> { inputs, out, expression: PhantomData });
    });
}

struct Apply<'a, E, const N: usize> {
    inputs: [&'a [f32]; N],
    out: &'a mut [f32],
    expression: PhantomData<E>,
}

impl<E: Expression<N>, const N: usize> Kernel for Apply<'_, E, N> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Apply { inputs, out, .. } = self;
        // Loops instead of `map`: a closure that is not inlined is compiled without the instruction set of `S`.
        let mut args = [S::splat(0.0); N];
        let whole = out.len() / S::LANES * S::LANES;
        let mut i = 0;
        while i < whole {
            for (arg, x) in args.iter_mut().zip(&inputs) {
                *arg = S::from_slice(&x[i..]);
            }
            E::eval(args).to_slice(&mut out[i..]);
            i += S::LANES;
        }
        for (arg, x) in args.iter_mut().zip(&inputs) {
            *arg = S::from_short_slice(&x[whole..]);
        }
        E::eval(args).to_short_slice(&mut out[whole..]);
    }
}
