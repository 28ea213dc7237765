//! Which source pixels an output depends on, and the division of the work into bands.

use crate::cpu::parallel::part;
use crate::cpu::simd::{Simd, instruction_set};
use crate::ops::conv2d::ConvShape;
use crate::ops::conv2d::cpu::layout::FeatureMap;
use crate::ops::conv2d::cpu::transposed_tile::TransposedTile;

/// Minimum number of images, except for small feature maps.
pub const MIN_IMAGES: usize = 6;
/// Maximum number of images of a task.
const MAX_IMAGES: usize = 32;
/// Target number of pixels of a task in which all pixels are rows of one product.
const PIXELS: usize = 448;
/// Target number of input floats of a task: they fit into the L2 cache.
const FLOATS: usize = 160 << 10;

/// The sliding window of a convolution from `src` to `dst`, or of its input gradient.
#[derive(Clone, Copy)]
pub struct SlidingWindow {
    pub n: usize,
    pub src: FeatureMap,
    pub dst: FeatureMap,
    pub kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    /// Whether `dst` is the gradient of the input.
    backward: bool,
    /// Whether all pixels of all images are rows of one product.
    pub pixels_are_rows: bool,
}

/// The layout of the vectors of some images and rows: `[pixel][block][row]`.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Number of rows of a product: images, or all pixels of all images.
    pub count: usize,
    /// Number of pixels of an image that are rows; 1 if only images are.
    pub pixels: usize,
}

impl Layout {
    /// Returns the floats from one block to the next, from one pixel (of `blocks` blocks) to the next, and
    /// from one image to the next.
    pub fn steps<S: Simd>(self, blocks: usize) -> [usize; 3] {
        let step = self.count * S::LANES;
        [step, if self.pixels > 1 { S::LANES } else { blocks * step }, self.pixels * S::LANES]
    }
}

impl SlidingWindow {
    pub fn forward(conv: &ConvShape) -> Self {
        let [src, dst] = conv.feature_maps();
        SlidingWindow {
            n: conv.n,
            src,
            dst,
            kernel: [conv.kh, conv.kw],
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
            backward: false,
            pixels_are_rows: [conv.kh, conv.kw] == [1, 1] && conv.stride == [1, 1] && conv.padding == [0, 0],
        }
    }

    pub fn backward(conv: &ConvShape) -> Self {
        let [dst, src] = conv.feature_maps();
        SlidingWindow { src, dst, backward: true, ..Self::forward(conv) }
    }

    /// Returns, along an axis, the source pixel for tap `tap` of pixel `output`; `None` in the padding, and
    /// for the input gradient if the stride skips the pixel.
    #[inline(always)]
    pub fn source(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let size = [self.src.h, self.src.w][axis];
        let (stride, padding, reach) = (self.stride[axis], self.padding[axis], tap * self.dilation[axis]);
        let pixel = if self.backward {
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

    /// Returns the source rows that some rows of the output depend on.
    pub fn sources(&self, rows: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let seen =
            rows.clone().flat_map(|row| (0..self.kernel[0]).filter_map(move |tap| self.source(0, row, tap)));
        seen.fold(0..0, |all, row| hull(&all, row..row + 1))
    }

    /// Returns the layout of some images and rows.
    pub fn layout(&self, images: usize, rows: usize) -> Layout {
        if self.pixels_are_rows {
            Layout { count: images * rows * self.dst.w, pixels: rows * self.dst.w }
        } else {
            Layout { count: images, pixels: 1 }
        }
    }

    /// Divides the outputs into groups of images and bands of rows.
    pub fn bands(&self) -> Bands {
        let lanes = instruction_set().1;
        if self.pixels_are_rows {
            let plane = (self.dst.h * self.dst.w).max(1);
            let rows = (PIXELS / self.dst.w.max(1)).clamp(1, self.dst.h.max(1));
            let images = (PIXELS / plane).clamp(1, self.n);
            return Bands { groups: self.n.div_ceil(images), bands: self.dst.h.div_ceil(rows) };
        }
        let row = self.src.w * self.src.blocks(lanes) * lanes;
        let least = self.sources(&(0..1.min(self.dst.h))).len().max(1);
        let images = (FLOATS / (least * row).max(1)).clamp(MIN_IMAGES * 2, MAX_IMAGES).min(self.n);
        let groups = self.n.div_ceil(images.max(1));
        let images = self.n.div_ceil(groups.max(1));
        // The source rows of the first rows of the output, as many as fit.
        let mut sources = 0..0;
        let rows = (1..=self.dst.h).take_while(|&r| {
            sources = hull(&sources, self.sources(&(r - 1..r)));
            r == 1 || sources.len() * row * images <= FLOATS
        });
        let bands = self.dst.h.div_ceil(rows.last().unwrap_or(1));
        Bands { groups, bands }
    }
}

/// Returns the smallest range that contains both.
fn hull(a: &std::ops::Range<usize>, b: std::ops::Range<usize>) -> std::ops::Range<usize> {
    if a.is_empty() {
        b
    } else if b.is_empty() {
        a.clone()
    } else {
        a.start.min(b.start)..a.end.max(b.end)
    }
}

/// The division of the outputs into groups of images and bands of rows.
#[derive(Clone, Copy)]
pub struct Bands {
    groups: usize,
    bands: usize,
}

impl Bands {
    /// Returns the number of bands of all groups.
    pub fn count(&self) -> usize {
        self.groups * self.bands
    }

    /// Returns the images and the output rows of band `i`.
    pub fn get(&self, window: &SlidingWindow, i: usize) -> [std::ops::Range<usize>; 2] {
        let (band, group) = (i % self.bands, i / self.bands);
        [part(window.n, self.groups, group), part(window.dst.h, self.bands, band)]
    }
}

/// Reads some rows and blocks of channels of some images, transposed.
///
/// # Safety
/// `x` must contain them, and the vectors of all pixels at `to` be writable.
#[inline(always)]
pub unsafe fn read_images<S: Simd>(
    map: &FeatureMap,
    layout: Layout,
    images: &std::ops::Range<usize>,
    rows: &std::ops::Range<usize>,
    blocks: &std::ops::Range<usize>,
    x: &[f32],
    to: *mut f32,
) {
    let tile = map.rows(rows);
    let [block_step, pixel_step, image_step] = layout.steps::<S>(blocks.len());
    for (i, image) in images.clone().enumerate() {
        for (j, block) in blocks.clone().enumerate() {
            let first = block * S::LANES;
            let from = image * map.batch_stride + first * map.h * map.w;
            // SAFETY: the channels of this block exist; the rest is guaranteed by the caller.
            unsafe {
                let to = to.add(j * block_step + i * image_step);
                tile.read::<S>(x.as_ptr().add(from), S::LANES.min(map.channels - first), to, pixel_step);
            }
        }
    }
}

impl FeatureMap {
    /// Returns the tile of some full rows.
    pub fn rows(&self, rows: &std::ops::Range<usize>) -> TransposedTile {
        self.tile([rows.start as isize, 0], [rows.len(), self.w])
    }
}
