//! CPU kernels of the reductions.

use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::broadcast::Strided;

/// Sums all elements, in at most 64 parts whose size depends on the length only.
pub(super) fn sum(x: &[f32]) -> f64 {
    const PARTS: usize = 64;
    if x.is_empty() {
        return 0.0;
    }
    let part = x.len().div_ceil(PARTS).max(CHUNK);
    let mut sums = [0.0; PARTS];
    let count = x.len().div_ceil(part);
    for_each_chunk(&mut sums[..count], 1, |k, out| {
        out[0] = sum_slice(&x[k * part..x.len().min((k + 1) * part)]);
    });
    sums[..count].iter().sum()
}

/// Sums a slice: short runs in single precision, their sums in double precision.
fn sum_slice(x: &[f32]) -> f64 {
    dispatch(SumKernel(x))
}

struct SumKernel<'a>(&'a [f32]);

impl Kernel for SumKernel<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        // Sixteen additions for each of four vectors, then their lanes: the rounding error stays below 1e-6.
        let mut total = 0.0;
        let mut runs = self.0.chunks_exact(64 * S::LANES);
        for run in &mut runs {
            let mut sums = [S::splat(0.0); 4];
            for four in run.chunks_exact(4 * S::LANES) {
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = *sum + S::from_slice(&four[k * S::LANES..]);
                }
            }
            total += f64::from(((sums[0] + sums[1]) + (sums[2] + sums[3])).sum());
        }
        let mut sum = S::splat(0.0);
        for some in runs.remainder().chunks(S::LANES) {
            sum = sum + S::from_short_slice(some);
        }
        total + f64::from(sum.sum())
    }
}

/// Sums along the axes that broadcasting from the output to `x` repeats.
pub(super) fn sum_to(x: View<'_, f32>, out: &mut ViewMut<'_, f32>) {
    if out.shape.elements() == 1 {
        out.data[0] = sum(x.data) as f32;
        return;
    }
    if x.data.is_empty() {
        out.data.fill(0.0);
        return;
    }
    // Iterate over the input with the strides of both arrays; axes with stride 0 in the output are summed.
    let walk = Strided::new(x.shape, [x.shape, out.shape]);
    let split = |kept: bool| -> Strided<2> {
        let mut part = Strided { extents: Default::default(), strides: Default::default() };
        for (&extent, &stride) in walk.extents.iter().zip(&walk.strides) {
            if (stride[1] != 0) == kept {
                part.extents.push(extent);
                part.strides.push(stride);
            }
        }
        // The innermost loop is separate, see below.
        part.extents.push(1);
        part.strides.push([0; 2]);
        part
    };
    let inner = walk.inner();
    let summed = split(false);
    let kept = split(true);
    if walk.inner_strides()[1] == 0 {
        // Rows of the input are summed: each output is a sum of rows.
        let rows = summed.rows() / inner;
        let chunk = (CHUNK / (rows * inner)).max(1);
        for_each_chunk(out.data, chunk, |start, part| {
            for (k, out) in part.iter_mut().enumerate() {
                let [base, _] = kept.starts(start + k);
                let sum: f64 = (0..rows)
                    .map(|r| {
                        let from = base + summed.starts(r * inner)[0];
                        sum_slice(&x.data[from..from + inner])
                    })
                    .sum();
                *out = sum as f32;
            }
        });
    } else {
        // Rows of the input are added elementwise, one cache block at a time.
        const BLOCK: usize = 256;
        let summed_rows = summed.rows();
        for_each_chunk(out.data, inner, |start, row| {
            let base = kept.starts(start)[0];
            for_each_chunk(row, BLOCK, |at, block| {
                let mut sums = [0.0f64; BLOCK];
                for s in 0..summed_rows {
                    let from = base + at + summed.starts(s)[0];
                    for (sum, value) in sums.iter_mut().zip(&x.data[from..from + block.len()]) {
                        *sum += f64::from(*value);
                    }
                }
                block.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
            });
        });
    }
}
