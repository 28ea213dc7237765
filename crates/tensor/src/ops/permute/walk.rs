//! The axes of a permutation.

use smallvec::SmallVec;

use crate::core::shape::Shape;

/// The axes of a permutation in the order of the output, merged where the elements lie one after the other in both tensors.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// Extents, the outermost first; at least one.
    extents: SmallVec<[usize; Shape::MAX_RANK]>,
    /// Distance in the input between positions of each axis.
    strides: SmallVec<[usize; Shape::MAX_RANK]>,
}

impl Walk {
    /// Merges the axes of the permutation `dims` of a tensor of shape `x`.
    pub fn new(dims: &[usize], x: &Shape) -> Self {
        let mut walk = Walk { extents: SmallVec::new(), strides: SmallVec::new() };
        for &axis in dims {
            let (extent, stride) = (x[axis], x[axis + 1..].iter().product());
            if extent == 1 {
                continue;
            }
            match (walk.extents.last_mut(), walk.strides.last_mut()) {
                (Some(outer), Some(step)) if *step == extent * stride => {
                    *outer *= extent;
                    *step = stride;
                }
                _ => {
                    walk.extents.push(extent);
                    walk.strides.push(stride);
                }
            }
        }
        if walk.extents.is_empty() {
            walk.extents.push(1);
            walk.strides.push(1);
        }
        walk
    }

    /// Returns the extent and the stride of the innermost axis.
    pub fn inner(&self) -> (usize, usize) {
        let last = self.extents.len() - 1;
        (self.extents[last], self.strides[last])
    }

    /// Returns the extents and strides of the other axes, the outermost first.
    pub fn outer(&self) -> (&[usize], &[usize]) {
        let last = self.extents.len() - 1;
        (&self.extents[..last], &self.strides[..last])
    }

    /// Returns the position in the input where row `row` of the output starts.
    pub fn start(&self, row: usize) -> usize {
        let (extents, strides) = self.outer();
        let step = |(rest, start), (extent, stride): (&usize, &usize)| {
            (rest / extent, start + rest % extent * stride)
        };
        extents.iter().zip(strides).rev().fold((row, 0), step).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_axes_are_merged() {
        let walk = Walk::new(&[0, 2, 3, 1], &Shape::from([2, 3, 4, 5]));
        assert_eq!((walk.extents.as_slice(), walk.strides.as_slice()), (&[2, 20, 3][..], &[60, 1, 20][..]));
        assert_eq!(walk.start(21), 61);
        let walk = Walk::new(&[0, 1], &Shape::from([2, 3]));
        assert_eq!((walk.extents.as_slice(), walk.strides.as_slice()), (&[6][..], &[1][..]));
    }
}
