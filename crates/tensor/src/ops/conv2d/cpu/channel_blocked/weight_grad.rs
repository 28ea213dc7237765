//! The weight gradient: for each tap, the sum over pixels and images of outer products of `dy` and `x`.
//!
//! A task has a part of the bands and some blocks of outputs. Each part has its own sums, which are added in
//! a fixed order.

use rayon::prelude::*;

use super::window::{Bands, SlidingWindow, read_images};
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::Scratch;
use crate::ops::conv2d::ConvShape;
use crate::ops::conv2d::cpu::blocked_gemm::accumulate_outer;
use crate::ops::conv2d::cpu::taps::{MAX_TAPS, write_taps};

/// Target number of tasks.
const TASKS: usize = 16;
/// Blocks of outputs of a task: each task transposes the input again.
const BLOCKS: usize = 4;
/// Minimum number of output pixels of a part, so that adding its sums is cheap compared with computing them.
const PART_PIXELS: usize = 128;
/// Maximum number of floats of all sums, unless one part alone has more.
const SUMS: usize = 4 << 20;

/// Computes the gradient of the weight.
pub fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let lanes = instruction_set().1;
    let window = SlidingWindow::forward(conv);
    let [depth, blocks] = [window.src.blocks(lanes), window.dst.blocks(lanes)];
    let taps = conv.kh * conv.kw;
    let bands = window.bands();
    let splits = (blocks / BLOCKS).max(1);
    let size = taps * conv.out_per_group * depth * lanes;
    let pixels = conv.n * conv.out_pixels();
    let parts = TASKS.div_ceil(splits).min(SUMS / size).min(pixels / PART_PIXELS).min(bands.count()).max(1);
    let mut sums = scratch.take(parts * size);
    let target = Shared::new(&mut sums);
    for_each_task(parts * splits, |i| {
        dispatch(PartialSums {
            window: &window,
            bands,
            part: part(bands.count(), parts, i / splits),
            blocks: part(blocks, splits, i % splits),
            start: i / splits * size,
            x,
            dy,
            target,
            scratch,
        });
    });
    let sums = &sums[..];
    dw.par_chunks_mut(conv.in_per_group * taps).with_min_len(8).enumerate().for_each(|(row, dw)| {
        dispatch(ReduceParts { conv, sums, parts, size, row, dw });
    });
}

/// The sums over a part of the bands, for some blocks of outputs.
struct PartialSums<'a> {
    window: &'a SlidingWindow,
    bands: Bands,
    /// The bands of this part.
    part: std::ops::Range<usize>,
    blocks: std::ops::Range<usize>,
    /// The offset of this part's sums, `[tap][out][channel]` with channels padded to whole vectors.
    start: usize,
    x: &'a [f32],
    dy: &'a [f32],
    target: Shared<'a>,
    scratch: &'a Scratch,
}

impl Kernel for PartialSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let SlidingWindow { src, dst, kernel, .. } = *self.window;
        let (depth, taps) = (src.blocks(S::LANES), kernel[0] * kernel[1]);
        let width = depth * S::LANES;
        let offset = |tap: usize, row: usize| self.start + (tap * dst.channels + row) * width;
        for (done, band) in self.part.clone().enumerate() {
            let [images, rows] = self.bands.get(self.window, band);
            let sources = self.window.sources(&rows);
            let layout = self.window.layout(images.len(), rows.len());
            let step = layout.count * S::LANES;
            let [x_pixel, dy_pixel] = [depth, self.blocks.len()].map(|blocks| blocks * step);
            // If all pixels are rows of one product, it is handled as one pixel.
            let pixels = |rows: usize, columns: usize| if layout.pixels > 1 { 1 } else { rows * columns };
            let mut x = self.scratch.take(pixels(sources.len(), src.w) * x_pixel);
            let mut dy = self.scratch.take(pixels(rows.len(), dst.w) * dy_pixel);
            let mut pairs = self.scratch.take(2 * rows.len() * dst.w);
            // SAFETY: the buffers have the sizes of these images and rows.
            unsafe {
                read_images::<S>(&src, layout, &images, &sources, &(0..depth), self.x, x.as_mut_ptr());
                read_images::<S>(&dst, layout, &images, &rows, &self.blocks, self.dy, dy.as_mut_ptr());
            }
            for tap in 0..taps {
                let pairs = bytemuck::cast_slice_mut(&mut pairs);
                let pairs: &[[u32; 2]] =
                    if layout.pixels > 1 { &[[0, 0]] } else { self.pairs(tap, &rows, sources.start, pairs) };
                for panel in (0..depth).step_by(2) {
                    for (i, block) in self.blocks.clone().enumerate() {
                        let first = block * S::LANES;
                        let count = S::LANES.min(dst.channels - first);
                        let groups = count.div_ceil(S::TILE_ROWS);
                        for group in 0..groups {
                            let lanes = part(count, groups, group);
                            // SAFETY: the buffers have these sizes, and the tasks disjoint rows of the sums.
                            unsafe {
                                let to = self
                                    .target
                                    .get()
                                    .add(offset(tap, first + lanes.start) + panel * S::LANES);
                                accumulate_outer(
                                    [lanes.len(), 2.min(depth - panel)],
                                    layout.count,
                                    pairs,
                                    (dy.as_ptr().add(i * step + lanes.start), dy_pixel),
                                    (x.as_ptr().add(panel * step), x_pixel, step),
                                    (to, width, done > 0),
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

impl PartialSums<'_> {
    /// Returns the pairs of an output pixel and the pixel under a tap, as indices into the band.
    #[inline(always)]
    fn pairs<'conv>(
        &self,
        tap: usize,
        rows: &std::ops::Range<usize>,
        first_source: usize,
        to: &'conv mut [[u32; 2]],
    ) -> &'conv [[u32; 2]] {
        let SlidingWindow { src, dst, kernel, .. } = *self.window;
        let mut count = 0;
        for (r, row) in rows.clone().enumerate() {
            let Some(from_row) = self.window.source(0, row, tap / kernel[1]) else { continue };
            for column in 0..dst.w {
                if let Some(from_column) = self.window.source(1, column, tap % kernel[1]) {
                    let from = (from_row - first_source) * src.w + from_column;
                    to[count] = [(r * dst.w + column) as u32, from as u32];
                    count += 1;
                }
            }
        }
        &to[..count]
    }
}

/// Adds the sums of all parts for one output channel.
struct ReduceParts<'a> {
    conv: &'a ConvShape,
    sums: &'a [f32],
    parts: usize,
    size: usize,
    row: usize,
    dw: &'a mut [f32],
}

impl Kernel for ReduceParts<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let ReduceParts { conv, sums, parts, size, row, dw } = self;
        let width = conv.in_per_group.div_ceil(S::LANES) * S::LANES;
        let count = conv.kh * conv.kw;
        let mut taps = [S::splat(0.0); MAX_TAPS];
        for first in (0..conv.in_per_group).step_by(S::LANES) {
            for tap in 0..count {
                let at = (tap * conv.out_per_group + row) * width + first;
                let mut value = S::from_slice(&sums[at..]);
                for part in 1..parts {
                    value = value + S::from_slice(&sums[part * size + at..]);
                }
                taps[if conv.flip { count - 1 - tap } else { tap }] = value;
            }
            let lanes = S::LANES.min(conv.in_per_group - first);
            // SAFETY: `dw` has the taps of all channels.
            unsafe { write_taps::<S>(&taps, dw[first * count..].as_mut_ptr(), count, lanes, count) }
        }
    }
}
