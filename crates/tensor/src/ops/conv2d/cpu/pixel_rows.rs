//! Channel-blocked direct convolution (oneDNN's nChw16c layout) for few images: a vector holds one pixel of `LANES` channels, the
//! rows of a register tile are neighboring pixels of an output row. (In `channel_blocked`, they are images.)
//!
//! The images are transposed once, with their padding, and with the columns sorted by the phase of the stride, so the pixels under a
//! tap are neighbors:
//!
//! ```text
//!   x: [image][block of channels][row][column % stride][column / stride][LANES]
//!
//!   m[row][column, output] += Σ over channels of x[row · stride + tap's row][column + tap's column, channel] · u[tap][channel, output]
//! ```
//!
//! Some channels of one tap multiply all pixels of a band of rows, from the L1 cache, before the next: the weight, most of the memory
//! that a small feature map with many channels needs, is read from memory once. With a 1x1 kernel without padding, all pixels of a
//! band are neighbors.

use std::ops::Range;

use super::backend::{Cpu, InstructionSet};
use super::blocked_gemm::{Around, multiply_around};
use super::channel_blocked;
use super::channel_blocked::window::MIN_IMAGES;
use super::cost;
use super::sums::{activate, clear_planes, fill, padded_bias, range};
use super::taps::MAX_TAPS;
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass, Phase};

/// Number of channels whose filters for one tap stay in the L1 cache. It bounds the chains of additions.
const CHANNELS: usize = 128;
/// Target number of pixels of a task: its sums stay in the L1 cache.
const PIXELS: usize = 256;
/// Target number of tasks.
const TASKS: usize = 16;
/// Number of floats of transposed images at a time, about.
const FLOATS: usize = 4 << 20;
/// Convolutions with fewer multiply-adds run on the calling thread.
const SMALL: usize = 1 << 16;
/// Cost of the transposition of a vector, and of its copy, in vector multiply-adds.
const TRANSPOSITION: usize = 6;
const COPY: usize = 2;
/// Maximum number of pixels of feature maps for which a 1x1 kernel is not an implicit GEMM, which transposes nothing.
const SMALL_MAP: usize = 256;
/// Number of pixels from which those of one image fill register tiles well enough if there are others.
const MANY_PIXELS: usize = 128;
/// Number of products with a part of the weight up to which they ask for the next part while they run.
const MAX_WAITING: usize = 8;
/// Rows of a register tile below which it waits for its own additions.
const FEW_ROWS: usize = 4;

/// The algorithm; see the module's documentation.
///
/// It computes the forward pass of one group with up to 32 taps, unless strides or dilations are so large that most of the padded
/// image is under no tap.
///
/// It is exact enough for all inputs: an output is the sum of its terms in single precision, a chain over at most [`CHANNELS`]
/// channels for each tap.
pub(super) struct PixelRows;

impl ConvAlgorithm<Cpu> for PixelRows {
    fn name(&self) -> &'static str {
        "pixel_rows"
    }

    fn works_in_blocks(&self) -> bool {
        true
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        if pass != Pass::Forward || conv.groups != 1 || conv.n * conv.out_pixels() == 0 {
            return None;
        }
        let pixels = PaddedPixels::of(conv)?;
        let general = cost::general(conv, pass, device.lanes);
        let [inputs, outputs] = [conv.in_per_group, conv.out_per_group].map(|c| c.div_ceil(device.lanes));
        let reads_where_it_lies = conv.in_blocks[0] && pixels.are_all_of(conv);
        let few_channels = conv.in_per_group.min(conv.out_per_group) < device.lanes;
        let gemm_is_faster = !conv.in_blocks[0] && pixels.sampled && conv.out_pixels() > SMALL_MAP;
        // Rows of register tiles are pixels of one image only.
        let many_pixels = reads_where_it_lies && conv.out_pixels() >= MANY_PIXELS;
        let many_images = conv.n >= MIN_IMAGES && !many_pixels;
        if many_images || few_channels || gemm_is_faster {
            return Some(NOT_FASTER * general);
        }
        let taps = conv.kh * conv.kw;
        let products = (conv.n * conv.out_pixels() * taps) as f64 * conv.vector_steps(pass, device.lanes);
        let rows = tile_rows(pixels.run(&(0..conv.oh)).len(), device.lanes).max(1);
        let waits = (FEW_ROWS as f64 / rows as f64).max(1.0);
        let cost_of = |in_blocks: bool| if in_blocks { COPY } else { TRANSPOSITION };
        let inputs =
            if reads_where_it_lies { 0 } else { cost_of(conv.in_blocks[0]) * inputs * conv.h * conv.w };
        let outputs = if conv.in_blocks[1] { 0 } else { TRANSPOSITION * outputs * conv.out_pixels() };
        let transpositions = (conv.n * (inputs + outputs)) as f64;
        // The cost of the implicit GEMM does not count the lanes that it leaves empty.
        let lanes = 2 * device.lanes;
        let columns = conv.n * conv.out_pixels();
        let filled = columns as f64 / columns.next_multiple_of(lanes) as f64;
        Some(filled * (waits * products + transpositions))
    }

    fn pack(&self, scratch: &Scratch, conv: &ConvShape, weight: &[f32]) -> Option<Buffer> {
        Some(channel_blocked::pack(conv, weight, scratch))
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        let Operands::Forward { x, weight, bias, activation, y, .. } = operands else {
            unreachable!("{} has no cost for this pass", self.name())
        };
        let pixels = PaddedPixels::of(conv).expect("a convolution with a cost");
        forward(conv, &pixels, x, weight, (bias, activation), y, scratch);
    }
}

