//! The pixels of a convolution as columns of a GEMM: grids and taps for the gather maps of `cpu/gather.rs`.

use crate::cpu::{PixelGrid, Tap};
use crate::ops::conv2d::ConvShape;

/// Returns the pixel grid of the output, with its sources in the input.
pub fn source_grid(conv: &ConvShape, images: usize) -> PixelGrid {
    PixelGrid {
        images,
        image_stride: conv.x_batch_stride,
        rows: conv.oh,
        columns: conv.ow,
        memory_rows: conv.h,
        row_stride: conv.w,
    }
}

/// Returns the taps of the kernel, over an input whose columns are sorted by phase if the convolution has a
/// stride.
pub fn source_taps(conv: &ConvShape) -> impl ExactSizeIterator<Item = Tap> + Clone + '_ {
    (0..conv.kh * conv.kw).map(|t| {
        let column = (t % conv.kw * conv.dilation[1]) as isize - conv.padding[1] as isize;
        let stride = conv.stride[1] as isize;
        let (column_base, column_count) = columns_of_phase(conv, column.rem_euclid(stride) as usize);
        Tap {
            row: (t / conv.kw * conv.dilation[0]) as isize - conv.padding[0] as isize,
            row_step: conv.stride[0],
            column: column.div_euclid(stride),
            column_base,
            column_count,
        }
    })
}

/// Returns the pixel grid of the output in the output's own memory.
pub fn output_grid(conv: &ConvShape, images: usize) -> PixelGrid {
    PixelGrid {
        images,
        image_stride: conv.y_batch_stride,
        rows: conv.oh,
        columns: conv.ow,
        memory_rows: conv.oh,
        row_stride: conv.ow,
    }
}

/// Returns the only tap of a grid whose pixels are stored row by row.
pub fn whole_rows(columns: usize) -> Tap {
    Tap { row: 0, row_step: 1, column: 0, column_base: 0, column_count: columns }
}

/// Returns where the input columns of a phase (column index modulo the stride) lie in a row that is sorted by
/// phase: the index of the first, and their number.
pub fn columns_of_phase(conv: &ConvShape, phase: usize) -> (usize, usize) {
    let count = |phase: usize| conv.w.saturating_sub(phase).div_ceil(conv.stride[1]);
    ((0..phase.min(conv.w)).map(count).sum(), count(phase))
}

/// Returns the number of images that share a gather map (a unit), chosen so that few lanes of the panels of
/// 32 columns stay empty.
pub fn images_per_unit(n: usize, pixels: usize) -> usize {
    if pixels >= 1024 {
        return 1;
    }
    let panels = |g: usize| (n / g) * (g * pixels).div_ceil(32) + (n % g * pixels).div_ceil(32);
    let fits = |g: &usize| g * pixels <= 2048 || *g == 1;
    let enough = (256usize.div_ceil(pixels.max(1))).min(n).max(1);
    (1..=n.max(1))
        .filter(fits)
        .filter(|g| *g >= enough || g * pixels >= 1024)
        .min_by_key(|&g| (panels(g), g))
        .unwrap_or(1)
}
