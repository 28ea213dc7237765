//! Convolution of images of few channels, as the first layer of a network has, to blocks of channels: a vector holds one pixel of
//! `LANES` output channels, the rows of a register tile are neighboring pixels of an output row.
//!
//! ```text
//!   sums[column][output] += x[channel][row · stride + tap's row][column · stride + tap's column] · u[channel, tap][output]
//! ```
//!
//! The rows under some rows of the output are copied with their padding, and with the columns sorted by the phase of the stride: the
//! pixels under a tap of neighboring outputs are neighbors.

use std::ops::Range;

use super::backend::{Cpu, InstructionSet};
use super::blocked_gemm::by_size;
use super::sums::{activate, clear_planes, limit, padded_bias, range};
use crate::cpu::parallel::{Shared, for_each_in_tasks, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass, Phase};

/// Maximum number of products of an output, which are a chain of additions.
const MAX_STEPS: usize = 192;
/// Target number of floats of the copied rows of a task: they stay in the L1 cache.
const FLOATS: usize = 4 << 10;
/// Number of multiply-adds of a task below which tasks are not worth their start.
const SMALL: usize = 1 << 17;

/// The algorithm; see the module's documentation.
///
/// It computes the forward pass of one group of few channels, from an image that is not in blocks of channels to an output that is. It
/// is exact enough for all inputs: an output is the sum of its terms in single precision, a chain of at most [`MAX_STEPS`].
pub(super) struct FewChannels;

impl ConvAlgorithm<Cpu> for FewChannels {
    fn name(&self) -> &'static str {
        "few_channels"
    }

    fn works_in_blocks(&self) -> bool {
        true
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        let fits = pass == Pass::Forward && conv.in_blocks == [false, true] && has_few_channels(conv);
        fits.then(|| {
            let positions = (conv.n * conv.out_pixels() * conv.kh * conv.kw) as f64;
            positions * conv.vector_steps(pass, device.lanes)
        })
    }

    /// Packs the weight: `[two blocks of outputs][channel, tap]`, one or two vectors each.
    fn pack(&self, scratch: &Scratch, conv: &ConvShape, weight: &[f32]) -> Option<Buffer> {
        let (lanes, steps, taps) = (instruction_set().1, conv.filter_len(), conv.kh * conv.kw);
        let blocks = conv.out_per_group.div_ceil(lanes);
        let mut u = scratch.take(blocks * steps * lanes);
        u.fill(0.0);
        for (output, filter) in weight.chunks_exact(steps).enumerate() {
            let (block, lane) = (output / lanes, output % lanes);
            let wide = 2.min(blocks - block / 2 * 2);
            for step in 0..steps {
                let tap = step % taps;
                let from = step / taps * taps + conv.tap(tap / conv.kw, tap % conv.kw);
                let to = block / 2 * 2 * steps + step * wide + block % 2;
                u[to * lanes + lane] = filter[from];
            }
        }
        Some(u)
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        let Operands::Forward { x, weight, bias, activation, y, .. } = operands else {
            unreachable!("{} has no cost for this pass", self.name())
        };
        forward(conv, x, weight, (bias, activation), y, scratch);
    }
}

/// Whether the products of an output are few, and the rows and columns under the taps not many more than those of the image.
pub(super) fn has_few_channels(conv: &ConvShape) -> bool {
    let padded = (conv.h + 2 * conv.padding[0]) * (conv.w + 2 * conv.padding[1]);
    let is_dense = padded <= 4 * (conv.h * conv.w + conv.kh * conv.kw);
    conv.groups == 1 && (1..=MAX_STEPS).contains(&conv.filter_len()) && is_dense
}

fn forward(
    conv: &ConvShape,
    x: &[f32],
    u: &[f32],
    (bias, activation): (Option<&[f32]>, Option<Activation>),
    y: &mut [f32],
    scratch: &Scratch,
) {
    let row = conv.in_per_group * conv.extent(1, conv.ow) * conv.stride[0];
    let rows = (FLOATS / row).clamp(1, conv.oh);
    let bands = conv.oh.div_ceil(rows);
    let target = Shared::new(y);
    let count = conv.n * bands;
    let work = |i: usize| {
        let rows = part(conv.oh, bands, i % bands);
        dispatch(Band { conv, image: i / bands, rows, x, u, bias, activation, target, scratch });
    };
    let each = SMALL.div_ceil(rows * conv.ow * conv.out_per_group * conv.filter_len());
    for_each_in_tasks(count, each, work);
}

