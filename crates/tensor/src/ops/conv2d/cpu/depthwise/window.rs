//! The sums over windows of single planes.

use crate::cpu::simd::{Simd, prefetch};
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// Largest kernel.
const MAX_KERNEL: usize = 7;
/// Largest number of vectors that are loaded for the taps in a row: pairs of them for a stride of 2.
const MAX_LOADS: usize = MAX_KERNEL + 1;

/// A sum over the pixels of a plane under a square kernel, for planes of `n` images of `channels`:
/// `dst[r, c] = Σ w[i, j] · src[stride r + i - padding[0], stride c + j - padding[1]]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub n: usize,
    pub channels: usize,
    /// Side of the kernel: 3, 5 or 7.
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Less than the kernel, so that each window has a pixel.
    pub padding: [usize; 2],
    /// Height and width of the source.
    pub src: [usize; 2],
    /// Height and width of the result.
    pub dst: [usize; 2],
    src_batch_stride: usize,
    dst_batch_stride: usize,
    /// Whether the kernel is rotated by 180 degrees.
    pub rotated: bool,
}

impl Window {
    /// Returns the window of a pass: that of the forward pass for the weight gradient. `None` if it is no such window.
    pub fn of(conv: &ConvShape, pass: Pass) -> Option<Self> {
        let (kernel, stride) = (conv.kh, conv.stride[0]);
        let fits = conv.n > 0
            && (conv.in_per_group, conv.out_per_group) == (1, 1)
            && [3, 5, MAX_KERNEL].contains(&kernel)
            && conv.kw == kernel
            && conv.dilation == [1, 1]
            && (conv.stride == [1, 1] || conv.stride == [2, 2] && pass != Pass::InputGrad)
            && conv.padding.iter().all(|&padding| padding < kernel)
            && conv.h.min(conv.w) > 0;
        fits.then_some(())?;
        let forward = Window {
            n: conv.n,
            channels: conv.groups,
            kernel,
            stride,
            padding: conv.padding,
            src: [conv.h, conv.w],
            dst: [conv.oh, conv.ow],
            src_batch_stride: conv.x_batch_stride,
            dst_batch_stride: conv.y_batch_stride,
            rotated: conv.flip,
        };
        let window = match pass {
            Pass::Forward | Pass::WeightGrad => forward,
            // The gradient of a pixel is the sum over the outputs whose windows hold it.
            Pass::InputGrad => Window {
                padding: conv.padding.map(|padding| kernel - 1 - padding),
                src: forward.dst,
                dst: forward.src,
                src_batch_stride: conv.y_batch_stride,
                dst_batch_stride: conv.x_batch_stride,
                rotated: !conv.flip,
                ..forward
            },
        };
        (window.src.iter().chain(&window.dst).all(|&size| size > 0)).then_some(window)
    }

    pub fn src_plane(&self) -> usize {
        self.src[0] * self.src[1]
    }

    pub fn dst_plane(&self) -> usize {
        self.dst[0] * self.dst[1]
    }

    /// Returns where a plane of an image of the source begins.
    pub fn src_start(&self, image: usize, channel: usize) -> usize {
        image * self.src_batch_stride + channel * self.src_plane()
    }

    /// Returns where a plane of an image of the result begins.
    pub fn dst_start(&self, image: usize, channel: usize) -> usize {
        image * self.dst_batch_stride + channel * self.dst_plane()
    }

    /// Returns the index of a weight in the kernel of its channel.
    pub fn tap(&self, row: usize, column: usize) -> usize {
        let tap = row * self.kernel + column;
        if self.rotated { self.kernel * self.kernel - 1 - tap } else { tap }
    }

    /// Returns the vectors of a row of the result. The last one overlaps the one before, if it may, so that it is full.
    pub fn blocks(&self, lanes: usize, may_overlap: bool) -> Vec<Block> {
        let width = self.dst[1];
        let block = |start: usize| {
            if may_overlap && width >= lanes {
                Block::new(self, lanes, start.min(width - lanes), lanes)
            } else {
                Block::new(self, lanes, start, lanes.min(width - start))
            }
        };
        (0..width).step_by(lanes).map(block).collect()
    }
}

/// Calls a method whose constants are the kernel and the stride of a window: `for_constants!(window, S, kernel.method())`.
macro_rules! for_constants {
    ($window:expr, $simd:ident, $kernel:ident.$method:ident()) => {
        match ($window.kernel, $window.stride) {
            (3, 1) => $kernel.$method::<$simd, 3, 1>(),
            (5, 1) => $kernel.$method::<$simd, 5, 1>(),
            (7, 1) => $kernel.$method::<$simd, 7, 1>(),
            (3, _) => $kernel.$method::<$simd, 3, 2>(),
            (5, _) => $kernel.$method::<$simd, 5, 2>(),
            _ => $kernel.$method::<$simd, 7, 2>(),
        }
    };
}
pub(super) use for_constants;

/// `LANES` neighboring pixels of each row of the result.
pub(super) struct Block {
    /// The first column.
    pub column: usize,
    /// Number of columns, at most `LANES`.
    pub count: usize,
    /// Position in a row of the source of the first tap of the first column.
    first: isize,
    /// The lanes within the row and under a column, of each vector that [`Block::load`] loads.
    masks: [u32; MAX_LOADS],
    /// Whether all lanes of all vectors are: nothing need be masked.
    pub inside: bool,
}

