//! Cases of the gradient of a fused bias and activation.

use super::BiasActivationGrad;
use crate::core::shape::Shape;
use crate::cpu::Activation;
use crate::ops::channel_sum::cases::SHAPES;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("bias_activation_grad", || {
    let case = |shape: &[usize], activation: Activation| {
        let shape = Shape::new(shape).expect("a small shape");
        let y = CaseInput::between(shape, -0.5, 0.9);
        let name = format!("{activation:?} {shape}");
        Case::new(name, BiasActivationGrad { activation }, [y, CaseInput::uniform(shape)]).without_gradient()
    };
    let shapes = SHAPES.into_iter().chain([&[1, 12, 11, 17][..], &[5, 6, 9, 8]]);
    let mut cases: Vec<Case> = shapes.map(|shape| case(shape, Activation::Relu)).collect();
    for activation in Activation::GRAD_OF_OUTPUT {
        cases.push(case(&[3, 5, 6, 7], *activation));
    }
    cases.push(case(&[32, 192, 24, 24], Activation::Relu).timed());
    cases
});
