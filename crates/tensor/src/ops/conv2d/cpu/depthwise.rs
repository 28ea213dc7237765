//! Depthwise convolution: each group has one input channel. A vector holds `LANES` neighboring pixels of one plane.
//!
//! A plane is copied once, with its padding, into a buffer that stays in the cache; a stride splits it into planes of
//! every `stride`-th pixel. Then all taps of an output read the same distance from it, whatever stride and dilation:
//!
//! ```text
//!   padded plane, rows one behind the other      y[i] = Σ w[t] · x[i + offset[t]]
//!   0 0 0 0 0 0 | 0 a b c d 0 | 0 e f g h 0 | …
//!               └ i + offset ┘
//! ```
//!
//! Rows that are shorter than a vector are computed as one long row, with the pixels between them, which are dropped.
//! The input gradient is the same sum over the padded planes of the output gradient, for each phase of a stride.

use rayon::prelude::*;

use super::backend::{Cpu, InstructionSet};
use super::cost;
use crate::cpu::parallel::{Shared, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// Number of output pixels of a task, about.
const TASK_PIXELS: usize = 1 << 15;
/// Target number of tasks of the weight gradient, if there are fewer groups.
const TASKS: usize = 16;
/// Number of vectors that are computed together.
const BLOCK: usize = 4;
/// Number of taps whose weight gradients are computed together.
const TAP_BLOCK: usize = 9;

/// The algorithm; see the module's documentation.
///
/// It cannot compute groups of several input channels. It is exact enough for all inputs: an output is the sum of its
/// taps in one chain, and a weight's gradient the sum over images of chains over one image.
pub(super) struct Depthwise;

impl ConvAlgorithm<Cpu> for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        if conv.in_per_group != 1 || conv.n == 0 {
            return None;
        }
        if conv.groups == 1 {
            // One channel: others compute several outputs from one vector.
            return Some(NOT_FASTER * cost::general(conv, pass, device.lanes));
        }
        // Each multiply-add loads a vector.
        Some(2.0 * conv.multiply_adds() as f64 / device.lanes as f64)
    }

    fn pack(&self, _: &Scratch, _: &ConvShape, _: &[f32]) -> Option<Buffer> {
        None
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                let epilogue = Epilogue { bias, activation };
                planes(&Direction::forward(conv), x, weight, &epilogue, y, scratch);
            }
            Operands::InputGrad { dy, weight, dx } => {
                planes(&Direction::input_grad(conv), dy, weight, &Epilogue::default(), dx, scratch);
            }
            Operands::WeightGrad { x, dy, dw } => weight_grad(conv, x, dy, dw, scratch),
        }
    }
}

/// A source pixel that an output pixel depends on, on one axis: pixel `i + offset` of phase `phase` is under tap `tap` of
/// pixel `i`.
#[derive(Clone, Copy)]
struct AxisTap {
    tap: usize,
    phase: usize,
    offset: usize,
}

/// A tap of a pixel of the result.
#[derive(Clone, Copy)]
struct Tap {
    /// Distance in the buffer of a group.
    offset: usize,
    /// Index among the weights of the first output channel of the group.
    index: usize,
}

/// The pixels of an axis of the result with the same taps: `first`, `first + step`, …
struct Outputs {
    first: usize,
    step: usize,
    count: usize,
    taps: Vec<AxisTap>,
}

/// One axis of a sum over taps.
struct Axis {
    /// Pixels of the source.
    size: usize,
    /// Every how many pixels of the source a phase has one.
    stride: usize,
    /// The pixel of each phase that lies at position 0 of its buffer; negative in the padding.
    phases: Vec<isize>,
    /// Length of a phase in the buffer.
    len: usize,
    outputs: Vec<Outputs>,
}

impl Axis {
    fn forward(conv: &ConvShape, axis: usize) -> Self {
        let ([stride, padding, dilation], [taps, size, outputs]) = sizes(conv, axis);
        let mut residues: Vec<usize> = (0..taps).map(|t| t * dilation % stride).collect();
        residues.sort_unstable();
        residues.dedup();
        let tap = |tap: usize| AxisTap {
            tap,
            phase: residues.iter().position(|&r| r == tap * dilation % stride).expect("it is one of them"),
            offset: tap * dilation / stride,
        };
        Axis {
            size,
            stride,
            len: outputs + (taps - 1) * dilation / stride,
            outputs: vec![Outputs { first: 0, step: 1, count: outputs, taps: (0..taps).map(tap).collect() }],
            phases: residues.iter().map(|&r| r as isize - padding as isize).collect(),
        }
    }

