//! Matrix product.

mod batched;
mod cases;

pub use batched::BatchMatMul;

use rayon::prelude::*;
use std::sync::Arc;

use smallvec::smallvec;

use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::vectorized;
use crate::cpu::{Matrix, product};
use crate::memory::Scratch;
use crate::opencl::{Call, int};
use crate::ops::product::{Gather, LeftMatrix, Product, Target, transposed};
use neocog_base::{Error, Result};

/// `y = a b`, where each input may be transposed.
///
/// Inputs: `a [m, k]`, or `[k, m]` if transposed; `b [k, n]`, or `[n, k]` if transposed. Output: `[m, n]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MatMul {
    /// Whether `a` is transposed.
    pub transpose_a: bool,
    /// Whether `b` is transposed.
    pub transpose_b: bool,
}

impl MatMul {
    /// Returns `[m, k, n]`.
    fn sizes(&self, a: &[usize], b: &[usize]) -> [usize; 3] {
        let (m, k) = if self.transpose_a { (a[1], a[0]) } else { (a[0], a[1]) };
        [m, k, if self.transpose_b { b[0] } else { b[1] }]
    }
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [a, b] = expect_inputs(self, inputs)?;
        if a.rank() != 2 || b.rank() != 2 {
            return Err(Error::shape(format!("matmul expects two matrices, found {a} and {b}")));
        }
        let [m, k, n] = self.sizes(&a, &b);
        if k != b[usize::from(self.transpose_b)] {
            let transposed = |transpose| if transpose { " transposed" } else { "" };
            return Err(Error::shape(format!(
                "the inner extents differ: {a}{} and {b}{}",
                transposed(self.transpose_a),
                transposed(self.transpose_b)
            )));
        }
        Ok(smallvec![Shape::new(&[m, n])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let [m, k, n] = self.sizes(inputs[0].shape, inputs[1].shape);
        let (a, b) = (inputs[0].data, inputs[1].data);
        let [of_row, of_term] = if self.transpose_a { [1, m] } else { [k, 1] };
        outputs[0].data.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, y)| {
            let terms = a.iter().skip(i * of_row).step_by(of_term).take(k);
            if self.transpose_b {
                for (j, y) in y.iter_mut().enumerate() {
                    *y = terms.clone().zip(&b[j * k..]).map(|(a, b)| a * b).sum();
                }
            } else {
                y.fill(0.0);
                for (a, b) in terms.zip(b.chunks(n.max(1))) {
                    vectorized(|| y.iter_mut().zip(b).for_each(|(y, b)| *y += a * b));
                }
            }
        });
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let [a, b] = [0, 1].map(|i| Matrix::rows(inputs[i].data, inputs[i].shape[0], inputs[i].shape[1]));
        let (a, b) = (a.transposed_if(self.transpose_a), b.transposed_if(self.transpose_b));
        product(a, b, None, None, outputs[0].data, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (a, b, y) = (call.input(0), call.input(1), call.output(0));
        let [m, k, n] = self.sizes(a.shape, b.shape);
        let rows = if self.transpose_b { transposed(call, b.buffer, 1, [n, k])? } else { None };
        let (row, number) = if self.transpose_a { (1, m) } else { (k, 1) };
        let product = Product {
            groups: 1,
            a: LeftMatrix { buffer: a.buffer, count: m, group: 0, row, number: int(number), first: 0 },
            b: Gather::matrix(rows.as_ref().unwrap_or(b.buffer), k, n),
            bias: None,
            activation: None,
            c: Target { buffer: y.buffer, group: 0, row: n, image: 0, line: 0, pixel: 1, first: 0 },
        };
        product.run(call)
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        (only_first_is_batched(batched) && !self.transpose_a).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE.inputs(&[0, 1])
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let (a, b, dy) = (node.input(0), node.input(1), node.output_grad());
        let matmul = |transpose_a, transpose_b| MatMul { transpose_a, transpose_b };
        let da = node.if_needed(0, || match self.transpose_a {
            false => run_single(&matmul(false, !self.transpose_b), &[dy, b]),
            true => run_single(&matmul(self.transpose_b, true), &[b, dy]),
        })?;
        let db = node.if_needed(1, || match self.transpose_b {
            false => run_single(&matmul(!self.transpose_a, false), &[a, dy]),
            true => run_single(&matmul(true, self.transpose_a), &[dy, a]),
        })?;
        Ok(smallvec![da, db])
    }

    fn multiply_adds(&self, inputs: &[Shape], _outputs: &[Shape]) -> u64 {
        let sizes = self.sizes(&inputs[0], &inputs[1]);
        sizes.iter().fold(1, |product: u64, &e| product.saturating_mul(e as u64))
    }
}
