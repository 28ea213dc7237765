//! The four functions.

use crate::core::shape::Shape;

/// One of the four functions.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    Softmax,
    LogSoftmax,
    SoftmaxGrad,
    LogSoftmaxGrad,
}

/// Returns the number of outer positions, the extent, and the number of inner positions of an axis.
pub(super) fn around(dim: isize, shape: &Shape) -> [usize; 3] {
    let axis = shape.axis(dim).expect("checked by infer");
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}
