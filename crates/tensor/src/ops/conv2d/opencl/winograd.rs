//! The Winograd algorithm for OpenCL devices that are processors, with the transforms, tiles and units of
//! `conv2d/winograd`, which the CPU uses as well; the kernels are in `winograd.cl`.
//!
//! A work-group transforms the tiles of its units, multiplies at the points, a panel of two vectors of outputs
//! at a time, and transforms the products back. All of it stays in local memory, which on a processor is
//! memory in the cache of a core.
//!
//! Tiles whose values differ too much for the transforms, or are not finite, are computed directly (`winograd_direct.cl`); the
//! weight gradient is computed directly as a whole if it has any.

use std::fmt::Write;

use super::backend::{Limits, OpenCl};
use super::cost;
use crate::opencl::formula::map;
use crate::opencl::{Arg, Buffer, Call, Grid, Source, int};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use crate::ops::conv2d::winograd::transform::{
    ConstantResponse, MAX_POINTS, filter_transform, input_transform, output_transform, point_scale,
};
use crate::ops::conv2d::winograd::{self, TileSize, Tiling, WEIGHT_RATIO, WINDOW_RATIO};
use crate::ops::product::{activation_number, shared};
use neocog_base::Result;

/// Maximum number of floats of transformed tiles and products.
const VALUES: usize = 200 << 10;
/// Floats of local memory that are reserved for pixels.
const PIXELS: usize = 16 << 10;
/// Maximum number of tiles of a task.
const TILES: usize = 48;
/// Maximum number of tiles of a task of the weight gradient.
const GRAD_TILES: usize = 112;
/// Maximum number of blocks of outputs and of channels of a work-group of the weight gradient.
const GRAD_BLOCKS: usize = 8;
/// Target number of work-groups of the weight gradient.
const GRAD_GROUPS: usize = 16;
/// Minimum number of tiles of a part of the weight gradient.
const GRAD_PART: usize = 64;
/// Maximum number of floats of the sums of all parts of the weight gradient.
const GRAD_SUMS: usize = 4 << 20;

/// The algorithm; see the module's documentation.
///
/// It computes 3x3 and 5x5 kernels with stride 1, without dilation, of one group, on processors with enough local
/// memory for one tile.
///
/// It is exact enough for inputs of similar magnitude; `tests/opencl_winograd.rs` bounds its error. Other tiles are computed
/// directly, by the rule of the CPU's algorithm, which has the same transforms.
pub(super) struct Winograd;

impl ConvAlgorithm<OpenCl> for Winograd {
    fn name(&self) -> &'static str {
        "winograd"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<f64> {
        let (_, cost) = WinogradConv::new(conv, pass, limits)?;
        if winograd::is_cost_known(conv, pass) {
            return Some(cost);
        }
        Some(cost.max(NOT_FASTER * cost::implicit_gemm(conv, pass, limits)))
    }

    fn pack(&self, call: &Call<'_>, conv: &ConvShape, weight: &Buffer) -> Result<Option<Buffer>> {
        WinogradConv::of(call, conv, Pass::Forward).pack(call, conv, weight).map(Some)
    }

    fn run(&self, call: &Call<'_>, conv: &ConvShape, operands: Operands<'_, OpenCl>) -> Result<()> {
        match operands {
            Operands::Forward { x, weight, original, bias, activation, y } => {
                let algorithm = WinogradConv::of(call, conv, Pass::Forward);
                algorithm.forward(call, conv, x, [weight, original], (bias, activation), y)
            }
            Operands::InputGrad { dy, weight, dx } => {
                WinogradConv::of(call, conv, Pass::InputGrad).input_grad(call, conv, dy, weight, dx)
            }
            Operands::WeightGrad { x, dy, dw } => {
                WinogradConv::of(call, conv, Pass::WeightGrad).weight_grad(call, conv, x, dy, dw)
            }
        }
    }
}

