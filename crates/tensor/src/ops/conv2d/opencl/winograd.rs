//! Convolutions by fewer multiplications on OpenCL devices that are processors: the transforms, tiles and units of
//! [`winograd`](super::super::winograd), in `winograd.cl`.
//!
//! A group takes the tiles of its units to the points, multiplies there, a panel of two vectors of outputs at a time, and
//! takes the products back: all of that stays in its thread's cache, which is what local memory is on a processor.

use std::fmt::Write;

use crate::opencl::TileConfig;
use crate::opencl::formula::map;
use crate::opencl::{Arg, Buffer, Call, DeviceInfo, Grid, Source, int};
use crate::ops::Activation;
use crate::ops::conv2d::Problem;
use crate::ops::conv2d::winograd::transform::{MOST, evaluate, fold, input, weight};
use crate::ops::conv2d::winograd::{self, Pass, Sizes, Tiling};
use crate::ops::product::{activation_number, shared};
use neocog_base::Result;

/// What the direct way costs more than its multiplications alone, and steps for which it packs a vector of the picture.
const DIRECT: f64 = 1.3;
const DIRECT_PACK: f64 = 14.0;
/// The most floats of values and products, and what is left for the strip in any case.
const VALUES: usize = 200 << 10;
const STRIP: usize = 16 << 10;
/// The most tiles of a task.
const TILES: usize = 48;
/// The same for the gradient of the weight; blocks of outputs and of channels of a group, groups to aim at, the least tiles of
/// a part and the most floats of all parts' sums.
const GRAD_TILES: usize = 112;
const GRAD_BLOCKS: usize = 8;
const GRAD_GROUPS: usize = 16;
const GRAD_PART: usize = 64;
const GRAD_SUMS: usize = 4 << 20;

/// How one convolution is done.
pub(super) struct Way {
    sizes: Sizes,
    width: usize,
    tiling: Tiling,
    /// Floats of local memory.
    memory: usize,
}

/// Pictures on one side of a convolution.
#[derive(Clone, Copy)]
struct Side {
    channels: usize,
    h: usize,
    w: usize,
}

/// This way, if it is faster and the device has the memory for it.
pub(super) fn choose(call: &Call<'_>, p: &Problem, pass: Pass) -> Option<Way> {
    let TileConfig::Cpu(blocks) = call.tile_config() else { return None };
    let width = blocks.width;
    let vectors = |numbers: usize| numbers.div_ceil(width) as f64;
    let rows = |numbers: usize| numbers.next_multiple_of(blocks.tile_rows) as f64;
    let taps = (p.kh * p.kw) as f64;
    let direct = DIRECT
        * taps
        * match pass {
            Pass::Forward => vectors(p.n * p.pixels()) * p.cg as f64 * (rows(p.og) + DIRECT_PACK),
            Pass::InputGrad => vectors(p.n * p.h * p.w) * p.og as f64 * (rows(p.cg) + DIRECT_PACK),
            Pass::WeightGrad => vectors(p.og) * p.cg as f64 * (p.n * p.pixels()) as f64,
        };
    let sizes = winograd::choose(p, pass, width, direct)?;
    Way::new(p, pass, sizes, width, call.device())
}

impl Way {
    fn new(p: &Problem, pass: Pass, sizes: Sizes, width: usize, info: &DeviceInfo) -> Option<Self> {
        let local = info.local_memory / size_of::<f32>();
        let [from, to] = sides(p, pass);
        let depth = from.channels.div_ceil(width);
        let (most, depth, others) = match pass {
            Pass::WeightGrad => (GRAD_TILES, split_blocks(depth), split_blocks(to.channels.div_ceil(width))),
            _ => (TILES, depth, 2),
        };
        let each = sizes.points().pow(2) * width * (depth + others);
        let mut tiles = (VALUES.min(local.checked_sub(STRIP)?) / each).min(most);
        if pass != Pass::WeightGrad && tiles > rows(width) {
            tiles -= tiles % rows(width);
        }
        let size = [to.h, to.w].map(|size| size.div_ceil(sizes.outputs()));
        while tiles > 0 {
            let tasks = if pass == Pass::WeightGrad { 1 } else { groups(info) };
            let tiling = Tiling::new(p.n, size, tiles, tasks);
            let mut way = Way { sizes, width, tiling, memory: 0 };
            way.memory =
                way.strip() + rows(width) * width + sizes.points().pow(2) * way.point_floats(depth, others);
            if way.memory <= local {
                return Some(way);
            }
            tiles -= 1;
        }
        None
    }

    /// Floats of the pixels of a unit, of the picture or of its results.
    fn strip(&self) -> usize {
        let (t, m) = (&self.tiling, self.sizes.outputs());
        let [rows, columns] = [t.rows.div_ceil(t.unit_rows), t.columns.div_ceil(t.unit_columns)];
        let more = self.sizes.points() - m;
        (rows * m + more) * (columns * m + more) * self.width
    }

