//! Gathering of elements along an axis, and its gradient.

mod cases;

use smallvec::smallvec;

use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{Call, Grid, Source};
use neocog_base::{Error, Result};

/// Elements along an axis, as PyTorch's `gather`: `y[i][j][k] = x[i][index[i][j][k]][k]` for axis 1.
///
/// Inputs: `x`, and `index`, whole numbers from 0, which has the extents of `x` but along the axis. Output: in the shape of `index`; NaN
/// for an index that is negative, fractional or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis.
    pub dim: usize,
}

/// The gradient of [`Gather`]: the sum of the gradients of all elements that were taken from each place, in their order.
///
/// Inputs: the index, and the gradient of the output, of the same shape. Output: in the shape `shape`. An invalid index adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherGrad {
    /// The axis.
    pub dim: usize,
    /// Shape of the input.
    pub shape: Shape,
}

/// Extents outside of the axis, along it, and within it.
fn sizes(shape: &[usize], dim: usize) -> [usize; 3] {
    [shape[..dim].iter().product(), shape[dim], shape[dim + 1..].iter().product()]
}

fn check(dim: usize, x: &Shape, index: &Shape) -> Result<()> {
    if dim >= x.rank() {
        return Err(Error::shape(format!("the axis {dim} is not one of {x}")));
    }
    let fits = index.rank() == x.rank() && (0..x.rank()).all(|axis| axis == dim || index[axis] == x[axis]);
    if fits {
        return Ok(());
    }
    Err(Error::shape(format!("the index {index} must have the extents of {x} but along axis {dim}")))
}

/// Returns the position that a number stands for, if it is an index below `extent`.
fn position(index: f64, extent: usize) -> Option<usize> {
    // A negative number and NaN become 0, which they are not equal to; -0 is 0.
    let position = index as usize;
    (position < extent && position as f64 == index).then_some(position)
}

/// Takes an element for each index.
fn gather<T: Copy + Into<f64>>(
    [rows, extent, inner]: [usize; 3],
    taken: usize,
    x: &[T],
    index: &[T],
    y: &mut [T],
    nan: T,
) {
    for row in 0..rows {
        for k in 0..taken * inner {
            let at = row * taken * inner + k;
            let found = position(index[at].into(), extent);
            y[at] = found.map_or(nan, |found| x[(row * extent + found) * inner + k % inner]);
        }
    }
}

/// Adds the gradient of each element to the place that it was taken from.
fn scatter<T: Copy + Into<f64> + std::ops::AddAssign>(
    [rows, extent, inner]: [usize; 3],
    taken: usize,
    index: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    for row in 0..rows {
        for k in 0..taken * inner {
            let at = row * taken * inner + k;
            if let Some(found) = position(index[at].into(), extent) {
                dx[(row * extent + found) * inner + k % inner] += dy[at];
            }
        }
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x, index] = expect_inputs(self, inputs)?;
        check(self.dim, &x, &index)?;
        Ok(smallvec![index])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, index) = (inputs[0], inputs[1]);
        let taken = index.shape[self.dim];
        gather(sizes(x.shape, self.dim), taken, x.data, index.data, outputs[0].data, f64::NAN);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (x, index) = (inputs[0], inputs[1]);
        let taken = index.shape[self.dim];
        gather(sizes(x.shape, self.dim), taken, x.data, index.data, outputs[0].data, f32::NAN);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, index) = (call.input(0), call.input(1));
        let [_, extent, inner] = sizes(x.shape, self.dim);
        let taken = index.shape[self.dim];
        let n = index.shape.elements();
        let args = [
            x.into(),
            index.into(),
            call.output(0).into(),
            n.into(),
            extent.into(),
            taken.into(),
            inner.into(),
        ];
        let source = Source::new("gather", include_str!("kernels.cl"));
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source, "gather", &args, Grid::line(n)) }
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE.inputs(&[1])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let grad = GatherGrad { dim: self.dim, shape: node.input_shapes[0] };
        Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.input(1), node.output_grad()]))?, None])
    }
}

impl Op for GatherGrad {
    fn name(&self) -> &'static str {
        "gather_grad"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [index, dy] = expect_inputs(self, inputs)?;
        check(self.dim, &self.shape, &index)?;
        if dy != index {
            return Err(Error::shape(format!("expected a gradient of the shape {index}, found {dy}")));
        }
        Ok(smallvec![self.shape])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (index, dy) = (inputs[0], inputs[1]);
        outputs[0].data.fill(0.0);
        let taken = index.shape[self.dim];
        scatter(sizes(&self.shape, self.dim), taken, index.data, dy.data, outputs[0].data);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (index, dy) = (inputs[0], inputs[1]);
        outputs[0].data.fill(0.0);
        let taken = index.shape[self.dim];
        scatter(sizes(&self.shape, self.dim), taken, index.data, dy.data, outputs[0].data);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (index, dy) = (call.input(0), call.input(1));
        let [rows, extent, inner] = sizes(&self.shape, self.dim);
        let taken = index.shape[self.dim];
        // A work-item adds up what belongs to one row: elements are added in their order.
        let args = [
            index.into(),
            dy.into(),
            call.output(0).into(),
            (rows * inner).into(),
            extent.into(),
            taken.into(),
            inner.into(),
        ];
        let source = Source::new("gather", include_str!("kernels.cl"));
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source, "gather_grad", &args, Grid::line(rows * inner)) }
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::Device;
    use crate::core::tensor::Tensor;

    #[test]
    fn invalid_indices_are_nan_and_wrong_shapes_errors() {
        let x = Tensor::from_f32([1, 3], &[1.0, 2.0, 3.0], &Device::Cpu).unwrap();
        let index = [2.0, 0.0, -1.0, 3.0, 0.5, f32::NAN, f32::INFINITY, -0.0];
        let index = Tensor::from_f32([1, 8], &index, &Device::Cpu).unwrap();
        let y = run_single(&Gather { dim: 1 }, &[&x, &index]).unwrap().to_f32().unwrap();
        assert_eq!([y[0], y[1], y[7]], [3.0, 1.0, 1.0]);
        assert!(y[2..7].iter().all(|v| v.is_nan()), "{y:?}");
        for (dim, index) in [(2, Shape::from([1, 8])), (0, Shape::from([1, 8])), (1, Shape::from([8]))] {
            assert!(Gather { dim }.infer(&[*x.shape(), index]).is_err());
        }
    }
}