    /// The input gradient: input pixel `first + stride * i` is under tap `t` of output pixel `i + shift(t)`.
    fn input_grad(conv: &ConvShape, axis: usize) -> Self {
        let ([stride, padding, dilation], [taps, size, outputs]) = sizes(conv, axis);
        let shift = |first: usize, tap: usize| {
            let distance = (first + padding) as isize - (tap * dilation) as isize;
            (distance.rem_euclid(stride as isize) == 0).then_some(distance.div_euclid(stride as isize))
        };
        let pairs: Vec<(usize, usize, isize)> = conv
            .phases(axis)
            .iter()
            .flat_map(|&first| (0..taps).filter_map(move |tap| Some((first, tap, shift(first, tap)?))))
            .collect();
        let before = pairs.iter().map(|(_, _, shift)| -shift).max().unwrap_or(0).max(0);
        let count = |first: usize| (size - first).div_ceil(stride);
        let len = pairs.iter().map(|&(first, _, shift)| (shift + before) as usize + count(first)).max();
        let outputs_of = |first: usize| Outputs {
            first,
            step: stride,
            count: count(first),
            taps: pairs
                .iter()
                .filter(|pair| pair.0 == first)
                .map(|&(_, tap, shift)| AxisTap { tap, phase: 0, offset: (shift + before) as usize })
                .collect(),
        };
        Axis {
            size: outputs,
            stride: 1,
            phases: vec![-before],
            len: len.unwrap_or(0),
            outputs: conv.phases(axis).iter().map(|&first| outputs_of(first)).collect(),
        }
    }

    /// Returns the positions in the buffer of a phase that hold pixels of the source, and the first of these pixels.
    fn inside(&self, phase: usize) -> (std::ops::Range<usize>, usize) {
        let first = self.phases[phase];
        let start = (-first).max(0) as usize;
        let start = start.div_ceil(self.stride);
        let pixel = (first + (start * self.stride) as isize) as usize;
        let end = start + self.size.saturating_sub(pixel).div_ceil(self.stride);
        (start.min(self.len)..end.min(self.len), pixel)
    }
}

/// Stride, padding and dilation of an axis, and its numbers of taps, input and output pixels.
fn sizes(conv: &ConvShape, axis: usize) -> ([usize; 3], [usize; 3]) {
    let counts = [[conv.kh, conv.h, conv.oh], [conv.kw, conv.w, conv.ow]][axis];
    ([conv.stride, conv.padding, conv.dilation].map(|pair| pair[axis]), counts)
}

/// A sum over taps from the planes of `src` to those of `dst`: the forward pass or the input gradient.
struct Direction<'a> {
    conv: &'a ConvShape,
    rows: Axis,
    columns: Axis,
    /// Indices of the outputs of `rows` and `columns`, and their taps.
    phases: Vec<(usize, usize, Vec<Tap>)>,
    /// Planes of the source that a plane of the result is a sum over.
    src_planes: usize,
    /// Planes of the result for each of the source.
    dst_planes: usize,
    /// Height and width of the result.
    dst: [usize; 2],
    src_batch_stride: usize,
    dst_batch_stride: usize,
}

impl<'a> Direction<'a> {
    fn forward(conv: &'a ConvShape) -> Self {
        Direction {
            conv,
            rows: Axis::forward(conv, 0),
            columns: Axis::forward(conv, 1),
            phases: Vec::new(),
            src_planes: 1,
            dst_planes: conv.out_per_group,
            dst: [conv.oh, conv.ow],
            src_batch_stride: conv.x_batch_stride,
            dst_batch_stride: conv.y_batch_stride,
        }
        .with_phases()
    }

    fn input_grad(conv: &'a ConvShape) -> Self {
        Direction {
            conv,
            rows: Axis::input_grad(conv, 0),
            columns: Axis::input_grad(conv, 1),
            phases: Vec::new(),
            src_planes: conv.out_per_group,
            dst_planes: 1,
            dst: [conv.h, conv.w],
            src_batch_stride: conv.y_batch_stride,
            dst_batch_stride: conv.x_batch_stride,
        }
        .with_phases()
    }

    /// Floats of the buffer of one phase of one plane.
    fn phase_len(&self) -> usize {
        self.rows.len * self.columns.len
    }

    /// Floats of the buffer of all phases of one plane.
    fn plane_len(&self) -> usize {
        self.phase_len() * self.rows.phases.len() * self.columns.phases.len()
    }

