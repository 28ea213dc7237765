//! Convolutions with few channels: the lanes of all vectors are pictures.
//!
//! What lies in memory picture by picture is turned round, a band of rows at a time; then a pixel of 16 pictures is one
//! vector, and whatever the window, the stride or the width, no lane is wasted and nothing is gathered:
//!
//! ```text
//!                x: the same pixel of LANES pictures, of PIXELS neighbours
//!               +--------+--------+--------+
//!   w: outputs  | y[0]   | y[0]   | y[0]   |    y[i] += w[i] · x, for each channel and tap
//!               | y[1]   | y[1]   | y[1]   |
//!               +--------+--------+--------+
//! ```
//!
//! The gradient of the weight keeps a tile of sums of outputs and taps, and adds up its lanes at the end.

use rayon::prelude::*;

use super::strip::Strip;
use super::{Filters, Problem, Side};
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;

/// The most channels of the side that has fewer.
const FEW: usize = 8;
/// Pixels of the output to aim at in a band.
const BAND: usize = 128;
/// Tasks to aim at, where the pictures alone do not give them.
const TASKS: usize = 16;
/// The most parts of the batch whose gradients are summed apart.
const PARTS: usize = 16;

/// Whether this way is the faster one: a rule on shapes alone.
pub(super) fn is_better(p: &Problem) -> bool {
    let lanes = instruction_set().1;
    p.groups == 1
        && p.n > 0
        && p.dilation == [1, 1]
        && p.cg.min(p.og) <= FEW
        // Three quarters of the lanes at least.
        && p.n * 4 >= p.n.div_ceil(lanes) * lanes * 3
        && p.pixels() > 0
}

/// Whether it is for the gradient of the input.
pub(super) fn is_better_for_input_grad(p: &Problem) -> bool {
    is_better(p) && p.stride == [1, 1] && p.padding[0] < p.kh && p.padding[1] < p.kw
}

/// The weight as [`forward`] takes it.
pub(super) fn pack(p: &Problem, weight: &[f32], scratch: &Scratch) -> Buffer {
    packed(&Window::forward(p), &Filters::forward(p, weight), scratch)
}

/// The output; `weight` is as [`pack`] makes it.
pub(super) fn forward(
    p: &Problem,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    convolve(&Window::forward(p), weight, bias, activation, x, y, scratch);
}

pub(super) fn input_grad(p: &Problem, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    let [out, side] = p.sides();
    let shift = [p.padding[0] as isize - p.kh as isize + 1, p.padding[1] as isize - p.kw as isize + 1];
    let window = Window { n: p.n, side, out, shift, kernel: [p.kh, p.kw], stride: [1, 1] };
    let packed = packed(&window, &Filters::backward(p, weight), scratch);
    convolve(&window, &packed, None, None, dy, dx, scratch);
}

