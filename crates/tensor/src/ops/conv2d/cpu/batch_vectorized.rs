//! Batch-vectorized convolution, for few channels and many images: a vector holds one pixel of `LANES`
//! images.
//!
//! A band of rows of `LANES` images is transposed at a time. No lanes are wasted whatever the kernel size,
//! stride or width, and nothing is gathered:
//!
//! ```text
//!                x: the same pixel of LANES images, of PIXELS neighbors
//!               +--------+--------+--------+
//!   w: outputs  | y[0]   | y[0]   | y[0]   |    y[i] += w[i] · x, for each channel and tap
//!               | y[1]   | y[1]   | y[1]   |
//!               +--------+--------+--------+
//! ```
//!
//! The weight gradient accumulates vectors of sums, one for each weight, and adds their lanes at the end.

use rayon::prelude::*;

use super::backend::{Cpu, InstructionSet};
use super::cost;
use super::layout::{FeatureMap, Filters};
use super::transposed_tile::TransposedTile;
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// Maximum of the smaller of the numbers of input and output channels.
const MAX_CHANNELS: usize = 8;
/// Target number of output pixels of a band.
const BAND_PIXELS: usize = 128;
/// Target number of tasks, if there are fewer vectors of images.
const TASKS: usize = 16;
/// Maximum number of partial sums over parts of the batch.
const PARTS: usize = 16;

/// The algorithm; see the module's documentation.
///
/// It cannot compute several groups and dilations, as its tiles hold neighboring pixels of all channels, and input
/// gradients with a stride, which are no convolutions of the output gradient.
///
/// It is exact enough for all inputs: an output is the sum of its terms in single precision, one chain of all of them,
/// with an error that grows with the root of the number of terms.
pub(super) struct BatchVectorized;

impl ConvAlgorithm<Cpu> for BatchVectorized {
    fn name(&self) -> &'static str {
        "batch_vectorized"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        if conv.groups != 1
            || conv.n == 0
            || conv.dilation != [1, 1]
            || (pass == Pass::InputGrad && conv.stride != [1, 1])
        {
            return None;
        }
        let is_fastest = conv.in_per_group.min(conv.out_per_group) <= MAX_CHANNELS
            // At least three quarters of the lanes hold an image.
            && conv.n * 4 >= conv.n.div_ceil(device.lanes) * device.lanes * 3
            && (pass != Pass::InputGrad || conv.padding[0] < conv.kh && conv.padding[1] < conv.kw);
        let general = cost::general(conv, pass, device.lanes);
        Some(if is_fastest { general } else { NOT_FASTER * general })
    }

    fn pack(&self, scratch: &Scratch, conv: &ConvShape, weight: &[f32]) -> Option<Buffer> {
        Some(pack_filters(&DirectConv::forward(conv), &Filters::forward(conv, weight), scratch))
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                convolve(&DirectConv::forward(conv), weight, bias, activation, x, y, scratch);
            }
            Operands::InputGrad { dy, weight, dx } => {
                let direct = DirectConv::input_grad(conv);
                let packed = pack_filters(&direct, &Filters::backward(conv, weight), scratch);
                convolve(&direct, &packed, None, None, dy, dx, scratch);
            }
            Operands::WeightGrad { x, dy, dw } => weight_grad(conv, x, dy, dw, scratch),
        }
    }
}

/// A direct convolution from `src` to `dst`: the forward pass, or the input gradient with a stride of 1.
#[derive(Clone, Copy)]
struct DirectConv {
    n: usize,
    src: FeatureMap,
    dst: FeatureMap,
    /// The source pixel under the first tap of output pixel 0.
    shift: [isize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
}

/// Some rows of the output of `LANES` images.
struct Band {
    first_image: usize,
    images: usize,
    rows: std::ops::Range<usize>,
}

impl DirectConv {
    fn forward(conv: &ConvShape) -> Self {
        let [src, dst] = conv.feature_maps();
        let shift = conv.padding.map(|pad| -(pad as isize));
        DirectConv { n: conv.n, src, dst, shift, kernel: [conv.kh, conv.kw], stride: conv.stride }
    }

