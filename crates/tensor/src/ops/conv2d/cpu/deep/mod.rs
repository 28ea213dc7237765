//! Convolutions with many channels, of some pictures at once: the lanes of all vectors are channels, the rows of a tile are
//! pictures.
//!
//! Seen from one pixel of the output, each tap of the window that lies in the picture is a product of matrices:
//!
//! ```text
//!   m[pixel][picture, output] = Σ over taps, channels of x[pixel under the tap][picture, channel] · u[tap][channel, output]
//! ```
//!
//! Nothing is gathered, taps over the padding cost nothing, and stride and dilation only change which pixel it is. So it is
//! for the gradient of the picture, whose pixels are under the taps of the outputs that they went into. What lies in memory
//! plane by plane is turned round a band of rows at a time, and back, which is little work beside the products.
//!
//! A window of one tap that moves pixel by pixel sees no difference between pixels: all of them are rows of one product.

mod weight_grad;

use rayon::prelude::*;

pub(super) use weight_grad::weight_grad;

use super::product::product;
use super::strip::Strip;
use super::taps::{TAPS, read_filters};
use super::{Filters, Problem, Side};
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;

/// The most pictures of a task, and the least that make it worth while.
const PICTURES: usize = 32;
const FEW_PICTURES: usize = 6;
/// Pixels of maps that are small.
const SMALL_MAP: usize = 256;
/// Pixels to aim at in a task where all pixels are rows.
const PIXELS: usize = 448;
/// Floats of the input to aim at in a task: what the second level cache holds.
const FLOATS: usize = 160 << 10;
/// Tasks to aim at.
const TASKS: usize = 16;

/// Whether there are kernels for such a convolution, and enough pictures; of small maps one is enough, as the vectors of
/// gathered columns would be empty in part, and the weight is most of what is read.
pub(super) fn is_possible(p: &Problem) -> bool {
    let small = p.n > 0 && p.pixels().max(p.h * p.w) <= SMALL_MAP;
    let enough = small || p.n >= FEW_PICTURES;
    p.groups == 1 && enough && p.kh * p.kw <= TAPS && p.cg.min(p.og) > 8
}

/// Whether this way is faster than gathering columns: windows of one tap need no gathering.
pub(super) fn is_better(p: &Problem) -> bool {
    is_possible(p) && p.kh * p.kw > 1
}

/// Whether it is for the gradient of the input, where with a stride most pixels have nothing to gather.
pub(super) fn is_better_for_input_grad(p: &Problem) -> bool {
    is_possible(p) && (p.kh * p.kw > 1 || p.stride != [1, 1])
}

/// How many pairs of an output pixel and a tap lie in the picture.
pub(super) fn pairs(p: &Problem) -> usize {
    let window = Window::forward(p);
    (0..2)
        .map(|axis| {
            let [kernel, outputs] = [[p.kh, p.kw][axis], [p.oh, p.ow][axis]];
            (0..kernel)
                .map(|tap| (0..outputs).filter(|&o| window.source(axis, o, tap).is_some()).count())
                .sum::<usize>()
        })
        .product()
}

/// The weight as [`forward`] takes it.
pub(super) fn pack(p: &Problem, weight: &[f32], scratch: &Scratch) -> Buffer {
    packed(&Window::forward(p), &Filters::forward(p, weight), scratch)
}

/// The output; `u` is the weight as [`pack`] makes it.
pub(super) fn forward(
    p: &Problem,
    x: &[f32],
    u: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    convolve(&Window::forward(p), u, bias, activation, x, y, scratch);
}

pub(super) fn input_grad(p: &Problem, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    let filters = Filters { reverse: p.flip, ..Filters::backward(p, weight) };
    let window = Window::backward(p);
    let u = packed(&window, &filters, scratch);
    convolve(&window, &u, None, None, dy, dx, scratch);
}

/// Which pixels of the input go into which of the output.
#[derive(Clone, Copy)]
struct Window {
    n: usize,
    side: Side,
    out: Side,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    /// Whether the output is the gradient of the picture.
    back: bool,
    /// Whether all pixels are rows of one product.
    flat: bool,
}