    /// Floats of the buffer of a group; vectors may be read behind its end.
    fn buffer_len(&self, lanes: usize) -> usize {
        self.src_planes * self.plane_len() + BLOCK * lanes
    }

    fn src_plane(&self) -> usize {
        self.rows.size * self.columns.size
    }

    fn dst_plane(&self) -> usize {
        self.dst[0] * self.dst[1]
    }

    /// Copies one plane into its buffer, whose other floats are 0 and stay so.
    #[inline(always)]
    fn fill(&self, plane: &[f32], buffer: &mut [f32]) {
        let mut phases = buffer.chunks_exact_mut(self.phase_len().max(1));
        for row_phase in 0..self.rows.phases.len() {
            let (rows, first_row) = self.rows.inside(row_phase);
            for column_phase in 0..self.columns.phases.len() {
                let Some(to) = phases.next() else { return };
                let (columns, first_column) = self.columns.inside(column_phase);
                for (i, row) in rows.clone().enumerate() {
                    let from = (first_row + i * self.rows.stride) * self.columns.size + first_column;
                    let to = &mut to[row * self.columns.len..][columns.clone()];
                    if self.columns.stride == 1 {
                        to.copy_from_slice(&plane[from..from + to.len()]);
                    } else {
                        let from = plane.get(from..).unwrap_or_default().iter().step_by(self.columns.stride);
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }

    /// Lists the pairs of phases of rows and columns of the result.
    fn with_phases(mut self) -> Self {
        let (phase_len, plane_len, pitch) = (self.phase_len(), self.plane_len(), self.columns.len);
        for (i, rows) in self.rows.outputs.iter().enumerate() {
            for (j, columns) in self.columns.outputs.iter().enumerate() {
                let mut taps = Vec::new();
                for plane in 0..self.src_planes {
                    for r in &rows.taps {
                        for c in &columns.taps {
                            let phase = r.phase * self.columns.phases.len() + c.phase;
                            taps.push(Tap {
                                offset: plane * plane_len + phase * phase_len + r.offset * pitch + c.offset,
                                index: plane * self.conv.filter_len() + self.conv.tap(r.tap, c.tap),
                            });
                        }
                    }
                }
                self.phases.push((i, j, taps));
            }
        }
        self
    }

    /// Whether every pixel of the result is under a tap, so that it is written.
    fn covers_all(&self) -> bool {
        let all = |axis: &Axis, size: usize| axis.outputs.iter().map(|o| o.count).sum::<usize>() == size;
        all(&self.rows, self.dst[0]) && all(&self.columns, self.dst[1])
    }
}

/// What is applied to the sums before they are stored.
#[derive(Clone, Copy, Default)]
struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
}

/// Computes all planes of the result.
fn planes(
    direction: &Direction<'_>,
    src: &[f32],
    weight: &[f32],
    epilogue: &Epilogue<'_>,
    dst: &mut [f32],
    scratch: &Scratch,
) {
    let groups = direction.conv.groups;
    let all = direction.conv.n * groups;
    let pixels = direction.dst_plane() * direction.dst_planes;
    let tasks = all.div_ceil((TASK_PIXELS / pixels.max(1)).max(1));
    let dst = Shared::new(dst);
    (0..tasks).into_par_iter().for_each(|task| {
        dispatch(Planes { direction, planes: part(all, tasks, task), src, weight, epilogue, dst, scratch });
    });
}

/// The results of some groups of some images.
struct Planes<'a> {
    direction: &'a Direction<'a>,
    /// Indices of pairs of an image and a group.
    planes: std::ops::Range<usize>,
    src: &'a [f32],
    weight: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    dst: Shared<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Planes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Planes { direction, scratch, .. } = self;
        let conv = direction.conv;
        let mut buffer = scratch.take(direction.buffer_len(S::LANES));
        buffer.fill(0.0);
        // The rows of an output phase one behind the other; whole blocks are stored.
        let mut sums = scratch.take(direction.phase_len().max(direction.dst_plane()) + BLOCK * S::LANES);
        let mut taps: Vec<(usize, f32)> = Vec::new();
        let covers_all = direction.covers_all();
        for plane in self.planes {
            let (image, group) = (plane / conv.groups, plane % conv.groups);
            let src =
                image * direction.src_batch_stride + group * direction.src_planes * direction.src_plane();
            let src = &self.src[src..src + direction.src_planes * direction.src_plane()];
            for i in 0..direction.src_planes {
                let from = &src[i * direction.src_plane()..][..direction.src_plane()];
                direction.fill(from, &mut buffer[i * direction.plane_len()..][..direction.plane_len()]);
            }
            for i in 0..direction.dst_planes {
                let channel = group * direction.dst_planes + i;
                let start = image * direction.dst_batch_stride + channel * direction.dst_plane();
                // SAFETY: every plane of the result belongs to one task.
                let dst = unsafe { self.dst.slice(start, direction.dst_plane()) };
                if !covers_all {
                    dst.fill(0.0);
                }
                let bias = self.epilogue.bias.map_or(0.0, |bias| bias[channel]);
                let weight = &self.weight[(group * conv.out_per_group + i) * conv.filter_len()..];
                for (rows, columns, indices) in &direction.phases {
                    taps.clear();
                    taps.extend(indices.iter().map(|tap| (tap.offset, weight[tap.index])));
                    let phase = OutputPhase {
                        taps: &taps,
                        buffer: &buffer,
                        pitch: direction.columns.len,
                        rows: &direction.rows.outputs[*rows],
                        columns: &direction.columns.outputs[*columns],
                        bias,
                        activation: self.epilogue.activation,
                    };
                    phase.run::<S>(&mut sums, dst, direction.dst[1]);
                }
            }
        }
    }
}

/// The pixels of a plane of the result with the same taps.
struct OutputPhase<'a> {
    /// Offsets in the buffer, and weights.
    taps: &'a [(usize, f32)],
    buffer: &'a [f32],
    /// Floats from one row of the buffer to the next.
    pitch: usize,
    rows: &'a Outputs,
    columns: &'a Outputs,
    bias: f32,
    activation: Option<Activation>,
}

