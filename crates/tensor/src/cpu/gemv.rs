//! The product of a matrix and a vector, `out = activation(rows · x + bias)`: a linear layer for one image.
//!
//! A GEMM would transpose the matrix to vectors of columns, for one row of results. Here a vector runs along the rows: each of `LANES` rows
//! has a register of partial sums, and transposing the registers gives the lanes of the result. The matrix is read once, as it lies.

use super::activation::Activation;
use super::parallel::{Shared, for_each_in_tasks};
use super::simd::{Kernel, Simd, dispatch, instruction_set};

/// Number of multiply-adds of a task, about.
const TASK_MULTIPLY_ADDS: usize = 1 << 16;
/// Maximum number of vectors of a row that are summed one after the other; see `tile.rs`.
const CHAIN: usize = 128;
/// The largest number of lanes.
const MAX_LANES: usize = 16;

/// Computes the product of the matrix `[out.len(), x.len()]` and `x`.
///
/// # Panics
/// If the sizes do not match.
pub(super) fn gemv(
    matrix: &[f32],
    x: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    out: &mut [f32],
) {
    assert!(matrix.len() == out.len() * x.len() && bias.is_none_or(|bias| bias.len() == out.len()));
    let lanes = instruction_set().1;
    let (rows, target) = (out.len(), Shared::new(out));
    let each = (TASK_MULTIPLY_ADDS / (lanes * x.len()).max(1)).max(1);
    for_each_in_tasks(rows.div_ceil(lanes), each, |block| {
        let start = block * lanes;
        let count = lanes.min(rows - start);
        // SAFETY: the blocks are disjoint.
        let out = unsafe { target.slice(start, count) };
        let bias = bias.map(|bias| &bias[start..start + count]);
        dispatch(Block { matrix: &matrix[start * x.len()..][..count * x.len()], x, bias, activation, out });
    });
}

/// At most `LANES` rows.
struct Block<'a> {
    matrix: &'a [f32],
    x: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    out: &'a mut [f32],
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Block { matrix, x, bias, activation, out } = self;
        let len = x.len();
        // Rows behind the last one repeat it; their results are not stored.
        let mut rows = [matrix.as_ptr(); MAX_LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = matrix[i.min(out.len() - 1) * len..].as_ptr();
        }
        let (full, rest) = (len / S::LANES, len % S::LANES);
        let mut total = S::splat(0.0);
        let chains = full.div_ceil(CHAIN).max(1);
        for chain in 0..chains {
            let mut sums = [S::splat(0.0); MAX_LANES];
            let sums = &mut sums[..S::LANES];
            for v in full * chain / chains..full * (chain + 1) / chains {
                // SAFETY: vector `v` is within `x`, and within each row.
                unsafe {
                    let x = S::load(x.as_ptr().add(v * S::LANES));
                    for i in 0..S::LANES {
                        sums[i] = S::load(rows[i].add(v * S::LANES)).mul_add(x, sums[i]);
                    }
                }
            }
            if chain + 1 == chains && rest > 0 {
                let mask = S::mask((1 << rest) - 1);
                let at = full * S::LANES;
                // SAFETY: the lanes in the mask are within `x`, and within each row.
                unsafe {
                    let x = S::load_zeroed(x.as_ptr().add(at), mask);
                    for i in 0..S::LANES {
                        sums[i] = S::load_zeroed(rows[i].add(at), mask).mul_add(x, sums[i]);
                    }
                }
            }
            S::transpose(sums);
            let mut count = S::LANES;
            while count > 1 {
                count /= 2;
                for i in 0..count {
                    sums[i] = sums[i] + sums[i + count];
                }
            }
            total = total + sums[0];
        }
        if let Some(bias) = bias {
            total = total + S::from_short_slice(bias);
        }
        if let Some(activation) = activation {
            total = activation.apply(total);
        }
        total.to_short_slice(out);
    }
}
