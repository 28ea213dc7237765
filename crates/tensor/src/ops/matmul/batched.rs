//! Products of several pairs of matrices.

use std::sync::Arc;

use smallvec::smallvec;

use super::MatMul;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::{Matrix, product};
use crate::memory::Scratch;
use crate::opencl::{Call, int};
use crate::ops::permute::Permute;
use crate::ops::product::{Gather, LeftMatrix, Product, Target};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// The product of each pair of matrices, as PyTorch's `bmm`. Inputs: `a [b, m, k]` and `b [b, k, n]`. Output: `[b, m, n]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BatchMatMul;

/// Returns the number of products, and `[m, k, n]`.
fn sizes(a: &Shape, b: &Shape) -> (usize, [usize; 3]) {
    (a[0], [a[1], a[2], b[2]])
}

impl Op for BatchMatMul {
    fn name(&self) -> &'static str {
        "batch_matmul"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [a, b] = expect_inputs(self, inputs)?;
        if a.rank() != 3 || b.rank() != 3 || a[0] != b[0] {
            return Err(Error::shape(format!(
                "batch_matmul expects as many matrices twice, [b, m, k] and [b, k, n], found {a} and {b}"
            )));
        }
        if a[2] != b[1] {
            return Err(Error::shape(format!("the inner extents differ: {a} and {b}")));
        }
        Ok(smallvec![Shape::new(&[a[0], a[1], b[2]])?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (batch, [m, k, n]) = sizes(inputs[0].shape, inputs[1].shape);
        for i in 0..batch {
            for row in 0..m {
                for column in 0..n {
                    let term = |t: usize| {
                        inputs[0].data[(i * m + row) * k + t] * inputs[1].data[(i * k + t) * n + column]
                    };
                    outputs[0].data[(i * m + row) * n + column] = (0..k).map(term).sum();
                }
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (batch, [m, k, n]) = sizes(inputs[0].shape, inputs[1].shape);
        for i in 0..batch {
            let a = Matrix::rows(&inputs[0].data[i * m * k..][..m * k], m, k);
            let b = Matrix::rows(&inputs[1].data[i * k * n..][..k * n], k, n);
            product(a, b, None, None, &mut outputs[0].data[i * m * n..][..m * n], scratch);
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (a, b, y) = (call.input(0), call.input(1), call.output(0));
        let (batch, [m, k, n]) = sizes(a.shape, b.shape);
        let product = Product {
            groups: batch,
            a: LeftMatrix { buffer: a.buffer, count: m, group: m * k, row: k, number: int(1), first: 0 },
            b: Gather { group: k * n, ..Gather::matrix(b.buffer, k, n) },
            bias: None,
            activation: None,
            c: Target { buffer: y.buffer, group: m * n, row: n, image: 0, line: 0, pixel: 1, first: 0 },
        };
        product.run(call)
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        (!batched.contains(&false)).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE.inputs(&[0, 1])
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let (a, b, dy) = (node.input(0), node.input(1), node.output_grad());
        let transposed = |x: &Tensor| run_single(&Permute::new(&[0, 2, 1]), &[x]);
        Ok(smallvec![
            node.if_needed(0, || run_single(&BatchMatMul, &[dy, &transposed(b)?]))?,
            node.if_needed(1, || run_single(&BatchMatMul, &[&transposed(a)?, dy]))?,
        ])
    }

    fn multiply_adds(&self, inputs: &[Shape], _outputs: &[Shape]) -> u64 {
        let of_one = [&inputs[0], &inputs[1]].map(|shape| Shape::new(&shape[1..]).unwrap_or(*shape));
        MatMul::default().multiply_adds(&of_one, &[]).saturating_mul(inputs[0][0] as u64)
    }
}

register_op!("batch_matmul", || {
    let case = |name: &str, a: [usize; 3], n: usize| {
        let inputs = [CaseInput::uniform(a), CaseInput::uniform([a[0], a[2], n])];
        Case::new(name, BatchMatMul, inputs)
    };
    vec![
        case("one", [1, 3, 4], 5),
        case("several", [4, 5, 3], 2),
        case("rows", [3, 1, 7], 4),
        case("columns", [3, 6, 2], 1),
        case("without terms", [2, 3, 0], 4),
        case("empty", [0, 3, 4], 5),
        case("wide", [3, 17, 33], 70).without_gradient(),
        case("attention", [48, 64, 32], 64).timed(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_shapes_are_errors() {
        for (a, b) in [([2, 3, 4], [3, 4, 5]), ([2, 3, 4], [2, 3, 5])] {
            assert!(BatchMatMul.infer(&[Shape::from(a), Shape::from(b)]).is_err());
        }
        assert!(BatchMatMul.infer(&[Shape::from([3, 4]), Shape::from([4, 5])]).is_err());
        let shapes = [Shape::from([6, 3, 4]), Shape::from([6, 4, 5])];
        assert_eq!(BatchMatMul.multiply_adds(&shapes, &[]), 360);
    }
}
