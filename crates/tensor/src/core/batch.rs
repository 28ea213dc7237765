//! Independence of the images of a batch, for [`Op::split_batch`](crate::Op::split_batch).

use crate::core::shape::Shape;

/// Whether the first input is batched and no other one is: the rule of operations whose other inputs are parameters.
pub fn only_first_is_batched(batched: &[bool]) -> bool {
    matches!(batched, [true, others @ ..] if !others.contains(&true))
}

/// Returns the shape of an output of `shape` for a part of the batch of its only input; `None` if their batches differ: the rule of operations that
/// state the shape of their output.
pub fn shape_of_part(shape: &Shape, inputs: &[Shape], batched: &[bool], images: usize) -> Option<Shape> {
    let [x] = inputs else { return None };
    let fits = only_first_is_batched(batched) && x.first() == shape.first();
    if fits { shape.with_extent(0, images).ok() } else { None }
}

/// Whether broadcasting combines images of the batched inputs only with the same image of the others, and with values that are the
/// same for all images: the rule of elementwise operations.
pub fn broadcasting_keeps_images(inputs: &[Shape], batched: &[bool]) -> bool {
    let rank = inputs.iter().map(|shape| shape.rank()).max().unwrap_or(0);
    let keeps = |(shape, batched): (&Shape, &bool)| match batched {
        true => shape.rank() == rank,
        false => shape.rank() < rank || shape.first() == Some(&1),
    };
    batched.contains(&true) && inputs.iter().zip(batched).all(keeps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_must_not_combine_different_images() {
        let keeps = |a: &[usize], b: &[usize], batched: [bool; 2]| {
            let inputs = [a, b].map(|extents| Shape::new(extents).unwrap());
            broadcasting_keeps_images(&inputs, &batched)
        };
        assert!(keeps(&[4, 3, 2], &[4, 3, 1], [true, true]));
        assert!(keeps(&[4, 3, 2], &[1, 3, 2], [true, false]));
        assert!(keeps(&[4, 3, 2], &[3, 2], [true, false]));
        assert!(keeps(&[4, 3, 2], &[], [true, false]));
        // Nothing is split.
        assert!(!keeps(&[], &[], [false, false]));
        // The rows of the second input belong to images, but it is not split.
        assert!(!keeps(&[4, 3, 2], &[4, 3, 2], [true, false]));
        // The batch of the second input is along another axis of the output.
        assert!(!keeps(&[4, 4], &[4], [true, true]));
    }
}