    /// Floats from one block of values to the next: for all tiles, and those that a product's last rows add.
    fn block_step(&self) -> usize {
        self.tiling.most()[1].next_multiple_of(rows(self.width) / 3) * self.width
    }

    /// Floats of a point: a vector more on each side, as powers of two would all fall into the same lines of the cache.
    fn point_floats(&self, depth: usize, others: usize) -> usize {
        (depth + others) * self.block_step() + 2 * self.width
    }

    /// Numbers in a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The filters at the points, as [`Way::forward`] takes them.
    pub fn pack(&self, call: &Call<'_>, p: &Problem, weight: &Buffer) -> Result<Buffer> {
        self.filters(call, sides(p, Pass::Forward), weight, [p.kh * p.kw, p.depth()], p.flip)
    }

    /// The output, with the bias and the activation of `finish`; `u` are the filters of [`Way::pack`].
    pub fn forward(
        &self,
        call: &Call<'_>,
        p: &Problem,
        x: &Buffer,
        u: &Buffer,
        finish: (Option<&Buffer>, Option<Activation>),
        y: &Buffer,
    ) -> Result<()> {
        let shift = p.padding.map(|padding| -int(padding));
        self.convolve(call, sides(p, Pass::Forward), shift, x, u, finish, y)
    }

    /// A convolution with the filters turned round, from outputs to channels.
    pub fn input_grad(
        &self,
        call: &Call<'_>,
        p: &Problem,
        dy: &Buffer,
        weight: &Buffer,
        dx: &Buffer,
    ) -> Result<()> {
        let taps = p.kh * p.kw;
        let u = self.filters(call, sides(p, Pass::InputGrad), weight, [p.depth(), taps], !p.flip)?;
        let shift = [int(p.padding[0]) - int(p.kh - 1), int(p.padding[1]) - int(p.kw - 1)];
        self.convolve(call, sides(p, Pass::InputGrad), shift, dy, &u, (None, None), dx)
    }

    /// The filters at the points; `steps` are those of the weight, of a channel and of an output.
    fn filters(
        &self,
        call: &Call<'_>,
        [from, to]: [Side; 2],
        weight: &Buffer,
        steps: [usize; 2],
        reverse: bool,
    ) -> Result<Buffer> {
        let blocks = to.channels.div_ceil(self.width);
        let panels = blocks.div_ceil(2);
        let u = call.scratch(self.sizes.points().pow(2) * (from.channels * blocks + panels) * self.width)?;
        let args = [
            weight.into(),
            (&u).into(),
            weight.len().into(),
            from.channels.into(),
            to.channels.into(),
            steps[0].into(),
            steps[1].into(),
            usize::from(reverse).into(),
        ];
        let items = blocks * from.channels.div_ceil(self.width);
        call.launch(&self.source(), "filters", &args, Grid::line(items))?;
        Ok(u)
    }

    #[allow(clippy::too_many_arguments, reason = "all that a convolution has")]
    fn convolve(
        &self,
        call: &Call<'_>,
        [from, to]: [Side; 2],
        shift: [i32; 2],
        x: &Buffer,
        u: &Buffer,
        (bias, activation): (Option<&Buffer>, Option<Activation>),
        y: &Buffer,
    ) -> Result<()> {
        let panels = to.channels.div_ceil(2 * self.width);
        let parts = groups(call.device()).div_ceil(self.tiling.tasks).min(panels);
        let each = panels.div_ceil(parts);
        let ways = [
            shift[0],
            shift[1],
            int(each),
            int(self.block_step()),
            int(2 * self.block_step() + self.width),
            i32::from(bias.is_some()),
            activation_number(activation),
            int(self.strip()),
        ];
        let args = [
            x.into(),
            u.into(),
            bias.unwrap_or(u).into(),
            y.into(),
            both(from, to, [x.len(), 0]),
            Arg::Int8(ways),
            self.tiles(),
            Arg::Local(self.memory * size_of::<f32>()),
        ];
        let grid = Grid::new([self.tiling.tasks, panels.div_ceil(each)], [1, 1]);
        call.launch(&self.source(), "convolve", &args, grid)
    }

