//! Cases of the binary operations.

use super::{Add, Div, Eq, Ge, Gt, Maximum, MaximumShare, Minimum, Mul, PRelu, PReluSlope, Sub};
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::cpu::parallel::CHUNK;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput, Fill};

register_op!("add", || cases(Add));
register_op!("sub", || cases(Sub));
register_op!("mul", || cases(Mul));
register_op!("prelu", || cases(PRelu));
register_op!("prelu_slope", || cases(PReluSlope).into_iter().map(Case::without_gradient).collect());

register_op!("div", || cases_with(Div, |shape| CaseInput::between(shape, 0.5, 2.0)));
register_op!("maximum", || cases_with(Maximum, CaseInput::distinct));
register_op!("minimum", || cases_with(Minimum, CaseInput::distinct));
register_op!("maximum_share", || comparisons(MaximumShare));
register_op!("gt", || comparisons(Gt));
register_op!("ge", || comparisons(Ge));
register_op!("eq", || comparisons(Eq));

/// Cases with many ties.
fn comparisons<B: Op + Copy>(op: B) -> Vec<Case> {
    cases_with(op, |shape| CaseInput::index(shape, 3)).into_iter().map(Case::without_gradient).collect()
}

fn cases<B: Op + Copy>(op: B) -> Vec<Case> {
    cases_with(op, CaseInput::uniform)
}

/// Cases whose second input is made by `second`.
fn cases_with<B: Op + Copy>(op: B, second: impl Fn(Shape) -> CaseInput) -> Vec<Case> {
    let pairs: [(&[usize], &[usize]); 14] = [
        (&[], &[]),
        (&[1], &[1]),
        (&[3, 7], &[3, 7]),
        (&[0, 4], &[0, 4]),
        (&[0, 4], &[4]),
        (&[2, 3, 5, 4], &[]),
        (&[2, 3, 5, 4], &[3, 1, 1]),
        (&[3, 1, 1], &[2, 3, 5, 4]),
        (&[2, 3, 5, 4], &[4]),
        (&[4, 1], &[1, 5]),
        (&[2, 1, 3, 1, 2], &[1, 4, 1, 2, 1]),
        (&[CHUNK * 2 + 5], &[CHUNK * 2 + 5]),
        (&[7, CHUNK + 3], &[7, 1]),
        (&[3 * CHUNK, 3], &[3]),
    ];
    // Numbers to be compared are compared with such of the same kind.
    let is_index = matches!(second(Shape::scalar()).fill, Fill::Index { .. });
    let first = |shape| if is_index { second(shape) } else { CaseInput::uniform(shape) };
    let mut cases: Vec<Case> = pairs
        .into_iter()
        .map(|(a, b)| {
            let [a, b] = [a, b].map(|s| Shape::new(s).expect("a small shape"));
            let case = Case::new(format!("{a} and {b}"), op, [first(a), second(b)]);
            if a.elements() + b.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect();
    let image = Shape::from([256, 6, 24, 24]);
    cases.push(Case::new("LeNet", op, [first(image), second(image)]).timed());
    cases
}
