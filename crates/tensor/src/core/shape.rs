//! Shapes: up to six extents in row-major order, kept inline.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use neocog_base::{Error, Result};

/// The extents of a tensor, the outermost first: `[n, c, h, w]`. No extents at all is a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; Shape::MAX_RANK],
    rank: u8,
}

/// A short list of shapes, inline for up to four.
pub type Shapes = SmallVec<[Shape; 4]>;

impl Shape {
    /// The most extents that a shape can have.
    pub const MAX_RANK: usize = 6;

    /// A shape with these extents.
    ///
    /// # Errors
    /// When there are more than [`Shape::MAX_RANK`] extents, or more elements than a `usize` can count.
    pub fn new(extents: &[usize]) -> Result<Self> {
        if extents.len() > Self::MAX_RANK {
            return Err(Error::shape(format!(
                "a shape has at most {} extents, {extents:?} has {}",
                Self::MAX_RANK,
                extents.len()
            )));
        }
        if extents.iter().try_fold(1usize, |product, &e| product.checked_mul(e.max(1))).is_none() {
            return Err(Error::shape(format!("the shape {extents:?} has more elements than can be counted")));
        }
        let mut all = [0; Self::MAX_RANK];
        all[..extents.len()].copy_from_slice(extents);
        Ok(Shape { extents: all, rank: extents.len() as u8 })
    }

    /// The shape without extents: one element.
    pub const fn scalar() -> Self {
        Shape { extents: [0; Self::MAX_RANK], rank: 0 }
    }

    /// The number of extents.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The number of elements at one position along the first axis.
    pub fn row(&self) -> usize {
        self.iter().skip(1).product()
    }

    /// The extents, the outermost first.
    pub fn extents(&self) -> &[usize] {
        &self.extents[..self.rank()]
    }

    /// The extents of a picture batch.
    ///
    /// # Errors
    /// When the shape is not `[n, c, h, w]`.
    pub fn nchw(&self) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.extents())
            .map_err(|_| Error::shape(format!("expected a shape [n, c, h, w], found {self}")))
    }

    /// This shape with the extent `axis` replaced.
    ///
    /// # Panics
    /// When `axis` is not below the rank.
    #[must_use]
    pub fn with_extent(&self, axis: usize, extent: usize) -> Self {
        assert!(axis < self.rank(), "axis {axis} of {self}");
        let mut shape = *self;
        shape.extents[axis] = extent;
        shape
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

    /// The indices of the element at position `flat` in row-major order.
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
    /// # Panics
    /// Where [`Shape::new`] would be an error; for extents written in code.
    fn from(extents: [usize; N]) -> Self {
        match Shape::new(&extents) {
            Ok(shape) => shape,
            Err(e) => panic!("{e}"),
        }
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
    fn shapes_count_and_unravel() {
        let s = Shape::from([2, 3, 4, 5]);
        assert_eq!(s.elements(), 120);
        assert_eq!(s.unravel(119), [1, 2, 3, 4]);
        assert_eq!(s.to_string(), "[2, 3, 4, 5]");
        assert_eq!(Shape::scalar().elements(), 1);
        assert_eq!(s.with_extent(0, 7), Shape::from([7, 3, 4, 5]));
    }

    #[test]
    fn impossible_shapes_are_errors() {
        assert!(Shape::new(&[1; 7]).is_err());
        assert!(Shape::new(&[usize::MAX, 2]).is_err());
        assert!(Shape::from([1, 2]).nchw().is_err());
    }
}
