//! Shapes: up to six extents, stored inline.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use neocog_base::{Error, Result};

/// The extents of a tensor, the outermost first: `[n, c, h, w]`. A scalar has no extents.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; Shape::MAX_RANK],
    rank: u8,
}

/// A list of shapes, stored inline for up to four.
pub type Shapes = SmallVec<[Shape; 4]>;

impl Shape {
    /// Largest number of extents.
    pub const MAX_RANK: usize = 6;

    /// Creates a shape.
    ///
    /// # Errors
    /// If there are more than [`Shape::MAX_RANK`] extents, or the number of elements overflows `usize`.
    pub fn new(extents: &[usize]) -> Result<Self> {
        if extents.len() > Self::MAX_RANK {
            return Err(Error::shape(format!(
                "a shape has at most {} extents, {extents:?} has {}",
                Self::MAX_RANK,
                extents.len()
            )));
        }
        if extents.iter().try_fold(1usize, |product, &e| product.checked_mul(e.max(1))).is_none() {
            return Err(Error::shape(format!("the number of elements of the shape {extents:?} overflows")));
        }
        let mut all = [0; Self::MAX_RANK];
        all[..extents.len()].copy_from_slice(extents);
        Ok(Shape { extents: all, rank: extents.len() as u8 })
    }

    /// Returns the shape of a scalar, which has one element.
    pub const fn scalar() -> Self {
        Shape { extents: [0; Self::MAX_RANK], rank: 0 }
    }

    /// Returns the number of extents.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// Returns the number of elements at one position of the first axis, such as those of an image.
    pub fn row(&self) -> usize {
        self.iter().skip(1).product()
    }

    /// Returns the extents, the outermost first.
    pub fn extents(&self) -> &[usize] {
        &self.extents[..self.rank()]
    }

    /// Returns the extents of a batch of images.
    ///
    /// # Errors
    /// If the shape is not `[n, c, h, w]`.
    pub fn nchw(&self) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.extents())
            .map_err(|_| Error::shape(format!("expected a shape [n, c, h, w], found {self}")))
    }

    /// Returns this shape with the extent of `axis` replaced.
    ///
    /// # Errors
    /// If the shape has no axis `axis`, or the number of elements overflows `usize`.
    pub fn with_extent(&self, axis: usize, extent: usize) -> Result<Self> {
        let mut extents = self.extents;
        let extents = &mut extents[..self.rank()];
        match extents.get_mut(axis) {
            Some(replaced) => *replaced = extent,
            None => return Err(Error::invalid_argument(format!("the shape {self} has no axis {axis}"))),
        }
        Self::new(extents)
    }

    /// Returns the axis `dim`, where negative numbers count from the last axis, as in PyTorch.
    ///
    /// # Errors
    /// If there is no such axis.
    pub(crate) fn axis(&self, dim: isize) -> Result<usize> {
        let rank = self.rank() as isize;
        if (-rank..rank).contains(&dim) {
            Ok(dim.rem_euclid(rank) as usize)
        } else {
            Err(Error::invalid_argument(format!("the shape {self} has no axis {dim}")))
        }
    }

    /// Returns the indices of the element at position `flat` in row-major order.
    pub fn unravel(&self, flat: usize) -> Vec<usize> {
        let mut rest = flat;
        let mut index = vec![0; self.rank()];
        for axis in (0..self.rank()).rev() {
            let extent = self.extents[axis].max(1);
            index[axis] = rest % extent;
            rest /= extent;
        }
        index
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// For constant or checked extents: more than [`Shape::MAX_RANK`] do not compile. Use [`Shape::new`] for others.
    ///
    /// # Panics
    /// If the number of elements overflows `usize`.
    fn from(extents: [usize; N]) -> Self {
        const { assert!(N <= Shape::MAX_RANK, "a shape has at most six extents") };
        match Shape::new(&extents) {
            Ok(shape) => shape,
            Err(e) => panic!("{e}"),
        }
    }
}

/// A shape, or extents that are checked when they become one: the argument of functions that return a [`Result`].
pub trait IntoShape {
    /// Returns the shape.
    ///
    /// # Errors
    /// As [`Shape::new`].
    fn into_shape(self) -> Result<Shape>;
}

impl IntoShape for Shape {
    fn into_shape(self) -> Result<Shape> {
        Ok(self)
    }
}

impl<const N: usize> IntoShape for [usize; N] {
    fn into_shape(self) -> Result<Shape> {
        Shape::new(&self)
    }
}

impl IntoShape for &[usize] {
    fn into_shape(self) -> Result<Shape> {
        Shape::new(self)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.extents()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.extents())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.extents())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_indices() {
        let s = Shape::from([2, 3, 4, 5]);
        assert_eq!(s.elements(), 120);
        assert_eq!(s.unravel(119), [1, 2, 3, 4]);
        assert_eq!(s.to_string(), "[2, 3, 4, 5]");
        assert_eq!(Shape::scalar().elements(), 1);
        assert_eq!(s.with_extent(0, 7).unwrap(), Shape::from([7, 3, 4, 5]));
        assert!(s.with_extent(4, 7).is_err() && s.with_extent(0, usize::MAX / 2).is_err());
    }

    #[test]
    fn invalid_shapes_are_errors() {
        assert!(Shape::new(&[1; 7]).is_err());
        assert!(Shape::new(&[usize::MAX, 2]).is_err());
        assert!(Shape::from([1, 2]).nchw().is_err());
    }
}
