//! The parts of CPU kernels: SIMD vectors, tasks, and the GEMM that computes matrix products and
//! convolutions.

mod activation;
mod gather;
mod gemm;
mod gemv;
pub(crate) mod parallel;
mod peak;
pub(crate) mod simd;
mod tile;

pub use activation::Activation;
pub(crate) use gather::{GatherMap, PixelGrid, Tap};
pub(crate) use gemm::{Bias, Gemm, LeftMatrix, OutputMatrix, RightMatrix};
pub use peak::fma_peak_gflops;
pub(crate) use tile::tile_rows;

use crate::memory::Scratch;

/// A matrix in memory, row-major or column-major.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Views `data` as a row-major matrix of `rows` rows and `columns` columns.
    pub fn rows(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Returns a view of the transposed matrix; no data is moved.
    pub fn transposed(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Returns the transposed matrix if `transposed`, else the matrix itself.
    pub fn transposed_if(self, transposed: bool) -> Self {
        if transposed { self.transposed() } else { self }
    }
}

/// Computes `out = activation(a b + bias)` with a bias for each column; `out` is row-major.
///
/// # Panics
/// If the sizes do not match.
pub(crate) fn product(
    a: Matrix<'_>,
    b: Matrix<'_>,
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    out: &mut [f32],
    scratch: &Scratch,
) {
    assert!(a.columns == b.rows && out.len() == a.rows * b.columns);
    assert!(a.rows * a.columns == a.data.len() && b.rows * b.columns == b.data.len());
    if out.is_empty() {
        return;
    }
    if a.rows == 1 && a.column_stride == 1 && b.row_stride == 1 {
        return gemv::gemv(b.data, a.data, bias, activation, out);
    }
    let map = GatherMap::contiguous(b.columns, scratch);
    let columns = if b.row_stride == 1 {
        RightMatrix::Transposed { data: b.data }
    } else {
        RightMatrix::Gathered {
            data: b.data,
            unit_stride: 0,
            group_stride: 0,
            channel_stride: b.row_stride,
            map: &map,
        }
    };
    let gemm = Gemm {
        groups: 1,
        rows: a.rows,
        channels: a.columns,
        columns: b.columns,
        a: LeftMatrix {
            data: a.data,
            group_stride: 0,
            row_stride: a.row_stride,
            channel_stride: a.column_stride,
            taps: &[0],
        },
        b: columns,
        bias: bias.map_or(Bias::None, Bias::Columns),
        activation,
    };
    gemm.run(
        OutputMatrix { data: out, unit_stride: 0, group_stride: 0, row_stride: b.columns, map: &map },
        scratch,
    );
}
