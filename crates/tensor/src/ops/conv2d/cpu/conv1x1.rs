//! The weight gradient of a 1x1 convolution: `dw[o, i] = sum over pixels of dy[o, pixel] * x[i, pixel]`.
//!
//! A vector holds one pixel of `LANES` output channels: `dy` is transposed, one chunk of pixels at a time,
//! and the channels of `x` are copied to consecutive rows. A register tile accumulates over the pixels of a
//! chunk:
//!
//! ```text
//!                 dy: two vectors of channels o per pixel
//!                +---------+---------+
//!   x: one float | sums    | sums    |   sums[i] += x[i, pixel] * dy[.., pixel]
//!   per row      | ..      | ..      |
//!                +---------+---------+
//! ```

use std::ops::Range;

use super::backend::{Cpu, InstructionSet};
use super::blocked_gemm::by_size;
use super::cost;
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::transpose::{lanes_to_rows, rows_to_lanes};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::cpu::tile_rows;
use crate::memory::{Buffer, Scratch};
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// Maximum number of pixels of a chunk: it bounds the chain of additions, and the chunk stays in the L1
/// cache.
const CHUNK_PIXELS: usize = 128;
/// Target number of tasks.
const TASKS: usize = 16;
/// Minimum number of input channels of a task: each task transposes `dy` again.
const MIN_CHANNELS: usize = 112;
/// Minimum number of chunks of a part of the batch: the sums of the parts have to be added.
const MIN_CHUNKS: usize = 4;
/// Minimum number of input channels and of output channels for which the register tiles are filled well enough.
const MIN_FILTERS: usize = 8;

/// The algorithm; see the module's documentation.
///
/// It computes weight gradients of 1x1 kernels without padding only: every output depends on a pixel of the input.
///
/// It is exact enough for all inputs: a weight is the sum of its terms in single precision, in chains of at most
/// [`CHUNK_PIXELS`] terms.
pub(super) struct Conv1x1;

impl ConvAlgorithm<Cpu> for Conv1x1 {
    fn name(&self) -> &'static str {
        "conv1x1"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        if pass != Pass::WeightGrad || conv.kh * conv.kw != 1 || conv.padding != [0, 0] || conv.n == 0 {
            return None;
        }
        let is_fastest = conv.n * conv.out_pixels() >= CHUNK_PIXELS
            && conv.out_per_group.min(conv.in_per_group) >= MIN_FILTERS;
        let general = cost::general(conv, pass, device.lanes);
        Some(if is_fastest { general } else { NOT_FASTER * general })
    }

    fn pack(&self, _scratch: &Scratch, _conv: &ConvShape, _weight: &[f32]) -> Option<Buffer> {
        None
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        let Operands::WeightGrad { x, dy, dw } = operands else {
            unreachable!("{} has no cost for this pass", self.name())
        };
        weight_grad(conv, x, dy, dw, scratch);
    }
}

/// The division of the pixels of all images into chunks: of several small images, or of a part of a large
/// one.
#[derive(Clone, Copy)]
struct PixelChunks {
    n: usize,
    pixels: usize,
    /// Images per chunk.
    images: usize,
    /// Chunks per image.
    splits: usize,
}

impl PixelChunks {
    fn of(conv: &ConvShape) -> Self {
        let pixels = conv.out_pixels();
        // Chunks are as equal as possible.
        let images = conv.n.div_ceil(conv.n.div_ceil((CHUNK_PIXELS / pixels).max(1)));
        PixelChunks { n: conv.n, pixels, images, splits: pixels.div_ceil(CHUNK_PIXELS) }
    }

    fn count(&self) -> usize {
        self.n.div_ceil(self.images) * self.splits
    }

    /// Returns the images of a chunk, and the pixels of each.
    fn get(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let (first, split) = (i / self.splits * self.images, i % self.splits);
        let pixels = part(self.pixels, self.splits, split);
        (first..(first + self.images).min(self.n), pixels)
    }
}

