//! Tensors as kernels see them: a shape and the elements.

use ndarray::{ArrayView, ArrayView2, ArrayView4, ArrayViewMut, ArrayViewMut2, ArrayViewMut4, Ix2, Ix4};

use crate::core::shape::Shape;

/// A tensor that a kernel reads: its elements in row-major order, contiguous unless [`Op::supports_batch_stride`] permits a
/// larger batch stride.
///
/// [`Op::supports_batch_stride`]: crate::Op::supports_batch_stride
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    /// Shape of the tensor.
    pub shape: &'a Shape,
    /// The memory from the first element to the last.
    pub data: &'a [T],
    /// Distance between positions of the first axis (images of a batch), in elements.
    pub batch_stride: usize,
}

/// A tensor that a kernel writes: its elements in row-major order, contiguous unless [`Op::supports_batch_stride`] permits a
/// larger batch stride.
///
/// [`Op::supports_batch_stride`]: crate::Op::supports_batch_stride
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    /// Shape of the tensor.
    pub shape: &'a Shape,
    /// The memory from the first element to the last.
    pub data: &'a mut [T],
    /// Distance between positions of the first axis (images of a batch), in elements.
    pub batch_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// Creates a view of contiguous elements.
    pub fn new(shape: &'a Shape, data: &'a [T]) -> Self {
        View { shape, data, batch_stride: shape.row() }
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
    pub fn new(shape: &'a Shape, data: &'a mut [T]) -> Self {
        ViewMut { shape, data, batch_stride: shape.row() }
    }
}

impl<T> ViewMut<'_, T> {
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