/// From which pixels of which pictures the output comes.
#[derive(Clone, Copy)]
struct Window {
    n: usize,
    side: Side,
    out: Side,
    /// The pixel under the first tap of output pixel 0.
    shift: [isize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
}

/// Some rows of the output of `LANES` pictures.
struct Band {
    first_picture: usize,
    pictures: usize,
    rows: std::ops::Range<usize>,
}

impl Window {
    fn forward(p: &Problem) -> Self {
        let [side, out] = p.sides();
        let shift = p.padding.map(|p| -(p as isize));
        Window { n: p.n, side, out, shift, kernel: [p.kh, p.kw], stride: p.stride }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Bands of a group of pictures, and of all.
    fn bands(&self) -> (usize, usize) {
        let groups = self.n.div_ceil(instruction_set().1);
        let rows = (BAND / self.out.w.max(1)).max(1);
        // Many small bands rather than idle threads, but each reads its window's rows again.
        let bands = self.out.h.div_ceil(rows).max(TASKS.div_ceil(groups).min(self.out.h.div_ceil(2)));
        (bands, bands * groups)
    }

    fn band(&self, i: usize, lanes: usize) -> Band {
        let bands = self.bands().0;
        let (band, group) = (i % bands, i / bands);
        Band {
            first_picture: group * lanes,
            pictures: lanes.min(self.n - group * lanes),
            rows: self.out.h * band / bands..self.out.h * (band + 1) / bands,
        }
    }

    /// The most rows of a band.
    fn band_rows(&self) -> usize {
        self.out.h.div_ceil(self.bands().0)
    }

    /// The input's pixels that a band sees.
    fn source(&self, rows: &std::ops::Range<usize>) -> Strip {
        let (h, w) = (self.side.h, self.side.w);
        Strip {
            h,
            w,
            plane: self.side.step,
            row: (rows.start * self.stride[0]) as isize + self.shift[0],
            column: self.shift[1],
            rows: (rows.len() - 1) * self.stride[0] + self.kernel[0],
            columns: (self.out.w - 1) * self.stride[1] + self.kernel[1],
        }
    }

    fn target(&self, rows: &std::ops::Range<usize>) -> Strip {
        let (h, w) = (self.out.h, self.out.w);
        let row = rows.start as isize;
        Strip { h, w, plane: self.out.step, row, column: 0, rows: rows.len(), columns: w }
    }

    /// All channels of some pictures as strips, one after the other.
    ///
    /// # Safety
    /// `x` must have these pictures, and `to` room for the strips.
    #[inline(always)]
    unsafe fn read<S: Simd>(side: Side, band: &Band, strip: &Strip, x: &[f32], to: *mut f32) {
        for channel in 0..side.channels {
            let from = band.first_picture * side.step + channel * side.h * side.w;
            // SAFETY: the caller's promise.
            unsafe {
                strip.read::<S>(
                    x.as_ptr().add(from),
                    band.pictures,
                    to.add(channel * strip.rows * strip.columns * S::LANES),
                    S::LANES,
                );
            }
        }
    }
}

fn convolve(
    window: &Window,
    packed: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    x: &[f32],
    y: &mut [f32],
    scratch: &Scratch,
) {
    let target = Shared::new(y);
    (0..window.bands().1).into_par_iter().for_each(|band| {
        dispatch(Forward { window, band, packed, bias, activation, x, target, scratch });
    });
}

/// The outputs of tile `i` of all.
fn tile(outputs: usize, most: usize, i: usize) -> std::ops::Range<usize> {
    let count = outputs.div_ceil(most);
    outputs * i / count..outputs * (i + 1) / count
}

/// The weights in the order in which tiles use them: `[tile][channel, tap][output of the tile]`.
fn packed(window: &Window, filters: &Filters<'_>, scratch: &Scratch) -> Buffer {
    let most = dispatch(Outputs);
    let (depth, taps, outputs) = (window.side.channels, window.taps(), window.out.channels);
    let mut packed = scratch.take(depth * taps * outputs);
    let mut place = packed.iter_mut();
    for outputs in (0..outputs.div_ceil(most)).map(|i| tile(outputs, most, i)) {
        for channel in 0..depth {
            for tap in 0..taps {
                let tap = if filters.reverse { taps - 1 - tap } else { tap };
                for (output, to) in outputs.clone().zip(&mut place) {
                    *to = filters.weight[channel * filters.depth_stride + output * filters.out_stride + tap];
                }
            }
        }
    }
    packed
}

/// The most outputs of a tile.
struct Outputs;

impl Kernel for Outputs {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self) -> usize {
        most_outputs::<S>()
    }
}

/// 8 outputs of 3 pixels, or 5 of 2 with half as many registers, stay in them.
#[inline(always)]
fn most_outputs<S: Simd>() -> usize {
    if S::LANES == 16 { 8 } else { 5 }
}

struct Forward<'a> {
    window: &'a Window,
    band: usize,
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    x: &'a [f32],
    target: Shared,
    scratch: &'a Scratch,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let window = self.window;
        let band = window.band(self.band, S::LANES);
        if band.rows.is_empty() {
            return;
        }
        let (source, target) = (window.source(&band.rows), window.target(&band.rows));
        let mut x = self.scratch.take(window.side.channels * source.rows * source.columns * S::LANES);
        let most = most_outputs::<S>();
        let pixels = target.rows * target.columns;
        let mut y = self.scratch.take(most * pixels * S::LANES);
        // SAFETY: the pictures of the band; the buffer was taken for them.
        unsafe { Window::read::<S>(window.side, &band, &source, self.x, x.as_mut_ptr()) }
        let outputs = window.out.channels;
        for outputs in (0..outputs.div_ceil(most)).map(|i| tile(outputs, most, i)) {
            self.rows::<S>(&source, &target, outputs.clone(), &x, &mut y);
            for (i, output) in outputs.enumerate() {
                let to = band.first_picture * window.out.step + output * window.out.h * window.out.w;
                // SAFETY: bands have pixels of their own.
                unsafe {
                    let from = y.as_ptr().add(i * pixels * S::LANES);
                    target.write::<S>(from, S::LANES, band.pictures, self.target.get().add(to));
                }
            }
        }
    }
}