    /// The input gradient: a convolution of `dy` with the rotated filters.
    fn input_grad(conv: &ConvShape) -> Self {
        let [dst, src] = conv.feature_maps();
        let shift = conv.input_grad_shift();
        DirectConv { n: conv.n, src, dst, shift, kernel: [conv.kh, conv.kw], stride: [1, 1] }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the number of bands of one vector of images, and of all images.
    fn bands(&self) -> (usize, usize) {
        let groups = self.n.div_ceil(instruction_set().1);
        let rows = (BAND_PIXELS / self.dst.w.max(1)).max(1);
        // More bands give more tasks, but neighboring bands read the rows that both depend on twice.
        let bands = self.dst.h.div_ceil(rows).max(TASKS.div_ceil(groups).min(self.dst.h.div_ceil(2)));
        (bands, bands * groups)
    }

    /// Returns band `i` of all images.
    fn band(&self, i: usize, lanes: usize) -> Band {
        let bands = self.bands().0;
        let (band, group) = (i % bands, i / bands);
        Band {
            first_image: group * lanes,
            images: lanes.min(self.n - group * lanes),
            rows: part(self.dst.h, bands, band),
        }
    }

    /// Returns the maximum number of rows of a band.
    fn band_rows(&self) -> usize {
        self.dst.h.div_ceil(self.bands().0)
    }

    /// Returns the source pixels that some rows of the output depend on.
    fn source(&self, rows: &std::ops::Range<usize>) -> TransposedTile {
        let (h, w) = (self.src.h, self.src.w);
        TransposedTile {
            in_blocks: false,
            h,
            w,
            plane_stride: self.src.batch_stride,
            row: (rows.start * self.stride[0]) as isize + self.shift[0],
            column: self.shift[1],
            rows: (rows.len() - 1) * self.stride[0] + self.kernel[0],
            columns: (self.dst.w - 1) * self.stride[1] + self.kernel[1],
        }
    }

    /// Returns the output pixels of some rows.
    fn target(&self, rows: &std::ops::Range<usize>) -> TransposedTile {
        let (h, w) = (self.dst.h, self.dst.w);
        let row = rows.start as isize;
        TransposedTile {
            in_blocks: false,
            h,
            w,
            plane_stride: self.dst.batch_stride,
            row,
            column: 0,
            rows: rows.len(),
            columns: w,
        }
    }

    /// Reads the tiles of all channels of the images of a band, one after the other.
    ///
    /// # Safety
    /// `x` must contain these images, and the vectors of all tiles at `to` be writable.
    #[inline(always)]
    unsafe fn read<S: Simd>(src: FeatureMap, band: &Band, tile: &TransposedTile, x: &[f32], to: *mut f32) {
        for channel in 0..src.channels {
            let from = band.first_image * src.batch_stride + channel * src.h * src.w;
            // SAFETY: guaranteed by the caller.
            unsafe {
                tile.read::<S>(
                    x.as_ptr().add(from),
                    band.images,
                    to.add(channel * tile.rows * tile.columns * S::LANES),
                    S::LANES,
                );
            }
        }
    }
}

fn convolve(
    direct: &DirectConv,
    packed: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    x: &[f32],
    y: &mut [f32],
    scratch: &Scratch,
) {
    let target = Shared::new(y);
    for_each_task(direct.bands().1, |band| {
        dispatch(Forward { direct, band, packed, bias, activation, x, target, scratch });
    });
}

/// Returns the output channels of register tile `i` of all.
fn tile_outputs(outputs: usize, per_tile: usize, i: usize) -> std::ops::Range<usize> {
    part(outputs, outputs.div_ceil(per_tile), i)
}

/// Packs the weight in the order of use: `[tile][channel, tap][output of the tile]`.
fn pack_filters(direct: &DirectConv, filters: &Filters<'_>, scratch: &Scratch) -> Buffer {
    let per_tile = dispatch(MaxOutputs);
    let (depth, taps, outputs) = (direct.src.channels, direct.taps(), direct.dst.channels);
    let mut packed = scratch.take(depth * taps * outputs);
    let mut next = packed.iter_mut();
    for outputs in (0..outputs.div_ceil(per_tile)).map(|i| tile_outputs(outputs, per_tile, i)) {
        for channel in 0..depth {
            for tap in 0..taps {
                let tap = if filters.reverse { taps - 1 - tap } else { tap };
                for (output, to) in outputs.clone().zip(&mut next) {
                    *to = filters.weight[channel * filters.in_stride + output * filters.out_stride + tap];
                }
            }
        }
    }
    packed
}

/// Returns [`max_outputs`] of the dispatched vectors.
struct MaxOutputs;

impl Kernel for MaxOutputs {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self) -> usize {
        max_outputs::<S>()
    }
}

/// Returns the maximum number of outputs of a register tile: tiles are 8 outputs by 3 pixels with 32
/// registers (AVX-512), else 5 by 2.
#[inline(always)]
fn max_outputs<S: Simd>() -> usize {
    if S::LANES == 16 { 8 } else { 5 }
}

/// The outputs of a band.
struct Forward<'a> {
    direct: &'a DirectConv,
    band: usize,
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    x: &'a [f32],
    target: Shared<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let direct = self.direct;
        let band = direct.band(self.band, S::LANES);
        if band.rows.is_empty() {
            return;
        }
        let (source, target) = (direct.source(&band.rows), direct.target(&band.rows));
        let mut x = self.scratch.take(direct.src.channels * source.rows * source.columns * S::LANES);
        let per_tile = max_outputs::<S>();
        let pixels = target.rows * target.columns;
        let mut y = self.scratch.take(per_tile * pixels * S::LANES);
        // SAFETY: the band has these images, and the buffer the size of their tiles.
        unsafe { DirectConv::read::<S>(direct.src, &band, &source, self.x, x.as_mut_ptr()) }
        let outputs = direct.dst.channels;
        for outputs in (0..outputs.div_ceil(per_tile)).map(|i| tile_outputs(outputs, per_tile, i)) {
            self.rows::<S>(&source, &target, outputs.clone(), &x, &mut y);
            for (i, output) in outputs.enumerate() {
                let to = band.first_image * direct.dst.batch_stride + output * direct.dst.h * direct.dst.w;
                // SAFETY: the bands have disjoint pixels.
                unsafe {
                    let from = y.as_ptr().add(i * pixels * S::LANES);
                    target.write::<S>(from, S::LANES, band.images, self.target.get().add(to));
                }
            }
        }
    }
}

