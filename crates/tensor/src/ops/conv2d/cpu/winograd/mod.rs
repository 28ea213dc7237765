//! Convolutions of 3x3 and 5x5 windows, stride 1, by fewer multiplications (see [`transform`](super::super::winograd::transform)).
//!
//! Outputs are cut into tiles of `m` by `m`; each sees `A` by `A` pixels of the picture. A *unit* is some rows of tiles of
//! one picture, a task some units:
//!
//! ```text
//!   picture ──read──▶ strip ──input──▶ v[point][block][tile]       for each block of LANES channels
//!   filter ──────values──────────────▶ u[point][two blocks][channel]        once per call
//!   m[point][block][tile] = v · u      for each point
//!   m ──fold──▶ strip ──write──▶ output
//! ```
//!
//! Within, the lanes of all vectors are channels: any map and any number of channels fills them. `v` and `m` of a task stay
//! in the cache. The gradient of the picture is the same with the filter turned round; that of the filter adds up
//! products over tiles, see [`filter_grad`].

mod filter;
mod filter_grad;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub(super) use filter_grad::weight_grad;

use super::deep;
use super::product::product;
use super::strip::Strip;
use super::taps::{TAPS, read_filters};
use super::{Filters, Problem, Side};
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::winograd::transform::{MOST, evaluate, input};
use crate::ops::conv2d::winograd::{self, Tiling, part};
pub(super) use crate::ops::conv2d::winograd::{Pass, Sizes};
use filter::{outputs, values};

/// Floats of `v` and `m` of a task: what the second level cache holds.
const TASK: usize = 192 << 10;
/// The least and the most tiles of a task.
const TILES: [usize; 2] = [28, 56];
/// Tasks to aim at, for machines with many cores.
const TASKS: usize = 16;
/// Calls a generic function with the points, outputs and taps of a size.
macro_rules! with_sizes {
    ($sizes:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $sizes {
            Sizes::Four => $function::<6, 4, 3>($($argument),*),
            Sizes::Three => $function::<5, 3, 3>($($argument),*),
            Sizes::TwoOfFive => $function::<6, 2, 5>($($argument),*),
        }
    };
}
use with_sizes;

/// The sizes to use for a convolution, if this way is the faster one. A rule on shapes alone.
pub(super) fn choose(p: &Problem, pass: Pass) -> Option<Sizes> {
    let positions = if deep::is_possible(p) {
        1.25 * (p.n * deep::pairs(p)) as f64
    } else {
        1.3 * (p.n * p.pixels() * p.kh * p.kw) as f64
    };
    let lanes = instruction_set().1;
    winograd::choose(p, pass, lanes, positions * winograd::products(p, pass, lanes))
}

/// The weight as [`forward`] takes it: the filters' values.
pub(super) fn pack(p: &Problem, sizes: Sizes, weight: &[f32], scratch: &Scratch) -> Buffer {
    let ([side, out], filters) = (p.sides(), Filters::forward(p, weight));
    with_sizes!(sizes, filter_values(side, out, &filters, scratch))
}

/// The output, with the bias and the activation of `finish`; `u` is the weight as [`pack`] makes it.
pub(super) fn forward(
    p: &Problem,
    sizes: Sizes,
    x: &[f32],
    u: &[f32],
    finish: (Option<&[f32]>, Option<Activation>),
    y: &mut [f32],
    scratch: &Scratch,
) {
    let [side, out] = p.sides();
    let shift = p.padding.map(|p| -(p as isize));
    with_sizes!(sizes, convolve(p.n, side, out, shift, u, finish, x, y, scratch));
}

pub(super) fn input_grad(
    p: &Problem,
    sizes: Sizes,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    scratch: &Scratch,
) {
    let [out, side] = p.sides();
    let filters = Filters::backward(p, weight);
    let u = with_sizes!(sizes, filter_values(side, out, &filters, scratch));
    let shift = [p.padding[0] as isize - p.kh as isize + 1, p.padding[1] as isize - p.kw as isize + 1];
    with_sizes!(sizes, convolve(p.n, side, out, shift, &u, (None, None), dy, dx, scratch));
}

/// `y[n, out] = activation(Σ over channels of x[n, channel] * filter + bias)`, the window of output pixel 0 starting at pixel
/// `shift`.
#[allow(clippy::too_many_arguments, reason = "all that a convolution has")]
fn convolve<const A: usize, const M: usize, const R: usize>(
    n: usize,
    side: Side,
    out: Side,
    shift: [isize; 2],
    u: &[f32],
    (bias, activation): (Option<&[f32]>, Option<Activation>),
    x: &[f32],
    y: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let per_tile = A * A * lanes * (side.blocks(lanes) + out.blocks(lanes));
    let tiles = (TASK / per_tile).clamp(TILES[0], TILES[1]);
    let tiling = Tiling::new(n, [out.h.div_ceil(M), out.w.div_ceil(M)], tiles, TASKS);
    let target = Shared::new(y);
    (0..tiling.tasks).into_par_iter().for_each(|task| {
        dispatch(Task::<A, M> {
            side,
            out,
            shift,
            u,
            bias,
            activation,
            x,
            target,
            tiling: &tiling,
            units: tiling.units_of(task),
            scratch,
        });
    });
}

