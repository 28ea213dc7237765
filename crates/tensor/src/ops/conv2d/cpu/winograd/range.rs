//! Which tiles have values that the transforms cannot compute with: they differ too much, or are not finite.
//!
//! A transform adds all pixels of a tile, so the error of each output is relative to the largest pixel of the tile, not of the
//! output's own window. The *energy* of a pixel is the sum of its squares over all channels, that of a window the largest of its
//! pixels. A tile is computed with the transforms only if the largest energy of its windows is at most a limit times the least.

use super::source::TileSource;
use crate::memory::{Buffer, Scratch};
use crate::ops::conv2d::winograd::Tiling;

/// Largest ratio of the largest values of two windows of a tile, for the forward pass and the input gradient: outputs have the
/// error that they would have if all windows had values this much larger.
pub const WINDOW_RATIO: f32 = 64.0;
/// The same for the weight gradient, whose sums go over all windows.
pub const WEIGHT_RATIO: f32 = 1024.0;

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
}

impl Energies<'_> {
    /// Whether all pixels of the units are finite and not huge.
    pub fn are_moderate(&self) -> bool {
        self.values.iter().sum::<f32>() <= LARGEST
    }

    /// Returns the tiles among some units that must be computed directly. Only the windows of outputs within `size`, rows and
    /// columns, count; those in the padding and those of zeros do not.
    pub fn direct_tiles<const A: usize, const M: usize>(
        &self,
        source: &TileSource<'_>,
        tiling: &Tiling,
        units: std::ops::Range<usize>,
        size: [usize; 2],
        ratio: f32,
        buffers: &mut WindowBuffers,
    ) -> Vec<TileIndex> {
        let mut found = Vec::new();
        for (i, index) in units.enumerate() {
            let unit = tiling.unit(index);
            let region = source.region::<A, M>(&unit);
            let [rows, columns] = region.inside();
            let energies = &self.values[i * self.step..][..rows.len() * columns.len()];
            if are_similar(energies, ratio) {
                continue;
            }
            let windows =
                Windows::new::<A, M>([region.rows, region.columns], [&rows, &columns], energies, buffers);
            for (row, column) in unit.rows.clone().flat_map(|row| unit.columns.clone().map(move |c| (row, c)))
            {
                let first = [(row - unit.rows.start) * M, (column - unit.columns.start) * M];
                let valid = [size[0] - row * M, size[1] - column * M].map(|left| left.min(M));
                let (mut least, mut largest) = (f32::INFINITY, 0.0f32);
                for (r, c) in (0..M).flat_map(|r| (0..M).map(move |c| (r, c))) {
                    let energy = windows.at(first[0] + r, first[1] + c);
                    largest = largest.max(energy);
                    if energy > 0.0 && r < valid[0] && c < valid[1] {
                        least = least.min(energy);
                    }
                }
                if largest > LARGEST || largest > ratio * ratio * least {
                    found.push(TileIndex { image: unit.image, row, column });
                }
            }
        }
        found
    }
}

/// Whether the largest energy is at most `ratio²` times the least, so that no window needs to be looked at.
fn are_similar(energies: &[f32], ratio: f32) -> bool {
    let (mut least, mut largest, mut sum) = ([f32::INFINITY; 16], [0.0f32; 16], [0.0f32; 16]);
    let (chunks, rest) = energies.as_chunks::<16>();
    for chunk in chunks {
        for lane in 0..16 {
            least[lane] = if chunk[lane] < least[lane] { chunk[lane] } else { least[lane] };
            largest[lane] = if chunk[lane] > largest[lane] { chunk[lane] } else { largest[lane] };
            sum[lane] += chunk[lane];
        }
    }
    let fold = |values: [f32; 16], rest_of: fn(f32, f32) -> f32, start| {
        values.iter().chain(rest).fold(start, |a, &b| rest_of(a, b))
    };
    let (least, largest) = (fold(least, f32::min, f32::INFINITY), fold(largest, f32::max, 0.0));
    let sum = fold(sum, |a, b| a + b, 0.0);
    sum <= LARGEST && largest <= ratio * ratio * least
}

/// Scratch memory for the windows of a unit. It is taken whether or not windows are looked at, so that the memory of a step does not
/// depend on values.
pub struct WindowBuffers([Buffer; 2]);

impl WindowBuffers {
    pub fn new<const A: usize, const M: usize>(tiling: &Tiling, scratch: &Scratch) -> Self {
        let rows = tiling.rows.div_ceil(tiling.unit_rows) * M + A - M;
        let columns = tiling.columns.div_ceil(tiling.unit_columns) * M + A - M;
        WindowBuffers([scratch.take(rows * columns), scratch.take(rows * columns)])
    }
}

/// The energies of the windows of a region; -1 for those without a pixel in the image.
struct Windows<'a> {
    values: &'a [f32],
    columns: usize,
}

impl<'a> Windows<'a> {
    fn new<const A: usize, const M: usize>(
        [rows, columns]: [usize; 2],
        [inside_rows, inside_columns]: [&std::ops::Range<usize>; 2],
        energies: &[f32],
        WindowBuffers([padded, values]): &'a mut WindowBuffers,
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

    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.columns + column]
    }
}
