//! The gradient of the weight, `dw[o, (i, tap)] = sum over pixels of dy[o, pixel] * x[i, pixel under the
//! tap]`.
//!
//! Vectors hold pixels, as in the forward pass, so the sum runs along the lanes. `dy` and the pixels under
//! every tap are packed for a block of pixels and channels. A register tile of output channels by weights
//! accumulates over all pixels of the block; its lanes are added at the end.

use rayon::prelude::*;

use super::phases::split_phases;
use super::pixels::{images_per_unit, output_grid, source_grid, source_taps, whole_rows};
use crate::cpu::GatherMap;
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::ops::conv2d::ConvShape;

/// Maximum number of partial sums over parts of the batch.
const PARTS: usize = 16;
/// Vectors of pixels packed at once.
const VECTORS: usize = 64;
/// Rows of the right matrix (channels and taps) packed at once.
const DEPTH: usize = 128;

/// Computes the gradient of the weight.
pub fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let split;
    let x = if conv.stride[1] > 1 {
        split = split_phases(conv, x, scratch);
        &split[..]
    } else {
        x
    };
    let images = images_per_unit(conv.n, conv.out_pixels());
    let map = GatherMap::new(source_grid(conv, images), source_taps(conv), scratch);
    let out = GatherMap::new(output_grid(conv, images), std::iter::once(whole_rows(conv.ow)), scratch);
    let units = conv.n.div_ceil(images);
    let taps = conv.kh * conv.kw;
    let each = (DEPTH / taps).clamp(1, conv.in_per_group);
    let blocks = conv.in_per_group.div_ceil(each);
    // The batch is split only if the blocks of channels do not give enough tasks.
    let parts = PARTS.div_ceil(blocks * conv.groups).min(units);
    let mut sums = scratch.take(parts * dw.len());
    // `[part, group, block]`, each `[output, channels of the block, taps]`.
    let tasks: usize = parts * conv.groups * blocks;
    let target = Shared::new(&mut sums);
    let task = |i: usize| {
        let (block, j) = (i % blocks, i / blocks);
        let (group, batch_part) = (j % conv.groups, j / conv.groups);
        let channels = block * each..((block + 1) * each).min(conv.in_per_group);
        let start = batch_part * conv.groups * conv.out_per_group * conv.filter_len()
            + group * conv.out_per_group * conv.filter_len()
            + conv.out_per_group * channels.start * taps;
        let len = conv.out_per_group * channels.len() * taps;
        // SAFETY: the tasks have disjoint parts of the buffer.
        let sums = unsafe { target.slice(start, len) };
        dispatch(PartialSums {
            conv,
            images,
            x,
            dy,
            map: &map,
            out: &out,
            group,
            channels,
            units: part(units, parts, batch_part),
            sums,
            scratch,
        });
    };
    if conv.multiply_adds() < 1 << 16 {
        (0..tasks).for_each(task);
    } else {
        for_each_task(tasks, task);
    }
    let width = each * taps;
    dw.par_chunks_mut(conv.filter_len()).enumerate().with_min_len(16).for_each(|(o, dw)| {
        let (group, o) = (o / conv.out_per_group, o % conv.out_per_group);
        for (block, dw) in dw.chunks_mut(width).enumerate() {
            dw.fill(0.0);
            for part in 0..parts {
                let start = (part * conv.groups + group) * conv.out_per_group * conv.filter_len()
                    + conv.out_per_group * block * width
                    + o * dw.len();
                dw.iter_mut().zip(&sums[start..]).for_each(|(to, from)| *to += *from);
            }
            if conv.flip {
                dw.chunks_mut(taps).for_each(<[f32]>::reverse);
            }
        }
    });
}