/// The filters' values: `[point][two blocks of outputs][channel]`, two vectors each.
fn filter_values<const A: usize, const M: usize, const R: usize>(
    side: Side,
    out: Side,
    filters: &Filters<'_>,
    scratch: &Scratch,
) -> Buffer {
    let lanes = instruction_set().1;
    let blocks = out.blocks(lanes);
    let mut u = scratch.take(A * A * side.channels * blocks * lanes);
    let target = Shared::new(&mut u);
    // A task has some channels of one block.
    let parts = side.channels.div_ceil(64);
    (0..blocks * parts).into_par_iter().for_each(|i| {
        dispatch(FilterValues::<A, R> {
            filters,
            depth: side.channels,
            channels: part(side.channels, parts, i % parts),
            outputs: out.channels,
            block: i / parts,
            target,
            scratch,
        });
    });
    u
}

struct FilterValues<'a, const A: usize, const R: usize> {
    filters: &'a Filters<'a>,
    depth: usize,
    channels: std::ops::Range<usize>,
    outputs: usize,
    block: usize,
    target: Shared,
    scratch: &'a Scratch,
}

impl<const A: usize, const R: usize> Kernel for FilterValues<'_, A, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let FilterValues { filters, depth, channels, outputs, block, target, scratch } = self;
        let (blocks, first) = (outputs.div_ceil(S::LANES), block * S::LANES);
        let wide = if block % 2 == 1 || block + 1 < blocks { 2 } else { 1 };
        let lanes = S::LANES.min(outputs - first);
        let mut taps = scratch.take(S::LANES * R * R * S::LANES);
        let mut filter = [S::splat(0.0); TAPS];
        for channel in channels.clone().step_by(S::LANES) {
            let some = channel..channels.end.min(channel + S::LANES);
            // SAFETY: the filters of these channels and outputs; each task has its own blocks and channels.
            unsafe {
                read_filters::<S>(filters, some.clone(), first, lanes, R * R, taps.as_mut_ptr());
                for (i, channel) in some.enumerate() {
                    for (tap, value) in filter[..R * R].iter_mut().enumerate() {
                        *value = S::load(taps.as_ptr().add((i * R * R + tap) * S::LANES));
                    }
                    let to = (block / 2 * 2 * depth + channel * wide + block % 2) * S::LANES;
                    let to = target.get().add(to);
                    values::<S, A, R>(&filter, filters.reverse, to, depth * blocks * S::LANES);
                }
            }
        }
    }
}

/// Some units of a convolution.
struct Task<'a, const A: usize, const M: usize> {
    side: Side,
    out: Side,
    shift: [isize; 2],
    u: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    x: &'a [f32],
    target: Shared,
    tiling: &'a Tiling,
    units: std::ops::Range<usize>,
    scratch: &'a Scratch,
}

impl<const A: usize, const M: usize> Kernel for Task<'_, A, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let [unit, most] = self.tiling.most();
        let [depth, wide] = [&self.side, &self.out].map(|side| side.blocks(S::LANES));
        let step = most * S::LANES;
        // One vector more from point to point: powers of two would all fall into the same lines of the cache.
        let [v_step, m_step] = [depth, wide].map(|blocks| blocks * step + S::LANES);
        let mut v = self.scratch.take(A * A * v_step);
        let mut m = self.scratch.take(A * A * m_step);
        let source = Source { side: self.side, x: self.x, shift: self.shift };
        let tiles = source.values::<S, A, A, M>(
            self.tiling,
            self.units.clone(),
            [step, v_step],
            &mut v,
            0..depth,
            self.scratch,
        );
        let groups = tiles.div_ceil(S::TILE_ROWS);
        for point in 0..A * A {
            for panel in 0..wide.div_ceil(2) {
                let u = (point * wide + 2 * panel) * self.side.channels * S::LANES;
                for group in 0..groups {
                    let rows = part(tiles, groups, group);
                    // SAFETY: the buffers have these sizes.
                    unsafe {
                        product(
                            [rows.len(), 2.min(wide - 2 * panel)],
                            self.side.channels,
                            (v.as_ptr().add(point * v_step + rows.start * S::LANES), step),
                            self.u.as_ptr().add(u),
                            (
                                m.as_mut_ptr().add(point * m_step + 2 * panel * step + rows.start * S::LANES),
                                step,
                            ),
                            false,
                        );
                    }
                }
            }
        }
        self.finish::<S>(&m, [step, m_step], unit);
    }
}

