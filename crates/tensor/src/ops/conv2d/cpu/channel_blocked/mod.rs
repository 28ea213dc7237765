//! Channel-blocked direct convolution (oneDNN's nChw16c layout), for many channels and several images: a
//! vector holds one pixel of `LANES` channels, the rows of a register tile are images.
//!
//! For one output pixel, each tap of the kernel that is not over padding is a matrix product:
//!
//! ```text
//!   m[pixel][image, output] = Σ over taps, channels of x[pixel under the tap][image, channel] · u[tap][channel, output]
//! ```
//!
//! Nothing is gathered, taps over padding cost nothing, and stride and dilation only change which pixel is
//! read. The input gradient works in the same way with the mapping from outputs to pixels reversed. The input
//! is transposed a band of rows at a time, and the output back, which is little work compared with the
//! products.
//!
//! With a 1x1 kernel, stride 1 and no padding, all pixels of all images are rows of one product.

mod weight_grad;
pub(super) mod window;

use super::backend::{Cpu, InstructionSet};
use super::blocked_gemm::multiply;
use super::cost;
use super::layout::Filters;
use super::sums::activate;
use super::taps::{MAX_TAPS, read_filters};
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use weight_grad::weight_grad;
use window::{SlidingWindow, read_images};

/// Target number of tasks.
const TASKS: usize = 16;

/// The algorithm; see the module's documentation.
///
/// It cannot compute several groups, and weight gradients of more than 32 taps, whose sums do not fit into registers.
///
/// It is exact enough for all inputs: an output is the sum of its terms in single precision, a chain over the channels
/// for each tap, with an error that grows with the root of the number of terms.
pub(super) struct ChannelBlocked;

impl ConvAlgorithm<Cpu> for ChannelBlocked {
    fn name(&self) -> &'static str {
        "channel_blocked"
    }

    fn works_in_blocks(&self) -> bool {
        true
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        let fits = pass != Pass::WeightGrad || conv.kh * conv.kw <= MAX_TAPS;
        (conv.groups == 1 && conv.n > 0 && fits).then(|| cost::channel_blocked(conv, pass, device.lanes))
    }

    fn pack(&self, scratch: &Scratch, conv: &ConvShape, weight: &[f32]) -> Option<Buffer> {
        Some(pack(conv, weight, scratch))
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                convolve(&SlidingWindow::forward(conv), weight, bias, activation, x, y, scratch);
            }
            Operands::InputGrad { dy, weight, dx } => {
                let filters = Filters { reverse: conv.flip, ..Filters::backward(conv, weight) };
                let window = SlidingWindow::backward(conv);
                let u = pack_filters(&window, &filters, scratch);
                convolve(&window, &u, None, None, dy, dx, scratch);
            }
            Operands::WeightGrad { x, dy, dw } => weight_grad(conv, x, dy, dw, scratch),
        }
    }
}

fn convolve(
    window: &SlidingWindow,
    u: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    x: &[f32],
    y: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let bands = window.bands();
    let panels = window.dst.blocks(lanes).div_ceil(2);
    let splits = TASKS.div_ceil(bands.count().max(1)).min(panels);
    let target = Shared::new(y);
    for_each_task(bands.count() * splits, |i| {
        let [images, rows] = bands.get(window, i / splits);
        let panels = part(panels, splits, i % splits);
        dispatch(Forward { window, images, rows, panels, u, bias, activation, x, target, scratch });
    });
}

/// Packs the weight of the forward pass.
pub(super) fn pack(conv: &ConvShape, weight: &[f32], scratch: &Scratch) -> Buffer {
    pack_filters(&SlidingWindow::forward(conv), &Filters::forward(conv, weight), scratch)
}

/// Packs the weight: `[two blocks of outputs][tap][channel]`, two vectors each.
fn pack_filters(window: &SlidingWindow, filters: &Filters<'_>, scratch: &Scratch) -> Buffer {
    let lanes = instruction_set().1;
    let blocks = window.dst.blocks(lanes);
    let taps = window.kernel[0] * window.kernel[1];
    let mut u = scratch.take(taps * window.src.channels * blocks * lanes);
    let target = Shared::new(&mut u);
    // A task packs some channels of one block.
    let parts = window.src.channels.div_ceil(64);
    for_each_task(blocks * parts, |i| {
        let channels = part(window.src.channels, parts, i % parts);
        dispatch(Pack { window, filters, channels, block: i / parts, target, scratch });
    });
    u
}

/// The packing of some channels of one block of outputs.
struct Pack<'a> {
    window: &'a SlidingWindow,
    filters: &'a Filters<'a>,
    channels: std::ops::Range<usize>,
    block: usize,
    target: Shared<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Pack { window, filters, channels, block, target, scratch } = self;
        let (depth, outputs) = (window.src.channels, window.dst.channels);
        let count = window.kernel[0] * window.kernel[1];
        let (blocks, first) = (window.dst.blocks(S::LANES), block * S::LANES);
        let wide = if block % 2 == 1 || block + 1 < blocks { 2 } else { 1 };
        let lanes = S::LANES.min(outputs - first);
        let offset = |tap: usize, channel: usize| {
            (block / 2 * 2 * count * depth + (tap * depth + channel) * wide + block % 2) * S::LANES
        };
        let mut taps = scratch.take(S::LANES * count * S::LANES);
        for channel in channels.clone().step_by(S::LANES) {
            let some = channel..channels.end.min(channel + S::LANES);
            // SAFETY: the weight has these channels and outputs; the tasks have disjoint channels and blocks.
            unsafe {
                read_filters::<S>(filters, some.clone(), first, lanes, count, taps.as_mut_ptr());
                for (i, channel) in some.enumerate() {
                    for tap in 0..count {
                        let from = if filters.reverse { count - 1 - tap } else { tap };
                        let value = S::load(taps.as_ptr().add((i * count + from) * S::LANES));
                        value.store(target.get().add(offset(tap, channel)));
                    }
                }
            }
        }
    }
}

