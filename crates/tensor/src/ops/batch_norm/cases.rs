//! Cases of batch normalization.

use super::{BatchNormEval, BatchNormEvalGrad, BatchNormTrain, BatchNormTrainGrad, UpdateRunningStats};
use crate::core::shape::Shape;
use crate::ops::Activation;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

fn shapes() -> Vec<Shape> {
    vec![
        Shape::from([5, 3]),
        Shape::from([4, 21]),
        Shape::from([3, 2, 4]),
        Shape::from([2, 3, 3, 5]),
        Shape::from([1, 2, 4, 4]),
        Shape::from([7, 1, 1, 1]),
    ]
}

fn activations() -> impl Iterator<Item = Option<Activation>> {
    [None].into_iter().chain(Activation::ALL.map(Some))
}

fn channels(x: Shape) -> Shape {
    Shape::from([x[1]])
}

/// A weight other than 1.
fn weight(x: Shape) -> CaseInput {
    CaseInput::between(channels(x), 0.5, 1.5)
}

const LENET: [[usize; 4]; 2] = [[256, 6, 24, 24], [256, 16, 8, 8]];
const RESNET: [[usize; 4]; 2] = [[32, 64, 24, 24], [32, 512, 3, 3]];

register_op!("batch_norm_train", || {
    let mut cases = Vec::new();
    for x in shapes() {
        for activation in activations() {
            let op = BatchNormTrain { eps: 1e-5, activation };
            let inputs = [CaseInput::uniform(x), weight(x), CaseInput::uniform(channels(x))];
            cases.push(Case::new(format!("{x} {activation:?}"), op, inputs));
        }
        let op = BatchNormTrain { eps: 1e-3, activation: None };
        cases.push(Case::new(format!("{x} without weight"), op, [CaseInput::uniform(x)]));
    }
    let op = BatchNormTrain { eps: 1e-5, activation: None };
    for x in [Shape::from([64, 3, 20, 20]), Shape::from([300, 5])] {
        cases.push(
            Case::new(format!("{x} far from 0"), op, [CaseInput::between(x, 99.0, 101.0)])
                .with_tolerance(5e-5, "an input of 100 has a rounding error of 4e-6, the deviation is 0.6")
                .without_gradient(),
        );
    }
    for x in LENET
        .into_iter()
        .chain(RESNET)
        .map(Shape::from)
        .chain([Shape::from([256, 120]), Shape::from([256, 84])])
    {
        let op = BatchNormTrain { eps: 1e-5, activation: Some(Activation::Sigmoid) };
        let inputs = [CaseInput::uniform(x), weight(x), CaseInput::uniform(channels(x))];
        cases.push(Case::new(format!("{x} sigmoid"), op, inputs).timed());
    }
    cases
});

register_op!("batch_norm_train_grad", || {
    let mut cases = Vec::new();
    let case = |x: Shape, activation: Option<Activation>, affine: bool| {
        let op = BatchNormTrainGrad { of: BatchNormTrain { eps: 1e-5, activation }, affine };
        let mut inputs = vec![
            CaseInput::uniform(x),
            CaseInput::between(channels(x), -0.1, 0.1),
            CaseInput::between(channels(x), 0.2, 0.5),
            CaseInput::uniform(x),
        ];
        inputs.extend(affine.then(|| weight(x)));
        inputs.extend(activation.map(|_| CaseInput::between(x, 0.0, 1.0)));
        Case::new(format!("{x} {activation:?}{}", if affine { "" } else { " without weight" }), op, inputs)
            .without_gradient()
    };
    for x in shapes() {
        for activation in activations() {
            cases.push(case(x, activation, true));
        }
        cases.push(case(x, None, false));
    }
    for x in LENET.into_iter().chain(RESNET).map(Shape::from).chain([Shape::from([256, 120])]) {
        cases.push(case(x, Some(Activation::Sigmoid), true).timed());
    }
    cases
});

register_op!("batch_norm_eval", || {
    let mut cases = Vec::new();
    for x in shapes().into_iter().chain([Shape::from([0, 3, 2, 2])]) {
        for activation in activations() {
            let op = BatchNormEval { eps: 1e-5, activation };
            let mean = CaseInput::uniform(channels(x)).constant();
            let var = CaseInput::between(channels(x), 0.2, 1.5).constant();
            let inputs = [CaseInput::uniform(x), mean.clone(), var.clone()];
            cases.push(Case::new(format!("{x} {activation:?} without weight"), op, inputs));
            let inputs = [CaseInput::uniform(x), mean, var, weight(x), CaseInput::uniform(channels(x))];
            cases.push(Case::new(format!("{x} {activation:?}"), op, inputs));
        }
    }
    cases
});

register_op!("batch_norm_eval_grad", || {
    let mut cases = Vec::new();
    for x in shapes() {
        for affine in [false, true] {
            let op = BatchNormEvalGrad { eps: 1e-5, affine };
            let mut inputs = vec![
                CaseInput::uniform(x),
                CaseInput::uniform(channels(x)),
                CaseInput::between(channels(x), 0.2, 1.5),
                CaseInput::uniform(x),
            ];
            inputs.extend(affine.then(|| weight(x)));
            cases.push(Case::new(format!("{x} {affine}"), op, inputs).without_gradient());
        }
    }
    cases
});

register_op!("update_running_stats", || {
    let c = Shape::from([7]);
    let positive = || CaseInput::between(c, 0.1, 2.0);
    [(0.1, true), (0.1, false), (1.0, true), (0.0, false)]
        .into_iter()
        .map(|(factor, unbiased)| {
            let op = UpdateRunningStats { factor, unbiased, count: 12 };
            Case::new(format!("{op:?}"), op, [CaseInput::uniform(c), positive()])
                .with_state([CaseInput::uniform(c), positive()])
                .without_gradient()
        })
        .collect()
});