impl OutputPhase<'_> {
    /// Computes the pixels and stores them to a plane `dst` with rows of `width`.
    #[inline(always)]
    fn run<S: Simd>(&self, sums: &mut [f32], dst: &mut [f32], width: usize) {
        let (rows, columns) = (self.rows, self.columns);
        if columns.step == 1 && columns.count >= S::LANES {
            for row in 0..rows.count {
                let to = &mut dst[(rows.first + row * rows.step) * width..][..columns.count];
                self.row::<S>(row * self.pitch, to, columns.count);
            }
            return;
        }
        if rows.count == 0 || columns.count == 0 {
            return;
        }
        let len = ((rows.count - 1) * self.pitch + columns.count).next_multiple_of(S::LANES);
        self.row::<S>(0, sums, len);
        for (row, from) in sums.chunks(self.pitch).take(rows.count).enumerate() {
            let to = &mut dst[(rows.first + row * rows.step) * width + columns.first..];
            if columns.step == 1 {
                to[..columns.count].copy_from_slice(&from[..columns.count]);
            } else {
                let to = to.iter_mut().step_by(columns.step);
                to.zip(&from[..columns.count]).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Computes `count` pixels, at least `LANES`, of which the first has its taps at `start` of the buffer.
    #[inline(always)]
    fn row<S: Simd>(&self, start: usize, to: &mut [f32], count: usize) {
        let mut from = 0;
        while from < count {
            from += match (count - from).div_ceil(S::LANES) {
                1 => self.block::<S, 1>(start, from, to, count),
                2 => self.block::<S, 2>(start, from, to, count),
                3 => self.block::<S, 3>(start, from, to, count),
                _ => self.block::<S, BLOCK>(start, from, to, count),
            };
        }
    }

    /// Computes up to `N` vectors from pixel `from` on and returns the number of their pixels. The last vector of a row overlaps the
    /// one before, so that it is full.
    #[inline(always)]
    fn block<S: Simd, const N: usize>(
        &self,
        start: usize,
        from: usize,
        to: &mut [f32],
        count: usize,
    ) -> usize {
        let mut at = [0; N];
        for (i, at) in at.iter_mut().enumerate() {
            *at = (from + i * S::LANES).min(count - S::LANES);
        }
        let mut sums = [S::splat(0.0); N];
        for &(offset, weight) in self.taps {
            let source = &self.buffer[start + offset..];
            let weight = S::splat(weight);
            for (sum, &at) in sums.iter_mut().zip(&at) {
                *sum = weight.mul_add(S::from_slice(&source[at..]), *sum);
            }
        }
        for (sum, &at) in sums.into_iter().zip(&at) {
            let mut y = sum + S::splat(self.bias);
            if let Some(activation) = self.activation {
                y = activation.apply(y);
            }
            y.to_slice(&mut to[at..]);
        }
        N * S::LANES
    }
}

/// Computes the gradient of the weight.
fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let direction = Direction::forward(conv);
    let parts = TASKS.div_ceil(conv.groups).min(conv.n);
    let group_len = conv.out_per_group * conv.filter_len();
    let size = group_len * instruction_set().1;
    let mut sums = scratch.take(conv.groups * parts * size);
    sums.par_chunks_mut(size).enumerate().for_each(|(i, sums)| {
        let (group, images) = (i / parts, part(conv.n, parts, i % parts));
        dispatch(WeightGrad { direction: &direction, group, images, x, dy, sums, scratch });
    });
    for (dw, sums) in dw.chunks_mut(group_len).zip(sums.chunks(parts * size)) {
        dispatch(AddLanes { sums, dw });
    }
}

/// The sums of the weight gradients of a group over some images, a vector for each weight.
struct WeightGrad<'a> {
    direction: &'a Direction<'a>,
    group: usize,
    images: std::ops::Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let WeightGrad { direction, group, sums, .. } = self;
        let conv = direction.conv;
        let mut buffer = self.scratch.take(direction.buffer_len(S::LANES));
        buffer.fill(0.0);
        sums.fill(0.0);
        let (x_plane, y_plane) = (direction.src_plane(), direction.dst_plane());
        for image in self.images {
            let x = &self.x[image * conv.x_batch_stride + group * x_plane..][..x_plane];
            direction.fill(x, &mut buffer[..direction.plane_len()]);
            for i in 0..conv.out_per_group {
                let channel = group * conv.out_per_group + i;
                let dy = &self.dy[image * conv.y_batch_stride + channel * y_plane..][..y_plane];
                let sums = &mut sums[i * conv.filter_len() * S::LANES..];
                for taps in direction.phases.iter().flat_map(|(_, _, taps)| taps.chunks(TAP_BLOCK)) {
                    let products = Products { taps, buffer: &buffer, pitch: direction.columns.len, dy };
                    macro_rules! by_count {
                        ($($n:literal)*) => {
                            match taps.len() {
                                $($n => products.add::<S, $n>(conv.ow, sums),)*
                                count => unreachable!("{count} taps"),
                            }
                        };
                    }
                    by_count!(1 2 3 4 5 6 7 8 9);
                }
            }
        }
    }
}