impl Forward<'_> {
    /// Computes some output channels of all pixels of a band.
    #[inline(always)]
    fn rows<S: Simd>(
        &self,
        source: &TransposedTile,
        target: &TransposedTile,
        outputs: std::ops::Range<usize>,
        x: &[f32],
        y: &mut [f32],
    ) {
        let wide = if S::LANES == 16 { 3 } else { 2 };
        let wide = if target.columns >= wide { wide } else { 1 };
        let [kh, kw] = self.direct.kernel;
        let stride = self.direct.stride;
        let (count, depth) = (outputs.len(), self.direct.src.channels);
        let weights = self.packed[outputs.start * depth * kh * kw..].as_ptr();
        for row in 0..target.rows {
            // Rows of the kernel over the padding are skipped.
            let first = source.row + (row * stride[0]) as isize;
            let low = (-first).clamp(0, kh as isize) as usize;
            let high = (source.h as isize - first).clamp(low as isize, kh as isize) as usize;
            // Of a kernel that lies in the padding altogether, no row is read: not even the one below the tile.
            let (low, high) = if low < high { (low, high) } else { (0, 0) };
            let mut column = 0;
            while column < target.columns {
                // The last tile overlaps the one before, so that it is full.
                let at = column.min(target.columns - wide);
                let operands = TileOperands {
                    x: x[((row * stride[0] + low) * source.columns + at * stride[1]) * S::LANES..].as_ptr(),
                    channel_stride: source.rows * source.columns * S::LANES,
                    row_stride: source.columns * S::LANES,
                    pixel_stride: stride[1] * S::LANES,
                    weights: weights.wrapping_add(low * kw * count),
                    weights_channel_stride: kh * kw * count,
                    size: [depth, high - low, kw],
                };
                let to = &mut y[(row * target.columns + at) * S::LANES..];
                let bias = self.bias.map(|bias| &bias[outputs.clone()]);
                let epilogue = Epilogue {
                    bias,
                    activation: self.activation,
                    output_stride: target.rows * target.columns * S::LANES,
                };
                macro_rules! by_size {
                    ($($n:literal)*) => {
                        // SAFETY: the transposed tile has these rows and columns.
                        unsafe {
                            match (count, wide) {
                                $(($n, 1) if $n <= max_outputs::<S>() => operands.tile::<S, $n, 1>(&epilogue, to),
                                  ($n, 2) if $n <= max_outputs::<S>() && S::LANES != 16 => operands.tile::<S, $n, 2>(&epilogue, to),
                                  ($n, 3) if $n <= max_outputs::<S>() && S::LANES == 16 => operands.tile::<S, $n, 3>(&epilogue, to),)*
                                _ => unreachable!("a tile of {count} outputs and {wide} pixels"),
                            }
                        }
                    };
                }
                by_size!(1 2 3 4 5 6 7 8);
                column = at + wide;
            }
        }
    }
}

