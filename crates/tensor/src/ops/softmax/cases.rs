//! Cases of softmax and its relatives.

use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::testing::cases::{Case, CaseInput};

fn inputs() -> Vec<(&'static str, isize, CaseInput)> {
    let large = [1e4, -1e4, 0.0, -1e4, 1e4, 1e4, 0.0, 0.0, 0.0];
    let large = CaseInput::values([3, 3], &large).expect("nine values").constant();
    vec![
        ("rows", 1, CaseInput::between([4, 10], -3.0, 3.0)),
        ("last axis", -1, CaseInput::between([2, 3, 17], -3.0, 3.0)),
        ("first axis", 0, CaseInput::between([5, 7], -3.0, 3.0)),
        ("channels", 1, CaseInput::between([2, 3, 4, 5], -3.0, 3.0)),
        ("channels, many pixels", -3, CaseInput::between([3, 19, 20, 30], -3.0, 3.0).constant()),
        ("a vector", 0, CaseInput::uniform([33])),
        ("one element", 1, CaseInput::uniform([3, 1])),
        ("large", 1, large.clone()),
        ("large, first axis", 0, large),
        ("no rows", 1, CaseInput::uniform([0, 4])),
        ("no elements", 1, CaseInput::uniform([4, 0])),
        ("many rows", 1, CaseInput::between([700, 100], -3.0, 3.0).constant()),
    ]
}

pub(super) fn forward<T: Op>(op: impl Fn(isize) -> T) -> Vec<Case> {
    let case = |(name, dim, x): (&'static str, isize, CaseInput)| {
        let differentiable = x.differentiable;
        let case = Case::new(name, op(dim), [x]);
        if differentiable { case } else { case.without_gradient() }
    };
    let mut all: Vec<Case> = inputs().into_iter().map(case).collect();
    all.push(Case::new("classes", op(1), [CaseInput::between([256, 1000], -3.0, 3.0)]).timed());
    all
}

/// Cases of a gradient; `log` for that of the logarithm.
pub(super) fn grad<T: Op>(op: impl Fn(isize) -> T, log: bool) -> Vec<Case> {
    let y = |shape: Shape| match log {
        true => CaseInput::between(shape, -4.0, 0.0),
        false => CaseInput::between(shape, 0.0, 1.0),
    };
    let case = |(name, dim, x): (&'static str, isize, CaseInput)| {
        Case::new(name, op(dim), [y(x.shape), CaseInput::uniform(x.shape)]).without_gradient()
    };
    let mut all: Vec<Case> = inputs().into_iter().map(case).collect();
    let shape = Shape::from([256, 1000]);
    all.push(Case::new("classes", op(1), [y(shape), CaseInput::uniform(shape)]).timed());
    all
}
