//! Cases of gathering.

use super::{Gather, GatherGrad};
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

/// Name, axis, shape of the input, and number of elements that are taken along the axis.
const CASES: [(&str, usize, &[usize], usize); 7] = [
    ("a row", 0, &[5], 3),
    ("rows", 0, &[4, 3], 6),
    ("a class of each image", 1, &[9, 10], 1),
    ("the middle axis", 1, &[2, 5, 3], 7),
    ("the last of four axes", 3, &[2, 3, 2, 6], 2),
    ("nothing is taken", 1, &[3, 4], 0),
    ("many", 1, &[300, 70, 11], 70),
];

register_op!("gather", || {
    let case = |&(name, dim, shape, taken): &(&str, usize, &[usize], usize)| {
        let shape = Shape::new(shape).expect("a small shape");
        let index =
            CaseInput::index(shape.with_extent(dim, taken).expect("a small shape"), shape[dim] as u32);
        let case = Case::new(name, Gather { dim }, [CaseInput::uniform(shape), index]);
        if shape.elements() > 1000 { case.timed() } else { case }
    };
    CASES.iter().map(case).collect()
});

register_op!("gather_grad", || {
    let case = |&(name, dim, shape, taken): &(&str, usize, &[usize], usize)| {
        let shape = Shape::new(shape).expect("a small shape");
        let of = shape.with_extent(dim, taken).expect("a small shape");
        let inputs = [CaseInput::index(of, shape[dim] as u32), CaseInput::uniform(of)];
        Case::new(name, GatherGrad { dim, shape }, inputs).without_gradient()
    };
    CASES.iter().map(case).collect()
});