/// Returns the estimated cost of a pass, or `None` if the algorithm cannot compute it.
pub(super) fn estimated_cost(conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<f64> {
    Some(WinogradConv::new(conv, pass, limits)?.1)
}

/// The parameters of a Winograd convolution.
struct WinogradConv {
    tile_size: TileSize,
    width: usize,
    tiling: Tiling,
    /// Floats of local memory.
    memory: usize,
    /// Target number of work-groups.
    groups: usize,
}

/// The feature map on one side of a convolution.
#[derive(Clone, Copy)]
struct FeatureMap {
    channels: usize,
    h: usize,
    w: usize,
}

/// The weight as a pass reads it, see `winograd_direct.cl`.
#[derive(Clone, Copy)]
struct Filters<'a> {
    weight: &'a Buffer,
    /// Floats from one channel of the source to the next.
    channel_step: usize,
    /// Floats from one channel of the result to the next.
    output_step: usize,
    /// Whether the taps are in reverse order.
    reverse: bool,
}

impl<'a> Filters<'a> {
    fn of(conv: &ConvShape, pass: Pass, weight: &'a Buffer) -> Self {
        let (taps, filter) = (conv.kh * conv.kw, conv.filter_len());
        match pass {
            Pass::InputGrad => {
                Filters { weight, channel_step: filter, output_step: taps, reverse: !conv.flip }
            }
            _ => Filters { weight, channel_step: taps, output_step: filter, reverse: conv.flip },
        }
    }

    fn arg(&self) -> Arg<'static> {
        let Filters { weight, channel_step, output_step, reverse } = self;
        let steps = [weight.len(), *channel_step, *output_step].map(int);
        Arg::Int8([steps[0], steps[1], steps[2], i32::from(*reverse), 0, 0, 0, 0])
    }
}

impl WinogradConv {
    /// Returns the parameters of a pass that has a cost.
    fn of(call: &Call<'_>, conv: &ConvShape, pass: Pass) -> Self {
        WinogradConv::new(conv, pass, &Limits::of(call)).expect("a convolution that has a cost").0
    }

