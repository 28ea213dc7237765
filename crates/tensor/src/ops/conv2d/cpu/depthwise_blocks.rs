//! Convolution of single channels in blocks of channels: a vector holds one pixel of `LANES` channels, each of which has its own
//! filter. The rows under some rows of the output are copied with their padding, and with the columns sorted by the phase of the
//! stride, so every tap of an output is a vector in the cache:
//!
//! ```text
//!   sums[column] += x[row · stride + tap's row][column · stride + tap's column] · u[tap]      for up to 8 columns in registers
//! ```

use std::ops::Range;

use rayon::prelude::*;

use super::backend::{Cpu, InstructionSet};
use super::sums::{MAX_LANES, activate, clear_planes, range};
use crate::cpu::parallel::{Shared, part};
use crate::cpu::simd::{Kernel, Real, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass, Phase};

/// Target number of floats of the copied rows of a task: they stay in the L1 cache.
const FLOATS: usize = 8 << 10;
/// Minimum number of rows of a task: neighboring tasks copy some rows twice.
const MIN_ROWS: usize = 4;
/// Number of multiply-adds of a task below which tasks are not worth their start.
const SMALL: usize = 1 << 16;
/// Maximum number of taps.
const MAX_TAPS: usize = 128;

/// The algorithm; see the module's documentation.
///
/// It computes the forward pass of groups of one channel, in blocks of channels only, with any stride and dilation of which the
/// padded image is not much larger than the image. It is exact enough for all inputs: an output is the sum of its taps in one chain.
pub(super) struct DepthwiseBlocks;

impl ConvAlgorithm<Cpu> for DepthwiseBlocks {
    fn name(&self) -> &'static str {
        "depthwise_blocks"
    }

    fn works_in_blocks(&self) -> bool {
        true
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        let fits = pass == Pass::Forward && conv.in_blocks == [true; 2] && is_depthwise(conv);
        fits.then(|| {
            let vectors = conv.groups.div_ceil(device.lanes) * conv.out_pixels();
            (conv.n * vectors * conv.filter_len()) as f64
        })
    }

    fn pack(&self, scratch: &Scratch, conv: &ConvShape, weight: &[f32]) -> Option<Buffer> {
        let (lanes, taps) = (instruction_set().1, conv.filter_len());
        let mut u = scratch.take(conv.groups.div_ceil(lanes) * taps * lanes);
        u.fill(0.0);
        for (channel, filter) in weight.chunks_exact(taps).enumerate() {
            let u = &mut u[channel / lanes * taps * lanes..];
            for row in 0..conv.kh {
                for column in 0..conv.kw {
                    let tap = row * conv.kw + column;
                    u[tap * lanes + channel % lanes] = filter[conv.tap(row, column)];
                }
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

/// Whether each group has one channel, and the rows and columns under the taps are not many more than those of the image.
pub(super) fn is_depthwise(conv: &ConvShape) -> bool {
    let reach = [conv.h + 2 * conv.padding[0], conv.w + 2 * conv.padding[1]];
    let is_dense = reach[0] * reach[1] <= 4 * (conv.h * conv.w + conv.kh * conv.kw);
    [conv.in_per_group, conv.out_per_group] == [1, 1] && is_dense && conv.kh * conv.kw <= MAX_TAPS
}

fn forward(
    conv: &ConvShape,
    x: &[f32],
    u: &[f32],
    (bias, activation): (Option<&[f32]>, Option<Activation>),
    y: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let blocks = conv.groups.div_ceil(lanes);
    let row = conv.extent(1, conv.ow) * lanes * conv.stride[0];
    let rows = (FLOATS / row).max(MIN_ROWS).min(conv.oh);
    let bands = conv.oh.div_ceil(rows);
    let target = Shared::new(y);
    let count = conv.n * blocks * bands;
    let work = |i: usize| {
        let (band, i) = (i % bands, i / bands);
        let (block, image) = (i % blocks, i / blocks);
        let rows = part(conv.oh, bands, band);
        dispatch(Band { conv, image, block, rows, x, u, bias, activation, target, scratch });
    };
    // Tasks of several bands, if one is little work.
    let each = SMALL.div_ceil(rows * conv.ow * conv.filter_len() * lanes);
    if count <= each {
        (0..count).for_each(work);
    } else {
        (0..count.div_ceil(each)).into_par_iter().for_each(|task| {
            (task * each..count.min((task + 1) * each)).for_each(work);
        });
    }
}

/// Some rows of the output of one block of channels.
struct Band<'a> {
    conv: &'a ConvShape,
    image: usize,
    block: usize,
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
        let Band { conv, block, image, .. } = self;
        let count = self.rows.len() * conv.ow;
        if count == 0 {
            return;
        }
        let phases = conv.stride[1];
        let [rows, columns] = [conv.extent(0, self.rows.len()), conv.extent(1, conv.ow).div_ceil(phases)];
        let mut padded = self.scratch.take(rows * phases * columns * S::LANES);
        self.copy::<S>(rows, columns, &mut padded);
        let mut offsets = [0; MAX_TAPS];
        for (tap, offset) in offsets[..conv.kh * conv.kw].iter_mut().enumerate() {
            let [row, column] = [tap / conv.kw * conv.dilation[0], tap % conv.kw * conv.dilation[1]];
            *offset = ((row * phases + column % phases) * columns + column / phases) * S::LANES;
        }
        let offsets = &offsets[..conv.kh * conv.kw];
        let planes = (conv.groups - block * S::LANES).min(S::LANES);
        let mut bias = [0.0; MAX_LANES];
        if let Some(from) = self.bias {
            bias[..planes].copy_from_slice(&from[block * S::LANES..][..planes]);
        }
        let limits = range(self.activation);
        let tile = Tile {
            offsets,
            u: &self.u[block * offsets.len() * S::LANES..][..offsets.len() * S::LANES],
            bias: S::from_slice(&bias),
            range: limits.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]),
        };
        let first = (block * conv.out_pixels() + self.rows.start * conv.ow) * S::LANES;
        // SAFETY: the position of the band's first pixel, which this task owns.
        let to = unsafe { self.target.get().add(image * conv.y_batch_stride + first) };
        let tiles = conv.ow.div_ceil(MAX_COLUMNS);
        for row in 0..self.rows.len() {
            for i in 0..tiles {
                let wide = part(conv.ow, tiles, i);
                let at = (row * conv.stride[0] * phases * columns + wide.start) * S::LANES;
                // SAFETY: the padded rows have all pixels under the taps of these outputs.
                unsafe {
                    let to = to.add((row * conv.ow + wide.start) * S::LANES);
                    tile.compute(wide.len(), padded.as_ptr().add(at), to);
                }
            }
        }
        // SAFETY: the vectors of the band.
        unsafe {
            if limits.is_none() && let Some(activation) = self.activation {
                activate::<S>((to, 0), [1, count], activation);
            }
            clear_planes::<S>(to, count, planes);
        }
    }
}

