//! Convolution as an implicit GEMM: a matrix product whose right side, the im2col matrix, is gathered from
//! the images while it is packed and never stored (as cuDNN's `IMPLICIT_GEMM`). Serves every shape.

mod phases;
pub mod pixels;
mod weight_grad;

use super::backend::{Cpu, InstructionSet};
use super::cost;
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::{Bias, GatherMap, Gemm, LeftMatrix, OutputMatrix, PixelGrid, RightMatrix, Tap};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use phases::{join_phases, split_phases};
use pixels::{columns_of_phase, images_per_unit, output_grid, source_grid, source_taps, whole_rows};
pub(super) use weight_grad::weight_grad;

type TapIndices = smallvec::SmallVec<[usize; 64]>;

/// The algorithm; see the module's documentation.
///
/// It is exact enough for all inputs: an output is the sum of its terms in single precision, in chains of bounded length
/// (see `cpu/tile.rs`).
pub struct ImplicitGemm;

impl ConvAlgorithm<Cpu> for ImplicitGemm {
    fn name(&self) -> &'static str {
        "implicit_gemm"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        Some(cost::implicit_gemm(conv, pass, device.lanes))
    }

    fn pack(&self, scratch: &Scratch, conv: &ConvShape, weight: &[f32]) -> Option<Buffer> {
        let no_columns = RightMatrix::Transposed { data: &[] };
        Some(gemm_of(conv, weight, &tap_indices(conv), no_columns, None, None).pack(scratch))
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                forward(conv, x, weight, bias, activation, y, scratch);
            }
            Operands::InputGrad { dy, weight, dx } => input_grad(conv, dy, weight, dx, scratch),
            Operands::WeightGrad { x, dy, dw } => weight_grad(conv, x, dy, dw, scratch),
        }
    }
}

/// Computes the output; `packed` is the packed weight.
fn forward(
    conv: &ConvShape,
    x: &[f32],
    packed: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    let split;
    let x = if conv.stride[1] > 1 {
        split = split_phases(conv, x, scratch);
        &split[..]
    } else {
        x
    };
    let images = images_per_unit(conv.n, conv.out_pixels());
    let map = GatherMap::new(source_grid(conv, images), source_taps(conv), scratch);
    let out = GatherMap::new(output_grid(conv, images), std::iter::once(whole_rows(conv.ow)), scratch);
    let columns = RightMatrix::Gathered {
        data: x,
        unit_stride: images * conv.x_batch_stride,
        group_stride: conv.in_per_group * conv.h * conv.w,
        channel_stride: conv.h * conv.w,
        map: &map,
    };
    let target = OutputMatrix {
        data: y,
        unit_stride: images * conv.y_batch_stride,
        group_stride: conv.out_per_group * conv.out_pixels(),
        row_stride: conv.out_pixels(),
        map: &out,
    };
    // The weight is not read: it is packed already.
    gemm_of(conv, &[], &tap_indices(conv), columns, bias, activation).run_packed(packed, target, scratch);
}

/// Returns the index of the weight of each tap.
fn tap_indices(conv: &ConvShape) -> TapIndices {
    (0..conv.kh * conv.kw).map(|t| conv.tap(t / conv.kw, t % conv.kw)).collect()
}

/// Returns the GEMM of the weight and of `columns`.
fn gemm_of<'a>(
    conv: &ConvShape,
    weight: &'a [f32],
    taps: &'a TapIndices,
    columns: RightMatrix<'a>,
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
) -> Gemm<'a> {
    Gemm {
        groups: conv.groups,
        rows: conv.out_per_group,
        channels: conv.in_per_group,
        columns: conv.n * conv.out_pixels(),
        a: LeftMatrix {
            data: weight,
            group_stride: conv.out_per_group * conv.filter_len(),
            row_stride: conv.filter_len(),
            channel_stride: conv.kh * conv.kw,
            taps,
        },
        b: columns,
        bias: bias.map_or(Bias::None, Bias::Rows),
        activation,
    }
}

