//! Broadcasting as in NumPy: shapes are aligned at their ends, and an extent of 1 repeats.
//!
//! [`Strided`] walks over several arrays at once. Axes that lie contiguous in all of them are joined first, so that
//! the innermost loop is as long as it can be, and what is left is a short list of outer loops.

pub(super) mod opencl;

use smallvec::SmallVec;

use crate::core::shape::Shape;
use neocog_base::{Error, Result};

/// The shape to which all of `shapes` broadcast.
///
/// # Errors
/// When two extents differ and neither is 1.
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
/// When it does not.
pub(super) fn expect_broadcasts(from: &Shape, to: &Shape) -> Result<()> {
    let fits = from.rank() <= to.rank()
        && from.iter().rev().zip(to.iter().rev()).all(|(&small, &large)| small == large || small == 1);
    if fits { Ok(()) } else { Err(Error::shape(format!("the shape {from} does not broadcast to {to}"))) }
}

/// Joined axes of a broadcast shape, the outermost first, with the steps of `N` arrays along them.
#[derive(Clone, Debug)]
pub(super) struct Strided<const N: usize> {
    /// The extents; at least one.
    pub(super) extents: SmallVec<[usize; 6]>,
    /// For every extent the steps of all arrays; 0 where an array repeats.
    pub(super) steps: SmallVec<[[usize; N]; 6]>,
}

impl<const N: usize> Strided<N> {
    /// The walk over `shape`, to which every one of `arrays` broadcasts.
    pub(super) fn new(shape: &Shape, arrays: [&Shape; N]) -> Self {
        let mut extents: SmallVec<[usize; 6]> = SmallVec::new();
        let mut steps: SmallVec<[[usize; N]; 6]> = SmallVec::new();
        let mut next = [1; N];
        // From the innermost axis outwards; turned round at the end.
        for axis in (0..shape.rank()).rev() {
            let extent = shape[axis];
            let step: [usize; N] = std::array::from_fn(|k| {
                let behind = shape.rank() - axis;
                let own = if behind > arrays[k].rank() { 1 } else { arrays[k][arrays[k].rank() - behind] };
                let step = if own == 1 { 0 } else { next[k] };
                next[k] *= own.max(1);
                step
            });
            if extent == 1 {
                continue;
            }
            let joins = match (extents.last(), steps.last()) {
                (Some(&inner), Some(last)) => (0..N).all(|k| step[k] == last[k] * inner),
                _ => false,
            };
            match extents.last_mut() {
                Some(inner) if joins => *inner *= extent,
                _ => {
                    extents.push(extent);
                    steps.push(step);
                }
            }
        }
        if extents.is_empty() {
            extents.push(1);
            steps.push([0; N]);
        }
        extents.reverse();
        steps.reverse();
        Strided { extents, steps }
    }

    /// The extent of the innermost loop.
    pub(super) fn inner(&self) -> usize {
        self.extents[self.extents.len() - 1]
    }

    /// The steps of the innermost loop.
    pub(super) fn inner_steps(&self) -> [usize; N] {
        self.steps[self.steps.len() - 1]
    }

    /// How often the innermost loop runs.
    pub(super) fn rows(&self) -> usize {
        self.extents[..self.extents.len() - 1].iter().product()
    }

    /// Where each array starts in innermost loop number `row`.
    pub(super) fn starts(&self, row: usize) -> [usize; N] {
        let mut rest = row;
        let mut starts = [0; N];
        for axis in (0..self.extents.len() - 1).rev() {
            let index = rest % self.extents[axis];
            rest /= self.extents[axis];
            for (start, step) in starts.iter_mut().zip(self.steps[axis]) {
                *start += index * step;
            }
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_join_where_they_can() {
        let full = Shape::from([4, 3, 5, 6]);
        let s = Strided::new(&full, [&full, &Shape::from([3, 1, 1])]);
        assert_eq!(s.extents.as_slice(), [4, 3, 30]);
        assert_eq!(s.steps.as_slice(), [[90, 0], [30, 1], [1, 0]]);
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
