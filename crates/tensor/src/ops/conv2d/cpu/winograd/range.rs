//! Which tiles have values that the transforms cannot compute with: they differ too much, or are not finite.
//!
//! A transform adds all pixels of a tile, so the error of each output is relative to the largest pixel of the tile, not of the
//! output's own window. The *energy* of a pixel is the sum of its squares over all channels, that of a window the largest of its
//! pixels. A tile is computed with the transforms only if the largest energy of its windows is at most a limit times the least.

use std::ops::Range;

use super::source::{TileSource, largest_region};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::conv2d::cpu::transposed_tile::TransposedTile;
use crate::ops::conv2d::winograd::{Tiling, Unit};

/// Largest sum of energies: far below an overflow in the transforms and in sums of their products.
const LARGEST: f32 = 1e30;

/// A tile of one image, by its row and column among the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileIndex {
    pub image: usize,
    pub row: usize,
    pub column: usize,
}

/// The energies of the pixels of some units.
pub struct Energies<'a> {
    pub values: &'a [f32],
    /// Floats from one unit to the next.
    pub step: usize,
    pub source: &'a TileSource<'a>,
    pub tiling: &'a Tiling,
    pub units: Range<usize>,
}

impl<'a> Energies<'a> {
    /// Returns a unit, its pixels, and the energies of those in the image. Tiles have `T` by `T` pixels and are `M` pixels apart.
    #[inline(always)]
    fn of_unit<const T: usize, const M: usize>(&self, index: usize) -> (Unit, TransposedTile, &'a [f32]) {
        let unit = self.tiling.unit(index);
        let region = self.source.region::<T, M>(&unit);
        let [rows, columns] = region.inside();
        let start = (index - self.units.start) * self.step;
        (unit, region, &self.values[start..start + rows.len() * columns.len()])
    }

    /// Whether all pixels of the units are finite and not huge.
    #[inline(always)]
    pub fn are_moderate<S: Simd, const T: usize, const M: usize>(&self) -> bool {
        let mut sum = 0.0;
        for index in self.units.clone() {
            sum += Spread::of::<S>(self.of_unit::<T, M>(index).2).sum;
        }
        sum <= LARGEST
    }

    /// Whether in each unit the pixels that are not zeros are within `ratio` of each other, so that no window needs to be looked at.
    #[inline(always)]
    pub fn are_similar<S: Simd, const A: usize, const M: usize>(&self, ratio: f32) -> bool {
        let mut similar = true;
        for index in self.units.clone() {
            similar &= Spread::of::<S>(self.of_unit::<A, M>(index).2).is_within(ratio);
        }
        similar
    }

    /// Returns the tiles that must be computed directly. Only the windows of outputs within `size`, rows and columns, count; those
    /// in the padding and those of zeros do not. The buffers have [`window_floats`].
    #[cold]
    pub fn direct_tiles<const A: usize, const M: usize>(
        &self,
        size: [usize; 2],
        ratio: f32,
        buffers: [&mut [f32]; 2],
    ) -> Vec<TileIndex> {
        dispatch(FindDirectTiles::<A, M> { energies: self, size, ratio, buffers })
    }
}

/// See [`Energies::direct_tiles`].
struct FindDirectTiles<'a, const A: usize, const M: usize> {
    energies: &'a Energies<'a>,
    size: [usize; 2],
    ratio: f32,
    buffers: [&'a mut [f32]; 2],
}

impl<const A: usize, const M: usize> Kernel for FindDirectTiles<'_, A, M> {
    type Output = Vec<TileIndex>;
    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<TileIndex> {
        let FindDirectTiles { energies, size, ratio, buffers: [padded, values] } = self;
        let mut found = Vec::new();
        for index in energies.units.clone() {
            let (unit, region, values_of_unit) = energies.of_unit::<A, M>(index);
            if Spread::of::<S>(values_of_unit).is_within(ratio) {
                continue;
            }
            let inside = region.inside();
            let windows = Windows::new::<A, M>(
                [region.rows, region.columns],
                &inside,
                values_of_unit,
                [&mut *padded, &mut *values],
            );
            for row in unit.rows.clone() {
                for column in unit.columns.clone() {
                    let first = [(row - unit.rows.start) * M, (column - unit.columns.start) * M];
                    let valid = [size[0] - row * M, size[1] - column * M];
                    let [least, largest] = windows.extremes::<M>(first, valid);
                    if largest > LARGEST || largest > ratio * ratio * least {
                        found.push(TileIndex { image: unit.image, row, column });
                    }
                }
            }
        }
        found
    }
}

