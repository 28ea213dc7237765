//! The memory layouts of feature maps and filters.

use super::transposed_tile::TransposedTile;
use crate::ops::conv2d::ConvShape;

/// The channels of one side of a convolution, its input or its output, for one group: `[n, channels, h, w]`.
#[derive(Clone, Copy)]
pub struct FeatureMap {
    pub channels: usize,
    pub h: usize,
    pub w: usize,
    /// Floats from one image to the next.
    pub batch_stride: usize,
    /// Whether it is in blocks of channels: `[n, blocks, h, w, LANES]`.
    pub in_blocks: bool,
}

impl FeatureMap {
    /// Returns the number of blocks of `lanes` channels; the last may be incomplete.
    pub fn blocks(&self, lanes: usize) -> usize {
        self.channels.div_ceil(lanes)
    }

    /// Returns the position of a pixel of a channel in its image, for blocks of `lanes` channels.
    pub fn position(&self, lanes: usize, channel: usize, pixel: usize) -> usize {
        let plane = self.h * self.w;
        if self.in_blocks {
            (channel / lanes * plane + pixel) * lanes + channel % lanes
        } else {
            channel * plane + pixel
        }
    }

    /// Returns the tile of `rows` by `columns` pixels of several channels from pixel `[row, column]` on.
    pub fn tile(&self, [row, column]: [isize; 2], [rows, columns]: [usize; 2]) -> TransposedTile {
        let FeatureMap { h, w, in_blocks, .. } = *self;
        TransposedTile { h, w, plane_stride: h * w, in_blocks, row, column, rows, columns }
    }
}

impl ConvShape {
    /// Returns the feature maps of the input and of the output, for one group.
    pub fn feature_maps(&self) -> [FeatureMap; 2] {
        [
            FeatureMap {
                channels: self.in_per_group,
                h: self.h,
                w: self.w,
                batch_stride: self.x_batch_stride,
                in_blocks: self.in_blocks[0],
            },
            FeatureMap {
                channels: self.out_per_group,
                h: self.oh,
                w: self.ow,
                batch_stride: self.y_batch_stride,
                in_blocks: self.in_blocks[1],
            },
        ]
    }
}

/// The weight of a convolution, or of its input gradient, where input and output channels are swapped. The
/// taps of the filter from channel `i` to channel `o` start at `i * in_stride + o * out_stride`.
pub struct Filters<'a> {
    pub weight: &'a [f32],
    pub in_stride: usize,
    pub out_stride: usize,
    /// Whether the taps are read from the last to the first.
    pub reverse: bool,
}

impl<'a> Filters<'a> {
    /// The filters of the convolution.
    pub fn forward(conv: &ConvShape, weight: &'a [f32]) -> Self {
        let taps = conv.kh * conv.kw;
        Filters { weight, in_stride: taps, out_stride: conv.filter_len(), reverse: conv.flip }
    }

    /// The filters of the input gradient, rotated by 180 degrees, from output channels to input channels.
    pub fn backward(conv: &ConvShape, weight: &'a [f32]) -> Self {
        let taps = conv.kh * conv.kw;
        Filters { weight, in_stride: conv.filter_len(), out_stride: taps, reverse: !conv.flip }
    }
}