/// How vectors of some pictures and rows lie: `[pixel][block][row]`.
#[derive(Clone, Copy)]
struct Layout {
    /// Rows of a product: pictures, or all pixels of all pictures.
    count: usize,
    /// Pixels of a picture that are rows each.
    pixels: usize,
}

impl Layout {
    /// Floats from a block to the next, from a pixel to the next (of so many blocks), and from a picture to the next.
    fn steps<S: Simd>(self, blocks: usize) -> [usize; 3] {
        let step = self.count * S::LANES;
        [step, if self.pixels > 1 { S::LANES } else { blocks * step }, self.pixels * S::LANES]
    }
}

impl Window {
    fn forward(p: &Problem) -> Self {
        let [side, out] = p.sides();
        Window {
            n: p.n,
            side,
            out,
            kernel: [p.kh, p.kw],
            stride: p.stride,
            padding: p.padding,
            dilation: p.dilation,
            back: false,
            flat: [p.kh, p.kw] == [1, 1] && p.stride == [1, 1] && p.padding == [0, 0],
        }
    }

    fn backward(p: &Problem) -> Self {
        let [out, side] = p.sides();
        Window { side, out, back: true, ..Self::forward(p) }
    }

    /// Along an axis, the pixel of the input under tap `tap` of pixel `output`.
    #[inline(always)]
    fn source(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let size = [self.side.h, self.side.w][axis];
        let (stride, padding, reach) = (self.stride[axis], self.padding[axis], tap * self.dilation[axis]);
        let pixel = if self.back {
            let at = (output + padding).checked_sub(reach)?;
            if stride == 1 {
                at
            } else if at.is_multiple_of(stride) {
                at / stride
            } else {
                return None;
            }
        } else {
            (output * stride + reach).checked_sub(padding)?
        };
        (pixel < size).then_some(pixel)
    }

    /// The rows of the input that some rows of the output see.
    fn sources(&self, rows: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let seen =
            rows.clone().flat_map(|row| (0..self.kernel[0]).filter_map(move |tap| self.source(0, row, tap)));
        seen.fold(None, |all: Option<(usize, usize)>, row| match all {
            None => Some((row, row + 1)),
            Some((low, high)) => Some((low.min(row), high.max(row + 1))),
        })
        .map_or(0..0, |(low, high)| low..high)
    }

    /// How some pictures and rows lie.
    fn layout(&self, pictures: usize, rows: usize) -> Layout {
        if self.flat {
            Layout { count: pictures * rows * self.out.w, pixels: rows * self.out.w }
        } else {
            Layout { count: pictures, pixels: 1 }
        }
    }

    /// How the work is cut: groups of pictures, and bands of rows of the output.
    fn cut(&self) -> Cut {
        let lanes = instruction_set().1;
        if self.flat {
            let plane = (self.out.h * self.out.w).max(1);
            let rows = (PIXELS / self.out.w.max(1)).clamp(1, self.out.h.max(1));
            let pictures = (PIXELS / plane).clamp(1, self.n);
            return Cut { groups: self.n.div_ceil(pictures), bands: self.out.h.div_ceil(rows) };
        }
        let row = self.side.w * self.side.blocks(lanes) * lanes;
        let least = self.sources(&(0..1.min(self.out.h))).len().max(1);
        let pictures = (FLOATS / (least * row).max(1)).clamp(FEW_PICTURES * 2, PICTURES).min(self.n);
        let groups = self.n.div_ceil(pictures.max(1));
        let pictures = self.n.div_ceil(groups.max(1));
        let rows = (1..=self.out.h)
            .take_while(|&r| r == 1 || self.sources(&(0..r)).len() * row * pictures <= FLOATS);
        let bands = self.out.h.div_ceil(rows.last().unwrap_or(1));
        Cut { groups, bands }
    }
}

/// How the work is cut.
#[derive(Clone, Copy)]
struct Cut {
    groups: usize,
    bands: usize,
}

impl Cut {
    fn count(&self) -> usize {
        self.groups * self.bands
    }

    /// The pictures and the rows of the output of piece `i`.
    fn piece(&self, window: &Window, i: usize) -> [std::ops::Range<usize>; 2] {
        let (band, group) = (i % self.bands, i / self.bands);
        [part(window.n, self.groups, group), part(window.out.h, self.bands, band)]
    }
}

