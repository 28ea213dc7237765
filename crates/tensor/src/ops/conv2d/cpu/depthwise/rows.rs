//! The forward pass, and the input gradient without stride.

use super::window::{Block, Next, Window, for_constants, shift};
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::Activation;

/// Number of multiply-adds of a task, about.
const TASK_MULTIPLY_ADDS: usize = 1 << 18;

/// Computes all planes of the result.
pub(super) fn planes(
    window: &Window,
    src: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    dst: &mut [f32],
) {
    let all = window.n * window.channels;
    let each = window.dst_plane() * window.kernel * window.kernel;
    let tasks = all.div_ceil((TASK_MULTIPLY_ADDS / each).max(1));
    let dst = Shared::new(dst);
    for_each_task(tasks, |task| {
        dispatch(Planes { window, planes: part(all, tasks, task), src, weight, bias, activation, dst });
    });
}

/// Some planes of the result.
struct Planes<'a> {
    window: &'a Window,
    /// Indices of pairs of an image and a channel.
    planes: std::ops::Range<usize>,
    src: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    dst: Shared<'a>,
}

impl Kernel for Planes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for_constants!(self.window, S, self.all())
    }
}

impl Planes<'_> {
    #[inline(always)]
    fn all<S: Simd, const K: usize, const STRIDE: usize>(self) {
        let window = self.window;
        let blocks = window.blocks(S::LANES, true);
        for index in self.planes.clone() {
            let (image, channel) = (index / window.channels, index % window.channels);
            let src = &self.src[window.src_start(image, channel)..][..window.src_plane()];
            // SAFETY: every plane of the result belongs to one task.
            let dst = unsafe { self.dst.slice(window.dst_start(image, channel), window.dst_plane()) };
            let taps = &self.weight[channel * K * K..][..K * K];
            let mut weight = [[S::splat(0.0); K]; K];
            for (i, row) in weight.iter_mut().enumerate() {
                for (j, weight) in row.iter_mut().enumerate() {
                    *weight = S::splat(taps[window.tap(i, j)]);
                }
            }
            let bias = S::splat(self.bias.map_or(0.0, |bias| bias[channel]));
            let has_next = index + 1 < self.planes.end;
            let plane = Plane { window, src, weight, bias, has_next };
            for block in &blocks {
                if block.inside {
                    plane.columns::<STRIDE, true>(block, dst);
                } else {
                    plane.columns::<STRIDE, false>(block, dst);
                }
            }
            if let Some(activation) = self.activation {
                activate::<S>(activation, dst);
            }
        }
    }
}

/// Applies the activation to a plane, which is in the cache.
#[inline(always)]
fn activate<S: Simd>(activation: Activation, plane: &mut [f32]) {
    const COUNT: usize = 4;
    let mut chunks = plane.chunks_exact_mut(COUNT * S::LANES);
    for chunk in &mut chunks {
        let mut values = [S::splat(0.0); COUNT];
        for (i, value) in values.iter_mut().enumerate() {
            *value = S::from_slice(&chunk[i * S::LANES..]);
        }
        activation.apply_each(&mut values);
        for (i, value) in values.iter().enumerate() {
            value.to_slice(&mut chunk[i * S::LANES..]);
        }
    }
    for chunk in chunks.into_remainder().chunks_mut(S::LANES) {
        let mut value = [S::from_short_slice(chunk)];
        activation.apply_each(&mut value);
        value[0].to_short_slice(chunk);
    }
}

/// One plane.
struct Plane<'a, S, const K: usize> {
    window: &'a Window,
    src: &'a [f32],
    weight: [[S; K]; K],
    bias: S,
    /// Whether the next plane belongs to the same task.
    has_next: bool,
}

impl<S: Simd, const K: usize> Plane<'_, S, K> {
    /// Computes a block of all rows.
    #[inline(always)]
    fn columns<const STRIDE: usize, const INSIDE: bool>(&self, block: &Block, dst: &mut [f32]) {
        let Window { padding: [padding, _], src: [height, pitch], dst: [rows, width], .. } = *self.window;
        assert!(
            self.src.len() >= height * pitch
                && dst.len() >= rows * width
                && block.column + block.count <= width
        );
        assert!(block.inside || !INSIDE);
        let last = (K - 1) / STRIDE;
        let masks = block.masks::<S>();
        // Sum `k` is that of output row `step - k`; those of rows that do not exist are dropped. Before the first row of the
        // source, all are the bias.
        let mut sums = [self.bias; K];
        let first = padding / STRIDE;
        let mut row = (first * STRIDE).wrapping_sub(padding);
        let mut from = self.src.as_ptr().wrapping_offset(row as isize * pitch as isize);
        let mut to = dst.as_mut_ptr().wrapping_add(block.column);
        let mut next = Next::new::<STRIDE>(self.window, block, self.src.as_ptr(), to);
        for step in first..rows + last {
            if self.has_next {
                next.ask::<S, STRIDE>();
            }
            for phase in 0..STRIDE {
                if row < height {
                    // SAFETY: it is a row of the source, whose length was asserted; inside blocks are those of `INSIDE`.
                    let x = unsafe { block.load::<S, K, STRIDE, INSIDE>(from, &masks) };
                    for (k, sum) in sums.iter_mut().enumerate().take(last + 1) {
                        if k * STRIDE + phase < K {
                            for (&weight, &x) in self.weight[k * STRIDE + phase].iter().zip(&x) {
                                *sum = weight.mul_add(x, *sum);
                            }
                        }
                    }
                }
                row = row.wrapping_add(1);
                from = from.wrapping_add(pitch);
                if phase == 0 && step >= last {
                    // SAFETY: the block of row `step - last`, which is one of the result, whose length was asserted.
                    unsafe {
                        if INSIDE || block.count == S::LANES {
                            sums[last].store(to);
                        } else {
                            sums[last].store_partial(to, block.count);
                        }
                    }
                    to = to.wrapping_add(width);
                }
            }
            shift(&mut sums, self.bias);
        }
    }
}