/// The least energy that is not 0 (infinity if there is none), the largest, and the sum, which is NaN if one is.
struct Spread {
    least: f32,
    largest: f32,
    sum: f32,
}

impl Spread {
    #[inline(always)]
    fn of<S: Simd>(energies: &[f32]) -> Self {
        let (zero, infinity) = (S::splat(0.0), S::splat(f32::INFINITY));
        let (mut least, mut largest, mut sum) = (infinity, zero, zero);
        for first in (0..energies.len()).step_by(S::LANES) {
            let v = S::from_short_slice(&energies[first..]);
            least = least.min(S::select_gt(v, zero, v, infinity));
            largest = largest.max(v);
            sum = sum + v;
        }
        let least = -(zero - least).max_lane();
        Spread { least, largest: largest.max_lane(), sum: sum.sum() }
    }

    #[inline(always)]
    fn is_within(&self, ratio: f32) -> bool {
        self.sum <= LARGEST && self.largest <= ratio * ratio * self.least
    }
}

/// Returns the lengths of the buffers of [`Energies::direct_tiles`].
pub fn window_floats<const A: usize, const M: usize>(tiling: &Tiling) -> [usize; 2] {
    let [rows, columns] = largest_region::<A, M>(tiling);
    [rows * columns; 2]
}

/// The energies of the windows of a region; -1 for those without a pixel in the image.
struct Windows<'a> {
    values: &'a [f32],
    columns: usize,
}

impl<'a> Windows<'a> {
    #[inline(always)]
    fn new<const A: usize, const M: usize>(
        [rows, columns]: [usize; 2],
        [inside_rows, inside_columns]: &[Range<usize>; 2],
        energies: &[f32],
        [padded, values]: [&'a mut [f32]; 2],
    ) -> Self {
        let taps = A + 1 - M;
        let (mut padded, mut values) = (&mut padded[..rows * columns], &mut values[..rows * columns]);
        padded.fill(-1.0);
        for (row, line) in inside_rows.clone().zip(energies.chunks(inside_columns.len().max(1))) {
            for (to, &energy) in padded[row * columns..][inside_columns.clone()].iter_mut().zip(line) {
                // Also for NaN.
                *to = if energy <= LARGEST { energy } else { f32::INFINITY };
            }
        }
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        for step in [1, columns] {
            values.fill(-1.0);
            let count = padded.len() - (taps - 1) * step;
            for tap in 0..taps {
                for (to, &from) in values[..count].iter_mut().zip(&padded[tap * step..]) {
                    *to = larger(*to, from);
                }
            }
            std::mem::swap(&mut values, &mut padded);
        }
        Windows { values: padded, columns }
    }

    /// Returns the least energy above 0 of the `M` by `M` windows of a tile that are `valid`, and the largest of all.
    #[inline(always)]
    fn extremes<const M: usize>(&self, first: [usize; 2], valid: [usize; 2]) -> [f32; 2] {
        let (mut least, mut largest) = ([f32::INFINITY; M], [0.0f32; M]);
        for row in 0..M {
            let start = (first[0] + row) * self.columns + first[1];
            let line: &[f32; M] = self.values[start..start + M].try_into().expect("M values");
            for column in 0..M {
                let energy = line[column];
                largest[column] = if energy > largest[column] { energy } else { largest[column] };
                let counts = energy > 0.0 && row < valid[0] && column < valid[1];
                let counted = if counts { energy } else { f32::INFINITY };
                least[column] = if counted < least[column] { counted } else { least[column] };
            }
        }
        [least.into_iter().fold(f32::INFINITY, f32::min), largest.into_iter().fold(0.0, f32::max)]
    }
}