/// Part `i` of `count` of `whole`, as even as possible.
fn part(whole: usize, count: usize, i: usize) -> std::ops::Range<usize> {
    whole * i / count..whole * (i + 1) / count
}

/// Rows `rows` of some blocks of channels of some pictures.
///
/// # Safety
/// `to` must have room for all of them.
#[inline(always)]
unsafe fn read_pictures<S: Simd>(
    side: &Side,
    layout: Layout,
    pictures: &std::ops::Range<usize>,
    rows: &std::ops::Range<usize>,
    blocks: &std::ops::Range<usize>,
    x: &[f32],
    to: *mut f32,
) {
    let strip = side.rows(rows);
    let [block_step, pixel_step, picture_step] = layout.steps::<S>(blocks.len());
    for (i, picture) in pictures.clone().enumerate() {
        for (j, block) in blocks.clone().enumerate() {
            let first = block * S::LANES;
            let from = picture * side.step + first * side.h * side.w;
            // SAFETY: the planes of this block; the caller's promise.
            unsafe {
                let to = to.add(j * block_step + i * picture_step);
                strip.read::<S>(x.as_ptr().add(from), S::LANES.min(side.channels - first), to, pixel_step);
            }
        }
    }
}

impl Side {
    /// Whole rows.
    fn rows(&self, rows: &std::ops::Range<usize>) -> Strip {
        Strip {
            h: self.h,
            w: self.w,
            plane: self.h * self.w,
            row: rows.start as isize,
            column: 0,
            rows: rows.len(),
            columns: self.w,
        }
    }
}

fn convolve(
    window: &Window,
    u: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    x: &[f32],
    y: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let cut = window.cut();
    let panels = window.out.blocks(lanes).div_ceil(2);
    let splits = TASKS.div_ceil(cut.count().max(1)).min(panels);
    let target = Shared::new(y);
    (0..cut.count() * splits).into_par_iter().for_each(|i| {
        let [pictures, rows] = cut.piece(window, i / splits);
        let panels = part(panels, splits, i % splits);
        dispatch(Task { window, pictures, rows, panels, u, bias, activation, x, target, scratch });
    });
}

/// The weights: `[two blocks of outputs][tap][channel]`, two vectors each.
fn packed(window: &Window, filters: &Filters<'_>, scratch: &Scratch) -> Buffer {
    let lanes = instruction_set().1;
    let blocks = window.out.blocks(lanes);
    let taps = window.kernel[0] * window.kernel[1];
    let mut u = scratch.take(taps * window.side.channels * blocks * lanes);
    let target = Shared::new(&mut u);
    // A task has some channels of one block.
    let parts = window.side.channels.div_ceil(64);
    (0..blocks * parts).into_par_iter().for_each(|i| {
        let channels = part(window.side.channels, parts, i % parts);
        dispatch(Pack { window, filters, channels, block: i / parts, target, scratch });
    });
    u
}

struct Pack<'a> {
    window: &'a Window,
    filters: &'a Filters<'a>,
    channels: std::ops::Range<usize>,
    block: usize,
    target: Shared,
    scratch: &'a Scratch,
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Pack { window, filters, channels, block, target, scratch } = self;
        let (depth, outputs) = (window.side.channels, window.out.channels);
        let count = window.kernel[0] * window.kernel[1];
        let (blocks, first) = (window.out.blocks(S::LANES), block * S::LANES);
        let wide = if block % 2 == 1 || block + 1 < blocks { 2 } else { 1 };
        let lanes = S::LANES.min(outputs - first);
        let place = |tap: usize, channel: usize| {
            (block / 2 * 2 * count * depth + (tap * depth + channel) * wide + block % 2) * S::LANES
        };
        let mut taps = scratch.take(S::LANES * count * S::LANES);
        for channel in channels.clone().step_by(S::LANES) {
            let some = channel..channels.end.min(channel + S::LANES);
            // SAFETY: the filters of these channels and outputs; each task has its own channels and blocks.
            unsafe {
                read_filters::<S>(filters, some.clone(), first, lanes, count, taps.as_mut_ptr());
                for (i, channel) in some.enumerate() {
                    for tap in 0..count {
                        let from = if filters.reverse { count - 1 - tap } else { tap };
                        let value = S::load(taps.as_ptr().add((i * count + from) * S::LANES));
                        value.store(target.get().add(place(tap, channel)));
                    }
                }
            }
        }
    }
}