/// The sums over some units of images, for a block of input channels.
struct PartialSums<'a> {
    conv: &'a ConvShape,
    images: usize,
    x: &'a [f32],
    dy: &'a [f32],
    map: &'a GatherMap,
    out: &'a GatherMap,
    group: usize,
    channels: std::ops::Range<usize>,
    units: std::ops::Range<usize>,
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for PartialSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let PartialSums { conv, images, x, dy, map, out, group, channels, units, sums, scratch } = self;
        let taps = conv.kh * conv.kw;
        let depth = channels.len() * taps;
        let (x_plane, y_plane) = (conv.h * conv.w, conv.out_pixels());
        let (map, out) = (map.view(), out.view());
        let mut a = scratch.take(conv.out_per_group * VECTORS * S::LANES);
        let mut b = scratch.take(depth * VECTORS * S::LANES);
        let step = VECTORS * S::LANES;
        sums.fill(0.0);
        let mut filled = 0;
        let last = units.end - 1;
        for unit in units {
            let first = unit * images;
            let columns = images.min(conv.n - first) * y_plane;
            let vectors = columns.div_ceil(S::LANES);
            let from_x = ((first * conv.groups + group) * conv.in_per_group + channels.start) * x_plane;
            let from_y = (first * conv.groups + group) * conv.out_per_group * y_plane;
            for vector in 0..vectors {
                let left = columns - vector * S::LANES;
                let mask = if left >= S::LANES { ((1u64 << S::LANES) - 1) as u32 } else { (1 << left) - 1 };
                // SAFETY: the maps were made for these images; row `i` of a block starts at `i * step`.
                unsafe {
                    let at = filled * S::LANES;
                    let from = dy.as_ptr().wrapping_add(from_y);
                    out.read::<S>(
                        vector,
                        0,
                        mask,
                        from,
                        y_plane,
                        conv.out_per_group,
                        a.as_mut_ptr().add(at),
                        step,
                    );
                    let from = x.as_ptr().wrapping_add(from_x);
                    for tap in 0..taps {
                        let to = b.as_mut_ptr().add(tap * step + at);
                        map.read::<S>(vector, tap, mask, from, x_plane, channels.len(), to, taps * step);
                    }
                }
                filled += 1;
                if filled == VECTORS || (unit == last && vector + 1 == vectors) {
                    // SAFETY: `a` has `out_per_group` and `b` `depth` rows of `filled` vectors.
                    unsafe { add_products::<S>(conv.out_per_group, depth, filled, &a, &b, step, sums) }
                    filled = 0;
                }
            }
        }
    }
}

/// Computes `sums[o, k] += sum over vectors and lanes of a[o] * b[k]`.
///
/// # Safety
/// `a` must have `rows` and `b` `depth` rows of `vectors` vectors, `step` floats apart.
#[inline(always)]
unsafe fn add_products<S: Simd>(
    rows: usize,
    depth: usize,
    vectors: usize,
    a: &[f32],
    b: &[f32],
    step: usize,
    sums: &mut [f32],
) {
    let wide = S::LANES == 16;
    let (tall, broad) = if wide { (4, 6) } else { (3, 3) };
    for k in (0..depth).step_by(broad) {
        for o in (0..rows).step_by(tall) {
            let (height, width) = (tall.min(rows - o), broad.min(depth - k));
            // In a tile at the edge the last row or column is repeated.
            let a: [*const f32; 4] = std::array::from_fn(|i| a[(o + i.min(height - 1)) * step..].as_ptr());
            let b: [*const f32; 6] = std::array::from_fn(|j| b[(k + j.min(width - 1)) * step..].as_ptr());
            let mut tile = [[0.0; 6]; 4];
            // SAFETY: guaranteed by the caller.
            unsafe {
                if wide {
                    dots::<S, 4, 6>(a, b, vectors, &mut tile);
                } else {
                    dots::<S, 3, 3>(a, b, vectors, &mut tile);
                }
            }
            for (i, row) in tile[..height].iter().enumerate() {
                let to = &mut sums[(o + i) * depth + k..][..width];
                to.iter_mut().zip(row).for_each(|(to, v)| *to += *v);
            }
        }
    }
}

/// Computes the dot products of `ROWS` rows and `COLUMNS` columns of `vectors` vectors.
///
/// # Safety
/// The first `ROWS` pointers of `a` and `COLUMNS` of `b` must point to `vectors` vectors.
#[inline(always)]
unsafe fn dots<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    a: [*const f32; 4],
    b: [*const f32; 6],
    vectors: usize,
    tile: &mut [[f32; 6]; 4],
) {
    let mut sums = [[S::splat(0.0); COLUMNS]; ROWS];
    for v in 0..vectors {
        // SAFETY: guaranteed by the caller.
        let rows: [S; ROWS] = std::array::from_fn(|i| unsafe { S::load(a[i].add(v * S::LANES)) });
        for j in 0..COLUMNS {
            // SAFETY: as above.
            let column = unsafe { S::load(b[j].add(v * S::LANES)) };
            for i in 0..ROWS {
                sums[i][j] = rows[i].mul_add(column, sums[i][j]);
            }
        }
    }
    for i in 0..ROWS {
        for j in 0..COLUMNS {
            tile[i][j] = sums[i][j].sum();
        }
    }
}
