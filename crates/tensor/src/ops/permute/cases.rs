//! Cases of permutations.

use super::Permute;
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("permute", || {
    let case = |name: &str, dims: &[usize], shape: &[usize]| {
        let shape = Shape::new(shape).expect("a small shape");
        Case::new(name, Permute::new(dims), [CaseInput::uniform(shape)])
    };
    vec![
        case("a scalar", &[], &[]),
        case("nothing to do", &[0, 1, 2], &[2, 3, 4]),
        case("a matrix", &[1, 0], &[5, 7]),
        case("empty", &[1, 0, 2], &[2, 0, 3]),
        case("channels last", &[0, 2, 3, 1], &[2, 3, 4, 5]),
        case("channels first", &[0, 3, 1, 2], &[2, 4, 5, 3]),
        case("groups of channels", &[0, 2, 1, 3, 4], &[2, 3, 4, 2, 3]),
        case("all axes", &[5, 3, 1, 0, 2, 4], &[2, 3, 2, 2, 3, 2]),
        case("axes of extent 1", &[3, 1, 0, 2], &[1, 6, 1, 5]),
        case("many rows", &[0, 2, 1], &[3, 70, 331]).without_gradient(),
        case("ConvNeXt", &[0, 2, 3, 1], &[32, 96, 56, 56]).timed(),
        case("ShuffleNet", &[0, 2, 1, 3, 4], &[32, 2, 58, 28, 28]).timed(),
    ]
});
