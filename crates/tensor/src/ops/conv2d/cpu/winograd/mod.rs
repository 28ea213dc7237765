//! The Winograd algorithm for 3x3 and 5x5 kernels with stride 1 (see
//! [`transform`](super::super::winograd::transform)).
//!
//! Outputs are divided into tiles of `m` by `m`, each of which depends on `A` by `A` input pixels. A *unit*
//! is a rectangle of tiles of one image, a task several units:
//!
//! ```text
//!   x ──transpose──▶ pixels ──input_transform──▶ v[point][block][tile]      for each block of LANES channels
//!   weight ─────────filter_transform───────────▶ u[point][two blocks][channel]       once per call
//!   m[point][block][tile] = v · u                for each point
//!   m ──output_transform──▶ pixels ──transpose──▶ y
//! ```
//!
//! A vector holds one pixel of `LANES` channels, whatever the size of the feature map. `v` and `m` of a task stay in the cache. The
//! input gradient is the same computation with rotated filters; the weight gradient sums products over tiles, see
//! [`filter_grad`].

mod direct;
mod filter;
mod filter_grad;
mod range;
mod source;
#[cfg(test)]
mod tests;

use super::backend::{Cpu, InstructionSet};
use super::blocked_gemm::multiply;
use super::cost;
use super::layout::{FeatureMap, Filters};
use super::taps::{MAX_TAPS, read_filters};
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch, split};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use crate::ops::conv2d::winograd::transform::ConstantResponse;
use crate::ops::conv2d::winograd::{self as tiles, TileSize, Tiling, WINDOW_RATIO};
use direct::{DirectConv, DirectTiles};
use filter::{transform_filter, transform_output};
use filter_grad::weight_grad;
use range::{Energies, window_floats};
use source::{TileSource, with_tile_size};

/// Target number of floats of `v` and `m` of a task: they fit into the L2 cache.
const FLOATS: usize = 192 << 10;
/// Minimum and maximum number of tiles of a task.
const TILES: [usize; 2] = [28, 56];
/// Target number of tasks, for machines with many cores.
const TASKS: usize = 16;

/// The algorithm; see the module's documentation.
///
/// It computes 3x3 and 5x5 kernels with stride 1, without dilation, of one group.
///
/// It is exact enough for inputs of similar magnitude: the error of an output is relative to the largest pixel of its tile, for
/// uniformly distributed inputs about that of direct summation (`tests.rs` bounds it). So it is used for tiles in which the
/// largest values of the outputs' windows are at most a factor of 64 apart, and whose values are below 10^15; other tiles, also
/// those with infinities and NaN, are computed directly: see [`range`]. Windows of zeros do not count: they are common in
/// images, and the error of their outputs is relative to the largest pixel of the tile. The weight gradient is computed by the implicit GEMM if
/// any tile has windows a factor of 1024 apart.
///
/// The rounding errors of transformed filters are the same in every tile. For many tiles they are corrected so that they cancel
/// where the input is constant; otherwise the sum over an output's pixels would have an error that grows with their number.
pub(super) struct Winograd;

impl Winograd {
    fn tile_size(conv: &ConvShape, pass: Pass) -> TileSize {
        let chosen = tiles::choose(conv, pass, instruction_set().1);
        chosen.expect("a convolution that has a cost").0
    }
}

impl ConvAlgorithm<Cpu> for Winograd {
    fn name(&self) -> &'static str {
        "winograd"
    }

    fn works_in_blocks(&self) -> bool {
        true
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        let (_, cost) = tiles::choose(conv, pass, device.lanes)?;
        if tiles::is_cost_known(conv, pass) {
            return Some(cost);
        }
        Some(cost.max(NOT_FASTER * cost::general(conv, pass, device.lanes)))
    }

    fn pack(&self, scratch: &Scratch, conv: &ConvShape, weight: &[f32]) -> Option<Buffer> {
        Some(pack(conv, Self::tile_size(conv, Pass::Forward), weight, scratch))
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        match operands {
            Operands::Forward { x, weight, original, bias, activation, y } => {
                let tile_size = Self::tile_size(conv, Pass::Forward);
                forward(conv, tile_size, x, [weight, original], (bias, activation), y, scratch);
            }
            Operands::InputGrad { dy, weight, dx } => {
                input_grad(conv, Self::tile_size(conv, Pass::InputGrad), dy, weight, dx, scratch);
            }
            Operands::WeightGrad { x, dy, dw } => {
                weight_grad(conv, Self::tile_size(conv, Pass::WeightGrad), x, dy, dw, scratch);
            }
        }
    }
}

/// Returns the weight in the layout that [`forward`] expects: the transformed filters.
fn pack(conv: &ConvShape, tile_size: TileSize, weight: &[f32], scratch: &Scratch) -> Buffer {
    let ([src, dst], filters) = (conv.feature_maps(), Filters::forward(conv, weight));
    with_tile_size!(tile_size, transform_filters(conv.n, src, dst, &filters, scratch))
}

