//! Cases of concatenation and narrowing.

use super::{Concat, Narrow, NarrowGrad};
use crate::core::shape::Shape;
use crate::cpu::parallel::CHUNK;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("concat", || {
    let case = |name: &str, dim, shapes: &[&[usize]]| {
        let inputs = shapes.iter().map(|s| CaseInput::uniform(Shape::new(s).expect("a small shape")));
        Case::new(name, Concat { dim }, inputs)
    };
    vec![
        case("one input", 1, &[&[2, 3]]),
        case("vectors", 0, &[&[2], &[1], &[5]]),
        case("channels", 1, &[&[2, 3, 4, 5], &[2, 1, 4, 5], &[2, 6, 4, 5]]),
        case("batch", 0, &[&[2, 3, 4], &[1, 3, 4]]),
        case("last axis", -1, &[&[2, 3, 4], &[2, 3, 1]]),
        case("an empty input", 1, &[&[2, 3], &[2, 0], &[2, 2]]),
        case("empty batch", 1, &[&[0, 3, 2, 2], &[0, 1, 2, 2]]),
        case("large rows", 0, &[&[3, CHUNK], &[7, CHUNK]]).without_gradient(),
        case("DenseNet", 1, &[&[32, 64, 28, 28], &[32, 32, 28, 28]]).timed(),
    ]
});

register_op!("narrow", || {
    let case = |name: &str, dim, start, len, shape: &[usize]| {
        Case::new(
            name,
            Narrow { dim, start, len },
            [CaseInput::uniform(Shape::new(shape).expect("a small shape"))],
        )
    };
    vec![
        case("all", 0, 0, 5, &[5]),
        case("nothing", 1, 2, 0, &[2, 3]),
        case("channels", 1, 2, 3, &[2, 6, 3, 4]),
        case("last axis", -1, 1, 2, &[2, 3, 4]),
        case("large", 1, CHUNK, CHUNK, &[3, 3 * CHUNK]).without_gradient(),
    ]
});

register_op!("narrow_grad", || {
    let case = |name: &str, dim, start, extent, shape: &[usize]| {
        Case::new(
            name,
            NarrowGrad { dim, start, extent },
            [CaseInput::uniform(Shape::new(shape).expect("a small shape"))],
        )
    };
    vec![
        case("all", 0, 0, 5, &[5]),
        case("nothing", 1, 2, 3, &[2, 0]),
        case("channels", 1, 2, 6, &[2, 3, 3, 4]),
        case("last axis", -1, 1, 4, &[2, 3, 2]),
        case("large", 1, CHUNK, 3 * CHUNK, &[3, CHUNK]).without_gradient(),
    ]
});
