//! The implicit GEMM on OpenCL devices: products of the weight and of gathered images (`opencl/product`).
//! Serves every shape.

use super::backend::{Limits, OpenCl};
use super::cost;
use super::weights::{self, TapRange};
use crate::opencl::{Buffer, Call, int};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use crate::ops::product::{
    Gather, LeftMatrix, PadAndSplit, Product, Target, transposed, weight_grad_sums as product_sums,
};
use neocog_base::Result;

/// The algorithm; see the module's documentation.
///
/// It is exact enough for all inputs: an output is the sum of its terms in single precision, in chains of bounded length
/// on processors.
pub(super) struct ImplicitGemm;

impl ConvAlgorithm<OpenCl> for ImplicitGemm {
    fn name(&self) -> &'static str {
        "implicit_gemm"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<f64> {
        Some(cost::implicit_gemm(conv, pass, limits))
    }

    fn pack(&self, _call: &Call<'_>, _conv: &ConvShape, _weight: &Buffer) -> Result<Option<Buffer>> {
        Ok(None)
    }

    fn run(&self, call: &Call<'_>, conv: &ConvShape, operands: Operands<'_, OpenCl>) -> Result<()> {
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                forward(call, conv, x, weight, (bias, activation), y)
            }
            Operands::InputGrad { dy, weight, dx } => input_grad(call, conv, dy, weight, dx),
            Operands::WeightGrad { x, dy, dw } => {
                let (sums, parts) = weight_grad_sums(call, conv, x, dy)?;
                weights::reduce_grad(call, conv, &sums, parts, dw)
            }
        }
    }
}

/// Computes `y = activation(x * weight + bias)`.
fn forward(
    call: &Call<'_>,
    conv: &ConvShape,
    x: &Buffer,
    weight: &Buffer,
    (bias, activation): (Option<&Buffer>, Option<Activation>),
    y: &Buffer,
) -> Result<()> {
    let (prepared, depth) = (pad_and_split_windows(conv), conv.filter_len());
    let made = prepare_if_needed(call, &prepared, x)?;
    let mut b = windows(conv, &prepared, made.as_ref().unwrap_or(x));
    let mut a = LeftMatrix {
        buffer: weight,
        count: conv.out_per_group,
        group: conv.out_per_group * depth,
        row: depth,
        number: 1,
        first: 0,
    };
    if conv.flip {
        // The weights of a flipped kernel are read backwards, which reverses the order of the channels as
        // well.
        (a.number, a.first) = (-1, depth - 1);
        b.first += (conv.in_per_group - 1) * b.group / conv.in_per_group;
        b.channel = -b.channel;
    }
    let plane = conv.out_pixels();
    let c = Target {
        buffer: y,
        group: conv.out_per_group * plane,
        row: plane,
        image: conv.groups * conv.out_per_group * plane,
        line: conv.ow,
        pixel: 1,
        first: 0,
    };
    Product { groups: conv.groups, a, b, bias, activation, c }.run(call)
}

/// Computes the weight gradient as partial sums `[part, group, (channel, tap), output]`, and returns them
/// with the number of parts.
fn weight_grad_sums(call: &Call<'_>, conv: &ConvShape, x: &Buffer, dy: &Buffer) -> Result<(Buffer, usize)> {
    let prepared = pad_and_split_windows(conv);
    let made = prepare_if_needed(call, &prepared, x)?;
    let b = windows(conv, &prepared, made.as_ref().unwrap_or(x));
    let dy_by_pixels = transposed(call, dy, conv.n, [conv.groups * conv.out_per_group, conv.out_pixels()])?;
    product_sums(call, conv.groups, conv.out_per_group, &b, dy_by_pixels.as_ref().unwrap_or(dy))
}