/// Some rows of the output of one image.
struct Band<'a> {
    conv: &'a ConvShape,
    image: usize,
    rows: Range<usize>,
    x: &'a [f32],
    u: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    target: Shared<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Band<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Band { conv, .. } = self;
        let count = self.rows.len() * conv.ow;
        if count == 0 {
            return;
        }
        let phases = conv.stride[1];
        let [rows, columns] = [conv.extent(0, self.rows.len()), conv.extent(1, conv.ow).div_ceil(phases)];
        let mut padded = self.scratch.take(conv.in_per_group * rows * phases * columns);
        self.copy::<S>(rows, columns, &mut padded);
        let mut offsets = [0; MAX_STEPS];
        let (steps, taps) = (conv.filter_len(), conv.kh * conv.kw);
        for (step, offset) in offsets[..steps].iter_mut().enumerate() {
            let tap = step % taps;
            let [row, column] = [tap / conv.kw * conv.dilation[0], tap % conv.kw * conv.dilation[1]];
            let line = (step / taps * rows + row) * phases + column % phases;
            *offset = line * columns + column / phases;
        }
        let offsets = &offsets[..steps];
        let blocks = conv.out_per_group.div_ceil(S::LANES);
        let limits = range(self.activation);
        let tiles = conv.ow.div_ceil(S::TILE_ROWS);
        let block_step = conv.out_pixels() * S::LANES;
        for panel in (0..blocks).step_by(2) {
            let (wide, first) = (2.min(blocks - panel), panel * S::LANES);
            let bias = padded_bias(self.bias, first..conv.out_per_group.min(first + wide * S::LANES));
            let u = &self.u[first * steps..][..wide * S::LANES * steps];
            let at =
                self.image * conv.y_batch_stride + panel * block_step + self.rows.start * conv.ow * S::LANES;
            // SAFETY: the position of the band's first pixel in this block, which the task owns.
            let to = unsafe { self.target.get().add(at) };
            for row in 0..self.rows.len() {
                for tile in 0..tiles {
                    let some = part(conv.ow, tiles, tile);
                    let x = &padded[row * conv.stride[0] * phases * columns + some.start..];
                    let finish = (bias.as_ptr(), limits.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]));
                    // SAFETY: `padded` has the pixels under all taps, `u` the steps, and the output these pixels.
                    let (x, u, m) =
                        unsafe { (x.as_ptr(), u.as_ptr(), to.add((row * conv.ow + some.start) * S::LANES)) };
                    by_size!(some.len(), wide, compute::<S>((x, offsets), u, (m, block_step), finish));
                }
            }
            // SAFETY: the vectors of the band.
            unsafe {
                if limits.is_none()
                    && let Some(activation) = self.activation
                {
                    activate::<S>((to, block_step), [wide, count], activation);
                }
                let last = first + (wide - 1) * S::LANES;
                clear_planes::<S>(to.add((wide - 1) * block_step), count, conv.out_per_group - last);
            }
        }
    }
}

impl Band<'_> {
    /// Copies the rows and columns of all channels under the taps, with zeros in the padding: `columns` of each phase.
    #[inline(always)]
    fn copy<S: Simd>(&self, rows: usize, columns: usize, to: &mut [f32]) {
        let conv = self.conv;
        let phases = conv.stride[1];
        let image = &self.x[self.image * conv.x_batch_stride..];
        let first = self.rows.start * conv.stride[0];
        for (line, to) in to.chunks_exact_mut(phases * columns).take(conv.in_per_group * rows).enumerate() {
            let (channel, row) = (line / rows, line % rows);
            let at = (first + row).checked_sub(conv.padding[0]).filter(|at| *at < conv.h);
            let from = at.map_or(&[][..], |at| &image[(channel * conv.h + at) * conv.w..][..conv.w]);
            for (phase, to) in to.chunks_exact_mut(columns).enumerate() {
                let Phase { left, start, inside } = conv.phase(phase, columns);
                let inside = if from.is_empty() { 0 } else { inside };
                to[..left].fill(0.0);
                to[left + inside..].fill(0.0);
                let to = &mut to[left..left + inside];
                let from = from.get(start..).unwrap_or_default();
                match phases {
                    1 => to.copy_from_slice(&from[..inside]),
                    2 => every_second::<S>(from, to),
                    _ => to.iter_mut().zip(from.iter().step_by(phases)).for_each(|(to, from)| *to = *from),
                }
            }
        }
    }
}

/// Copies every second float, from the first on, as many as `to` has.
#[inline(always)]
fn every_second<S: Simd>(from: &[f32], to: &mut [f32]) {
    let mut chunks = to.chunks_exact_mut(S::LANES);
    let mut at = 0;
    for to in &mut chunks {
        let [a, b] = [at, at + S::LANES].map(|at| S::from_short_slice(&from[at..]));
        a.deinterleave(b).0.to_slice(to);
        at += 2 * S::LANES;
    }
    let rest = chunks.into_remainder().iter_mut();
    rest.zip(from.iter().skip(at).step_by(2)).for_each(|(to, from)| *to = *from);
}

/// Computes `ROWS` neighboring outputs of `WIDE` blocks, `m.1` floats apart, and finishes them with the bias and the range of values.
///
/// # Safety
/// The floats under all taps must be readable, `u` and the bias have `WIDE` vectors for each, and `m` be writable.
#[inline(always)]
unsafe fn compute<S: Simd, const ROWS: usize, const WIDE: usize>(
    (x, offsets): (*const f32, &[usize]),
    mut u: *const f32,
    (m, m_step): (*mut f32, usize),
    (bias, range): (*const f32, [f32; 2]),
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut start = [S::splat(0.0); WIDE];
        for (j, start) in start.iter_mut().enumerate() {
            *start = S::load(bias.add(j * S::LANES));
        }
        let mut sums = [start; ROWS];
        for offset in offsets {
            let x = x.add(*offset);
            let mut columns = [S::splat(0.0); WIDE];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = S::load(u.add(j * S::LANES));
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = S::splat(*x.add(i));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = row.mul_add(column, *sum);
                }
            }
            u = u.add(WIDE * S::LANES);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                limit(sum, range).store(m.add(j * m_step + i * S::LANES));
            }
        }
    }
}