struct Task<'a> {
    window: &'a Window,
    pictures: std::ops::Range<usize>,
    /// Of the output.
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
    u: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    x: &'a [f32],
    target: Shared,
    scratch: &'a Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Window { side, out, kernel, .. } = *self.window;
        if self.rows.is_empty() || self.pictures.is_empty() {
            return;
        }
        let layout = self.window.layout(self.pictures.len(), self.rows.len());
        let (count, depth, blocks) = (layout.count, side.blocks(S::LANES), out.blocks(S::LANES));
        let sources = self.window.sources(&self.rows);
        let floats = (sources.len() * side.w).max(1) * depth * self.pictures.len() * S::LANES;
        let mut x = self.scratch.take(floats);
        // SAFETY: the buffer was taken for these pictures and rows.
        unsafe {
            read_pictures::<S>(&side, layout, &self.pictures, &sources, &(0..depth), self.x, x.as_mut_ptr());
        }
        let (step, pixel) = (count * S::LANES, depth * count * S::LANES);
        // Where all pixels are rows, one pixel stands for all.
        let [rows, columns] = if self.window.flat { [1, 1] } else { [self.rows.len(), out.w] };
        let mut m = self.scratch.take(rows * columns * 2 * step);
        let groups = count.div_ceil(S::TILE_ROWS);
        for panel in self.panels.clone() {
            let wide = 2.min(blocks - 2 * panel);
            self.start::<S>(panel, wide, count, &mut m);
            for tap in 0..kernel[0] * kernel[1] {
                let u = (panel * 2 * kernel[0] * kernel[1] + tap * wide) * side.channels * S::LANES;
                let u = self.u[u..].as_ptr();
                for (r, row) in self.rows.clone().enumerate().take(rows) {
                    let Some(from_row) = self.window.source(0, row, tap / kernel[1]) else { continue };
                    for column in 0..columns {
                        let Some(from_column) = self.window.source(1, column, tap % kernel[1]) else {
                            continue;
                        };
                        let from = ((from_row - sources.start) * side.w + from_column) * pixel;
                        let to = (r * columns + column) * 2 * step;
                        for group in 0..groups {
                            let rows = part(count, groups, group);
                            let first = rows.start * S::LANES;
                            // SAFETY: the buffers have these sizes.
                            unsafe {
                                product(
                                    [rows.len(), wide],
                                    side.channels,
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
            self.finish::<S>(panel, wide, &mut m);
        }
    }
}

impl Task<'_> {
    /// The bias, to which the products are added.
    #[inline(always)]
    fn start<S: Simd>(&self, panel: usize, wide: usize, count: usize, m: &mut [f32]) {
        for half in 0..wide {
            let first = (2 * panel + half) * S::LANES;
            let bias = self.bias.map_or(S::splat(0.0), |bias| S::from_short_slice(&bias[first..]));
            let count = count * S::LANES;
            for pixel in m.chunks_exact_mut(2 * count) {
                for to in pixel[half * count..][..count].chunks_exact_mut(S::LANES) {
                    bias.to_slice(to);
                }
            }
        }
    }

    /// The activation, and the way to memory.
    #[inline(always)]
    fn finish<S: Simd>(&self, panel: usize, wide: usize, m: &mut [f32]) {
        let out = self.window.out;
        if let Some(activation) = self.activation {
            for v in m.chunks_exact_mut(S::LANES) {
                activation.apply(S::from_slice(v)).to_slice(v);
            }
        }
        let strip = out.rows(&self.rows);
        let layout = self.window.layout(self.pictures.len(), self.rows.len());
        let [block_step, pixel_step, picture_step] = layout.steps::<S>(2);
        for half in 0..wide {
            let first = (2 * panel + half) * S::LANES;
            for (i, picture) in self.pictures.clone().enumerate() {
                let to = picture * out.step + first * out.h * out.w;
                // SAFETY: tasks have pictures, rows and channels of their own.
                unsafe {
                    let from = m.as_ptr().add(half * block_step + i * picture_step);
                    let to = self.target.get().add(to);
                    strip.write::<S>(from, pixel_step, out.channels - first, to);
                }
            }
        }
    }
}