/// Computes the gradient of the input, one convolution of `dy` without a stride for each phase of the stride:
/// pixels whose row and column have the same remainders modulo the stride depend on the same taps. The gradient of
/// those that no tap meets is 0.
fn input_grad(call: &Call<'_>, conv: &ConvShape, dy: &Buffer, weight: &Buffer, dx: &Buffer) -> Result<()> {
    let [rows, columns] = [0, 1].map(|axis| {
        let (size, taps) = ([conv.h, conv.w][axis], [conv.kh, conv.kw][axis]);
        conv.phases(axis)
            .into_iter()
            .map(|first| Phase::new(conv, axis, first, size, taps))
            .collect::<Vec<_>>()
    });
    if rows.len() * columns.len() < conv.stride[0].min(conv.h) * conv.stride[1].min(conv.w) {
        // No tap meets the other phases.
        call.fill(dx, 0.0)?;
    }
    // All phases gather from the same images, padded for the phases whose taps reach over the edges.
    let extents = [&rows, &columns].map(|phases| {
        let padding = phases.iter().map(Phase::reach_before).max().unwrap_or(0);
        let end = phases.iter().map(Phase::end).max().unwrap_or(0);
        (padding as usize, (end + padding) as usize)
    });
    let prepared = PadAndSplit {
        planes: conv.n * conv.groups * conv.out_per_group,
        size: [conv.oh, conv.ow],
        padded: [extents[0].1, extents[1].1],
        phases: 1,
        stride: [1, 1],
        padding: [extents[0].0, extents[1].0],
    };
    let made = prepare_if_needed(call, &prepared, dy)?;
    let (pitch, plane) = match made {
        Some(_) => (prepared.padded[1], prepared.plane_len()),
        None => (conv.ow, conv.out_pixels()),
    };
    for row in &rows {
        for column in &columns {
            let taps = row.taps.count * column.taps.count;
            let transposed = weights::transposed(call, conv, weight, row.taps, column.taps)?;
            let depth = conv.out_per_group * taps;
            let first = (row.first_source + extents[0].0 as i32) * int(pitch)
                + column.first_source
                + extents[1].0 as i32;
            let line = conv.stride[0] * conv.w;
            let size = [row.count, column.count];
            // With a stride the results of a phase are not contiguous.
            let size = if conv.stride == [1, 1] { merged(size, [pitch, line]) } else { size };
            let b = Gather {
                buffer: made.as_ref().unwrap_or(dy),
                images: conv.n,
                size,
                channels: conv.out_per_group,
                taps: [row.taps.count, column.taps.count],
                group: conv.out_per_group * plane,
                image: conv.groups * conv.out_per_group * plane,
                row: pitch,
                channel: int(plane),
                tap: [-row.source_step * int(pitch), -column.source_step],
                phases: [1, 0],
                first: if taps > 0 { first as usize } else { 0 },
            };
            let c = Target {
                buffer: dx,
                group: conv.in_per_group * conv.h * conv.w,
                row: conv.h * conv.w,
                image: conv.groups * conv.in_per_group * conv.h * conv.w,
                line,
                pixel: conv.stride[1],
                first: row.first * conv.w + column.first,
            };
            let a = LeftMatrix {
                buffer: &transposed,
                count: conv.in_per_group,
                group: conv.in_per_group * depth,
                row: depth,
                number: 1,
                first: 0,
            };
            Product { groups: conv.groups, a, b, bias: None, activation: None, c }.run(call)?;
        }
    }
    Ok(())
}

/// Runs `pad_and_split_phases` on `x`, or returns `None` if the images can be gathered in their original
/// layout.
fn prepare_if_needed(call: &Call<'_>, prepared: &PadAndSplit, x: &Buffer) -> Result<Option<Buffer>> {
    if prepared.is_identity() { Ok(None) } else { prepared.run(call, x).map(Some) }
}

/// Merges all rows into one if they are contiguous in the source and in the result. `steps` are the pixels
/// from one row to the next in both.
fn merged([rows, pixels]: [usize; 2], steps: [usize; 2]) -> [usize; 2] {
    if steps == [pixels; 2] { [1, rows * pixels] } else { [rows, pixels] }
}

