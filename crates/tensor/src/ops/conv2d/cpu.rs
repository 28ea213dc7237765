//! The kernels of the CPU: convolutions as products whose columns are gathered from the pictures.

mod abreast;
mod deep;
mod folded;
mod pointwise;
mod product;
mod strip;
mod taps;
mod weight_grad;
mod winograd;

use rayon::prelude::*;

use super::Problem;
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{Bias, Columns, Grid, Product, Rows, Table, Tap, Target};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use winograd::Pass;

/// How a convolution is computed: chosen by the shapes alone.
enum Way {
    Winograd(winograd::Sizes),
    Abreast,
    Deep,
    Product,
}

impl Way {
    fn of(p: &Problem) -> Self {
        if let Some(sizes) = winograd::choose(p, Pass::Forward) {
            Way::Winograd(sizes)
        } else if abreast::is_better(p) {
            Way::Abreast
        } else if deep::is_better(p) {
            Way::Deep
        } else {
            Way::Product
        }
    }
}

/// The weight in the order in which [`forward`] uses it for such a convolution.
pub(super) fn pack(p: &Problem, weight: &[f32], scratch: &Scratch) -> Buffer {
    match Way::of(p) {
        Way::Winograd(sizes) => winograd::pack(p, sizes, weight, scratch),
        Way::Abreast => abreast::pack(p, weight, scratch),
        Way::Deep => deep::pack(p, weight, scratch),
        Way::Product => {
            let none = Columns::Transposed { data: &[] };
            product_of(p, weight, &taps(p), none, None, None).pack(scratch)
        }
    }
}

/// The output; `packed` is the weight as [`pack`] makes it.
pub(super) fn forward(
    p: &Problem,
    x: &[f32],
    packed: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    if y.is_empty() {
        return;
    }
    match Way::of(p) {
        Way::Winograd(sizes) => winograd::forward(p, sizes, x, packed, (bias, activation), y, scratch),
        Way::Abreast => abreast::forward(p, x, packed, bias, activation, y, scratch),
        Way::Deep => deep::forward(p, x, packed, bias, activation, y, scratch),
        Way::Product => gathered(p, x, packed, bias, activation, y, scratch),
    }
}

/// As a product whose columns are gathered from the pictures.
fn gathered(
    p: &Problem,
    x: &[f32],
    packed: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    let split;
    let x = if p.stride[1] > 1 {
        split = split_phases(p, x, scratch);
        &split[..]
    } else {
        x
    };
    let pictures = unit_pictures(p.n, p.pixels());
    let table = Table::new(p.source_grid(pictures), p.source_taps(), scratch);
    let out = Table::new(p.output_grid(pictures), std::iter::once(whole_rows(p.ow)), scratch);
    let columns = Columns::Gathered {
        data: x,
        unit_stride: pictures * p.x_step,
        group_stride: p.cg * p.h * p.w,
        channel_stride: p.h * p.w,
        table: &table,
    };
    let target = Target {
        data: y,
        unit_stride: pictures * p.y_step,
        group_stride: p.og * p.pixels(),
        row_stride: p.pixels(),
        table: &out,
    };
    // The weight is packed already.
    product_of(p, &[], &taps(p), columns, bias, activation).run_packed(packed, target, scratch);
}

fn taps(p: &Problem) -> Taps {
    (0..p.kh * p.kw).map(|t| p.tap(t / p.kw, t % p.kw)).collect()
}

fn product_of<'a>(
    p: &Problem,
    weight: &'a [f32],
    taps: &'a Taps,
    columns: Columns<'a>,
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
) -> Product<'a> {
    Product {
        groups: p.groups,
        rows: p.og,
        channels: p.cg,
        columns: p.n * p.pixels(),
        a: Rows {
            data: weight,
            group_stride: p.og * p.depth(),
            row_stride: p.depth(),
            channel_stride: p.kh * p.kw,
            taps,
        },
        b: columns,
        bias: bias.map_or(Bias::None, Bias::Rows),
        activation,
    }
}

pub(super) fn weight_grad(p: &Problem, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    match winograd::choose(p, Pass::WeightGrad) {
        Some(sizes) => winograd::weight_grad(p, sizes, x, dy, dw, scratch),
        None if pointwise::is_better(p) => pointwise::weight_grad(p, x, dy, dw, scratch),
        None if abreast::is_better(p) => abreast::weight_grad(p, x, dy, dw, scratch),
        None if deep::is_possible(p) => deep::weight_grad(p, x, dy, dw, scratch),
        None => weight_grad::weight_grad(p, x, dy, dw, scratch),
    }
}

