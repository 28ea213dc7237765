//! The Winograd algorithm for 3x3 and 5x5 kernels with stride 1 (A. Lavin, S. Gray, "Fast algorithms for
//! convolutional neural networks", CVPR 2016), as far as the CPU and OpenCL share it: transforms, tile sizes,
//! cost model and tiling.

mod tiling;
pub mod transform;

pub use tiling::{Tiling, Unit};

use super::shape::{ConvShape, Pass};

/// Minimum number of tiles for which a filter's response to a constant input is corrected
/// ([`ConstantResponse`](transform::ConstantResponse)), which takes the time of about eight tiles.
pub const MANY_TILES: usize = 512;

/// Largest ratio of the largest values of two windows of a tile, for the forward pass and the input gradient: outputs have the
/// error that they would have if all windows had values this much larger.
pub const WINDOW_RATIO: f32 = 64.0;

/// The same for the weight gradient, whose sums go over all windows.
pub const WEIGHT_RATIO: f32 = 1024.0;

/// Whether the weight gradient of a convolution is the sum of so few terms, one for each output pixel, that behind a ReLU all of them
/// may be 0. The transforms do not compute an exact 0, and Adam divides a gradient by its own size.
fn has_few_terms(conv: &ConvShape) -> bool {
    conv.n * conv.oh * conv.ow < FEW_TERMS
}

/// See [`has_few_terms`].
const FEW_TERMS: usize = 256;

/// The tile sizes that have kernels: `F(m, r)` of the paper, along each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileSize {
    /// F(4, 3): 4 outputs, 3 taps, 6 points.
    F4x3,
    /// F(3, 3): 3 outputs, 3 taps, 5 points.
    F3x3,
    /// F(2, 5): 2 outputs, 5 taps, 6 points.
    F2x5,
}

impl TileSize {
    /// Returns the number of points along an axis.
    pub fn points(self) -> usize {
        if self == TileSize::F3x3 { 5 } else { 6 }
    }

    /// Returns the number of outputs along an axis.
    pub fn outputs(self) -> usize {
        match self {
            TileSize::F4x3 => 4,
            TileSize::F3x3 => 3,
            TileSize::F2x5 => 2,
        }
    }
}

/// Returns the tile size with the least estimated cost on vectors of `lanes` floats, and that cost in vector
/// multiply-adds, or `None` if the Winograd algorithm cannot compute the convolution: a weight gradient of few terms not exactly
/// enough. Depends on shapes alone.
pub fn choose(conv: &ConvShape, pass: Pass, lanes: usize) -> Option<(TileSize, f64)> {
    if conv.groups != 1 || conv.stride != [1, 1] || conv.dilation != [1, 1] || conv.n == 0 {
        return None;
    }
    if pass == Pass::WeightGrad && has_few_terms(conv) {
        return None;
    }
    let tile_sizes: &[TileSize] = match [conv.kh, conv.kw] {
        [3, 3] => &[TileSize::F4x3, TileSize::F3x3],
        [5, 5] => &[TileSize::F2x5],
        _ => return None,
    };
    let [rows, columns] = if pass == Pass::InputGrad { [conv.h, conv.w] } else { [conv.oh, conv.ow] };
    if rows == 0 || columns == 0 {
        return None;
    }
    let blocks = |channels: usize| channels.div_ceil(lanes) as f64;
    let products = conv.vector_steps(pass, lanes);
    let cost = |s: TileSize| {
        let (points, m) = ((s.points() * s.points()) as f64, s.outputs());
        let tiles = (conv.n * rows.div_ceil(m) * columns.div_ceil(m)) as f64;
        let transforms = 8.0 * (blocks(conv.in_per_group) + blocks(conv.out_per_group));
        // Transformed filters are written to memory and read again; those of the weight gradient several
        // times.
        let filters = if pass == Pass::WeightGrad { 48.0 } else { 20.0 } * products;
        points * (tiles * (1.15 * products + transforms) + filters)
    };
    let costs = tile_sizes.iter().map(|&tile_size| (tile_size, cost(tile_size)));
    costs.min_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// Whether the cost that [`choose`] returns is comparable with those of other algorithms. It is not for the input
/// gradient with padding at least as large as the kernel, where the output is larger than needed.
pub fn is_cost_known(conv: &ConvShape, pass: Pass) -> bool {
    pass != Pass::InputGrad || conv.padding[0] < conv.kh && conv.padding[1] < conv.kw
}
