//! Cases of the elementwise operations.

use super::{Accumulate, Scale};
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::cpu::Activation;
use crate::cpu::parallel::CHUNK;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

/// The largest activation of LeNet in training.
const LENET: [usize; 4] = [256, 6, 24, 24];

/// Cases of an activation function.
pub(super) fn unary<T: Op + Copy>(op: T) -> Vec<Case> {
    let small =
        [vec![], vec![1], vec![3, 7], vec![2, 3, 5, 4], vec![CHUNK * 2 + 5]].into_iter().map(|shape| {
            let shape = Shape::new(&shape).expect("a small shape");
            let case = Case::new(shape.to_string(), op, [CaseInput::distinct(shape)]);
            if shape.elements() > 1000 { case.without_gradient() } else { case }
        });
    let lenet = Case::new("lenet", op, [CaseInput::between(LENET, -3.0, 3.0)]).timed();
    let wide = Case::new("-5 to 5", op, [CaseInput::between([7, 11], -5.0, 5.0)]);
    small.chain([wide, lenet]).collect()
}

/// Cases of the gradient of an activation function.
pub(super) fn unary_grad<T: Op + Copy>(op: T, activation: Activation) -> Vec<Case> {
    let shape = Shape::from([3, 19]);
    let (low, high) = if activation.has_grad_of_output() { (0.0, 1.0) } else { (-5.0, 5.0) };
    let inputs = |shape| [CaseInput::between(shape, low, high), CaseInput::uniform(shape)];
    vec![
        Case::new("as of an output", op, inputs(shape)).without_gradient(),
        Case::new("lenet", op, inputs(Shape::from(LENET))).timed(),
    ]
}

pub(super) fn add_relu<T: Op + Copy>(op: T) -> Vec<Case> {
    [vec![], vec![1], vec![0, 3], vec![2, 3, 5, 4], vec![CHUNK * 2 + 5]]
        .into_iter()
        .map(|shape| {
            let shape = Shape::new(&shape).expect("a small shape");
            let case =
                Case::new(shape.to_string(), op, [CaseInput::distinct(shape), CaseInput::distinct(shape)]);
            if shape.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect()
}

register_op!("scale", || {
    vec![
        Case::new("a scalar", Scale { factor: -2.5 }, [CaseInput::uniform(Shape::scalar())]),
        Case::new("by zero", Scale { factor: 0.0 }, [CaseInput::uniform([3, 7])]),
        Case::new("empty", Scale { factor: 2.0 }, [CaseInput::uniform([0, 7])]),
        Case::new("large", Scale { factor: 1.0 / 3.0 }, [CaseInput::uniform([3 * CHUNK + 7])])
            .without_gradient(),
    ]
});

register_op!("accumulate", || {
    [vec![], vec![0, 3], vec![5, 7], vec![2 * CHUNK + 9]]
        .into_iter()
        .map(|shape| {
            let shape = Shape::new(&shape).expect("a small shape");
            Case::new(shape.to_string(), Accumulate, [CaseInput::uniform(shape)])
                .with_state([CaseInput::uniform(shape)])
                .without_gradient()
        })
        .collect()
});