    /// Returns the parameters and the estimated cost, or `None` if the algorithm cannot compute the pass.
    fn new(conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<(Self, f64)> {
        let width = limits.tiles?.width;
        let (tile_size, cost) = winograd::choose(conv, pass, width)?;
        let groups = groups(limits);
        let local = limits.local_memory / size_of::<f32>();
        let [from, to] = sides(conv, pass);
        let depth = from.channels.div_ceil(width);
        let (max_tiles, depth, others) = match pass {
            Pass::WeightGrad => (GRAD_TILES, split_blocks(depth), split_blocks(to.channels.div_ceil(width))),
            _ => (TILES, depth, 2),
        };
        let each = tile_size.points().pow(2) * width * (depth + others);
        let mut tiles = (VALUES.min(local.checked_sub(PIXELS)?) / each).min(max_tiles);
        if pass != Pass::WeightGrad && tiles > rows(width) {
            tiles -= tiles % rows(width);
        }
        let size = [to.h, to.w].map(|size| size.div_ceil(tile_size.outputs()));
        while tiles > 0 {
            let tasks = if pass == Pass::WeightGrad { 1 } else { groups };
            let tiling = Tiling::new(conv.n, size, tiles, tasks);
            let mut algorithm = WinogradConv { tile_size, width, tiling, memory: 0, groups };
            algorithm.memory = algorithm.unit_floats()
                + rows(width) * width
                + tile_size.points().pow(2) * algorithm.point_floats(depth, others)
                + algorithm.check_floats();
            if algorithm.memory <= local {
                return Some((algorithm, cost));
            }
            tiles -= 1;
        }
        None
    }

    /// Returns the floats of the pixels of a unit, of the source or of the result.
    fn unit_floats(&self) -> usize {
        let (t, m) = (&self.tiling, self.tile_size.outputs());
        let [rows, columns] = [t.rows.div_ceil(t.unit_rows), t.columns.div_ceil(t.unit_columns)];
        let more = self.tile_size.points() - m;
        (rows * m + more) * (columns * m + more) * self.width
    }

    /// Returns the floats for the energies of all pixels of a task, and for a flag for each tile.
    fn check_floats(&self) -> usize {
        let units = self.tiling.units.div_ceil(self.tiling.tasks);
        units * (self.unit_floats() / self.width) + self.tiling.max_tiles()[1]
    }

    /// Returns the floats from one block of transformed tiles to the next: all tiles, rounded up to full
    /// register tiles.
    fn block_stride(&self) -> usize {
        self.tiling.max_tiles()[1].next_multiple_of(rows(self.width) / 3) * self.width
    }

    /// Returns the floats of a point, with one extra vector for each operand: with a stride of a power of two
    /// all points would map to the same cache sets.
    fn point_floats(&self, depth: usize, others: usize) -> usize {
        (depth + others) * self.block_stride() + 2 * self.width
    }

    /// Returns the transformed filters for [`WinogradConv::forward`].
    fn pack(&self, call: &Call<'_>, conv: &ConvShape, weight: &Buffer) -> Result<Buffer> {
        self.transform_filters(call, sides(conv, Pass::Forward), Filters::of(conv, Pass::Forward, weight))
    }

    /// Computes the output, with the bias and activation of `epilogue`; `u` is the result of
    /// [`WinogradConv::pack`] for `weight`.
    fn forward(
        &self,
        call: &Call<'_>,
        conv: &ConvShape,
        x: &Buffer,
        [u, weight]: [&Buffer; 2],
        epilogue: (Option<&Buffer>, Option<Activation>),
        y: &Buffer,
    ) -> Result<()> {
        let shift = conv.padding.map(|padding| -int(padding));
        let filters = (u, Filters::of(conv, Pass::Forward, weight));
        self.convolve(call, sides(conv, Pass::Forward), shift, x, filters, epilogue, y)
    }

    /// Computes the gradient of the input: a convolution of `dy` with the rotated filters.
    fn input_grad(
        &self,
        call: &Call<'_>,
        conv: &ConvShape,
        dy: &Buffer,
        weight: &Buffer,
        dx: &Buffer,
    ) -> Result<()> {
        let sides = sides(conv, Pass::InputGrad);
        let filters = Filters::of(conv, Pass::InputGrad, weight);
        let u = self.transform_filters(call, sides, filters)?;
        let shift = conv.input_grad_shift().map(|shift| shift as i32);
        self.convolve(call, sides, shift, dy, (&u, filters), (None, None), dx)
    }

    fn transform_filters(
        &self,
        call: &Call<'_>,
        [from, to]: [FeatureMap; 2],
        filters: Filters<'_>,
    ) -> Result<Buffer> {
        let blocks = to.channels.div_ceil(self.width);
        let panels = blocks.div_ceil(2);
        let u =
            call.scratch(self.tile_size.points().pow(2) * (from.channels * blocks + panels) * self.width)?;
        let args = [
            filters.weight.into(),
            (&u).into(),
            filters.weight.len().into(),
            from.channels.into(),
            to.channels.into(),
            filters.channel_step.into(),
            filters.output_step.into(),
            usize::from(filters.reverse).into(),
            usize::from(self.tiling.tiles() >= winograd::MANY_TILES).into(),
        ];
        let items = blocks * from.channels.div_ceil(self.width);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&self.source(), "transform_filters", &args, Grid::line(items)) }?;
        Ok(u)
    }

    #[allow(clippy::too_many_arguments, reason = "the operands of a convolution")]
    fn convolve(
        &self,
        call: &Call<'_>,
        [from, to]: [FeatureMap; 2],
        shift: [i32; 2],
        x: &Buffer,
        (u, filters): (&Buffer, Filters<'_>),
        (bias, activation): (Option<&Buffer>, Option<Activation>),
        y: &Buffer,
    ) -> Result<()> {
        let panels = to.channels.div_ceil(2 * self.width);
        let parts = self.groups.div_ceil(self.tiling.tasks).min(panels);
        let each = panels.div_ceil(parts);
        let options = [
            shift[0],
            shift[1],
            int(each),
            int(self.block_stride()),
            int(2 * self.block_stride() + self.width),
            i32::from(bias.is_some()),
            activation_number(activation),
            int(self.unit_floats()),
        ];
        let args = [
            x.into(),
            u.into(),
            bias.unwrap_or(u).into(),
            y.into(),
            filters.weight.into(),
            both(from, to, [x.len(), 0]),
            Arg::Int8(options),
            filters.arg(),
            self.tiles(),
            Arg::Local(self.memory * size_of::<f32>()),
        ];
        let grid = Grid::new([self.tiling.tasks, panels.div_ceil(each)], [1, 1]);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&self.source(), "convolve", &args, grid) }
    }

    /// Computes the gradient of the weight: sums over tiles, in parts that depend on the shapes alone and are
    /// added in a fixed order.
    fn weight_grad(
        &self,
        call: &Call<'_>,
        conv: &ConvShape,
        x: &Buffer,
        dy: &Buffer,
        dw: &Buffer,
    ) -> Result<()> {
        let [from, to] = sides(conv, Pass::WeightGrad);
        let [depth, blocks] = [from, to].map(|side| side.channels.div_ceil(self.width));
        let splits = [blocks, depth].map(|blocks| blocks.div_ceil(GRAD_BLOCKS));
        let tiles = self.tiling.tiles();
        let size = self.tile_size.points().pow(2) * (depth * blocks * self.width + 1) * self.width;
        let parts = (GRAD_GROUPS.div_ceil(splits[0] * splits[1]).min(GRAD_SUMS / size))
            .min(tiles / GRAD_PART)
            .min(self.tiling.tasks)
            .max(1);
        let sums = call.scratch(parts * size)?;
        let groups = splits[0] * parts * splits[1];
        let found_far = call.scratch(groups)?;
        let options = [
            -int(conv.padding[0]),
            -int(conv.padding[1]),
            int(splits[0]),
            int(parts),
            int(splits[1]),
            int(self.block_stride()),
            int(self.unit_floats()),
            0,
        ];
        let args = [
            x.into(),
            dy.into(),
            (&sums).into(),
            (&found_far).into(),
            both(from, to, [x.len(), dy.len()]),
            Arg::Int8(options),
            self.tiles(),
            Arg::Local(self.memory * size_of::<f32>()),
        ];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe {
            call.launch(
                &self.source(),
                "filter_grad",
                &args,
                Grid::new([splits[0], parts, splits[1]], [1, 1, 1]),
            )
        }?;
        let args = [
            (&sums).into(),
            dw.into(),
            parts.into(),
            from.channels.into(),
            to.channels.into(),
            usize::from(conv.flip).into(),
        ];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&self.source(), "reduce_filter_grad", &args, Grid::line(to.channels * depth)) }?;
        let flip = i32::from(conv.flip);
        let options = [-int(conv.padding[0]), -int(conv.padding[1]), int(conv.n), int(groups), flip, 0, 0, 0];
        let args = [
            x.into(),
            dy.into(),
            (&found_far).into(),
            dw.into(),
            both(from, to, [x.len(), dy.len()]),
            Arg::Int8(options),
        ];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&self.source(), "direct_filter_grad", &args, Grid::new([to.channels], [1])) }
    }

    fn tiles(&self) -> Arg<'static> {
        let Tiling { rows, columns, unit_rows, unit_columns, units, tasks } = self.tiling;
        Arg::Int8([rows, columns, unit_rows, unit_columns, units, tasks, 0, 0].map(int))
    }

    fn source(&self) -> Source {
        let transforms = match self.tile_size {
            TileSize::F4x3 => transforms::<6, 4, 3>(),
            TileSize::F3x3 => transforms::<5, 3, 3>(),
            TileSize::F2x5 => transforms::<6, 2, 5>(),
        };
        let (points, outputs) = (self.tile_size.points(), self.tile_size.outputs());
        Source::new("winograd", include_str!("winograd.cl"))
            .define("WIDTH", self.width)
            .define("ROWS", rows(self.width))
            .define("A", points)
            .define("M", outputs)
            .define("R", points + 1 - outputs)
            .insert(shared())
            .define("WINDOW_RATIO", format_args!("{WINDOW_RATIO:?}f"))
            .define("WEIGHT_RATIO", format_args!("{WEIGHT_RATIO:?}f"))
            .insert(include_str!("transposed_tile.cl"))
            .insert(include_str!("winograd_direct.cl"))
            .insert(&transforms)
    }
}