/// Initializes the sums of `count` rows of two blocks, or several times those, with the bias of a panel.
#[inline(always)]
fn fill_bias<S: Simd>(bias: Option<&[f32]>, panel: usize, wide: usize, count: usize, m: &mut [f32]) {
    for half in 0..wide {
        let first = (2 * panel + half) * S::LANES;
        let bias = bias.map_or(S::splat(0.0), |bias| S::from_short_slice(&bias[first..]));
        let count = count * S::LANES;
        for pixel in m.chunks_exact_mut(2 * count) {
            for to in pixel[half * count..][..count].chunks_exact_mut(S::LANES) {
                bias.to_slice(to);
            }
        }
    }
}

/// The outputs of a band of rows, for some panels of output channels (two blocks each).
struct Forward<'a> {
    window: &'a SlidingWindow,
    images: std::ops::Range<usize>,
    /// Rows of the output.
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
    u: &'a [f32],
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
        let SlidingWindow { src, dst, kernel, .. } = *self.window;
        if self.rows.is_empty() || self.images.is_empty() {
            return;
        }
        let layout = self.window.layout(self.images.len(), self.rows.len());
        let (count, depth, blocks) = (layout.count, src.blocks(S::LANES), dst.blocks(S::LANES));
        let sources = self.window.sources(&self.rows);
        let floats = (sources.len() * src.w).max(1) * depth * self.images.len() * S::LANES;
        let mut x = self.scratch.take(floats);
        // SAFETY: the buffer has the size of these images and rows.
        unsafe {
            read_images::<S>(&src, layout, &self.images, &sources, &(0..depth), self.x, x.as_mut_ptr());
        }
        let (step, pixel) = (count * S::LANES, depth * count * S::LANES);
        // If all pixels are rows of one product, it is handled as one pixel.
        let [rows, columns] = if self.window.pixels_are_rows { [1, 1] } else { [self.rows.len(), dst.w] };
        let mut m = self.scratch.take(rows * columns * 2 * step);
        let groups = count.div_ceil(S::TILE_ROWS);
        for panel in self.panels.clone() {
            let wide = 2.min(blocks - 2 * panel);
            fill_bias::<S>(self.bias, panel, wide, count, &mut m);
            for tap in 0..kernel[0] * kernel[1] {
                let u = (panel * 2 * kernel[0] * kernel[1] + tap * wide) * src.channels * S::LANES;
                let u = self.u[u..].as_ptr();
                for (r, row) in self.rows.clone().enumerate().take(rows) {
                    let Some(from_row) = self.window.source(0, row, tap / kernel[1]) else { continue };
                    for column in 0..columns {
                        let Some(from_column) = self.window.source(1, column, tap % kernel[1]) else {
                            continue;
                        };
                        let from = ((from_row - sources.start) * src.w + from_column) * pixel;
                        let to = (r * columns + column) * 2 * step;
                        for group in 0..groups {
                            let rows = part(count, groups, group);
                            let first = rows.start * S::LANES;
                            // SAFETY: the buffers have these sizes.
                            unsafe {
                                multiply(
                                    [rows.len(), wide],
                                    src.channels,
                                    (x.as_ptr().add(from + first), step),
                                    u,
                                    (m.as_mut_ptr().add(to + first), step),
                                    true,
                                );
                            }
                        }
                    }
                }
            }
            self.store::<S>(panel, wide, &mut m);
        }
    }
}

impl Forward<'_> {
    /// Applies the activation and writes the output.
    #[inline(always)]
    fn store<S: Simd>(&self, panel: usize, wide: usize, m: &mut [f32]) {
        let dst = self.window.dst;
        if let Some(activation) = self.activation {
            // SAFETY: all vectors of the slice.
            unsafe { activate::<S>((m.as_mut_ptr(), 0), [1, m.len() / S::LANES], activation) }
        }
        let tile = dst.rows(&self.rows);
        let layout = self.window.layout(self.images.len(), self.rows.len());
        let [block_step, pixel_step, image_step] = layout.steps::<S>(2);
        for half in 0..wide {
            let first = (2 * panel + half) * S::LANES;
            for (i, image) in self.images.clone().enumerate() {
                let to = image * dst.batch_stride + first * dst.h * dst.w;
                // SAFETY: the tasks have disjoint images, rows and channels.
                unsafe {
                    let from = m.as_ptr().add(half * block_step + i * image_step);
                    let to = self.target.get().add(to);
                    tile.write::<S>(from, pixel_step, dst.channels - first, to);
                }
            }
        }
    }
}
