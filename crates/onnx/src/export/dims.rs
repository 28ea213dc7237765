//! Extents of a shape that may depend on the size of the batch.

use neocog_base::{Error, Result};
use neocog_tensor::Shape;

/// An extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// The same for every batch.
    Fixed(usize),
    /// A multiple of the size of the batch.
    Batch(usize),
}

impl Dim {
    /// Returns the extents of a shape that is `shapes` for two sizes of the batch.
    ///
    /// # Errors
    /// If an extent is neither fixed nor a multiple of the size.
    pub(super) fn of(first: &Shape, second: &Shape, batches: [usize; 2]) -> Result<Vec<Dim>> {
        let dim = |(&a, &b): (&usize, &usize)| {
            if a == b {
                return Ok(Dim::Fixed(a));
            }
            let multiple = a / batches[0];
            if multiple * batches[0] == a && multiple * batches[1] == b {
                return Ok(Dim::Batch(multiple));
            }
            Err(Error::shape(format!(
                "the shape {first} for a batch of {}, {second} for one of {}, is neither fixed nor a multiple of the batch",
                batches[0], batches[1]
            )))
        };
        if first.rank() != second.rank() {
            return Err(Error::shape(format!(
                "the shapes {first} and {second} of two batches differ in their rank"
            )));
        }
        first.iter().zip(second.iter()).map(dim).collect()
    }

    /// Returns a fixed extent.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(extent) => Some(extent),
            Dim::Batch(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_fixed_or_multiples_of_the_batch() {
        let of = |a: [usize; 2], b: [usize; 2]| Dim::of(&a.into(), &b.into(), [2, 3]);
        assert_eq!(of([2, 7], [3, 7]).unwrap(), [Dim::Batch(1), Dim::Fixed(7)]);
        assert_eq!(of([10, 1], [15, 1]).unwrap(), [Dim::Batch(5), Dim::Fixed(1)]);
        assert!(of([3, 7], [4, 7]).unwrap_err().to_string().contains("neither fixed nor a multiple"));
        assert!(Dim::of(&[2].into(), &[3, 1].into(), [2, 3]).is_err());
    }
}
