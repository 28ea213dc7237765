//! Weight gradients of groups, as sums with a vector for each weight.

use std::ops::Range;

use crate::cpu::parallel::{Shared, for_each_chunk, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::Scratch;
use crate::ops::conv2d::shape::ConvShape;

/// Number of weights of a task.
const TASK_WEIGHTS: usize = 1 << 9;

/// Computes the gradient of the weight: `work(images, groups, sums)` writes the sums of some groups over some images, a vector for
/// each weight, in parallel.
pub fn weight_grad(
    conv: &ConvShape,
    dw: &mut [f32],
    scratch: &Scratch,
    work: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
) {
    let [block, parts] = conv.weight_grad_blocks();
    let blocks = conv.groups.div_ceil(block);
    let size = conv.out_per_group * conv.filter_len() * instruction_set().1;
    // `[part, group]`.
    let mut sums = scratch.take(parts * conv.groups * size);
    let target = Shared::new(&mut sums);
    for_each_task(parts * blocks, |i| {
        let (images, groups) = (part(conv.n, parts, i / blocks), part(conv.groups, blocks, i % blocks));
        let start = (i / blocks * conv.groups + groups.start) * size;
        // SAFETY: the tasks have disjoint parts of the buffer.
        let sums = unsafe { target.slice(start, groups.len() * size) };
        work(images, groups, sums);
    });
    add_lanes(&sums, dw);
}

/// Adds the lanes of the sums of several parts, `[part, weight, lane]`.
fn add_lanes(sums: &[f32], dw: &mut [f32]) {
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