/// The pixels of an image that taps meet, with padding.
#[derive(Clone, Copy, Debug)]
struct PaddedPixels {
    /// Number of rows.
    rows: usize,
    /// Number of phases of the columns, and of columns of each.
    phases: usize,
    columns: usize,
    /// Whether the pixels are those under the only tap of each output: one row, one phase.
    sampled: bool,
    output_columns: usize,
}

impl PaddedPixels {
    /// Returns the pixels; `None` if there are many that no tap meets, or many taps.
    fn of(conv: &ConvShape) -> Option<Self> {
        let taps = conv.kh * conv.kw;
        if taps == 0 || taps > MAX_TAPS {
            return None;
        }
        if taps == 1 && conv.padding == [0, 0] {
            let columns = conv.out_pixels();
            return Some(PaddedPixels {
                rows: 1,
                phases: 1,
                columns,
                sampled: true,
                output_columns: conv.ow,
            });
        }
        let extent = |outputs: usize, kernel: usize, axis: usize| {
            let last = (outputs - 1).checked_mul(conv.stride[axis])?;
            last.checked_add((kernel - 1).checked_mul(conv.dilation[axis])?)?.checked_add(1)
        };
        let (rows, columns) = (extent(conv.oh, conv.kh, 0)?, extent(conv.ow, conv.kw, 1)?);
        let phases = conv.stride[1];
        let columns = columns.div_ceil(phases);
        let all = rows.checked_mul(columns)?.checked_mul(phases)?;
        let is_dense = all <= 4 * (conv.h * conv.w + conv.out_pixels() + taps);
        is_dense.then_some(PaddedPixels { rows, phases, columns, sampled: false, output_columns: conv.ow })
    }

    fn len(&self) -> usize {
        self.rows * self.phases * self.columns
    }

    /// Whether they are all pixels of the image, in its order.
    fn are_all_of(&self, conv: &ConvShape) -> bool {
        self.sampled && conv.stride == [1, 1]
    }

    /// Returns the neighboring columns of the first run of some output rows: those of one row, or of all if pixels are sampled.
    fn run(&self, rows: &Range<usize>) -> Range<usize> {
        if self.sampled {
            rows.start * self.output_columns..rows.end * self.output_columns
        } else {
            0..self.output_columns
        }
    }
}

/// Returns the rows of the largest register tile of a run of pixels.
fn tile_rows(run: usize, lanes: usize) -> usize {
    // As in `Simd::TILE_ROWS`.
    let most = if lanes == 16 { 14 } else { 6 };
    run.div_ceil(run.div_ceil(most).max(1))
}