/// Where the picture's gradient has row `r` with `r % stride == phase`, only every `stride`-th tap hits an output row: each
/// of the phases is a small convolution of `dy`, without a stride.
pub(super) fn input_grad(p: &Problem, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    if dx.is_empty() {
        return;
    }
    if let Some(sizes) = winograd::choose(p, Pass::InputGrad) {
        winograd::input_grad(p, sizes, dy, weight, dx, scratch);
        return;
    }
    if abreast::is_better_for_input_grad(p) {
        abreast::input_grad(p, dy, weight, dx, scratch);
        return;
    }
    if deep::is_better_for_input_grad(p) {
        deep::input_grad(p, dy, weight, dx, scratch);
        return;
    }
    if folded::is_better(p) {
        folded::input_grad(p, dy, weight, dx, scratch);
        return;
    }
    for phase in 0..p.stride[0] * p.stride[1] {
        let phase = [phase / p.stride[1], phase % p.stride[1]];
        if phase[0] < p.h && phase[1] < p.w {
            input_grad_phase(p, phase, dy, weight, dx, scratch);
        }
    }
    if p.stride[1] > 1 {
        let rows = (CHUNK / p.w).max(1);
        for_each_chunk(dx, rows * p.w, |_, rows| {
            dispatch(Phases { rows, width: p.w, stride: p.stride[1], join: true, line: scratch.take(p.w) });
        });
    }
}

fn input_grad_phase(
    p: &Problem,
    phase: [usize; 2],
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    scratch: &Scratch,
) {
    let [rows, columns] = [(p.h - phase[0]).div_ceil(p.stride[0]), (p.w - phase[1]).div_ceil(p.stride[1])];
    let shift = |axis: usize, tap: usize| {
        let at = (phase[axis] + p.padding[axis]) as isize - (tap * p.dilation[axis]) as isize;
        (at.rem_euclid(p.stride[axis] as isize) == 0).then(|| at.div_euclid(p.stride[axis] as isize))
    };
    let mut taps = Taps::new();
    let mut moves = smallvec::SmallVec::<[Tap; 64]>::new();
    for kr in 0..p.kh {
        for kc in 0..p.kw {
            if let (Some(row), Some(column)) = (shift(0, kr), shift(1, kc)) {
                taps.push(p.tap(kr, kc));
                moves.push(Tap { row, row_step: 1, column, column_base: 0, column_count: p.ow });
            }
        }
    }
    let pictures = unit_pictures(p.n, rows * columns);
    let grid = Grid {
        pictures,
        picture_stride: p.groups * p.og * p.pixels(),
        rows,
        columns,
        memory_rows: p.oh,
        row_stride: p.ow,
    };
    let table = Table::new(grid, moves.iter().copied(), scratch);
    let out_grid =
        Grid { picture_stride: p.groups * p.cg * p.h * p.w, memory_rows: p.h, row_stride: p.w, ..grid };
    let (column_base, column_count) = p.phase(phase[1]);
    let tap = Tap { row: phase[0] as isize, row_step: p.stride[0], column: 0, column_base, column_count };
    let out = Table::new(out_grid, std::iter::once(tap), scratch);
    let channels = if taps.is_empty() { 0 } else { p.og };
    if taps.is_empty() {
        taps.push(0);
    }
    let product = Product {
        groups: p.groups,
        rows: p.cg,
        channels,
        columns: p.n * rows * columns,
        a: Rows {
            data: weight,
            group_stride: p.og * p.depth(),
            row_stride: p.kh * p.kw,
            channel_stride: p.depth(),
            taps: &taps,
        },
        b: Columns::Gathered {
            data: dy,
            unit_stride: pictures * p.groups * p.og * p.pixels(),
            group_stride: p.og * p.pixels(),
            channel_stride: p.pixels(),
            table: &table,
        },
        bias: Bias::None,
        activation: None,
    };
    let target = Target {
        data: dx,
        unit_stride: pictures * p.groups * p.cg * p.h * p.w,
        group_stride: p.cg * p.h * p.w,
        row_stride: p.h * p.w,
        table: &out,
    };
    product.run(target, scratch);
}

/// One side of a convolution: channels of pictures.
#[derive(Clone, Copy)]
struct Side {
    channels: usize,
    h: usize,
    w: usize,
    /// Floats from a picture to the next.
    step: usize,
}

impl Side {
    fn blocks(&self, lanes: usize) -> usize {
        self.channels.div_ceil(lanes)
    }
}

/// How filters lie in memory: the taps of `(depth, out)` at `depth * depth_stride + out * out_stride`.
struct Filters<'a> {
    weight: &'a [f32],
    depth_stride: usize,
    out_stride: usize,
    /// Whether the taps are taken from the last to the first.
    reverse: bool,
}

impl<'a> Filters<'a> {
    /// Of the convolution itself: from its input to its output.
    fn forward(p: &Problem, weight: &'a [f32]) -> Self {
        let taps = p.kh * p.kw;
        Filters { weight, depth_stride: taps, out_stride: p.depth(), reverse: p.flip }
    }