impl<const A: usize, const M: usize> Task<'_, A, M> {
    /// From the products to the output, with bias and activation.
    #[inline(always)]
    fn finish<S: Simd>(&self, m: &[f32], [step, m_step]: [usize; 2], unit: usize) {
        let mut strip = self.scratch.take(unit * M * M * S::LANES);
        for block in 0..self.out.blocks(S::LANES) {
            let first = block * S::LANES;
            let bias = self.bias.map_or(S::splat(0.0), |bias| S::from_short_slice(&bias[first..]));
            let mut tile = 0;
            for unit in self.units.clone().map(|i| self.tiling.unit(i)) {
                let columns = unit.columns.len() * M;
                for row in 0..unit.rows.len() {
                    for column in 0..unit.columns.len() {
                        // SAFETY: a tile of the task, and a place in the strip.
                        unsafe {
                            let from = m.as_ptr().add(block * step + tile * S::LANES);
                            let y = outputs::<S, A, M>(from, m_step);
                            for i in 0..M {
                                let to =
                                    strip.as_mut_ptr().add(((row * M + i) * columns + column * M) * S::LANES);
                                for j in 0..M {
                                    let mut y = y[i][j] + bias;
                                    if let Some(activation) = self.activation {
                                        y = activation.apply(y);
                                    }
                                    y.store(to.add(j * S::LANES));
                                }
                            }
                        }
                        tile += 1;
                    }
                }
                let to = unit.picture * self.out.step + first * self.out.h * self.out.w;
                let place = Strip {
                    h: self.out.h,
                    w: self.out.w,
                    plane: self.out.h * self.out.w,
                    row: (unit.rows.start * M) as isize,
                    column: (unit.columns.start * M) as isize,
                    rows: unit.rows.len() * M,
                    columns,
                };
                // SAFETY: units have pixels of their own.
                unsafe {
                    place.write::<S>(
                        strip.as_ptr(),
                        S::LANES,
                        self.out.channels - first,
                        self.target.get().add(to),
                    );
                }
            }
        }
    }
}

/// Pictures whose tiles are taken to the points.
struct Source<'a> {
    side: Side,
    x: &'a [f32],
    /// The first pixel that tile 0 sees.
    shift: [isize; 2],
}

impl Source<'_> {
    /// The values of all tiles of some units, `[point][block][tile]`; returns how many tiles there are. A tile sees `T` by `T`
    /// pixels, `M` further on from tile to tile: of a picture (`T = A`) or of a filter, which the gradient of the output is
    /// for the gradient of the filter.
    #[inline(always)]
    fn values<S: Simd, const A: usize, const T: usize, const M: usize>(
        &self,
        tiling: &Tiling,
        units: std::ops::Range<usize>,
        [step, point_step]: [usize; 2],
        v: &mut [f32],
        blocks: std::ops::Range<usize>,
        scratch: &Scratch,
    ) -> usize {
        let [rows, columns] =
            [tiling.rows.div_ceil(tiling.unit_rows), tiling.columns.div_ceil(tiling.unit_columns)];
        let wide = columns * M + T - M;
        let mut pixels = scratch.take((rows * M + T - M) * wide * S::LANES);
        let mut lines = scratch.take(A * wide * S::LANES);
        let mut tiles = 0;
        for (at, block) in blocks.enumerate() {
            let first = block * S::LANES;
            tiles = 0;
            for unit in units.clone().map(|i| tiling.unit(i)) {
                let strip = Strip {
                    h: self.side.h,
                    w: self.side.w,
                    plane: self.side.h * self.side.w,
                    row: (unit.rows.start * M) as isize + self.shift[0],
                    column: (unit.columns.start * M) as isize + self.shift[1],
                    rows: unit.rows.len() * M + T - M,
                    columns: unit.columns.len() * M + T - M,
                };
                let from = unit.picture * self.side.step + first * self.side.h * self.side.w;
                let channels = S::LANES.min(self.side.channels - first);
                // SAFETY: the planes of this block; the strip has at most the pixels that were taken.
                unsafe { strip.read::<S>(self.x.as_ptr().add(from), channels, pixels.as_mut_ptr(), S::LANES) }
                for row in 0..unit.rows.len() {
                    // SAFETY: all places are in the buffers.
                    unsafe {
                        let from = pixels.as_ptr().add(row * M * strip.columns * S::LANES);
                        let lines = lines.as_mut_ptr();
                        for column in 0..strip.columns {
                            let value =
                                axis::<S, A, T>(from.add(column * S::LANES), strip.columns * S::LANES);
                            for (i, value) in value[..A].iter().enumerate() {
                                value.store(lines.add((i * strip.columns + column) * S::LANES));
                            }
                        }
                        for column in 0..unit.columns.len() {
                            let to = v.as_mut_ptr().add(at * step + tiles * S::LANES);
                            for i in 0..A {
                                let from = lines.add((i * strip.columns + column * M) * S::LANES);
                                let value = axis::<S, A, T>(from, S::LANES);
                                for (j, value) in value[..A].iter().enumerate() {
                                    value.store(to.add((i * A + j) * point_step));
                                }
                            }
                            tiles += 1;
                        }
                    }
                }
            }
        }
        tiles
    }
}

/// The values along one axis, of `T` vectors that are `step` apart.
#[inline(always)]
unsafe fn axis<S: Simd, const A: usize, const T: usize>(from: *const f32, step: usize) -> [S; MOST] {
    let mut pixels = [S::splat(0.0); MOST];
    for (i, pixel) in pixels[..T].iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *pixel = unsafe { S::load(from.add(i * step)) };
    }
    if T == A { input::<S, A>(&pixels) } else { evaluate::<S, A, T>(&pixels) }
}