fn forward(
    conv: &ConvShape,
    pixels: &PaddedPixels,
    x: &[f32],
    u: &[f32],
    (bias, activation): (Option<&[f32]>, Option<Activation>),
    y: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let [src, dst] = conv.feature_maps();
    let (depth, panels) = (src.blocks(lanes), dst.blocks(lanes).div_ceil(2));
    let block = pixels.len() * lanes;
    let direct = conv.in_blocks[0] && pixels.are_all_of(conv);
    let group = if direct { conv.n } else { (FLOATS / (depth * block).max(1)).clamp(1, conv.n) };
    let bands = conv.out_pixels().div_ceil(PIXELS).max(TASKS.div_ceil(panels * group)).min(conv.oh);
    let is_small = conv.n * conv.out_pixels() * conv.out_per_group * conv.filter_len() < SMALL;
    let for_each = |count: usize, work: &(dyn Fn(usize) + Sync)| {
        if is_small { (0..count).for_each(work) } else { for_each_task(count, work) }
    };
    let image_step = if direct { conv.x_batch_stride } else { depth * block };
    let mut transposed = scratch.take(if direct { 0 } else { group * depth * block });
    let target = Shared::new(y);
    for start in (0..conv.n).step_by(group) {
        let images = start..conv.n.min(start + group);
        let to = Shared::new(&mut transposed);
        for_each(if direct { 0 } else { images.len() * depth }, &|i| {
            // SAFETY: the tasks have disjoint blocks.
            let to = unsafe { to.slice(i * block, block) };
            dispatch(Transpose { conv, pixels, image: start + i / depth, block: i % depth, x, to, scratch });
        });
        let x = if direct { x } else { &transposed[..] };
        // Neighboring tasks read the same part of the weight or of the image, whichever is more memory.
        let image_is_larger = depth * block >= u.len();
        for_each(panels * images.len() * bands, &|i| {
            let (image, i) = (i / (panels * bands), i % (panels * bands));
            let (panel, band) =
                if image_is_larger { (i % panels, i / panels) } else { (i / bands, i % bands) };
            let x = &x[image * image_step..][..depth * block];
            let rows = part(conv.oh, bands, band);
            let image = start + image;
            dispatch(Band { conv, pixels, image, rows, panel, x, u, bias, activation, target, scratch });
        });
    }
}

/// The transposition of one block of channels of an image.
struct Transpose<'a> {
    conv: &'a ConvShape,
    pixels: &'a PaddedPixels,
    image: usize,
    block: usize,
    x: &'a [f32],
    to: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Transpose { conv, pixels, image, block, x, to, scratch } = self;
        let [src, _] = conv.feature_maps();
        let first = block * S::LANES;
        let from = &x[image * src.batch_stride + first * src.h * src.w..];
        let planes = S::LANES.min(src.channels - first);
        if !pixels.sampled {
            to.fill(0.0);
        }
        let together = (4 * S::LANES).div_ceil(src.w.max(1)).min(src.h);
        let mut some = scratch.take(together * src.w * S::LANES);
        for start in (0..src.h).step_by(together.max(1)) {
            let rows = start..src.h.min(start + together);
            // SAFETY: the planes have these rows, and `some` a vector for each of their pixels.
            unsafe { src.rows(&rows).read::<S>(from.as_ptr(), planes, some.as_mut_ptr(), S::LANES) };
            for (row, some) in rows.zip(some.chunks_exact((src.w * S::LANES).max(1))) {
                let vectors = some.chunks_exact(S::LANES);
                let mut copy = |to_pixel: usize, from: &mut dyn Iterator<Item = &[f32]>| {
                    let to = to[to_pixel * S::LANES..].chunks_exact_mut(S::LANES);
                    to.zip(from).for_each(|(to, from)| S::from_slice(from).to_slice(to));
                };
                if pixels.sampled {
                    if row % conv.stride[0] == 0 && row / conv.stride[0] < conv.oh {
                        let pixel = row / conv.stride[0] * conv.ow;
                        copy(pixel, &mut vectors.step_by(conv.stride[1]).take(conv.ow));
                    }
                    continue;
                }
                let row = row + conv.padding[0];
                if row >= pixels.rows {
                    break;
                }
                for phase in 0..pixels.phases {
                    let Phase { left, start, inside } = conv.phase(phase, pixels.columns);
                    let mut from = vectors.clone().skip(start).step_by(pixels.phases).take(inside);
                    copy((row * pixels.phases + phase) * pixels.columns + left, &mut from);
                }
            }
        }
    }
}