    /// Of its gradient: from its output to its input.
    fn backward(p: &Problem, weight: &'a [f32]) -> Self {
        let taps = p.kh * p.kw;
        Filters { weight, depth_stride: p.depth(), out_stride: taps, reverse: !p.flip }
    }
}

type Taps = smallvec::SmallVec<[usize; 64]>;

impl Problem {
    /// The input's side and the output's, for one group.
    fn sides(&self) -> [Side; 2] {
        [
            Side { channels: self.cg, h: self.h, w: self.w, step: self.x_step },
            Side { channels: self.og, h: self.oh, w: self.ow, step: self.y_step },
        ]
    }

    /// Columns of the picture that are at `phase` modulo the stride: with a stride, rows are stored phase by phase. The
    /// first one's place, and how many there are.
    fn phase(&self, phase: usize) -> (usize, usize) {
        let count = |phase: usize| self.w.saturating_sub(phase).div_ceil(self.stride[1]);
        ((0..phase).map(count).sum(), count(phase))
    }

    fn source_grid(&self, pictures: usize) -> Grid {
        Grid {
            pictures,
            picture_stride: self.x_step,
            rows: self.oh,
            columns: self.ow,
            memory_rows: self.h,
            row_stride: self.w,
        }
    }

    fn source_taps(&self) -> impl ExactSizeIterator<Item = Tap> + Clone + '_ {
        (0..self.kh * self.kw).map(|t| {
            let column = (t % self.kw * self.dilation[1]) as isize - self.padding[1] as isize;
            let stride = self.stride[1] as isize;
            let (column_base, column_count) = self.phase(column.rem_euclid(stride) as usize);
            Tap {
                row: (t / self.kw * self.dilation[0]) as isize - self.padding[0] as isize,
                row_step: self.stride[0],
                column: column.div_euclid(stride),
                column_base,
                column_count,
            }
        })
    }

    fn output_grid(&self, pictures: usize) -> Grid {
        Grid {
            pictures,
            picture_stride: self.y_step,
            rows: self.oh,
            columns: self.ow,
            memory_rows: self.oh,
            row_stride: self.ow,
        }
    }
}

fn whole_rows(columns: usize) -> Tap {
    Tap { row: 0, row_step: 1, column: 0, column_base: 0, column_count: columns }
}

/// How many pictures share a unit, so that few lanes of its panels (of 32 columns) are left over.
fn unit_pictures(n: usize, pixels: usize) -> usize {
    if pixels >= 1024 {
        return 1;
    }
    let panels = |g: usize| (n / g) * (g * pixels).div_ceil(32) + (n % g * pixels).div_ceil(32);
    let fits = |g: &usize| g * pixels <= 2048 || *g == 1;
    let enough = (256usize.div_ceil(pixels.max(1))).min(n).max(1);
    (1..=n.max(1))
        .filter(fits)
        .filter(|g| *g >= enough || g * pixels >= 1024)
        .min_by_key(|&g| (panels(g), g))
        .unwrap_or(1)
}

/// The rows of the pictures stored phase by phase.
fn split_phases(p: &Problem, x: &[f32], scratch: &Scratch) -> Buffer {
    let mut split = scratch.take(x.len());
    let rows = (CHUNK / p.w).max(1);
    let each = rows * p.w;
    split.par_chunks_mut(each).zip(x.par_chunks(each)).for_each(|(to, from)| {
        to.copy_from_slice(from);
        dispatch(Phases { rows: to, width: p.w, stride: p.stride[1], join: false, line: scratch.take(p.w) });
    });
    split
}

/// Sorts rows by phase (columns 0, s, 2 s, .., 1, s + 1, ..), or back.
struct Phases<'a> {
    rows: &'a mut [f32],
    width: usize,
    stride: usize,
    join: bool,
    line: Buffer,
}

impl Kernel for Phases<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        for row in self.rows.chunks_exact_mut(self.width) {
            self.line.copy_from_slice(row);
            if self.stride == 2 {
                phases(row, &self.line, 2, self.join);
            } else {
                phases(row, &self.line, self.stride, self.join);
            }
        }
    }
}

#[inline(always)]
fn phases(row: &mut [f32], line: &[f32], stride: usize, join: bool) {
    let mut base = 0;
    for phase in 0..stride.min(line.len()) {
        let count = (line.len() - phase).div_ceil(stride);
        if join {
            row[phase..]
                .iter_mut()
                .step_by(stride)
                .zip(&line[base..base + count])
                .for_each(|(to, from)| *to = *from);
        } else {
            row[base..base + count]
                .iter_mut()
                .zip(line[phase..].iter().step_by(stride))
                .for_each(|(to, from)| *to = *from);
        }
        base += count;
    }
}
