//! Convolution of single channels in blocks of channels: a vector holds one pixel of `LANES` channels, each of which has its own
//! filter. The pixels under its taps are read where they lie:
//!
//! ```text
//!   sums[column] += x[row · stride + tap's row][column · stride + tap's column] · u[tap]      for up to 8 outputs in registers
//! ```
//!
//! Taps over padding are left out: the outputs in registers are neighbors of one row with the same taps, at the edges of one column.

use std::ops::Range;

use super::backend::{Cpu, InstructionSet};
use super::sums::{activate, clear_planes, limit, padded_bias, range};
use crate::cpu::parallel::{Shared, for_each_in_tasks, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// Target number of outputs of a task.
const PIXELS: usize = 512;
/// Number of multiply-adds of a task below which tasks are not worth their start.
const SMALL: usize = 1 << 16;
/// Maximum number of taps.
const MAX_TAPS: usize = 128;

/// The algorithm; see the module's documentation.
///
/// It computes the forward pass of groups of one channel, in blocks of channels only. It is exact enough for all inputs: an output is the sum of its taps in one chain.
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

    fn run(&self, _scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        let Operands::Forward { x, weight, bias, activation, y, .. } = operands else {
            unreachable!("{} has no cost for this pass", self.name())
        };
        forward(conv, x, weight, (bias, activation), y);
    }
}

/// Whether each group has one channel, and a filter of not too many taps.
pub(super) fn is_depthwise(conv: &ConvShape) -> bool {
    [conv.in_per_group, conv.out_per_group] == [1, 1] && conv.kh * conv.kw <= MAX_TAPS
}

fn forward(
    conv: &ConvShape,
    x: &[f32],
    u: &[f32],
    (bias, activation): (Option<&[f32]>, Option<Activation>),
    y: &mut [f32],
) {
    let lanes = instruction_set().1;
    let blocks = conv.groups.div_ceil(lanes);
    let rows = PIXELS.div_ceil(conv.ow).min(conv.oh);
    let bands = conv.oh.div_ceil(rows);
    let mut offsets = [0; MAX_TAPS];
    for (tap, offset) in offsets[..conv.kh * conv.kw].iter_mut().enumerate() {
        let [row, column] = [tap / conv.kw * conv.dilation[0], tap % conv.kw * conv.dilation[1]];
        *offset = (row * conv.w + column) * lanes;
    }
    let offsets = &offsets[..conv.kh * conv.kw];
    let target = Shared::new(y);
    let count = conv.n * blocks * bands;
    let work = |i: usize| {
        let (band, i) = (i % bands, i / bands);
        let (block, image) = (i % blocks, i / blocks);
        let rows = part(conv.oh, bands, band);
        dispatch(Band { conv, offsets, image, block, rows, x, u, bias, activation, target });
    };
    // Tasks of several bands, if one is little work.
    let each = SMALL.div_ceil(rows * conv.ow * conv.filter_len() * lanes);
    for_each_in_tasks(count, each, work);
}

/// Some rows of the output of one block of channels.
struct Band<'a> {
    conv: &'a ConvShape,
    /// The position of each tap, relative to the first.
    offsets: &'a [usize],
    image: usize,
    block: usize,
    rows: Range<usize>,
    x: &'a [f32],
    u: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    target: Shared<'a>,
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
        let taps = self.offsets.len();
        let planes = (conv.groups - block * S::LANES).min(S::LANES);
        let bias = padded_bias(self.bias, block * S::LANES..block * S::LANES + planes);
        let limits = range(self.activation);
        let tile = Tile {
            offsets: self.offsets,
            kw: conv.kw,
            step: conv.stride[1] * S::LANES,
            u: &self.u[block * taps * S::LANES..][..taps * S::LANES],
            bias: S::from_slice(&bias),
            range: limits.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]),
        };
        let x = &self.x[image * conv.x_batch_stride + block * conv.h * conv.w * S::LANES..];
        let x = x[..conv.h * conv.w * S::LANES].as_ptr();
        let first = (block * conv.out_pixels() + self.rows.start * conv.ow) * S::LANES;
        // SAFETY: the position of the band's first pixel, which this task owns.
        let to = unsafe { self.target.get().add(image * conv.y_batch_stride + first) };
        let [inside_rows, inside] = [0, 1].map(|axis| self.inside(axis));
        // Neighboring tiles, as equal as possible, are found without a division for each.
        let wide = inside.len().div_ceil(inside.len().div_ceil(MAX_OUTPUTS).max(1)).max(1);
        let columns = 0..conv.kw;
        for (i, row) in self.rows.clone().enumerate() {
            let rows = conv.taps_inside(0, row);
            let x = self.first_tap::<S>(x, row);
            for column in inside.clone().step_by(wide) {
                let x = x.wrapping_add(column * tile.step);
                // SAFETY: all taps of these rows are within the image, and the outputs are in the band.
                unsafe {
                    let to = to.add((i * conv.ow + column) * S::LANES);
                    let count = wide.min(inside.end - column);
                    let taps = [rows.clone(), columns.clone()];
                    match conv.stride[1] {
                        1 => tile.compute::<1>(count, taps, (x, S::LANES), (to, S::LANES)),
                        _ => tile.compute::<0>(count, taps, (x, tile.step), (to, S::LANES)),
                    }
                }
            }
        }
        let row_step = conv.stride[0] * conv.w * S::LANES;
        for column in (0..inside.start).chain(inside.end..conv.ow) {
            let columns = conv.taps_inside(1, column);
            let mut row = self.rows.start;
            while row < self.rows.end {
                // Rows with all taps have tiles, the others are alone.
                let count = match inside_rows.contains(&row) {
                    true => MAX_OUTPUTS.min(inside_rows.end.min(self.rows.end) - row),
                    false => 1,
                };
                let x = self.first_tap::<S>(x, row).wrapping_add(column * tile.step);
                // SAFETY: these taps are within the image, and the outputs are in the band.
                unsafe {
                    let to = to.add(((row - self.rows.start) * conv.ow + column) * S::LANES);
                    let taps = [conv.taps_inside(0, row), columns.clone()];
                    tile.compute::<0>(count, taps, (x, row_step), (to, conv.ow * S::LANES));
                }
                row += count;
            }
        }
        // SAFETY: the vectors of the band.
        unsafe {
            if limits.is_none()
                && let Some(activation) = self.activation
            {
                activate::<S>((to, 0), [1, count], activation);
            }
            clear_planes::<S>(to, count, planes);
        }
    }
}