/// Some rows of one image, for two blocks of output channels.
struct Band<'a> {
    conv: &'a ConvShape,
    pixels: &'a PaddedPixels,
    image: usize,
    rows: Range<usize>,
    panel: usize,
    x: &'a [f32],
    u: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    target: Shared<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Band<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Band { conv, pixels, panel, .. } = self;
        let [src, dst] = conv.feature_maps();
        let (taps, count) = (conv.kh * conv.kw, self.rows.len() * conv.ow);
        if count == 0 {
            return;
        }
        let wide = 2.min(dst.blocks(S::LANES) - 2 * panel);
        let u = &self.u[panel * 2 * taps * src.channels * S::LANES..];
        // Sums of outputs in blocks are computed in their place.
        let (first, at) = (2 * panel * S::LANES, self.rows.start * conv.ow);
        let mut some = self.scratch.take(if dst.in_blocks { 0 } else { wide * count * S::LANES });
        let image = self.image * dst.batch_stride;
        let m = if dst.in_blocks {
            let to = image + first * dst.h * dst.w + at * S::LANES;
            // SAFETY: the position of the band's first pixel.
            (unsafe { self.target.get().add(to) }, dst.h * dst.w * S::LANES)
        } else {
            (some.as_mut_ptr(), count * S::LANES)
        };
        let bias = padded_bias(self.bias, first..dst.channels.min(first + wide * S::LANES));
        // A single tap meets each pixel.
        let starts_with_bias = pixels.sampled && src.channels > 0;
        let range = range(self.activation).filter(|_| starts_with_bias);
        if !starts_with_bias {
            // SAFETY: `m` has these vectors for each pixel of the band.
            unsafe { fill::<S>(m, [wide, count], bias.as_ptr()) }
        }
        for channel in (0..src.channels).step_by(CHANNELS) {
            let channels = CHANNELS.min(src.channels - channel);
            let is_last = channel + channels == src.channels;
            let x = &self.x[channel * pixels.len()..];
            for tap in 0..taps {
                let u = &u[(tap * src.channels + channel) * wide * S::LANES..];
                let around = Around {
                    bias: (starts_with_bias && channel == 0).then_some(bias.as_ptr()),
                    ahead: None,
                    range: range.filter(|_| is_last),
                };
                let add = !starts_with_bias || channel > 0;
                // Where the weight of the next products starts, relative to this one.
                let next = wide * S::LANES * if tap + 1 < taps { src.channels } else { channels };
                self.add_tap::<S>(tap, [channels, wide], x, u, m, next, (add, around));
            }
        }
        if range.is_none()
            && let Some(activation) = self.activation
        {
            // SAFETY: as above.
            unsafe { activate::<S>(m, [wide, count], activation) }
        }
        if !dst.in_blocks {
            let tile = dst.rows(&self.rows);
            for half in 0..wide {
                let first = first + half * S::LANES;
                let to = image + first * dst.h * dst.w;
                // SAFETY: the tasks have disjoint images, rows and channels.
                unsafe {
                    let from = m.0.add(half * m.1);
                    tile.write::<S>(from, S::LANES, dst.channels - first, self.target.get().add(to));
                }
            }
        } else if first + wide * S::LANES > dst.channels {
            let (last, planes) = (wide - 1, dst.channels - (first + (wide - 1) * S::LANES));
            // SAFETY: the vectors of the last block, which is not full.
            unsafe { clear_planes::<S>(m.0.add(last * m.1), count, planes) }
        }
    }
}

impl Band<'_> {
    /// Adds the products of some channels with one tap to the sums of all pixels.
    #[allow(clippy::too_many_arguments, reason = "the operands of a product, and what surrounds it")]
    #[inline(always)]
    fn add_tap<S: Simd>(
        &self,
        tap: usize,
        [channels, wide]: [usize; 2],
        x: &[f32],
        u: &[f32],
        m: (*mut f32, usize),
        next: usize,
        (add, around): (bool, Around),
    ) {
        let Band { conv, pixels, .. } = self;
        let [tap_row, tap_column] = [tap / conv.kw * conv.dilation[0], tap % conv.kw * conv.dilation[1]];
        let runs = if pixels.sampled { 1 } else { self.rows.len() };
        for run in 0..runs {
            let from = pixels.run(&self.rows);
            let at = if pixels.sampled {
                from.start
            } else {
                let row = (self.rows.start + run) * conv.stride[0] + tap_row;
                if row < conv.padding[0] || row >= conv.padding[0] + conv.h {
                    continue;
                }
                let phase = tap_column % pixels.phases;
                (row * pixels.phases + phase) * pixels.columns + tap_column / pixels.phases
            };
            let tiles = from.len().div_ceil(S::TILE_ROWS);
            // Few tiles wait for the weight that they multiply next, unless they ask for it.
            let products = runs * tiles;
            let ahead = wide * S::LANES;
            for tile in 0..tiles {
                let columns = part(from.len(), tiles, tile);
                let x = &x[(at + columns.start) * S::LANES..];
                let size = [columns.len(), wide];
                // SAFETY: each block of `x` has these pixels, `u` these channels, `m` these sums in each half.
                unsafe {
                    let m = (m.0.add((run * from.len() + columns.start) * S::LANES), m.1);
                    let x = (x.as_ptr(), pixels.len() * S::LANES);
                    let share = ahead.div_ceil(products);
                    let next = u.as_ptr().wrapping_add(next + (run * tiles + tile) * channels * share);
                    let ahead = (products <= MAX_WAITING).then_some((next, share));
                    multiply_around(size, channels, x, u.as_ptr(), m, add, Around { ahead, ..around });
                }
            }
        }
    }
}
