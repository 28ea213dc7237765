//! Matrix products on the CPU.

mod activation;
mod gather;
pub(crate) mod parallel;
mod peak;
mod product;
pub(crate) mod simd;
mod tile;

pub use activation::Activation;
pub(crate) use gather::{Grid, Table, Tap};
pub use peak::fma_peak_gflops;
pub(crate) use product::{Bias, Columns, Product, Rows, Target};
pub(crate) use tile::tile_rows;

use crate::memory::Scratch;

/// A matrix in memory, by rows or by columns.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` numbers, one after the other.
    pub fn rows(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transposed matrix, without moving anything.
    pub fn transposed(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// This, transposed if so.
    pub fn transposed_if(self, so: bool) -> Self {
        if so { self.transposed() } else { self }
    }
}

/// `out = activation(a b + bias)`, with a bias for each column; `out` by rows.
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
    let table = Table::plain(b.columns, scratch);
    let columns = if b.row_stride == 1 {
        Columns::Transposed { data: b.data }
    } else {
        Columns::Gathered {
            data: b.data,
            unit_stride: 0,
            group_stride: 0,
            channel_stride: b.row_stride,
            table: &table,
        }
    };
    let product = Product {
        groups: 1,
        rows: a.rows,
        channels: a.columns,
        columns: b.columns,
        a: Rows {
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
    product.run(
        Target { data: out, unit_stride: 0, group_stride: 0, row_stride: b.columns, table: &table },
        scratch,
    );
}