/// Computes the output, with the bias and activation of `epilogue`; `u` is the result of [`pack`] for `weight`.
fn forward(
    conv: &ConvShape,
    tile_size: TileSize,
    x: &[f32],
    [u, weight]: [&[f32]; 2],
    epilogue: (Option<&[f32]>, Option<Activation>),
    y: &mut [f32],
    scratch: &Scratch,
) {
    let [src, dst] = conv.feature_maps();
    let shift = conv.padding.map(|pad| -(pad as isize));
    let filters = Filters::forward(conv, weight);
    with_tile_size!(tile_size, convolve(conv.n, src, dst, shift, (u, &filters), epilogue, x, y, scratch));
}

/// Computes the gradient of the input: a convolution of `dy` with the rotated filters.
fn input_grad(
    conv: &ConvShape,
    tile_size: TileSize,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    scratch: &Scratch,
) {
    let [dst, src] = conv.feature_maps();
    let filters = Filters::backward(conv, weight);
    let u = with_tile_size!(tile_size, transform_filters(conv.n, src, dst, &filters, scratch));
    let shift = conv.input_grad_shift();
    let u = (&u[..], &filters);
    with_tile_size!(tile_size, convolve(conv.n, src, dst, shift, u, (None, None), dy, dx, scratch));
}