impl Block {
    fn new(window: &Window, lanes: usize, column: usize, count: usize) -> Self {
        let Window { kernel, stride, .. } = *window;
        let first = (column * stride) as isize - window.padding[1] as isize;
        let last = first + (kernel - 1 + stride * (count - 1)) as isize;
        let all = u32::MAX >> (32 - lanes);
        let mask = |load: usize| {
            let inside = |lane: usize| {
                let position = first + (offset(stride, load, lanes) + lane) as isize;
                (0..window.src[1] as isize).contains(&position) && position <= last
            };
            (0..lanes).filter(|&lane| inside(lane)).map(|lane| 1 << lane).sum()
        };
        let masks = std::array::from_fn(mask);
        let used = if stride == 1 { kernel } else { kernel + 1 };
        let inside = count == lanes && masks[..used].iter().all(|&mask| mask == all);
        Block { column, count, first, masks, inside }
    }

    /// Returns the masks for [`Block::load`].
    #[inline(always)]
    pub fn masks<S: Simd>(&self) -> [S::Mask; MAX_LOADS] {
        // Plain loops, here and below: a closure would not be compiled for the instruction set.
        let mut masks = [S::mask(0); MAX_LOADS];
        for (mask, &bits) in masks.iter_mut().zip(&self.masks) {
            *mask = S::mask(bits);
        }
        masks
    }

    /// Loads the pixels under each of the `K` taps in a row. Masks are used if the block is not `INSIDE`.
    ///
    /// # Safety
    /// `row` is the start of a row of the source of the window; the block is inside, or not `INSIDE`.
    #[inline(always)]
    pub unsafe fn load<S: Simd, const K: usize, const STRIDE: usize, const INSIDE: bool>(
        &self,
        row: *const f32,
        masks: &[S::Mask; MAX_LOADS],
    ) -> [S; K] {
        let from = row.wrapping_offset(self.first);
        let mut taps = [S::splat(0.0); K];
        if STRIDE == 1 {
            for (tap, x) in taps.iter_mut().enumerate() {
                // SAFETY: the lanes of the mask, or all, lie within the row.
                *x = unsafe { load::<S, INSIDE>(from.wrapping_add(tap), masks[tap]) };
            }
        } else {
            for pair in 0..K.div_ceil(2) {
                let low = from.wrapping_add(2 * pair);
                let high = low.wrapping_add(S::LANES);
                // SAFETY: as above.
                let (low, high) = unsafe {
                    (load::<S, INSIDE>(low, masks[2 * pair]), load::<S, INSIDE>(high, masks[2 * pair + 1]))
                };
                let (even, odd) = low.deinterleave(high);
                taps[2 * pair] = even;
                if 2 * pair + 1 < K {
                    taps[2 * pair + 1] = odd;
                }
            }
        }
        taps
    }
}

/// Asks for the next planes of the source and of the result while a block of this one is computed. A processor expects to read on
/// in a row, not down a column.
#[derive(Clone, Copy)]
pub(super) struct Next {
    src: *const f32,
    dst: *const f32,
}

impl Next {
    /// The part of the next planes that is as large as a block; `src` and `dst` are the starts of this plane, which the next one
    /// follows.
    #[inline(always)]
    pub fn new<const STRIDE: usize>(
        window: &Window,
        block: &Block,
        src: *const f32,
        dst: *const f32,
    ) -> Self {
        let rows = window.dst[0];
        Next {
            src: src.wrapping_add(window.src_plane() + block.column * rows * STRIDE * STRIDE),
            dst: dst.wrapping_add(window.dst_plane() + block.column * rows),
        }
    }

    /// Asks for as much as a row of the result needs.
    #[inline(always)]
    pub fn ask<S: Simd, const STRIDE: usize>(&mut self) {
        for _ in 0..STRIDE * STRIDE {
            prefetch(self.src);
            self.src = self.src.wrapping_add(S::LANES);
        }
        prefetch(self.dst);
        self.dst = self.dst.wrapping_add(S::LANES);
    }
}

/// Moves each value to the next place, and `first` to the first one.
#[inline(always)]
pub(super) fn shift<T: Copy, const N: usize>(values: &mut [T; N], first: T) {
    // A loop would be compiled to a copy in memory; these stay in registers.
    macro_rules! from_to {
        ($($from:literal $to:literal),*) => {$(
            if $to < N {
                values[$to] = values[$from];
            }
        )*};
    }
    from_to!(5 6, 4 5, 3 4, 2 3, 1 2, 0 1);
    values[0] = first;
}

/// Returns the distance of a vector of [`Block::load`] from the first tap of the first column.
fn offset(stride: usize, load: usize, lanes: usize) -> usize {
    if stride == 1 { load } else { load / 2 * 2 + load % 2 * lanes }
}

/// # Safety
/// The lanes of the mask, or all if `INSIDE`, must be readable.
#[inline(always)]
unsafe fn load<S: Simd, const INSIDE: bool>(from: *const f32, mask: S::Mask) -> S {
    // SAFETY: guaranteed by the caller.
    unsafe { if INSIDE { S::load(from) } else { S::load_zeroed(from, mask) } }
}