/// Returns the feature maps that a pass reads from and writes to; for the weight gradient those of `x` and
/// `dy`.
fn sides(conv: &ConvShape, pass: Pass) -> [FeatureMap; 2] {
    let x = FeatureMap { channels: conv.in_per_group, h: conv.h, w: conv.w };
    let y = FeatureMap { channels: conv.out_per_group, h: conv.oh, w: conv.ow };
    if pass == Pass::InputGrad { [y, x] } else { [x, y] }
}

/// Returns the kernels' argument with the sizes of both feature maps and the lengths of the arrays.
fn both(from: FeatureMap, to: FeatureMap, lengths: [usize; 2]) -> Arg<'static> {
    let sides = [from.channels, from.h, from.w, to.channels, to.h, to.w, lengths[0], lengths[1]];
    Arg::Int8(sides.map(int))
}

/// Returns the target number of work-groups: several for each compute unit, to balance the load. Results do
/// not depend on it.
fn groups(limits: &Limits) -> usize {
    4 * limits.compute_units
}

/// Returns the rows of a register tile that is two vectors wide; AVX-512, with vectors of 16 floats, has 32
/// registers.
fn rows(width: usize) -> usize {
    if width == 16 { 12 } else { 6 }
}

/// Returns the maximum number of blocks of a work-group of the weight gradient, on either side.
fn split_blocks(blocks: usize) -> usize {
    blocks.div_ceil(blocks.div_ceil(GRAD_BLOCKS))
}

