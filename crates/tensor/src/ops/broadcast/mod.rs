//! Broadcasting as in NumPy: shapes are aligned at their last axes, and an extent of 1 is repeated.
//!
//! [`Strided`] iterates over several arrays at once. Adjacent axes that are contiguous in all arrays are merged first, so that
//! the innermost loop is as long as possible.

pub(super) mod opencl;

use smallvec::SmallVec;

use crate::core::shape::Shape;
use neocog_base::{Error, Result};

/// Returns the shape to which all of `shapes` broadcast.
///
/// # Errors
/// If two extents differ and neither is 1.
pub(super) fn broadcast_shape(shapes: &[Shape]) -> Result<Shape> {
    let rank = shapes.iter().map(Shape::rank).max().unwrap_or(0);
    let mut extents = vec![1; rank];
    for (k, shape) in shapes.iter().enumerate() {
        for (axis, &extent) in (rank - shape.rank()..).zip(shape.iter()) {
            if extents[axis] == 1 {
                extents[axis] = extent;
            } else if extent != 1 && extent != extents[axis] {
                return Err(Error::shape(format!(
                    "the shapes {shapes:?} do not broadcast: input {k} has {extent} along axis {axis} of {rank}, another input {}",
                    extents[axis]
                )));
            }
        }
    }
    Shape::new(&extents)
}

/// Checks that `from` broadcasts to `to`.
///
/// # Errors
/// If it does not.
pub(super) fn expect_broadcasts(from: &Shape, to: &Shape) -> Result<()> {
    let fits = from.rank() <= to.rank()
        && from.iter().rev().zip(to.iter().rev()).all(|(&small, &large)| small == large || small == 1);
    if fits { Ok(()) } else { Err(Error::shape(format!("the shape {from} does not broadcast to {to}"))) }
}

/// Merged axes of a broadcast shape, the outermost first, with the strides of `N` arrays.
#[derive(Clone, Debug)]
pub(super) struct Strided<const N: usize> {
    /// Extents; at least one.
    pub(super) extents: SmallVec<[usize; 6]>,
    /// Strides of all arrays for each extent; 0 for repeated axes.
    pub(super) strides: SmallVec<[[usize; N]; 6]>,
}

impl<const N: usize> Strided<N> {
    /// Iterates over `shape`, to which all `arrays` broadcast.
    pub(super) fn new(shape: &Shape, arrays: [&Shape; N]) -> Self {
        let mut extents: SmallVec<[usize; 6]> = SmallVec::new();
        let mut strides: SmallVec<[[usize; N]; 6]> = SmallVec::new();
        let mut next = [1; N];
        // From the innermost axis outwards; reversed at the end.
        for axis in (0..shape.rank()).rev() {
            let extent = shape[axis];
            let stride: [usize; N] = std::array::from_fn(|k| {
                let from_last = shape.rank() - axis;
                let own =
                    if from_last > arrays[k].rank() { 1 } else { arrays[k][arrays[k].rank() - from_last] };
                let stride = if own == 1 { 0 } else { next[k] };
                next[k] *= own.max(1);
                stride
            });
            if extent == 1 {
                continue;
            }
            let merges = match (extents.last(), strides.last()) {
                (Some(&inner), Some(last)) => (0..N).all(|k| stride[k] == last[k] * inner),
                _ => false,
            };
            match extents.last_mut() {
                Some(inner) if merges => *inner *= extent,
                _ => {
                    extents.push(extent);
                    strides.push(stride);
                }
            }
        }
        if extents.is_empty() {
            extents.push(1);
            strides.push([0; N]);
        }
        extents.reverse();
        strides.reverse();
        Strided { extents, strides }
    }

    /// Returns the extent of the innermost loop.
    pub(super) fn inner(&self) -> usize {
        self.extents[self.extents.len() - 1]
    }

    /// Returns the strides of the innermost loop.
    pub(super) fn inner_strides(&self) -> [usize; N] {
        self.strides[self.strides.len() - 1]
    }

    /// Returns the number of runs of the innermost loop.
    pub(super) fn rows(&self) -> usize {
        self.extents[..self.extents.len() - 1].iter().product()
    }

    /// Returns the start position of each array in run `row` of the innermost loop.
    pub(super) fn starts(&self, row: usize) -> [usize; N] {
        let mut rest = row;
        let mut starts = [0; N];
        for axis in (0..self.extents.len() - 1).rev() {
            let index = rest % self.extents[axis];
            rest /= self.extents[axis];
            for (start, stride) in starts.iter_mut().zip(self.strides[axis]) {
                *start += index * stride;
            }
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_axes_are_merged() {
        let full = Shape::from([4, 3, 5, 6]);
        let s = Strided::new(&full, [&full, &Shape::from([3, 1, 1])]);
        assert_eq!(s.extents.as_slice(), [4, 3, 30]);
        assert_eq!(s.strides.as_slice(), [[90, 0], [30, 1], [1, 0]]);
        assert_eq!(s.starts(4), [120, 1]);
        let s = Strided::new(&full, [&full, &full]);
        assert_eq!(s.extents.as_slice(), [360]);
        assert_eq!(Strided::new(&Shape::scalar(), [&Shape::scalar()]).extents.as_slice(), [1]);
    }

    #[test]
    fn shapes_broadcast_as_in_numpy() {
        let shape = |a: &[usize], b: &[usize]| {
            broadcast_shape(&[Shape::new(a).unwrap(), Shape::new(b).unwrap()]).map(|s| s.to_vec())
        };
        assert_eq!(shape(&[2, 1, 3], &[4, 1]).unwrap(), [2, 4, 3]);
        assert_eq!(shape(&[0], &[1]).unwrap(), [0]);
        assert_eq!(shape(&[], &[5]).unwrap(), [5]);
        assert!(shape(&[2], &[3]).is_err());
        assert!(shape(&[0], &[2]).is_err());
    }
}
