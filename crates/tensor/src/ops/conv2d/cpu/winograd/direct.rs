//! Direct computation of single tiles, whose values the transforms cannot compute with (see [`range`](super::range)).

use super::range::TileIndex;
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd};
use crate::ops::Activation;
use crate::ops::conv2d::cpu::layout::{FeatureMap, Filters};
use crate::ops::conv2d::cpu::sums::MAX_LANES;
use crate::ops::conv2d::cpu::taps::read_filters;

/// A convolution with stride 1.
pub struct DirectConv<'a> {
    pub src: FeatureMap,
    pub dst: FeatureMap,
    /// The pixel under the first tap of output pixel 0.
    pub shift: [isize; 2],
    pub filters: &'a Filters<'a>,
    pub bias: Option<&'a [f32]>,
    pub activation: Option<Activation>,
    pub x: &'a [f32],
    pub target: Shared<'a>,
}

/// Computes tiles of `M` by `M` outputs of a convolution. `filters`, of [`DirectConv::filter_floats`], and `sums`, a vector for each
/// output of the tiles, are scratch memory.
pub struct DirectTiles<'a, const A: usize, const M: usize> {
    pub conv: &'a DirectConv<'a>,
    pub tiles: &'a [TileIndex],
    pub filters: &'a mut [f32],
    pub sums: &'a mut [f32],
}

impl<const A: usize, const M: usize> Kernel for DirectTiles<'_, A, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        if !self.tiles.is_empty() {
            self.conv.compute::<S, A, M>(self.tiles, self.filters, self.sums);
        }
    }
}

impl DirectConv<'_> {
    /// Returns the length of the filters of [`DirectTiles`].
    pub fn filter_floats<S: Simd, const A: usize, const M: usize>() -> usize {
        (A + 1 - M) * (A + 1 - M) * S::LANES * S::LANES
    }

    /// See [`DirectTiles`].
    #[inline(always)]
    fn compute<S: Simd, const A: usize, const M: usize>(
        &self,
        tiles: &[TileIndex],
        filters: &mut [f32],
        sums: &mut [f32],
    ) {
        let taps = A + 1 - M;
        let count = taps * taps;
        let tile_step = M * M * S::LANES;
        let sums = &mut sums[..tiles.len() * tile_step];
        for first in (0..self.dst.channels).step_by(S::LANES) {
            sums.fill(0.0);
            let lanes = S::LANES.min(self.dst.channels - first);
            for channel in (0..self.src.channels).step_by(S::LANES) {
                let channels = channel..self.src.channels.min(channel + S::LANES);
                // SAFETY: the weight has these channels and outputs, and the buffer this size.
                unsafe {
                    read_filters::<S>(
                        self.filters,
                        channels.clone(),
                        first,
                        lanes,
                        count,
                        filters.as_mut_ptr(),
                    );
                }
                for (tile, sums) in tiles.iter().zip(sums.chunks_exact_mut(tile_step)) {
                    self.accumulate::<S, A, M>(tile, channels.clone(), filters, sums);
                }
            }
            let bias = self.bias.map_or(S::splat(0.0), |bias| S::from_short_slice(&bias[first..]));
            for (tile, sums) in tiles.iter().zip(sums.chunks_exact_mut(tile_step)) {
                for value in sums.chunks_exact_mut(S::LANES) {
                    let sum = S::from_slice(value) + bias;
                    self.activation.map_or(sum, |activation| activation.apply(sum)).to_slice(value);
                }
                let start = [tile.row * M, tile.column * M].map(|at| at as isize);
                let to = tile.image * self.dst.batch_stride + first * self.dst.h * self.dst.w;
                // SAFETY: the caller's task owns the pixels of its tiles.
                unsafe {
                    let to = self.target.get().add(to);
                    self.dst.tile(start, [M, M]).write::<S>(sums.as_ptr(), S::LANES, lanes, to);
                }
            }
        }
    }

    /// Adds the products of some channels of a tile with their filters.
    #[inline(always)]
    fn accumulate<S: Simd, const A: usize, const M: usize>(
        &self,
        tile: &TileIndex,
        channels: std::ops::Range<usize>,
        filters: &[f32],
        sums: &mut [f32],
    ) {
        let taps = A + 1 - M;
        let start = [tile.row * M, tile.column * M].map(|at| at as isize);
        let start = [start[0] + self.shift[0], start[1] + self.shift[1]];
        let region = self.src.tile(start, [A, A]);
        let [rows, columns] = region.inside();
        let mut pixels = [[0.0f32; MAX_LANES]; MAX_LANES];
        for (i, channel) in channels.enumerate() {
            let from = tile.image * self.src.batch_stride;
            for row in rows.clone() {
                for column in columns.clone() {
                    let at = (start[0] + row as isize) as usize * self.src.w
                        + (start[1] + column as isize) as usize;
                    pixels[row][column] = self.x[from + self.src.position(S::LANES, channel, at)];
                }
            }
            for tap in 0..taps * taps {
                let (u, v) = (tap / taps, tap % taps);
                let at = if self.filters.reverse { taps * taps - 1 - tap } else { tap };
                let filter = S::from_slice(&filters[(i * taps * taps + at) * S::LANES..]);
                for (output, sum) in sums.chunks_exact_mut(S::LANES).enumerate() {
                    let pixel = S::splat(pixels[output / M + u][output % M + v]);
                    pixel.mul_add(filter, S::from_slice(sum)).to_slice(sum);
                }
            }
        }
    }
}
