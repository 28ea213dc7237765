//! Cases of cross entropy.

use super::{CountCorrect, CrossEntropy, CrossEntropyGrad, Reduction, loss_shape};
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

fn values(shape: impl Into<Shape>, values: &[f32]) -> CaseInput {
    CaseInput::values(shape, values).expect("as many values as the shape has")
}

/// Logits and targets, including special values.
fn inputs() -> Vec<(&'static str, [CaseInput; 2])> {
    let random = |n: usize, classes: usize, size: f32| {
        [CaseInput::between([n, classes], -size, size), CaseInput::index([n], classes as u32)]
    };
    vec![
        ("plain", random(4, 10, 3.0)),
        ("one row", random(1, 3, 1.0)),
        ("one class", random(3, 1, 1.0)),
        ("sixteen classes", random(5, 16, 2.0)),
        ("many classes", random(3, 1000, 5.0)),
        (
            "large",
            [
                values([3, 3], &[1e4, -1e4, 0.0, -1e4, 1e4, 1e4, 0.0, 0.0, 0.0]).constant(),
                values([3], &[1.0, 2.0, 1.0]).constant(),
            ],
        ),
        (
            "invalid targets",
            [CaseInput::uniform([4, 3]).constant(), values([4], &[-1.0, 3.0, 0.5, 2.0]).constant()],
        ),
        (
            "not numbers",
            [
                values([3, 2], &[f32::NAN, 0.0, f32::INFINITY, 0.0, f32::NEG_INFINITY, 0.0]).constant(),
                values([3], &[0.0, 1.0, 1.0]).constant(),
            ],
        ),
        ("empty batch", random(0, 10, 1.0)),
        ("many rows", random(4099, 10, 3.0).map(CaseInput::constant)),
    ]
}

const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

register_op!("cross_entropy", || {
    let mut cases = Vec::new();
    for (name, inputs) in inputs() {
        for (reduction, label_smoothing) in
            REDUCTIONS.into_iter().flat_map(|r| [(r, 0.0), (r, 0.1), (r, 1.0)])
        {
            let op = CrossEntropy { reduction, label_smoothing };
            let case = Case::new(format!("{name}, {reduction:?}, {label_smoothing}"), op, inputs.clone());
            let small = inputs[0].differentiable && inputs[0].shape.elements() < 100;
            cases.push(if small { case } else { case.without_gradient() });
        }
    }
    let logits = [CaseInput::between([256, 10], -3.0, 3.0), CaseInput::index([256], 10)];
    cases.push(Case::new("lenet", CrossEntropy::default(), logits).timed());
    cases
});

register_op!("cross_entropy_grad", || {
    let mut cases = Vec::new();
    for (name, [logits, target]) in inputs() {
        let probabilities = CaseInput::between(logits.shape, 0.0, 1.0);
        for (reduction, label_smoothing) in REDUCTIONS.into_iter().flat_map(|r| [(r, 0.0), (r, 0.3)]) {
            let dloss = CaseInput::uniform(loss_shape(reduction, logits.shape[0]));
            let op = CrossEntropyGrad { of: CrossEntropy { reduction, label_smoothing } };
            let inputs = [probabilities.clone(), target.clone(), dloss];
            cases.push(Case::new(format!("{name}, {reduction:?}"), op, inputs).without_gradient());
        }
    }
    let lenet =
        [CaseInput::between([256, 10], 0.0, 1.0), CaseInput::index([256], 10), CaseInput::uniform([])];
    cases.push(Case::new("lenet", CrossEntropyGrad::default(), lenet).timed());
    cases
});

register_op!("count_correct", || {
    let ties = values([4, 3], &[1.0, 2.0, 2.0, 0.0, 0.0, 0.0, -1.0, f32::NAN, 5.0, 3.0, 1.0, 2.0]);
    let mut cases = vec![
        Case::new("ties go to the first", CountCorrect, [ties, values([4], &[1.0, 0.0, 1.0, 2.0])])
            .without_gradient(),
    ];
    cases.extend(
        inputs().into_iter().map(|(name, inputs)| Case::new(name, CountCorrect, inputs).without_gradient()),
    );
    cases
});