/// The operands of a register tile.
struct TileOperands {
    x: *const f32,
    /// Floats from one channel, row, and output pixel to the next.
    channel_stride: usize,
    row_stride: usize,
    pixel_stride: usize,
    weights: *const f32,
    weights_channel_stride: usize,
    /// Number of channels, and of rows and columns of the kernel.
    size: [usize; 3],
}

/// What is applied to the sums of a register tile before they are stored.
struct Epilogue<'a> {
    /// The bias of the tile's outputs.
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    /// Floats from one output channel to the next.
    output_stride: usize,
}

impl TileOperands {
    /// Computes a tile of `OUTPUTS` by `PIXELS` vectors.
    ///
    /// # Safety
    /// The operands must be readable in their sizes.
    #[inline(always)]
    unsafe fn tile<S: Simd, const OUTPUTS: usize, const PIXELS: usize>(
        &self,
        epilogue: &Epilogue<'_>,
        to: &mut [f32],
    ) {
        let [channels, rows, columns] = self.size;
        let mut sums = [[S::splat(0.0); PIXELS]; OUTPUTS];
        for channel in 0..channels {
            for row in 0..rows {
                // SAFETY: guaranteed by the caller.
                let mut x = unsafe { self.x.add(channel * self.channel_stride + row * self.row_stride) };
                // SAFETY: as above.
                let mut w = unsafe {
                    self.weights.add(channel * self.weights_channel_stride + row * columns * OUTPUTS)
                };
                for _ in 0..columns {
                    let mut pixels = [S::splat(0.0); PIXELS];
                    for (j, pixel) in pixels.iter_mut().enumerate() {
                        // SAFETY: as above.
                        *pixel = unsafe { S::load(x.add(j * self.pixel_stride)) };
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as above.
                        let weight = S::splat(unsafe { *w.add(i) });
                        for (sum, pixel) in sums.iter_mut().zip(pixels) {
                            *sum = weight.mul_add(pixel, *sum);
                        }
                    }
                    // SAFETY: as above; the pointers behind the last elements are not dereferenced.
                    unsafe {
                        x = x.add(S::LANES);
                        w = w.add(OUTPUTS);
                    }
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let bias = epilogue.bias.map_or(S::splat(0.0), |bias| S::splat(bias[i]));
            for (j, sum) in sums.into_iter().enumerate() {
                let mut y = sum + bias;
                if let Some(activation) = epilogue.activation {
                    y = activation.apply(y);
                }
                y.to_slice(&mut to[i * epilogue.output_stride + j * S::LANES..]);
            }
        }
    }
}

/// Computes the gradient of the weight.
fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let lanes = instruction_set().1;
    let direct = DirectConv::forward(conv);
    let bands = direct.bands().1;
    let parts = PARTS.min(bands);
    let size = dw.len() * lanes;
    let mut sums = scratch.take(parts * size);
    sums.par_chunks_mut(size).enumerate().for_each(|(i, sums)| {
        dispatch(WeightGrad { direct: &direct, bands: part(bands, parts, i), x, dy, sums, scratch });
    });
    let taps = conv.kh * conv.kw;
    for (i, dw) in dw.iter_mut().enumerate() {
        let tap = if conv.flip { i / taps * taps + taps - 1 - i % taps } else { i };
        let part = |part: usize| dispatch(Sum(&sums[part * size + tap * lanes..][..lanes]));
        *dw = (0..parts).map(part).sum();
    }
}

/// Returns the sum of the lanes of a vector.
struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        S::from_slice(self.0).sum()
    }
}