    /// Sums over tiles, in parts that the shapes decide, which are added in their order.
    pub fn weight_grad(
        &self,
        call: &Call<'_>,
        p: &Problem,
        x: &Buffer,
        dy: &Buffer,
        dw: &Buffer,
    ) -> Result<()> {
        let [from, to] = sides(p, Pass::WeightGrad);
        let [depth, blocks] = [from, to].map(|side| side.channels.div_ceil(self.width));
        let splits = [blocks, depth].map(|blocks| blocks.div_ceil(GRAD_BLOCKS));
        let tiles = p.n * self.tiling.rows * self.tiling.columns;
        let size = self.sizes.points().pow(2) * (depth * blocks * self.width + 1) * self.width;
        let parts = (GRAD_GROUPS.div_ceil(splits[0] * splits[1]).min(GRAD_SUMS / size))
            .min(tiles / GRAD_PART)
            .min(self.tiling.tasks)
            .max(1);
        let sums = call.scratch(parts * size)?;
        let ways = [
            -int(p.padding[0]),
            -int(p.padding[1]),
            int(splits[0]),
            int(parts),
            int(splits[1]),
            int(self.block_step()),
            int(self.strip()),
            0,
        ];
        let args = [
            x.into(),
            dy.into(),
            (&sums).into(),
            both(from, to, [x.len(), dy.len()]),
            Arg::Int8(ways),
            self.tiles(),
            Arg::Local(self.memory * size_of::<f32>()),
        ];
        call.launch(
            &self.source(),
            "filter_grad",
            &args,
            Grid::new([splits[0], parts, splits[1]], [1, 1, 1]),
        )?;
        let args = [
            (&sums).into(),
            dw.into(),
            parts.into(),
            from.channels.into(),
            to.channels.into(),
            usize::from(p.flip).into(),
        ];
        call.launch(&self.source(), "collect_filters", &args, Grid::line(to.channels * depth))
    }

    fn tiles(&self) -> Arg<'static> {
        let Tiling { rows, columns, unit_rows, unit_columns, units, tasks } = self.tiling;
        Arg::Int8([rows, columns, unit_rows, unit_columns, units, tasks, 0, 0].map(int))
    }

    fn source(&self) -> Source {
        let transforms = match self.sizes {
            Sizes::Four => transforms::<6, 4, 3>(),
            Sizes::Three => transforms::<5, 3, 3>(),
            Sizes::TwoOfFive => transforms::<6, 2, 5>(),
        };
        let (points, outputs) = (self.sizes.points(), self.sizes.outputs());
        Source::new("winograd", include_str!("winograd.cl"))
            .define("WIDTH", self.width)
            .define("ROWS", rows(self.width))
            .define("A", points)
            .define("M", outputs)
            .define("R", points + 1 - outputs)
            .insert(shared())
            .insert(include_str!("strip.cl"))
            .insert(&transforms)
    }
}

/// From what, to what.
fn sides(p: &Problem, pass: Pass) -> [Side; 2] {
    let x = Side { channels: p.cg, h: p.h, w: p.w };
    let y = Side { channels: p.og, h: p.oh, w: p.ow };
    if pass == Pass::InputGrad { [y, x] } else { [x, y] }
}

fn both(from: Side, to: Side, lengths: [usize; 2]) -> Arg<'static> {
    let sides = [from.channels, from.h, from.w, to.channels, to.h, to.w, lengths[0], lengths[1]];
    Arg::Int8(sides.map(int))
}

/// Groups to aim at, for threads that do not all take the same time. No result depends on their number.
fn groups(info: &DeviceInfo) -> usize {
    4 * info.compute_units
}

/// Rows of a product's tile, which is two vectors wide, in registers: vectors of sixteen come with 32 of them.
fn rows(width: usize) -> usize {
    if width == 16 { 12 } else { 6 }
}

/// The most blocks on each side that a group of the weight's gradient has.
fn split_blocks(blocks: usize) -> usize {
    blocks.div_ceil(blocks.div_ceil(GRAD_BLOCKS))
}

/// The transforms as functions, and the weights of the points: what is rounded of them, and the rest.
fn transforms<const A: usize, const M: usize, const R: usize>() -> String {
    let mut text = map::<MOST>("input", [A, A], input::<_, A>);
    text += &map::<MOST>("evaluate_filter", [R, A], evaluate::<_, A, R>);
    text += &map::<MOST>("evaluate_tile", [M, A], evaluate::<_, A, M>);
    text += &map::<MOST>("fold_tile", [A, M], fold::<_, A, M>);
    text += &map::<MOST>("fold_filter", [A, R], fold::<_, A, R>);
    let exact = |point: usize| weight::<A>(point / A) * weight::<A>(point % A);
    let rest = |point: usize| exact(point) - f64::from(exact(point) as f32);
    for (name, value) in [("WEIGHTS", &exact as &dyn Fn(usize) -> f64), ("RESTS", &rest)] {
        let values: Vec<String> = (0..A * A).map(|point| format!("{:?}f", value(point) as f32)).collect();
        let _ = writeln!(text, "constant float {name}[{}] = {{{}}};", A * A, values.join(", "));
    }
    text
}