/// Computes the gradient of the weight.
fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let lanes = instruction_set().1;
    let vectors = conv.out_per_group.div_ceil(lanes);
    let blocks = (conv.in_per_group / MIN_CHANNELS).next_power_of_two().min(TASKS);
    let chunks = PixelChunks::of(conv);
    let parts = TASKS.div_ceil(blocks * conv.groups).min(chunks.count() / MIN_CHUNKS).max(1);
    let channels_of = |block: usize| part(conv.in_per_group, blocks, block);
    // `[part, group]`, then `[vector, channels of the block, lanes]` for each block.
    let each = vectors * conv.in_per_group * lanes;
    let mut sums = scratch.take(parts * conv.groups * each);
    let target = Shared::new(&mut sums);
    for_each_task(parts * conv.groups * blocks, |i| {
        let (block, i) = (i % blocks, i / blocks);
        let (group, batch_part) = (i % conv.groups, i / conv.groups);
        let channels = channels_of(block);
        let start = (batch_part * conv.groups + group) * each + vectors * channels.start * lanes;
        let len = vectors * channels.len() * lanes;
        // SAFETY: the tasks have disjoint parts of the buffer.
        let sums = unsafe { target.slice(start, len) };
        let part = part(chunks.count(), parts, batch_part);
        dispatch(PartialSums { conv, x, dy, group, channels, chunks, part, sums, scratch });
    });
    let target = Shared::new(dw);
    for_each_task(conv.groups * blocks * vectors, |i| {
        let (vector, i) = (i % vectors, i / vectors);
        let (block, group) = (i % blocks, i / blocks);
        let channels = channels_of(block);
        let first = group * each + (vectors * channels.start + vector * channels.len()) * lanes;
        let len = channels.len() * lanes;
        let sums = (0..parts).map(|part| &sums[first + part * conv.groups * each..][..len]);
        let outputs = vector * lanes..conv.out_per_group.min((vector + 1) * lanes);
        dispatch(ReduceParts { conv, group, outputs, channels, sums, target, scratch });
    });
}

/// The sums over a part of the chunks, for a block of input channels.
struct PartialSums<'a> {
    conv: &'a ConvShape,
    x: &'a [f32],
    dy: &'a [f32],
    group: usize,
    channels: Range<usize>,
    chunks: PixelChunks,
    part: Range<usize>,
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for PartialSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (conv, group, chunks) = (self.conv, self.group, self.chunks);
        let (channels, part) = (self.channels.clone(), self.part.clone());
        let vectors = conv.out_per_group.div_ceil(S::LANES);
        let tiles = channels.len().div_ceil(S::TILE_ROWS);
        let mut a = self.scratch.take(channels.len() * CHUNK_PIXELS);
        let mut b = self.scratch.take(vectors * CHUNK_PIXELS * S::LANES);
        for i in part.clone() {
            let steps = self.read::<S>(chunks.get(i), group, &mut a, &mut b);
            let add = i > part.start;
            for vector in (0..vectors).step_by(2) {
                for t in 0..tiles {
                    let rows = tile_rows(channels.len(), S::TILE_ROWS, t);
                    let b = &b[vector * CHUNK_PIXELS * S::LANES..];
                    let sums = &mut self.sums[(vector * channels.len() + rows.start) * S::LANES..];
                    let a = &a[rows.start * CHUNK_PIXELS..];
                    let step = channels.len() * S::LANES;
                    let wide = 2.min(vectors - vector);
                    let (a, b, to) = (a.as_ptr(), b.as_ptr(), sums.as_mut_ptr());
                    by_size!(rows.len(), wide, tile::<S>(steps, a, b, to, step, add));
                }
            }
        }
    }
}