/// Returns the padding and the splitting into phases that make the windows of a convolution gatherable.
fn pad_and_split_windows(conv: &ConvShape) -> PadAndSplit {
    let reach = [(conv.kh - 1) * conv.dilation[0], (conv.kw - 1) * conv.dilation[1]];
    // For kernels one row high only the rows under them are copied, if a copy is needed at all.
    let line_step = if conv.kh == 1 && conv.stride[1] > 1 { conv.stride[0] } else { 1 };
    PadAndSplit {
        planes: conv.n * conv.groups * conv.in_per_group,
        size: [conv.h, conv.w],
        padded: [
            (conv.oh - 1) * conv.stride[0] / line_step + reach[0] + 1,
            conv.ow + reach[1] / conv.stride[1],
        ],
        phases: conv.stride[1].min(reach[1] + 1),
        stride: [line_step, conv.stride[1]],
        padding: conv.padding,
    }
}

/// Returns the windows of a convolution over `buffer`, which is the input, or its copy by `prepared` if one
/// is needed.
fn windows<'a>(conv: &ConvShape, prepared: &PadAndSplit, buffer: &'a Buffer) -> Gather<'a> {
    let (pitch, plane) = match prepared.is_identity() {
        true => (conv.w, conv.h * conv.w),
        false => (prepared.padded[1], prepared.plane_len()),
    };
    let row = conv.stride[0] / prepared.stride[0] * pitch;
    Gather {
        buffer,
        images: conv.n,
        size: merged([conv.oh, conv.ow], [row, conv.ow]),
        channels: conv.in_per_group,
        taps: [conv.kh, conv.kw],
        group: conv.in_per_group * plane,
        image: conv.groups * conv.in_per_group * plane,
        row,
        channel: int(plane),
        tap: [int(conv.dilation[0] * pitch), int(conv.dilation[1])],
        phases: [conv.stride[1], prepared.padded[0] * prepared.padded[1]],
        first: 0,
    }
}

/// A phase of the stride along one axis: the input pixels that are `first` modulo the stride, and the taps
/// that reach them.
struct Phase {
    first: usize,
    /// Number of pixels.
    count: usize,
    taps: TapRange,
    /// The output that the first tap connects with the first pixel.
    first_source: i32,
    /// Outputs from one tap to the next, backwards.
    source_step: i32,
}

impl Phase {
    fn new(conv: &ConvShape, axis: usize, first: usize, size: usize, taps: usize) -> Self {
        let [stride, padding, dilation] = [conv.stride, conv.padding, conv.dilation].map(|pair| pair[axis]);
        let count = (size - first).div_ceil(stride);
        // Tap `t` connects output `o` with pixel `o * stride + t * dilation - padding`.
        let reaches = |t: &usize| (first + padding) % stride == t * dilation % stride;
        let mut reaching = (0..taps).filter(reaches);
        let first_tap = reaching.next().unwrap_or(0);
        let tap_step = reaching.next().map_or(1, |next| next - first_tap);
        Phase {
            first,
            count,
            taps: TapRange { first: first_tap, step: tap_step, count: (0..taps).filter(reaches).count() },
            first_source: (int(first + padding) - int(first_tap * dilation)) / int(stride),
            source_step: int(tap_step * dilation / stride),
        }
    }

    /// Returns how far the source of the last tap of the first pixel is before the first output.
    fn reach_before(&self) -> i32 {
        match self.taps.count {
            0 => 0,
            count => (self.source_step * int(count - 1) - self.first_source).max(0),
        }
    }

    /// Returns the end of the sources of the first tap.
    fn end(&self) -> i32 {
        if self.taps.count == 0 { 0 } else { (self.first_source + int(self.count)).max(0) }
    }
}