/// Computes the gradient of the input, one convolution of `dy` without a stride for each phase of the stride:
/// rows `r` of `dx` with `r % stride == phase` depend on every `stride`-th tap only, and columns likewise. The gradient
/// of phases that no tap meets is 0.
fn input_grad(conv: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    let [rows, columns] = [0, 1].map(|axis| conv.phases(axis));
    let phases = rows.len() * columns.len();
    if phases < conv.stride[0].min(conv.h) * conv.stride[1].min(conv.w) {
        for_each_chunk(dx, CHUNK, |_, dx| dx.fill(0.0));
    }
    for &row in &rows {
        for &column in &columns {
            input_grad_phase(conv, [row, column], dy, weight, dx, scratch);
        }
    }
    if conv.stride[1] > 1 {
        join_phases(conv, dx, scratch);
    }
}

/// Computes the pixels of `dx` of one phase; the columns are written sorted by phase.
fn input_grad_phase(
    conv: &ConvShape,
    phase: [usize; 2],
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    scratch: &Scratch,
) {
    let [rows, columns] =
        [(conv.h - phase[0]).div_ceil(conv.stride[0]), (conv.w - phase[1]).div_ceil(conv.stride[1])];
    // The output row or column under a tap of the first pixel, for the taps that reach this phase.
    let shift = |axis: usize, tap: usize| {
        let at = (phase[axis] + conv.padding[axis]) as isize - (tap * conv.dilation[axis]) as isize;
        (at.rem_euclid(conv.stride[axis] as isize) == 0).then(|| at.div_euclid(conv.stride[axis] as isize))
    };
    let mut taps = TapIndices::new();
    let mut sources = smallvec::SmallVec::<[Tap; 64]>::new();
    for kr in 0..conv.kh {
        for kc in 0..conv.kw {
            if let (Some(row), Some(column)) = (shift(0, kr), shift(1, kc)) {
                taps.push(conv.tap(kr, kc));
                sources.push(Tap { row, row_step: 1, column, column_base: 0, column_count: conv.ow });
            }
        }
    }
    let images = images_per_unit(conv.n, rows * columns);
    let grid = PixelGrid {
        images,
        image_stride: conv.groups * conv.out_per_group * conv.out_pixels(),
        rows,
        columns,
        memory_rows: conv.oh,
        row_stride: conv.ow,
    };
    let map = GatherMap::new(grid, sources.iter().copied(), scratch);
    let out_grid = PixelGrid {
        image_stride: conv.groups * conv.in_per_group * conv.h * conv.w,
        memory_rows: conv.h,
        row_stride: conv.w,
        ..grid
    };
    let (column_base, column_count) = columns_of_phase(conv, phase[1]);
    let tap = Tap { row: phase[0] as isize, row_step: conv.stride[0], column: 0, column_base, column_count };
    let out = GatherMap::new(out_grid, std::iter::once(tap), scratch);
    let gemm = Gemm {
        groups: conv.groups,
        rows: conv.in_per_group,
        channels: conv.out_per_group,
        columns: conv.n * rows * columns,
        a: LeftMatrix {
            data: weight,
            group_stride: conv.out_per_group * conv.filter_len(),
            row_stride: conv.kh * conv.kw,
            channel_stride: conv.filter_len(),
            taps: &taps,
        },
        b: RightMatrix::Gathered {
            data: dy,
            unit_stride: images * conv.groups * conv.out_per_group * conv.out_pixels(),
            group_stride: conv.out_per_group * conv.out_pixels(),
            channel_stride: conv.out_pixels(),
            map: &map,
        },
        bias: Bias::None,
        activation: None,
    };
    let target = OutputMatrix {
        data: dx,
        unit_stride: images * conv.groups * conv.in_per_group * conv.h * conv.w,
        group_stride: conv.in_per_group * conv.h * conv.w,
        row_stride: conv.h * conv.w,
        map: &out,
    };
    gemm.run(target, scratch);
}