impl PartialSums<'_> {
    /// Packs a chunk: the channels of `x` to rows of `CHUNK_PIXELS` in `a`, `dy` transposed to vectors of
    /// channels in `b`. Returns the number of pixels.
    #[inline(always)]
    fn read<S: Simd>(
        &self,
        (images, pixels): (Range<usize>, Range<usize>),
        group: usize,
        a: &mut [f32],
        b: &mut [f32],
    ) -> usize {
        let conv = self.conv;
        let mut at = 0;
        for image in images {
            let dy = &self.dy[image * conv.y_batch_stride + group * conv.out_per_group * conv.out_pixels()..];
            for (vector, b) in b.chunks_exact_mut(CHUNK_PIXELS * S::LANES).enumerate() {
                let first = vector * S::LANES;
                let rows = S::LANES.min(conv.out_per_group - first);
                let dy = &dy[first * conv.out_pixels()..(first + rows) * conv.out_pixels()];
                let b = &mut b[at * S::LANES..(at + pixels.len()) * S::LANES];
                // SAFETY: `dy` has `rows` planes of `out_pixels`, and `b` a vector for each pixel.
                unsafe {
                    let from = dy.as_ptr().add(pixels.start);
                    rows_to_lanes::<S>(from, conv.out_pixels(), rows, pixels.len(), b.as_mut_ptr());
                }
            }
            let plane = conv.h * conv.w;
            let x = &self.x
                [image * conv.x_batch_stride + (group * conv.in_per_group + self.channels.start) * plane..];
            for (x, a) in x.chunks_exact(plane).zip(a.chunks_exact_mut(CHUNK_PIXELS)) {
                read_row::<S>(conv, x, pixels.clone(), &mut a[at..at + pixels.len()]);
            }
            at += pixels.len();
        }
        at
    }
}

/// Copies the pixels of an input channel that `pixels` of the output depend on.
#[inline(always)]
fn read_row<S: Simd>(conv: &ConvShape, x: &[f32], pixels: Range<usize>, to: &mut [f32]) {
    if conv.stride == [1, 1] {
        let from = &x[pixels];
        // The rows are short: a call of `memcpy` would take longer than the copy.
        for (from, to) in from.chunks(S::LANES).zip(to.chunks_mut(S::LANES)) {
            S::from_short_slice(from).to_short_slice(to);
        }
        return;
    }
    let mut done = 0;
    while done < to.len() {
        let (row, column) = ((pixels.start + done) / conv.ow, (pixels.start + done) % conv.ow);
        let count = (conv.ow - column).min(to.len() - done);
        let from =
            x[row * conv.stride[0] * conv.w + column * conv.stride[1]..].iter().step_by(conv.stride[1]);
        to[done..done + count].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        done += count;
    }
}

/// Computes `to[v][i] = sum over steps of a[i, step] * b[v, step]` for `ROWS` rows and `VECTORS` vectors,
/// added to the old sums if `add`. The sums of a vector are `to_step` floats apart from those of the next.
///
/// # Safety
/// `a` must have `ROWS` rows of `CHUNK_PIXELS`, `b` and `to` `VECTORS` vectors for each step and row.
#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    steps: usize,
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    to_step: usize,
    add: bool,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
        for step in 0..steps {
            let columns: [S; VECTORS] =
                std::array::from_fn(|v| S::load(b.add((v * CHUNK_PIXELS + step) * S::LANES)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = S::splat(*a.add(i * CHUNK_PIXELS + step));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = row.mul_add(column, *sum);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = to.add(v * to_step + i * S::LANES);
                if add { (S::load(to) + sum).store(to) } else { sum.store(to) }
            }
        }
    }
}

/// Adds the sums of all parts for a block of channels, in a fixed order, and writes them transposed to `dw`.
struct ReduceParts<'a, I> {
    conv: &'a ConvShape,
    group: usize,
    outputs: Range<usize>,
    channels: Range<usize>,
    sums: I,
    target: Shared<'a>,
    scratch: &'a Scratch,
}

impl<'a, I: Iterator<Item = &'a [f32]>> Kernel for ReduceParts<'a, I> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let ReduceParts { conv, group, outputs, channels, mut sums, target, scratch } = self;
        let Some(first) = sums.next() else { return };
        let mut all = scratch.take(first.len());
        all.copy_from_slice(first);
        for sums in sums {
            for (all, sums) in all.chunks_exact_mut(S::LANES).zip(sums.chunks_exact(S::LANES)) {
                (S::from_slice(all) + S::from_slice(sums)).to_slice(all);
            }
        }
        let offset = (group * conv.out_per_group + outputs.start) * conv.in_per_group + channels.start;
        // SAFETY: the tasks write disjoint rows and columns of the gradient.
        unsafe {
            let to = target.get().add(offset);
            lanes_to_rows::<S>(all.as_ptr(), to, conv.in_per_group, outputs.len(), channels.len());
        }
    }
}