impl Band<'_> {
    /// Returns where the first tap of a row and of column 0 would be, which may be in the padding.
    #[inline(always)]
    fn first_tap<S: Simd>(&self, x: *const f32, row: usize) -> *const f32 {
        let conv = self.conv;
        let at = (row * conv.stride[0]).wrapping_sub(conv.padding[0]).wrapping_mul(conv.w);
        x.wrapping_add(at.wrapping_sub(conv.padding[1]).wrapping_mul(S::LANES))
    }

    /// Returns the rows or columns of the output all taps of which are within the image.
    fn inside(&self, axis: usize) -> Range<usize> {
        let conv = self.conv;
        let [kernel, size, outputs] = [[conv.kh, conv.h, conv.oh], [conv.kw, conv.w, conv.ow]][axis];
        let [stride, padding] = [conv.stride[axis], conv.padding[axis]];
        let reach = (kernel - 1) * conv.dilation[axis];
        let first = padding.div_ceil(stride).min(outputs);
        let end = (size + padding).checked_sub(reach + 1).map_or(0, |last| last / stride + 1);
        first..end.min(outputs).max(first)
    }
}

/// Maximum number of outputs in registers.
const MAX_OUTPUTS: usize = 8;

/// What the outputs of a block have in common.
struct Tile<'a, S> {
    /// The position of each tap, relative to the first.
    offsets: &'a [usize],
    /// Number of taps of a row.
    kw: usize,
    /// Floats from one column under a tap to that of the next output.
    step: usize,
    u: &'a [f32],
    bias: S,
    range: [f32; 2],
}

impl<S: Simd> Tile<'_, S> {
    /// Computes some outputs, `to.1` floats apart, from the pixels under the taps of some rows and columns, which are `x.1` floats
    /// apart: neighbors if `STEP` is 1.
    ///
    /// # Safety
    /// The pixels must be readable, where `x.0` is that of the first tap of all, and a vector for each output writable.
    #[inline(always)]
    unsafe fn compute<const STEP: usize>(
        &self,
        outputs: usize,
        taps: [Range<usize>; 2],
        x: (*const f32, usize),
        to: (*mut f32, usize),
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match outputs {
                1 => self.fixed::<1, STEP>(taps, x, to),
                2 => self.fixed::<2, STEP>(taps, x, to),
                3 => self.fixed::<3, STEP>(taps, x, to),
                4 => self.fixed::<4, STEP>(taps, x, to),
                5 => self.fixed::<5, STEP>(taps, x, to),
                6 => self.fixed::<6, STEP>(taps, x, to),
                7 => self.fixed::<7, STEP>(taps, x, to),
                MAX_OUTPUTS => self.fixed::<MAX_OUTPUTS, STEP>(taps, x, to),
                _ => unreachable!("a tile of {outputs} outputs"),
            }
        }
    }

    /// As [`Tile::compute`], for a constant number of outputs.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn fixed<const OUTPUTS: usize, const STEP: usize>(
        &self,
        [rows, columns]: [Range<usize>; 2],
        (x, x_step): (*const f32, usize),
        (to, to_step): (*mut f32, usize),
    ) {
        let mut sums = [self.bias; OUTPUTS];
        let x_step = if STEP > 0 { STEP * S::LANES } else { x_step };
        // SAFETY: guaranteed by the caller; `u` has a vector for each tap.
        unsafe {
            for row in rows {
                for tap in row * self.kw + columns.start..row * self.kw + columns.end {
                    let weight = S::load(self.u.as_ptr().add(tap * S::LANES));
                    let x = x.wrapping_add(*self.offsets.get_unchecked(tap));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = S::load(x.wrapping_add(i * x_step)).mul_add(weight, *sum);
                    }
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                limit(sum, self.range).store(to.add(i * to_step));
            }
        }
    }
}
