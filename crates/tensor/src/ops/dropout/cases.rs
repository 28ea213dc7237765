//! Cases of dropout.

use super::Dropout;
use crate::core::shape::Shape;
use crate::cpu::parallel::CHUNK;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("dropout", || {
    let case = |name: &str, p, shape: &[usize]| {
        let shape = Shape::new(shape).expect("a small shape");
        Case::new(name, Dropout { p, seed: 0x9e37_79b9_7f4a_7c15, offset: 3 }, [CaseInput::uniform(shape)])
    };
    let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0, f32::MAX, 1.0, 2.0];
    let special = CaseInput::values([4, 2], &special).expect("eight values");
    vec![
        case("a scalar", 0.5, &[]),
        case("nothing", 0.5, &[0, 3]),
        case("half", 0.5, &[3, 5]),
        case("a tenth", 0.1, &[2, 3, 5, 7]),
        case("nine tenths", 0.9, &[131]),
        case("none", 0.0, &[3, 7]),
        case("all", 1.0, &[3, 7]),
        case("nearly none", 1e-12, &[3, 7]),
        case("nearly all", 1.0 - 1e-12, &[3, 7]),
        case("several chunks", 0.3, &[2 * CHUNK + 37]).without_gradient(),
        Case::new("infinities", Dropout { p: 0.5, seed: 1, offset: u64::MAX }, [special]).without_gradient(),
        case("AlexNet", 0.5, &[128, 4096]).timed(),
    ]
});