/// Returns the transforms as OpenCL functions, and the scales of the points: rounded, and the remainders.
fn transforms<const A: usize, const M: usize, const R: usize>() -> String {
    let mut text = map::<MAX_POINTS>("input_transform", [A, A], input_transform::<_, A>);
    text += &map::<MAX_POINTS>("filter_transform", [R, A], filter_transform::<_, A, R>);
    text += &map::<MAX_POINTS>("gradient_transform", [M, A], filter_transform::<_, A, M>);
    text += &map::<MAX_POINTS>("output_transform", [A, M], output_transform::<_, A, M>);
    text += &map::<MAX_POINTS>("filter_grad_transform", [A, R], output_transform::<_, A, R>);
    let scale = |point: usize| point_scale::<A>(point / A) * point_scale::<A>(point % A);
    text += &constants(["SCALES", "REMAINDERS"], A * A, scale);
    let response = ConstantResponse::new::<A, M>();
    text += &constants(["RESPONSE", "RESPONSE_REMAINDERS"], A * A, |point| response.factors[point]);
    let _ = writeln!(text, "#define CORRECTED {}", response.corrected);
    text
}

/// Returns two arrays whose sums are `exact` values: rounded ones, and the remainders.
fn constants(names: [&str; 2], count: usize, exact: impl Fn(usize) -> f64) -> String {
    let remainder = |i: usize| exact(i) - f64::from(exact(i) as f32);
    let array = |name: &str, value: &dyn Fn(usize) -> f64| {
        let values: Vec<String> = (0..count).map(|i| format!("{:?}f", value(i) as f32)).collect();
        format!("constant float {name}[{count}] = {{{}}};\n", values.join(", "))
    };
    array(names[0], &exact) + &array(names[1], &remainder)
}
