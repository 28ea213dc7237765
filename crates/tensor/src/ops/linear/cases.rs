//! Cases of the fully connected layer.

use super::Linear;
use crate::core::shape::Shape;
use crate::cpu::Activation;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("linear", || {
    let linear = |name: &str, activation, x: &[usize], out: usize, bias: bool| {
        let x = Shape::new(x).expect("a small shape");
        let features = x[x.rank() - 1];
        let inputs = [CaseInput::uniform(x), CaseInput::uniform([out, features]), CaseInput::uniform([out])];
        Case::new(name, Linear { activation }, inputs.into_iter().take(if bias { 3 } else { 2 }))
    };
    let mut cases = vec![
        linear("no bias", None, &[4, 7], 5, false),
        linear("bias", None, &[4, 7], 5, true),
        linear("batch 1", None, &[1, 33], 3, true),
        linear("one image, 67 of 2100", Some(Activation::Sigmoid), &[1, 2100], 67, true).without_gradient(),
        linear("one image without features", None, &[1, 0], 3, true).without_gradient(),
        linear("one axis", None, &[6], 4, true),
        linear("three axes", None, &[2, 3, 5], 4, true),
        linear("one output", None, &[5, 9], 1, true),
        linear("empty batch", None, &[0, 7], 5, true).without_gradient(),
        linear("odd", None, &[67, 130], 37, true).without_gradient(),
    ];
    for &activation in Activation::ALL {
        let case = linear(&format!("{activation:?}"), Some(activation), &[3, 6], 18, true);
        cases.push(if activation.has_grad_of_output() { case } else { case.without_gradient() });
    }
    for (features, out) in [(256, 120), (120, 84), (84, 10)] {
        cases.push(linear(&format!("lenet {features} to {out}"), None, &[256, features], out, true).timed());
    }
    cases.push(linear("wide 4096 to 4096", Some(Activation::Relu), &[32, 4096], 4096, true).timed());
    cases
});