/// The products of an output gradient with the pixels under some taps.
struct Products<'a> {
    taps: &'a [Tap],
    buffer: &'a [f32],
    pitch: usize,
    dy: &'a [f32],
}

impl Products<'_> {
    /// Adds the sums of `N` taps. Lanes behind the end of a row are 0 in both factors, so that no pixel of another window, which
    /// may be infinite, is multiplied.
    #[inline(always)]
    fn add<S: Simd, const N: usize>(&self, width: usize, totals: &mut [f32]) {
        let mut sums = [S::splat(0.0); N];
        for (row, dy) in self.dy.chunks_exact(width).enumerate() {
            let source = &self.buffer[row * self.pitch..];
            for (i, dy) in dy.chunks(S::LANES).enumerate() {
                let at = i * S::LANES;
                if dy.len() == S::LANES {
                    let dy = S::from_slice(dy);
                    for (sum, tap) in sums.iter_mut().zip(self.taps) {
                        *sum = dy.mul_add(S::from_slice(&source[tap.offset + at..]), *sum);
                    }
                } else {
                    let count = dy.len();
                    let dy = S::from_short_slice(dy);
                    for (sum, tap) in sums.iter_mut().zip(self.taps) {
                        let x = S::from_short_slice(&source[tap.offset + at..][..count]);
                        *sum = dy.mul_add(x, *sum);
                    }
                }
            }
        }
        for (sum, tap) in sums.into_iter().zip(self.taps) {
            let total = &mut totals[tap.index * S::LANES..];
            (S::from_slice(total) + sum).to_slice(total);
        }
    }
}

/// Adds the lanes of the sums of several parts: `[part, weight, lane]`.
struct AddLanes<'a> {
    sums: &'a [f32],
    dw: &'a mut [f32],
}

impl Kernel for AddLanes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let size = self.dw.len() * S::LANES;
        for (i, dw) in self.dw.iter_mut().enumerate() {
            let mut sum = S::splat(0.0);
            for part in self.sums.chunks_exact(size) {
                sum = sum + S::from_slice(&part[i * S::LANES..]);
            }
            *dw = sum.sum();
        }
    }
}
