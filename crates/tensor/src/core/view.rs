//! What kernels see of tensors: a shape and the elements.

use ndarray::{ArrayView, ArrayView2, ArrayView4, ArrayViewMut, ArrayViewMut2, ArrayViewMut4, Ix2, Ix4};

use crate::core::shape::Shape;

/// A tensor that a kernel reads: contiguous elements in row-major order, but for gaps where [`Op::supports_batch_stride`] allows them.
///
/// [`Op::supports_batch_stride`]: crate::Op::supports_batch_stride
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    /// The extents.
    pub shape: &'a Shape,
    /// All elements; with gaps, from the first element to the last.
    pub data: &'a [T],
    /// From a position along the first axis to the next, in elements.
    pub step: usize,
}

/// A tensor that a kernel writes: contiguous elements in row-major order, but for gaps where [`Op::supports_batch_stride`] allows them.
///
/// [`Op::supports_batch_stride`]: crate::Op::supports_batch_stride
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    /// The extents.
    pub shape: &'a Shape,
    /// All elements; with gaps, from the first element to the last.
    pub data: &'a mut [T],
    /// From a position along the first axis to the next, in elements.
    pub step: usize,
}

impl<'a, T> View<'a, T> {
    /// A view without gaps.
    pub fn new(shape: &'a Shape, data: &'a [T]) -> Self {
        View { shape, data, step: shape.row() }
    }

    /// The elements as an ndarray matrix.
    ///
    /// # Panics
    /// When the rank is not 2: an operation's `infer` has checked it.
    pub fn matrix(&self) -> ArrayView2<'a, T> {
        let shape: Ix2 = ndarray::Dim([self.shape[0], self.shape[1]]);
        ArrayView::from_shape(shape, self.data).expect("a view is contiguous")
    }

    /// The elements as an ndarray of `[n, c, h, w]`.
    ///
    /// # Panics
    /// When the rank is not 4: an operation's `infer` has checked it.
    pub fn nchw(&self) -> ArrayView4<'a, T> {
        let s = self.shape;
        let shape: Ix4 = ndarray::Dim([s[0], s[1], s[2], s[3]]);
        ArrayView::from_shape(shape, self.data).expect("a view is contiguous")
    }
}

impl<'a, T> ViewMut<'a, T> {
    /// A view without gaps.
    pub fn new(shape: &'a Shape, data: &'a mut [T]) -> Self {
        ViewMut { shape, data, step: shape.row() }
    }
}

impl<T> ViewMut<'_, T> {
    /// The elements as a mutable ndarray matrix.
    ///
    /// # Panics
    /// When the rank is not 2: an operation's `infer` has checked it.
    pub fn matrix(&mut self) -> ArrayViewMut2<'_, T> {
        let shape: Ix2 = ndarray::Dim([self.shape[0], self.shape[1]]);
        ArrayViewMut::from_shape(shape, &mut *self.data).expect("a view is contiguous")
    }

    /// The elements as a mutable ndarray of `[n, c, h, w]`.
    ///
    /// # Panics
    /// When the rank is not 4: an operation's `infer` has checked it.
    pub fn nchw(&mut self) -> ArrayViewMut4<'_, T> {
        let s = self.shape;
        let shape: Ix4 = ndarray::Dim([s[0], s[1], s[2], s[3]]);
        ArrayViewMut::from_shape(shape, &mut *self.data).expect("a view is contiguous")
    }
}
