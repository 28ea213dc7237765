//! Tensors as kernels see them: a shape and the elements.

use ndarray::{ArrayView, ArrayView2, ArrayView4, ArrayViewMut, ArrayViewMut2, ArrayViewMut4, Ix2, Ix4};

use crate::core::shape::Shape;
use neocog_base::{Error, Result};

/// A tensor that a kernel reads: its elements in row-major order, contiguous unless [`Op::supports_batch_stride`] permits a
/// larger batch stride.
///
/// [`Op::supports_batch_stride`]: crate::Op::supports_batch_stride
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    pub(crate) shape: &'a Shape,
    /// The memory from the first element to the last, which [`span`] measures.
    pub(crate) data: &'a [T],
    /// Distance between positions of the first axis (images of a batch), in elements.
    pub(crate) batch_stride: usize,
}

/// A tensor that a kernel writes: its elements in row-major order, contiguous unless [`Op::supports_batch_stride`] permits a
/// larger batch stride.
///
/// [`Op::supports_batch_stride`]: crate::Op::supports_batch_stride
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    pub(crate) shape: &'a Shape,
    /// The memory from the first element to the last, which [`span`] measures.
    pub(crate) data: &'a mut [T],
    /// Distance between positions of the first axis (images of a batch), in elements.
    pub(crate) batch_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// Creates a view of contiguous elements.
    ///
    /// # Panics
    /// If the number of elements in `data` is not that of the shape.
    #[track_caller]
    pub fn new(shape: &'a Shape, data: &'a [T]) -> Self {
        check_length(shape, data.len());
        View { shape, data, batch_stride: shape.row() }
    }

    /// Creates a view of images that are `batch_stride` elements apart. `data` holds the elements from the first to the last.
    ///
    /// # Errors
    /// If the images overlap, or `data` has another length than the shape and the batch stride need.
    pub fn strided(shape: &'a Shape, data: &'a [T], batch_stride: usize) -> Result<Self> {
        check_stride(shape, data.len(), batch_stride)?;
        Ok(View { shape, data, batch_stride })
    }

    /// Returns the shape of the tensor.
    pub fn shape(&self) -> &'a Shape {
        self.shape
    }

    /// Returns the distance between positions of the first axis (images of a batch), in elements.
    pub fn batch_stride(&self) -> usize {
        self.batch_stride
    }

    /// Returns the elements from the first to the last; with a larger [batch stride](View::batch_stride), those between the
    /// images too.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    /// Returns the elements as an ndarray matrix.
    ///
    /// # Panics
    /// If the rank is not 2, which [`Op::infer`](crate::Op::infer) must have checked, or the elements are not contiguous.
    pub fn matrix(&self) -> ArrayView2<'a, T> {
        let shape: Ix2 = ndarray::Dim([self.shape[0], self.shape[1]]);
        ArrayView::from_shape(shape, self.data).expect("the view is contiguous")
    }

    /// Returns the elements as an ndarray of shape `[n, c, h, w]`.
    ///
    /// # Panics
    /// If the rank is not 4, which [`Op::infer`](crate::Op::infer) must have checked, or the elements are not contiguous.
    pub fn nchw(&self) -> ArrayView4<'a, T> {
        let s = self.shape;
        let shape: Ix4 = ndarray::Dim([s[0], s[1], s[2], s[3]]);
        ArrayView::from_shape(shape, self.data).expect("the view is contiguous")
    }
}

impl<'a, T> ViewMut<'a, T> {
    /// Creates a view of contiguous elements.
    ///
    /// # Panics
    /// If the number of elements in `data` is not that of the shape.
    #[track_caller]
    pub fn new(shape: &'a Shape, data: &'a mut [T]) -> Self {
        check_length(shape, data.len());
        ViewMut { shape, data, batch_stride: shape.row() }
    }

    /// Creates a view of images that are `batch_stride` elements apart. `data` holds the elements from the first to the last.
    ///
    /// # Errors
    /// If the images overlap, or `data` has another length than the shape and the batch stride need.
    pub fn strided(shape: &'a Shape, data: &'a mut [T], batch_stride: usize) -> Result<Self> {
        check_stride(shape, data.len(), batch_stride)?;
        Ok(ViewMut { shape, data, batch_stride })
    }

    /// Returns the shape of the tensor.
    pub fn shape(&self) -> &'a Shape {
        self.shape
    }

    /// Returns the distance between positions of the first axis (images of a batch), in elements.
    pub fn batch_stride(&self) -> usize {
        self.batch_stride
    }
}

impl<T> ViewMut<'_, T> {
    /// Returns the elements from the first to the last; with a larger [batch stride](ViewMut::batch_stride), those between the
    /// images too, which a kernel must not write.
    pub fn data_mut(&mut self) -> &mut [T] {
        self.data
    }

    /// Returns the elements as a mutable ndarray matrix.
    ///
    /// # Panics
    /// If the rank is not 2, which [`Op::infer`](crate::Op::infer) must have checked, or the elements are not contiguous.
    pub fn matrix(&mut self) -> ArrayViewMut2<'_, T> {
        let shape: Ix2 = ndarray::Dim([self.shape[0], self.shape[1]]);
        ArrayViewMut::from_shape(shape, &mut *self.data).expect("the view is contiguous")
    }

    /// Returns the elements as a mutable ndarray of shape `[n, c, h, w]`.
    ///
    /// # Panics
    /// If the rank is not 4, which [`Op::infer`](crate::Op::infer) must have checked, or the elements are not contiguous.
    pub fn nchw(&mut self) -> ArrayViewMut4<'_, T> {
        let s = self.shape;
        let shape: Ix4 = ndarray::Dim([s[0], s[1], s[2], s[3]]);
        ArrayViewMut::from_shape(shape, &mut *self.data).expect("the view is contiguous")
    }
}

/// Returns the number of elements from the first of a tensor to the last; `None` if it overflows.
pub(crate) fn span(shape: &Shape, batch_stride: usize) -> Option<usize> {
    match shape.elements() {
        0 => Some(0),
        _ => (shape.first().copied().unwrap_or(1) - 1).checked_mul(batch_stride)?.checked_add(shape.row()),
    }
}

#[track_caller]
fn check_length(shape: &Shape, len: usize) {
    assert!(len == shape.elements(), "a view of shape {shape} has {} elements, not {len}", shape.elements());
}

fn check_stride(shape: &Shape, len: usize, batch_stride: usize) -> Result<()> {
    let fits = span(shape, batch_stride) == Some(len);
    if fits && (batch_stride >= shape.row() || shape.first().copied().unwrap_or(1) <= 1) {
        return Ok(());
    }
    Err(Error::shape(format!(
        "{len} elements are no tensor of shape {shape} with a batch stride of {batch_stride}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_check_their_length() {
        let shape = Shape::from([2, 3]);
        assert!(View::strided(&shape, &[0.0; 8], 5).is_ok());
        for (len, stride) in [(7, 5), (9, 5), (5, 2), (6, usize::MAX), (6, 0)] {
            let mut data = vec![0.0; len];
            assert!(View::strided(&shape, &data, stride).is_err());
            assert!(ViewMut::strided(&shape, &mut data, stride).is_err());
        }
        assert!(std::panic::catch_unwind(|| View::new(&shape, &[0.0; 5]).shape().rank()).is_err());
        assert!(std::panic::catch_unwind(|| ViewMut::new(&shape, &mut [0.0; 7]).shape().rank()).is_err());
    }
}