impl Band<'_> {
    /// Copies the rows and columns under the taps, with zeros in the padding: `columns` of each phase.
    #[inline(always)]
    fn copy<S: Simd>(&self, rows: usize, columns: usize, to: &mut [f32]) {
        let conv = self.conv;
        let phases = conv.stride[1];
        let image = &self.x[self.image * conv.x_batch_stride + self.block * conv.h * conv.w * S::LANES..];
        let first = self.rows.start * conv.stride[0];
        for (row, to) in to.chunks_exact_mut(phases * columns * S::LANES).take(rows).enumerate() {
            let at = (first + row).checked_sub(conv.padding[0]).filter(|at| *at < conv.h);
            let Some(at) = at else {
                to.fill(0.0);
                continue;
            };
            let from = &image[at * conv.w * S::LANES..][..conv.w * S::LANES];
            for (phase, to) in to.chunks_exact_mut(columns * S::LANES).enumerate() {
                let Phase { left, start, inside } = conv.phase(phase, columns);
                let (before, to) = to.split_at_mut(left * S::LANES);
                let (to, behind) = to.split_at_mut(inside * S::LANES);
                before.fill(0.0);
                behind.fill(0.0);
                for (i, to) in to.chunks_exact_mut(S::LANES).enumerate() {
                    S::from_slice(&from[(start + i * phases) * S::LANES..]).to_slice(to);
                }
            }
        }
    }
}

/// Maximum number of columns in registers.
const MAX_COLUMNS: usize = 8;

/// What the outputs of a block have in common.
struct Tile<'a, S> {
    /// The position of each tap, relative to the first.
    offsets: &'a [usize],
    u: &'a [f32],
    bias: S,
    range: [f32; 2],
}

impl<S: Simd> Tile<'_, S> {
    /// Computes `columns` neighboring outputs.
    ///
    /// # Safety
    /// The pixels under all taps must be readable, from `x` on, and a vector for each output writable.
    #[inline(always)]
    unsafe fn compute(&self, columns: usize, x: *const f32, to: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match columns {
                1 => self.fixed::<1>(x, to),
                2 => self.fixed::<2>(x, to),
                3 => self.fixed::<3>(x, to),
                4 => self.fixed::<4>(x, to),
                5 => self.fixed::<5>(x, to),
                6 => self.fixed::<6>(x, to),
                7 => self.fixed::<7>(x, to),
                MAX_COLUMNS => self.fixed::<MAX_COLUMNS>(x, to),
                _ => unreachable!("a tile of {columns} columns"),
            }
        }
    }

    /// As [`Tile::compute`], for a constant number of columns.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn fixed<const COLUMNS: usize>(&self, x: *const f32, to: *mut f32) {
        let mut sums = [self.bias; COLUMNS];
        // SAFETY: guaranteed by the caller; `u` has a vector for each tap.
        unsafe {
            for (tap, offset) in self.offsets.iter().enumerate() {
                let weight = S::load(self.u.as_ptr().add(tap * S::LANES));
                let x = x.add(*offset);
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(x.add(i * S::LANES)).mul_add(weight, *sum);
                }
            }
            let [low, high] = self.range.map(S::splat);
            for (i, sum) in sums.into_iter().enumerate() {
                // As activations do: NaN stays NaN.
                (-Real::max(-high, -Real::max(low, sum))).store(to.add(i * S::LANES));
            }
        }
    }
}