/// The sums of all weights over some bands.
struct WeightGrad<'a> {
    direct: &'a DirectConv,
    bands: std::ops::Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    /// A vector of sums for each weight.
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let WeightGrad { direct, bands, x: images, dy: grads, sums, scratch } = self;
        sums.fill(0.0);
        let largest = 0..direct.band_rows();
        let (source, target) = (direct.source(&largest), direct.target(&largest));
        let mut x = scratch.take(direct.src.channels * source.rows * source.columns * S::LANES);
        let mut dy = scratch.take(direct.dst.channels * target.rows * target.columns * S::LANES);
        for band in bands.map(|i| direct.band(i, S::LANES)).filter(|band| !band.rows.is_empty()) {
            let (source, target) = (direct.source(&band.rows), direct.target(&band.rows));
            // SAFETY: the band has these images, and the buffers the sizes of the largest tiles.
            unsafe {
                DirectConv::read::<S>(direct.src, &band, &source, images, x.as_mut_ptr());
                DirectConv::read::<S>(direct.dst, &band, &target, grads, dy.as_mut_ptr());
            }
            if S::LANES == 16 {
                tiles::<S, 4, 6>(direct, &source, &target, &x, &dy, sums);
            } else {
                tiles::<S, 3, 3>(direct, &source, &target, &x, &dy, sums);
            }
        }
    }
}

/// Accumulates the gradients of all weights over a band.
#[inline(always)]
fn tiles<S: Simd, const OUTPUTS: usize, const TAPS: usize>(
    direct: &DirectConv,
    source: &TransposedTile,
    target: &TransposedTile,
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let [kh, kw] = direct.kernel;
    let (depth, pixels) = (direct.src.channels * kh * kw, target.rows * target.columns);
    for first in (0..depth).step_by(TAPS) {
        // In a tile at the edge the last output or tap is repeated.
        let mut taps = [x.as_ptr(); TAPS];
        for (j, tap) in taps.iter_mut().enumerate() {
            let k = (first + j).min(depth - 1);
            let (channel, row, column) = (k / (kh * kw), k / kw % kh, k % kw);
            *tap = x[((channel * source.rows + row) * source.columns + column) * S::LANES..].as_ptr();
        }
        for output in (0..direct.dst.channels).step_by(OUTPUTS) {
            let mut rows = [dy.as_ptr(); OUTPUTS];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = dy[(output + i).min(direct.dst.channels - 1) * pixels * S::LANES..].as_ptr();
            }
            let mut tile = [[S::splat(0.0); TAPS]; OUTPUTS];
            for row in 0..target.rows {
                let from = row * direct.stride[0] * source.columns * S::LANES;
                for column in 0..target.columns {
                    let at = (row * target.columns + column) * S::LANES;
                    let from = from + column * direct.stride[1] * S::LANES;
                    let mut grads = [S::splat(0.0); OUTPUTS];
                    for (grad, row) in grads.iter_mut().zip(rows) {
                        // SAFETY: a pixel of the tile.
                        *grad = unsafe { S::load(row.add(at)) };
                    }
                    for j in 0..TAPS {
                        // SAFETY: a pixel of the tile.
                        let pixel = unsafe { S::load(taps[j].add(from)) };
                        for i in 0..OUTPUTS {
                            tile[i][j] = grads[i].mul_add(pixel, tile[i][j]);
                        }
                    }
                }
            }
            for (i, tile) in tile.iter().enumerate().take(direct.dst.channels - output) {
                for (j, sum) in tile.iter().enumerate().take(depth - first) {
                    let to = &mut sums[((output + i) * depth + first + j) * S::LANES..];
                    (S::from_slice(to) + *sum).to_slice(to);
                }
            }
        }
    }
}
