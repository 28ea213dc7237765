//! CPU kernel of broadcast operations.

use std::marker::PhantomData;

use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::broadcast::Strided;
use crate::ops::elementwise::Expression;

/// Applies an expression to two inputs that broadcast to the output.
pub(super) fn apply_broadcast<E: Expression<2>>(inputs: &[View<'_, f32>], out: &mut ViewMut<'_, f32>) {
    if out.data.is_empty() {
        return;
    }
    let walk = Strided::new(out.shape, [inputs[0].shape, inputs[1].shape]);
    let inner = walk.inner();
    let rows_per_task = (CHUNK / inner).max(1);
    for_each_chunk(out.data, rows_per_task * inner, |start, part| {
        dispatch(Rows::<E> {
            walk: &walk,
            first_row: start / inner,
            inputs: [inputs[0].data, inputs[1].data],
            out: part,
            expression: PhantomData,
        });
    });
}

struct Rows<'a, E> {
    walk: &'a Strided<2>,
    first_row: usize,
    inputs: [&'a [f32]; 2],
    out: &'a mut [f32],
    expression: PhantomData<E>,
}

impl<E: Expression<2>> Kernel for Rows<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let inner = self.walk.inner();
        let strides = self.walk.inner_strides();
        // The axis around the innermost one, along which the starts are a step apart.
        let around = self.walk.extents.len().checked_sub(2);
        let (extent, steps) =
            around.map_or((1, [0; 2]), |axis| (self.walk.extents[axis], self.walk.strides[axis]));
        let mut starts = self.walk.starts(self.first_row);
        for (r, row) in self.out.chunks_exact_mut(inner).enumerate() {
            if r > 0 && (self.first_row + r).is_multiple_of(extent) {
                starts = self.walk.starts(self.first_row + r);
            } else if r > 0 {
                starts = [starts[0] + steps[0], starts[1] + steps[1]];
            }
            let mut i = 0;
            while i < inner {
                let mut args = [S::splat(0.0); 2];
                for (k, arg) in args.iter_mut().enumerate() {
                    let from = &self.inputs[k][starts[k]..];
                    // Along the innermost axis an array is either constant or contiguous.
                    *arg = if strides[k] == 0 {
                        S::splat(from[0])
                    } else {
                        S::from_short_slice(&from[i..inner])
                    };
                }
                E::eval(args).to_short_slice(&mut row[i..]);
                i += S::LANES;
            }
        }
    }
}
