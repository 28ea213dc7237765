//! Cases of global average pooling.

use super::{GlobalAvgPool2d, GlobalAvgPool2dGrad};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("global_avg_pool2d", || {
    let case = |name: &str, x: [usize; 4]| Case::new(name, GlobalAvgPool2d, [CaseInput::uniform(x)]);
    vec![
        case("one pixel", [3, 10, 1, 1]),
        case("squares", [2, 3, 5, 5]),
        case("not square", [1, 4, 3, 6]),
        case("one row", [1, 2, 1, 37]),
        case("no images", [0, 3, 4, 4]),
        case("no channels", [3, 0, 4, 4]),
        case("large planes", [2, 3, 150, 131]).without_gradient(),
        case("many planes", [70, 90, 3, 5]).without_gradient(),
        case("ResNet", [32, 512, 3, 3]).timed(),
        case("GoogLeNet", [32, 1024, 7, 7]).timed(),
    ]
});

register_op!("global_avg_pool2d_grad", || {
    let case = |name: &str, [n, c, h, w]: [usize; 4]| {
        Case::new(name, GlobalAvgPool2dGrad { input_size: [h, w] }, [CaseInput::uniform([n, c, 1, 1])])
    };
    vec![
        case("one pixel", [3, 10, 1, 1]),
        case("squares", [2, 3, 5, 5]),
        case("not square", [1, 4, 3, 6]),
        case("no images", [0, 3, 4, 4]),
        case("many planes", [70, 90, 3, 5]).without_gradient(),
        case("GoogLeNet", [32, 1024, 7, 7]).timed(),
    ]
});
