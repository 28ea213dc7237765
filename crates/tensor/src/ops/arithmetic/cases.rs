//! Cases of the binary operations.

use super::{Add, Div, Equal, Less, Maximum, Minimum, Mul, PRelu, PReluSlope, Pow, Sub};
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::cpu::parallel::CHUNK;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("add", || cases(Add));
register_op!("sub", || cases(Sub));
register_op!("mul", || cases(Mul));
register_op!("prelu", || cases(PRelu));
register_op!("prelu_slope", || cases(PReluSlope).into_iter().map(Case::without_gradient).collect());

register_op!("div", || positive_cases(Div));
register_op!("pow", || positive_cases(Pow));
register_op!("maximum", || cases(Maximum).into_iter().map(Case::without_gradient).collect());
register_op!("minimum", || cases(Minimum).into_iter().map(Case::without_gradient).collect());
register_op!("equal", || integer_cases(Equal));
register_op!("less", || integer_cases(Less));

/// Inputs from 0.5 to 3.
fn positive_cases<B: Op + Copy>(op: B) -> Vec<Case> {
    few_cases(op, |shape| CaseInput::between(shape, 0.5, 3.0))
}

/// Inputs of few different values.
fn integer_cases<B: Op + Copy>(op: B) -> Vec<Case> {
    few_cases(op, |shape| CaseInput::index(shape, 3))
}

fn few_cases<B: Op + Copy>(op: B, input: fn(Shape) -> CaseInput) -> Vec<Case> {
    let pairs: [(&[usize], &[usize]); 6] = [
        (&[], &[]),
        (&[3, 7], &[3, 7]),
        (&[0, 4], &[4]),
        (&[2, 3, 5, 4], &[3, 1, 1]),
        (&[2, 1, 3, 1, 2], &[1, 4, 1, 2, 1]),
        (&[7, CHUNK + 3], &[7, 1]),
    ];
    let case = |(a, b): (&[usize], &[usize])| {
        let [a, b] = [a, b].map(|s| Shape::new(s).expect("a small shape"));
        Case::new(format!("{a} and {b}"), op, [input(a), input(b)]).without_gradient()
    };
    pairs.into_iter().map(case).collect()
}

fn cases<B: Op + Copy>(op: B) -> Vec<Case> {
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
    let mut cases: Vec<Case> = pairs
        .into_iter()
        .map(|(a, b)| {
            let [a, b] = [a, b].map(|s| Shape::new(s).expect("a small shape"));
            let case = Case::new(format!("{a} and {b}"), op, [CaseInput::uniform(a), CaseInput::uniform(b)]);
            if a.elements() + b.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect();
    let image = Shape::from([256, 6, 24, 24]);
    cases.push(Case::new("LeNet", op, [CaseInput::uniform(image), CaseInput::uniform(image)]).timed());
    cases
}
