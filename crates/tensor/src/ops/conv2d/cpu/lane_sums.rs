//! Sums of weight gradients with a vector for each weight.

use crate::cpu::parallel::for_each_chunk;
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};

/// Number of weights of a task.
const TASK_WEIGHTS: usize = 1 << 9;

/// Adds the lanes of the sums of several parts, `[part, weight, lane]`.
pub fn add_lanes(sums: &[f32], dw: &mut [f32]) {
    let lanes = instruction_set().1;
    let size = dw.len() * lanes;
    for_each_chunk(dw, TASK_WEIGHTS, |start, dw| {
        dispatch(AddLanes { sums: &sums[start * lanes..], size, dw })
    });
}

struct AddLanes<'a> {
    /// From the first weight of `dw` on.
    sums: &'a [f32],
    /// Floats of a part.
    size: usize,
    dw: &'a mut [f32],
}

impl Kernel for AddLanes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for (i, dw) in self.dw.iter_mut().enumerate() {
            let mut sum = S::splat(0.0);
            let mut at = i * S::LANES;
            while at < self.sums.len() {
                sum = sum + S::from_slice(&self.sums[at..]);
                at += self.size;
            }
            *dw = sum.sum();
        }
    }
}
