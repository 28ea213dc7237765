//! Cases of resampling.

use super::{AxisMap, Resample};
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("resample", || {
    let case = |name: &str, dim, map: AxisMap, shape: &[usize]| {
        let shape = Shape::new(shape).expect("a small shape");
        Case::new(name, Resample { dim, map, transposed: false }, [CaseInput::uniform(shape)])
    };
    let pool = |input, output| AxisMap::adaptive_average(input, output).expect("a small map");
    let nearest = |input, output| AxisMap::nearest(input, output, None).expect("a small map");
    let linear = |input, output, align_corners| {
        AxisMap::linear(input, output, align_corners, None).expect("a small map")
    };
    let transposed = |case: Case, map: AxisMap, dim| Case {
        op: std::sync::Arc::new(Resample { dim, map, transposed: true }),
        ..case
    };
    vec![
        case("a vector", 0, pool(5, 3), &[5]),
        case("rows", 2, pool(7, 3), &[2, 3, 7, 4]),
        case("columns", -1, pool(7, 5), &[2, 3, 4, 7]),
        case("fewer pixels than outputs", 2, pool(3, 7), &[1, 2, 3, 2]),
        case("the mean", 2, pool(6, 1), &[2, 2, 6, 5]),
        case("nothing to do", 2, pool(4, 4), &[2, 2, 4, 3]),
        case("empty", 2, pool(4, 2), &[0, 2, 4, 3]),
        case("nearest rows", 2, nearest(3, 7), &[2, 2, 3, 4]),
        case("nearest columns", 3, nearest(4, 8), &[2, 2, 3, 4]),
        case("nearest, smaller", 3, nearest(9, 4), &[2, 1, 3, 9]),
        case("linear", 3, linear(4, 9, false), &[2, 2, 3, 4]),
        case("linear rows, aligned corners", 2, linear(4, 9, true), &[2, 2, 4, 3]),
        case("linear, smaller", 2, linear(9, 4, false), &[1, 2, 9, 3]),
        case("linear, one output", 2, linear(5, 1, true), &[1, 2, 5, 3]),
        transposed(case("gradient of a pooling", 2, pool(3, 7), &[2, 2, 3, 4]), pool(7, 3), 2),
        transposed(
            case("gradient of an interpolation", 3, linear(9, 4, false), &[2, 2, 3, 9]),
            linear(4, 9, false),
            3,
        ),
        case(
            "sums of neighbors",
            1,
            AxisMap::from_weights(4, &[(0, vec![1.0; 2]), (0, vec![1.0; 3]), (1, vec![1.0; 3])])
                .expect("a small map"),
            &[2, 4, 5],
        ),
        case("many planes", 3, linear(17, 34, false), &[40, 7, 9, 17]).without_gradient(),
        case("VGG", 2, pool(9, 7), &[32, 512, 9, 9]).timed(),
        case("decoder", 2, linear(28, 56, false), &[8, 64, 28, 28]).timed(),
    ]
});
