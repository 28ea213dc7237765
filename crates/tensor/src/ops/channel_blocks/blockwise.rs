//! Kernels that compute each block of channels from the same block of the input.

use std::ops::Range;

use super::wrapper::BlockLayout;
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, Shared, for_each_in_tasks};
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// Computes a block.
pub(crate) trait BlockMap: Sync {
    /// Computes `y [oh, ow, LANES]` from `x [h, w, LANES]`, both of these channels.
    fn block<S: Simd>(&self, channels: Range<usize>, x: &[f32], y: &mut [f32]);
}

/// Computes all blocks of `y` from those of `x`, in parallel if they are large. Lanes behind the last channel become 0.
pub(crate) fn for_each_block(
    map: &impl BlockMap,
    blocks: &BlockLayout,
    x: &View<'_, f32>,
    y: &mut ViewMut<'_, f32>,
) {
    let channels = blocks.inputs[0].unwrap_or_default();
    let count = x.shape[1];
    let [from, to] = [&x.shape, &y.shape].map(|shape| shape[2] * shape[3] * blocks.lanes);
    let (strides, n, x) = ([x.batch_stride, y.batch_stride], x.shape[0], x.data);
    let target = Shared::new(y.data);
    let work = |i: usize| {
        let (image, block) = (i / count, i % count);
        let channels = block * blocks.lanes..channels.min((block + 1) * blocks.lanes);
        let x = &x[image * strides[0] + block * from..][..from];
        // SAFETY: the tasks have disjoint blocks.
        let y = unsafe { target.slice(image * strides[1] + block * to, to) };
        dispatch(Block { map, channels, x, y });
    };
    // Tasks of several small blocks.
    let each = (CHUNK / from.max(to).max(1)).max(1);
    for_each_in_tasks(n * count, each, work);
}

struct Block<'a, M> {
    map: &'a M,
    channels: Range<usize>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<M: BlockMap> Kernel for Block<'_, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let planes = self.channels.len();
        self.map.block::<S>(self.channels, self.x, self.y);
        if planes < S::LANES {
            self.y.chunks_exact_mut(S::LANES).for_each(|pixel| pixel[planes..].fill(0.0));
        }
    }
}
