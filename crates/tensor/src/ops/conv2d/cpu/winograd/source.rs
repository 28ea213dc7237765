//! The transform of input tiles, and of the output gradient's tiles for the weight gradient.

use crate::cpu::simd::Simd;
use crate::ops::conv2d::cpu::layout::FeatureMap;
use crate::ops::conv2d::cpu::transposed_tile::TransposedTile;
use crate::ops::conv2d::winograd::transform::{MAX_POINTS, filter_transform, input_transform};
use crate::ops::conv2d::winograd::{Tiling, Unit};

/// Calls a function that is generic over the number of points, outputs and taps along an axis.
macro_rules! with_tile_size {
    ($tile_size:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $tile_size {
            TileSize::F4x3 => $function::<6, 4, 3>($($argument),*),
            TileSize::F3x3 => $function::<5, 3, 3>($($argument),*),
            TileSize::F2x5 => $function::<6, 2, 5>($($argument),*),
        }
    };
}
pub(super) use with_tile_size;

/// A feature map whose tiles are transformed.
pub struct TileSource<'a> {
    pub map: FeatureMap,
    pub data: &'a [f32],
    /// The pixel at the top left of tile 0.
    pub shift: [isize; 2],
}

/// Returns the rows and columns of the largest region of a unit.
pub(super) fn largest_region<const T: usize, const M: usize>(tiling: &Tiling) -> [usize; 2] {
    [tiling.rows.div_ceil(tiling.unit_rows), tiling.columns.div_ceil(tiling.unit_columns)]
        .map(|tiles| tiles * M + T - M)
}

impl TileSource<'_> {
    /// Returns the lengths of the buffers of [`TileSource::transform`].
    pub fn buffer_floats<const A: usize, const T: usize, const M: usize>(
        tiling: &Tiling,
        lanes: usize,
    ) -> [usize; 2] {
        let [rows, columns] = largest_region::<T, M>(tiling);
        [rows * columns * lanes, A * columns * lanes]
    }

    /// Returns the number of floats of the energies of a unit.
    pub fn energy_step<const T: usize, const M: usize>(tiling: &Tiling, lanes: usize) -> usize {
        let [rows, columns] = largest_region::<T, M>(tiling);
        rows * columns + lanes
    }

    /// Returns the pixels of all tiles of a unit.
    pub fn region<const T: usize, const M: usize>(&self, unit: &Unit) -> TransposedTile {
        let axis = |tiles: &std::ops::Range<usize>, shift| (tiles.start * M) as isize + shift;
        let start = [axis(&unit.rows, self.shift[0]), axis(&unit.columns, self.shift[1])];
        self.map.tile(start, [&unit.rows, &unit.columns].map(|tiles| tiles.len() * M + T - M))
    }

    /// Transforms all tiles of some units to `v [point][block][tile]`, and returns the number of tiles. A
    /// tile has `T` by `T` pixels, and neighboring tiles are `M` pixels apart. Tiles with `T = A` are
    /// inputs; smaller ones are filters, which the output gradient is for the weight gradient. The energies of the
    /// pixels are written to `energies`, [`energy_step`](TileSource::energy_step) floats for each unit.
    #[allow(clippy::too_many_arguments, reason = "what is transformed, and to where")]
    #[inline(always)]
    pub fn transform<S: Simd, const A: usize, const T: usize, const M: usize>(
        &self,
        tiling: &Tiling,
        units: std::ops::Range<usize>,
        [step, point_step]: [usize; 2],
        v: &mut [f32],
        blocks: std::ops::Range<usize>,
        energies: &mut [f32],
        [pixels, lines]: [&mut [f32]; 2],
    ) -> usize {
        let lens = Self::buffer_floats::<A, T, M>(tiling, S::LANES);
        assert!(pixels.len() >= lens[0] && lines.len() >= lens[1]);
        let energy_step = Self::energy_step::<T, M>(tiling, S::LANES);
        assert!(energies.len() >= units.len() * energy_step);
        let mut tiles = 0;
        for (at, block) in blocks.enumerate() {
            let first = block * S::LANES;
            tiles = 0;
            for (i, unit) in units.clone().map(|i| tiling.unit(i)).enumerate() {
                let region = self.region::<T, M>(&unit);
                let from = unit.image * self.map.batch_stride + first * self.map.h * self.map.w;
                let channels = S::LANES.min(self.map.channels - first);
                let energies = &mut energies[i * energy_step..(i + 1) * energy_step];
                // SAFETY: the channels of this block exist; the buffers have the size of the largest region.
                unsafe {
                    let from = self.data.as_ptr().add(from);
                    let (to, energies) = (pixels.as_mut_ptr(), energies.as_mut_ptr());
                    region.read_with_energies::<S>(from, channels, to, S::LANES, energies, at > 0);
                }
                for row in 0..unit.rows.len() {
                    // SAFETY: all offsets are within the buffers.
                    unsafe {
                        let from = pixels.as_ptr().add(row * M * region.columns * S::LANES);
                        let lines = lines.as_mut_ptr();
                        for column in 0..region.columns {
                            let value =
                                axis::<S, A, T>(from.add(column * S::LANES), region.columns * S::LANES);
                            for (i, value) in value[..A].iter().enumerate() {
                                value.store(lines.add((i * region.columns + column) * S::LANES));
                            }
                        }
                        for column in 0..unit.columns.len() {
                            let to = v.as_mut_ptr().add(at * step + tiles * S::LANES);
                            for i in 0..A {
                                let from = lines.add((i * region.columns + column * M) * S::LANES);
                                let value = axis::<S, A, T>(from, S::LANES);
                                for (j, value) in value[..A].iter().enumerate() {
                                    value.store(to.add((i * A + j) * point_step));
                                }
                            }
                            tiles += 1;
                        }
                    }
                }
            }
        }
        tiles
    }
}

/// Transforms `T` vectors, `step` floats apart, along one axis.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn axis<S: Simd, const A: usize, const T: usize>(from: *const f32, step: usize) -> [S; MAX_POINTS] {
    let mut pixels = [S::splat(0.0); MAX_POINTS];
    for (i, pixel) in pixels[..T].iter_mut().enumerate() {
        // SAFETY: guaranteed by the caller.
        *pixel = unsafe { S::load(from.add(i * step)) };
    }
    if T == A { input_transform::<S, A>(&pixels) } else { filter_transform::<S, A, T>(&pixels) }
}