impl Forward<'_> {
    /// Some outputs of all pixels of a band.
    #[inline(always)]
    fn rows<S: Simd>(
        &self,
        source: &Strip,
        target: &Strip,
        outputs: std::ops::Range<usize>,
        x: &[f32],
        y: &mut [f32],
    ) {
        let wide = if S::LANES == 16 { 3 } else { 2 };
        let wide = if target.columns >= wide { wide } else { 1 };
        let [kh, kw] = self.window.kernel;
        let stride = self.window.stride;
        let (count, depth) = (outputs.len(), self.window.side.channels);
        let weights = self.packed[outputs.start * depth * kh * kw..].as_ptr();
        for row in 0..target.rows {
            // Rows of the window that lie outside have nothing to add.
            let first = source.row + (row * stride[0]) as isize;
            let low = (-first).clamp(0, kh as isize) as usize;
            let high = (source.h as isize - first).clamp(low as isize, kh as isize) as usize;
            let mut column = 0;
            while column < target.columns {
                // Rather some pixels twice than a tile that is not full.
                let at = column.min(target.columns - wide);
                let place = Place {
                    x: x[((row * stride[0] + low) * source.columns + at * stride[1]) * S::LANES..].as_ptr(),
                    channel: source.rows * source.columns * S::LANES,
                    row: source.columns * S::LANES,
                    pixel: stride[1] * S::LANES,
                    weights: weights.wrapping_add(low * kw * count),
                    weights_channel: kh * kw * count,
                    size: [depth, high - low, kw],
                };
                let to = &mut y[(row * target.columns + at) * S::LANES..];
                let bias = self.bias.map(|bias| &bias[outputs.clone()]);
                let finish = Finish {
                    bias,
                    activation: self.activation,
                    output: target.rows * target.columns * S::LANES,
                };
                macro_rules! by_size {
                    ($($n:literal)*) => {
                        // SAFETY: the strip has these rows and columns.
                        unsafe {
                            match (count, wide) {
                                $(($n, 1) if $n <= most_outputs::<S>() => place.tile::<S, $n, 1>(&finish, to),
                                  ($n, 2) if $n <= most_outputs::<S>() && S::LANES != 16 => place.tile::<S, $n, 2>(&finish, to),
                                  ($n, 3) if $n <= most_outputs::<S>() && S::LANES == 16 => place.tile::<S, $n, 3>(&finish, to),)*
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

/// Where a tile finds its pixels and weights.
struct Place {
    x: *const f32,
    /// Steps between channels, rows and neighbouring outputs' pixels.
    channel: usize,
    row: usize,
    pixel: usize,
    weights: *const f32,
    weights_channel: usize,
    /// Channels, and rows and columns of the window.
    size: [usize; 3],
}

/// What becomes of the sums.
struct Finish<'a> {
    /// Of the tile's outputs.
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    /// The step between outputs.
    output: usize,
}

impl Place {
    #[inline(always)]
    unsafe fn tile<S: Simd, const OUTPUTS: usize, const PIXELS: usize>(
        &self,
        finish: &Finish<'_>,
        to: &mut [f32],
    ) {
        let [channels, rows, columns] = self.size;
        let mut sums = [[S::splat(0.0); PIXELS]; OUTPUTS];
        for channel in 0..channels {
            for row in 0..rows {
                // SAFETY: the caller's promise.
                let mut x = unsafe { self.x.add(channel * self.channel + row * self.row) };
                // SAFETY: as above.
                let mut w =
                    unsafe { self.weights.add(channel * self.weights_channel + row * columns * OUTPUTS) };
                for _ in 0..columns {
                    let mut pixels = [S::splat(0.0); PIXELS];
                    for (j, pixel) in pixels.iter_mut().enumerate() {
                        // SAFETY: as above.
                        *pixel = unsafe { S::load(x.add(j * self.pixel)) };
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as above.
                        let weight = S::splat(unsafe { *w.add(i) });
                        for (sum, pixel) in sums.iter_mut().zip(pixels) {
                            *sum = weight.mul_add(pixel, *sum);
                        }
                    }
                    // SAFETY: as above; one past the last is only computed.
                    unsafe {
                        x = x.add(S::LANES);
                        w = w.add(OUTPUTS);
                    }
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let bias = finish.bias.map_or(S::splat(0.0), |bias| S::splat(bias[i]));
            for (j, sum) in sums.into_iter().enumerate() {
                let mut y = sum + bias;
                if let Some(activation) = finish.activation {
                    y = activation.apply(y);
                }
                y.to_slice(&mut to[i * finish.output + j * S::LANES..]);
            }
        }
    }
}

pub(super) fn weight_grad(p: &Problem, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let lanes = instruction_set().1;
    let [side, out] = p.sides();
    let shift = p.padding.map(|p| -(p as isize));
    let window = Window { n: p.n, side, out, shift, kernel: [p.kh, p.kw], stride: p.stride };
    let bands = window.bands().1;
    let parts = PARTS.min(bands);
    let size = dw.len() * lanes;
    let mut sums = scratch.take(parts * size);
    sums.par_chunks_mut(size).enumerate().for_each(|(part, sums)| {
        let bands = bands * part / parts..bands * (part + 1) / parts;
        dispatch(WeightGrad { window: &window, bands, x, dy, sums, scratch });
    });
    let taps = p.kh * p.kw;
    for (i, dw) in dw.iter_mut().enumerate() {
        let tap = if p.flip { i / taps * taps + taps - 1 - i % taps } else { i };
        let part = |part: usize| dispatch(Sum(&sums[part * size + tap * lanes..][..lanes]));
        *dw = (0..parts).map(part).sum();
    }
}

/// The sum of a vector's lanes.
struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        S::from_slice(self.0).sum()
    }
}

struct WeightGrad<'a> {
    window: &'a Window,
    bands: std::ops::Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    /// A vector for each weight.
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let WeightGrad { window, bands, x: pictures, dy: grads, sums, scratch } = self;
        sums.fill(0.0);
        let most = 0..window.band_rows();
        let (source, target) = (window.source(&most), window.target(&most));
        let mut x = scratch.take(window.side.channels * source.rows * source.columns * S::LANES);
        let mut dy = scratch.take(window.out.channels * target.rows * target.columns * S::LANES);
        for band in bands.map(|i| window.band(i, S::LANES)).filter(|band| !band.rows.is_empty()) {
            let (source, target) = (window.source(&band.rows), window.target(&band.rows));
            // SAFETY: the pictures of the band; the buffers were taken for the largest.
            unsafe {
                Window::read::<S>(window.side, &band, &source, pictures, x.as_mut_ptr());
                Window::read::<S>(window.out, &band, &target, grads, dy.as_mut_ptr());
            }
            if S::LANES == 16 {
                tiles::<S, 4, 6>(window, &source, &target, &x, &dy, sums);
            } else {
                tiles::<S, 3, 3>(window, &source, &target, &x, &dy, sums);
            }
        }
    }
}

/// Adds what a band gives to all weights.
#[inline(always)]
fn tiles<S: Simd, const OUTPUTS: usize, const TAPS: usize>(
    window: &Window,
    source: &Strip,
    target: &Strip,
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let [kh, kw] = window.kernel;
    let (depth, pixels) = (window.side.channels * kh * kw, target.rows * target.columns);
    for first in (0..depth).step_by(TAPS) {
        // Of a tile at the edge the last output or tap is computed again and again.
        let mut taps = [x.as_ptr(); TAPS];
        for (j, tap) in taps.iter_mut().enumerate() {
            let k = (first + j).min(depth - 1);
            let (channel, row, column) = (k / (kh * kw), k / kw % kh, k % kw);
            *tap = x[((channel * source.rows + row) * source.columns + column) * S::LANES..].as_ptr();
        }
        for output in (0..window.out.channels).step_by(OUTPUTS) {
            let mut rows = [dy.as_ptr(); OUTPUTS];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = dy[(output + i).min(window.out.channels - 1) * pixels * S::LANES..].as_ptr();
            }
            let mut tile = [[S::splat(0.0); TAPS]; OUTPUTS];
            for row in 0..target.rows {
                let from = row * window.stride[0] * source.columns * S::LANES;
                for column in 0..target.columns {
                    let at = (row * target.columns + column) * S::LANES;
                    let from = from + column * window.stride[1] * S::LANES;
                    let mut grads = [S::splat(0.0); OUTPUTS];
                    for (grad, row) in grads.iter_mut().zip(rows) {
                        // SAFETY: a pixel of the strip.
                        *grad = unsafe { S::load(row.add(at)) };
                    }
                    for j in 0..TAPS {
                        // SAFETY: a pixel of the strip.
                        let pixel = unsafe { S::load(taps[j].add(from)) };
                        for i in 0..OUTPUTS {
                            tile[i][j] = grads[i].mul_add(pixel, tile[i][j]);
                        }
                    }
                }
            }
            for (i, tile) in tile.iter().enumerate().take(window.out.channels - output) {
                for (j, sum) in tile.iter().enumerate().take(depth - first) {
                    let to = &mut sums[((output + i) * depth + first + j) * S::LANES..];
                    (S::from_slice(to) + *sum).to_slice(to);
                }
            }
        }
    }
}