/// Computes `y[n, out] = activation(Σ over channels of x[n, channel] * filter + bias)`; the kernel of output
/// pixel 0 starts at pixel `shift`.
#[allow(clippy::too_many_arguments, reason = "the operands of a convolution")]
fn convolve<const A: usize, const M: usize, const R: usize>(
    n: usize,
    src: FeatureMap,
    dst: FeatureMap,
    shift: [isize; 2],
    (u, filters): (&[f32], &Filters<'_>),
    (bias, activation): (Option<&[f32]>, Option<Activation>),
    x: &[f32],
    y: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let per_tile = A * A * lanes * (src.blocks(lanes) + dst.blocks(lanes));
    let tiles = (FLOATS / per_tile).clamp(TILES[0], TILES[1]);
    let tiling = Tiling::new(n, [dst.h.div_ceil(M), dst.w.div_ceil(M)], tiles, TASKS);
    let target = Shared::new(y);
    for_each_task(tiling.tasks, |task| {
        dispatch(Forward::<A, M> {
            src,
            dst,
            shift,
            u,
            filters,
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

/// Transforms all filters: `[point][two blocks of outputs][channel]`, two vectors each.
fn transform_filters<const A: usize, const M: usize, const R: usize>(
    n: usize,
    src: FeatureMap,
    dst: FeatureMap,
    filters: &Filters<'_>,
    scratch: &Scratch,
) -> Buffer {
    let lanes = instruction_set().1;
    let blocks = dst.blocks(lanes);
    let mut u = scratch.take(A * A * src.channels * blocks * lanes);
    let target = Shared::new(&mut u);
    let tiles = n * dst.h.div_ceil(M) * dst.w.div_ceil(M);
    let response = (tiles >= tiles::MANY_TILES).then(ConstantResponse::new::<A, M>);
    // A task transforms some channels of one block.
    let parts = src.channels.div_ceil(64);
    for_each_task(blocks * parts, |i| {
        dispatch(TransformFilters::<A, R> {
            filters,
            depth: src.channels,
            channels: part(src.channels, parts, i % parts),
            outputs: dst.channels,
            block: i / parts,
            response: response.as_ref(),
            target,
            scratch,
        });
    });
    u
}

/// The transform of some channels of one block of outputs.
struct TransformFilters<'a, const A: usize, const R: usize> {
    filters: &'a Filters<'a>,
    depth: usize,
    channels: std::ops::Range<usize>,
    outputs: usize,
    block: usize,
    response: Option<&'a ConstantResponse>,
    target: Shared<'a>,
    scratch: &'a Scratch,
}

impl<const A: usize, const R: usize> Kernel for TransformFilters<'_, A, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let TransformFilters { filters, depth, channels, outputs, block, response, target, scratch } = self;
        let (blocks, first) = (outputs.div_ceil(S::LANES), block * S::LANES);
        let wide = if block % 2 == 1 || block + 1 < blocks { 2 } else { 1 };
        let lanes = S::LANES.min(outputs - first);
        let mut taps = scratch.take(S::LANES * R * R * S::LANES);
        let mut filter = [S::splat(0.0); MAX_TAPS];
        for channel in channels.clone().step_by(S::LANES) {
            let some = channel..channels.end.min(channel + S::LANES);
            // SAFETY: the weight has these channels and outputs; the tasks have disjoint blocks and channels.
            unsafe {
                read_filters::<S>(filters, some.clone(), first, lanes, R * R, taps.as_mut_ptr());
                for (i, channel) in some.enumerate() {
                    for (tap, value) in filter[..R * R].iter_mut().enumerate() {
                        *value = S::load(taps.as_ptr().add((i * R * R + tap) * S::LANES));
                    }
                    let to = (block / 2 * 2 * depth + channel * wide + block % 2) * S::LANES;
                    let to = target.get().add(to);
                    let step = depth * blocks * S::LANES;
                    transform_filter::<S, A, R>(&filter, filters.reverse, response, to, step);
                }
            }
        }
    }
}

/// The outputs of some units.
struct Forward<'a, const A: usize, const M: usize> {
    src: FeatureMap,
    dst: FeatureMap,
    shift: [isize; 2],
    u: &'a [f32],
    filters: &'a Filters<'a>,
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    x: &'a [f32],
    target: Shared<'a>,
    tiling: &'a Tiling,
    units: std::ops::Range<usize>,
    scratch: &'a Scratch,
}

impl<const A: usize, const M: usize> Kernel for Forward<'_, A, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let [unit_tiles, task_tiles] = self.tiling.max_tiles();
        let [depth, wide] = [&self.src, &self.dst].map(|map| map.blocks(S::LANES));
        let step = task_tiles * S::LANES;
        // One extra vector per point: with a stride of a power of two all points would map to the same cache
        // sets.
        let [v_step, m_step] = [depth, wide].map(|blocks| blocks * step + S::LANES);
        let energy_step = TileSource::energy_step::<A, M>(self.tiling, S::LANES);
        let [pixels, lines] = TileSource::buffer_floats::<A, A, M>(self.tiling, S::LANES);
        let outputs = unit_tiles * M * M * S::LANES;
        let [padded, windows] = window_floats::<A, M>(self.tiling);
        let filters = DirectConv::filter_floats::<S, A, M>();
        let energies = self.units.len() * energy_step;
        let lens =
            [A * A * v_step, A * A * m_step, pixels.max(outputs), lines, energies, padded, windows, filters];
        let mut buffer = self.scratch.take_parts(lens);
        let [v, m, pixels, lines, energies, padded, windows, filters] = split(&mut buffer, lens);
        let source = TileSource { map: self.src, data: self.x, shift: self.shift };
        let tiles = source.transform::<S, A, A, M>(
            self.tiling,
            self.units.clone(),
            [step, v_step],
            v,
            0..depth,
            energies,
            [pixels, lines],
        );
        let groups = tiles.div_ceil(S::TILE_ROWS);
        for point in 0..A * A {
            for panel in 0..wide.div_ceil(2) {
                let u = (point * wide + 2 * panel) * self.src.channels * S::LANES;
                for group in 0..groups {
                    let rows = part(tiles, groups, group);
                    // SAFETY: the buffers have these sizes.
                    unsafe {
                        multiply(
                            [rows.len(), 2.min(wide - 2 * panel)],
                            self.src.channels,
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
        self.store::<S>(m, [step, m_step], pixels);
        let energies = Energies {
            values: energies,
            step: energy_step,
            source: &source,
            tiling: self.tiling,
            units: self.units.clone(),
        };
        if !energies.are_similar::<S, A, M>(WINDOW_RATIO) {
            let size = [self.dst.h, self.dst.w];
            let tiles = energies.direct_tiles::<A, M>(size, WINDOW_RATIO, [padded, windows]);
            let Forward { src, dst, shift, filters: weight, bias, activation, x, target, .. } = self;
            let conv = DirectConv { src, dst, shift, filters: weight, bias, activation, x, target };
            // The products are stored: their memory is larger than the sums of all tiles.
            dispatch(DirectTiles::<A, M> { conv: &conv, tiles: &tiles, filters, sums: m });
        }
    }
}

impl<const A: usize, const M: usize> Forward<'_, A, M> {
    /// Transforms the products to outputs, adds the bias, applies the activation and writes the output.
    #[inline(always)]
    fn store<S: Simd>(&self, m: &[f32], [step, m_step]: [usize; 2], pixels: &mut [f32]) {
        for block in 0..self.dst.blocks(S::LANES) {
            let first = block * S::LANES;
            let bias = self.bias.map_or(S::splat(0.0), |bias| S::from_short_slice(&bias[first..]));
            let mut tile = 0;
            for unit in self.units.clone().map(|i| self.tiling.unit(i)) {
                let columns = unit.columns.len() * M;
                for row in 0..unit.rows.len() {
                    for column in 0..unit.columns.len() {
                        // SAFETY: the tile belongs to the task, and its pixels to the unit.
                        unsafe {
                            let from = m.as_ptr().add(block * step + tile * S::LANES);
                            let y = transform_output::<S, A, M>(from, m_step);
                            for i in 0..M {
                                let to = pixels
                                    .as_mut_ptr()
                                    .add(((row * M + i) * columns + column * M) * S::LANES);
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
                let to = unit.image * self.dst.batch_stride + first * self.dst.h * self.dst.w;
                let start = [unit.rows.start * M, unit.columns.start * M].map(|at| at as isize);
                let region = self.dst.tile(start, [unit.rows.len() * M, columns]);
                // SAFETY: the units have disjoint pixels.
                unsafe {
                    region.write::<S>(
                        pixels.as_ptr(),
                        S::LANES,
                        self.dst.channels - first,
                        self.target.get().add(to),
                    );
                }
            }
        }
    }
}
