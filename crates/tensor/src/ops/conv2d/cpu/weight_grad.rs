//! The gradient of the weight: `dw[o, (i, tap)] = sum over pixels of dy[o, pixel] * x[i, source of the tap at the pixel]`.
//!
//! The sum runs along the lanes: the same vectors of pixels as in the forward pass, of `dy` and of every tap. They are
//! packed for a block of pixels and channels; then a tile of sums of `OUT` output channels by `TAPS` weights goes through
//! all pixels of the block, and its lanes are added up at the end.

use rayon::prelude::*;

use super::{Problem, split_phases, unit_pictures, whole_rows};
use crate::cpu::Table;
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;

/// Parts of the batch that are summed apart, at most.
const PARTS: usize = 16;
/// Vectors of pixels that are packed at once.
const VECTORS: usize = 64;
/// Rows of the right matrix that are packed at once.
const DEPTH: usize = 128;

pub(in super::super) fn weight_grad(p: &Problem, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    if p.n == 0 {
        dw.fill(0.0);
        return;
    }
    let split;
    let x = if p.stride[1] > 1 {
        split = split_phases(p, x, scratch);
        &split[..]
    } else {
        x
    };
    let pictures = unit_pictures(p.n, p.pixels());
    let table = Table::new(p.source_grid(pictures), p.source_taps(), scratch);
    let out = Table::new(p.output_grid(pictures), std::iter::once(whole_rows(p.ow)), scratch);
    let units = p.n.div_ceil(pictures);
    let taps = p.kh * p.kw;
    let each = (DEPTH / taps).clamp(1, p.cg);
    let blocks = p.cg.div_ceil(each);
    // Where the blocks of channels give enough tasks, the batch is not split.
    let parts = PARTS.div_ceil(blocks * p.groups).min(units);
    let mut sums = scratch.take(parts * dw.len());
    // `[part, group, block]`, each `[og, channels of the block, taps]`.
    let tasks: usize = parts * p.groups * blocks;
    let target = Shared::new(&mut sums);
    let task = |i: usize| {
        let (block, j) = (i % blocks, i / blocks);
        let (group, part) = (j % p.groups, j / p.groups);
        let channels = block * each..((block + 1) * each).min(p.cg);
        let start =
            part * p.groups * p.og * p.depth() + group * p.og * p.depth() + p.og * channels.start * taps;
        let len = p.og * channels.len() * taps;
        // SAFETY: each task has its own part of the buffer.
        let sums = unsafe { std::slice::from_raw_parts_mut(target.get().add(start), len) };
        dispatch(Task {
            p,
            pictures,
            x,
            dy,
            table: &table,
            out: &out,
            group,
            channels,
            units: units * part / parts..units * (part + 1) / parts,
            sums,
            scratch,
        });
    };
    if p.multiply_adds() < 1 << 16 {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
    let width = each * taps;
    dw.par_chunks_mut(p.depth()).enumerate().with_min_len(16).for_each(|(o, dw)| {
        let (group, o) = (o / p.og, o % p.og);
        for (block, dw) in dw.chunks_mut(width).enumerate() {
            dw.fill(0.0);
            for part in 0..parts {
                let start =
                    (part * p.groups + group) * p.og * p.depth() + p.og * block * width + o * dw.len();
                dw.iter_mut().zip(&sums[start..]).for_each(|(to, from)| *to += *from);
            }
            if p.flip {
                dw.chunks_mut(taps).for_each(<[f32]>::reverse);
            }
        }
    });
}

struct Task<'a> {
    p: &'a Problem,
    pictures: usize,
    x: &'a [f32],
    dy: &'a [f32],
    table: &'a Table,
    out: &'a Table,
    group: usize,
    channels: std::ops::Range<usize>,
    units: std::ops::Range<usize>,
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Task { p, pictures, x, dy, table, out, group, channels, units, sums, scratch } = self;
        let taps = p.kh * p.kw;
        let depth = channels.len() * taps;
        let (x_plane, y_plane) = (p.h * p.w, p.pixels());
        let (table, out) = (table.view(), out.view());
        let mut a = scratch.take(p.og * VECTORS * S::LANES);
        let mut b = scratch.take(depth * VECTORS * S::LANES);
        let step = VECTORS * S::LANES;
        sums.fill(0.0);
        let mut filled = 0;
        let last = units.end - 1;
        for unit in units {
            let first = unit * pictures;
            let columns = pictures.min(p.n - first) * y_plane;
            let vectors = columns.div_ceil(S::LANES);
            let from_x = ((first * p.groups + group) * p.cg + channels.start) * x_plane;
            let from_y = (first * p.groups + group) * p.og * y_plane;
            for vector in 0..vectors {
                let left = columns - vector * S::LANES;
                let mask = if left >= S::LANES { ((1u64 << S::LANES) - 1) as u32 } else { (1 << left) - 1 };
                // SAFETY: the tables were made for these pictures; row `i` of a block starts at `i * step`.
                unsafe {
                    let at = filled * S::LANES;
                    let from = dy.as_ptr().wrapping_add(from_y);
                    out.read::<S>(vector, 0, mask, from, y_plane, p.og, a.as_mut_ptr().add(at), step);
                    let from = x.as_ptr().wrapping_add(from_x);
                    for tap in 0..taps {
                        let to = b.as_mut_ptr().add(tap * step + at);
                        table.read::<S>(vector, tap, mask, from, x_plane, channels.len(), to, taps * step);
                    }
                }
                filled += 1;
                if filled == VECTORS || (unit == last && vector + 1 == vectors) {
                    // SAFETY: `a` holds `og` rows and `b` `depth` rows of `filled` vectors.
                    unsafe { add_products::<S>(p.og, depth, filled, &a, &b, step, sums) }
                    filled = 0;
                }
            }
        }
    }
}

/// `sums[o, k] += sum over the vectors and lanes of a[o] * b[k]`.
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
            // Of a tile at the edge the last row or column is computed again and again.
            let a: [*const f32; 4] = std::array::from_fn(|i| a[(o + i.min(height - 1)) * step..].as_ptr());
            let b: [*const f32; 6] = std::array::from_fn(|j| b[(k + j.min(width - 1)) * step..].as_ptr());
            let mut tile = [[0.0; 6]; 4];
            // SAFETY: the caller's promise.
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

#[inline(always)]
unsafe fn dots<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    a: [*const f32; 4],
    b: [*const f32; 6],
    vectors: usize,
    tile: &mut [[f32; 6]; 4],
) {
    let mut sums = [[S::splat(0.0); COLUMNS]; ROWS];
    for v in 0..vectors {
        // SAFETY: the caller's promise.
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
