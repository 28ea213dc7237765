//! Cases of reshaping.

use super::{Flatten, Reshape};
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("reshape", || {
    let to = |from: Shape, to: Shape| {
        Case::new(format!("{from} to {to}"), Reshape { shape: to }, [CaseInput::uniform(from)])
    };
    vec![
        to(Shape::from([2, 3, 4]), Shape::from([6, 4])),
        to(Shape::from([4, 6]), Shape::from([4, 2, 3])),
        to(Shape::scalar(), Shape::from([1, 1])),
        to(Shape::from([0, 3]), Shape::from([5, 0])),
        to(Shape::from([3, 100_000]), Shape::from([100_000, 3])).without_gradient(),
    ]
});

register_op!("flatten", || {
    let flatten = |start_dim, end_dim, from: Shape| {
        Case::new(
            format!("{from}, {start_dim} to {end_dim}"),
            Flatten { start_dim, end_dim },
            [CaseInput::uniform(from)],
        )
    };
    vec![
        flatten(1, -1, Shape::from([2, 3, 4, 5])),
        flatten(0, -1, Shape::from([2, 3])),
        flatten(1, 2, Shape::from([2, 3, 4, 5])),
        flatten(-1, -1, Shape::from([7])),
        flatten(0, 0, Shape::scalar()),
        flatten(1, -1, Shape::from([0, 3, 2, 2])),
    ]
});
