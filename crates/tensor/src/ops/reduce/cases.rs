//! Cases of the reductions.

use super::{Expand, Mean, Sum, SumTo};
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::cpu::parallel::CHUNK;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents).expect("a small shape")
}

fn whole_cases<T: Op + Copy>(op: T) -> Vec<Case> {
    let mut cases: Vec<Case> = [&[][..], &[1], &[3, 7], &[2, 3, 5, 4]]
        .into_iter()
        .map(|s| Case::new(shape(s).to_string(), op, [CaseInput::uniform(shape(s))]))
        .collect();
    for s in [&[5 * CHUNK + 3][..], &[300, 6, 24, 24]] {
        cases.push(
            Case::new(shape(s).to_string(), op, [CaseInput::between(shape(s), -1.0, 2.0)]).without_gradient(),
        );
    }
    cases.push(Case::new("empty", op, [CaseInput::uniform([0, 3])]).without_gradient());
    cases
}

register_op!("sum", || whole_cases(Sum));
register_op!("mean", || whole_cases(Mean));

const BROADCASTS: [(&[usize], &[usize]); 12] = [
    (&[], &[]),
    (&[], &[2, 3, 5, 4]),
    (&[1], &[7]),
    (&[3, 1, 1], &[2, 3, 5, 4]),
    (&[4], &[2, 3, 5, 4]),
    (&[1, 3, 5, 4], &[2, 3, 5, 4]),
    (&[2, 1, 5, 1], &[2, 3, 5, 4]),
    (&[1, 3, 1, 4], &[2, 3, 5, 4]),
    (&[5], &[0, 5]),
    (&[1, 0], &[4, 0]),
    (&[CHUNK, 1], &[CHUNK, 3]),
    (&[1, CHUNK], &[3, CHUNK]),
];

register_op!("sum_to", || {
    let mut cases: Vec<Case> = BROADCASTS
        .into_iter()
        .map(|(small, large)| {
            let (small, large) = (shape(small), shape(large));
            let case =
                Case::new(format!("{large} to {small}"), SumTo { shape: small }, [CaseInput::uniform(large)]);
            if large.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect();
    let lenet = Case::new(
        "bias of LeNet",
        SumTo { shape: shape(&[6, 1, 1]) },
        [CaseInput::uniform([256, 6, 24, 24])],
    );
    cases.push(lenet.timed());
    cases
});

register_op!("expand", || {
    BROADCASTS
        .into_iter()
        .map(|(small, large)| {
            let (small, large) = (shape(small), shape(large));
            let case = Case::new(
                format!("{small} to {large}"),
                Expand { shape: large },
                [CaseInput::uniform(small)],
            );
            if large.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect()
});
