//! Cases of average pooling.

use super::{AvgPool2d, AvgPool2dGrad};
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

/// A square window.
fn pool(kernel: usize, stride: usize, padding: usize) -> AvgPool2d {
    AvgPool2d {
        kernel_size: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        ceil_mode: false,
        count_include_pad: true,
        divisor_override: None,
    }
}

fn ceil(op: AvgPool2d) -> AvgPool2d {
    AvgPool2d { ceil_mode: true, ..op }
}

fn pixels_only(op: AvgPool2d) -> AvgPool2d {
    AvgPool2d { count_include_pad: false, ..op }
}

/// Name, operation and input shape.
fn examples() -> Vec<(&'static str, AvgPool2d, [usize; 4])> {
    vec![
        ("one pixel", pool(1, 1, 0), [1, 1, 1, 1]),
        ("1 x 1, stride 2", pool(1, 2, 0), [2, 3, 5, 6]),
        ("2 x 2", pool(2, 2, 0), [2, 3, 6, 8]),
        ("2 x 2, odd", pool(2, 2, 0), [2, 3, 7, 9]),
        ("2 x 2, odd, ceil", ceil(pool(2, 2, 0)), [2, 3, 7, 9]),
        ("2 x 2, wide", pool(2, 2, 0), [1, 2, 4, 95]),
        ("2 x 2, overlapping", pool(2, 1, 0), [1, 2, 5, 23]),
        ("2 x 2, stride 3", pool(2, 3, 0), [2, 2, 8, 11]),
        ("3 x 3, stride 2, padding", pool(3, 2, 1), [2, 2, 12, 12]),
        ("3 x 3, stride 2, padding, pixels only", pixels_only(pool(3, 2, 1)), [2, 2, 9, 12]),
        ("3 x 3, stride 2, padding, ceil", ceil(pool(3, 2, 1)), [1, 1, 6, 6]),
        ("3 x 3, stride 2, padding, ceil, pixels only", ceil(pixels_only(pool(3, 2, 1))), [1, 1, 6, 6]),
        ("3 x 3, stride 1, padding", pool(3, 1, 1), [1, 3, 7, 27]),
        ("5 x 5, stride 1, padding 2", pixels_only(pool(5, 1, 2)), [1, 2, 6, 21]),
        ("5 x 5, stride 3", pool(5, 3, 0), [1, 2, 12, 14]),
        ("smaller than the window", pool(3, 1, 1), [1, 2, 1, 2]),
        ("smaller than the window, ceil", ceil(pool(2, 2, 0)), [1, 2, 1, 1]),
        ("a dropped last window", ceil(pool(2, 4, 1)), [1, 1, 5, 5]),
        (
            "not square",
            AvgPool2d { kernel_size: [3, 2], stride: [2, 3], padding: [1, 0], ..pool(1, 1, 0) },
            [2, 1, 8, 7],
        ),
        ("rows only", AvgPool2d { kernel_size: [4, 1], stride: [4, 1], ..pool(1, 1, 0) }, [1, 2, 8, 19]),
        ("another divisor", AvgPool2d { divisor_override: Some(3), ..pool(2, 2, 0) }, [2, 2, 6, 6]),
        (
            "another divisor, padding",
            AvgPool2d { divisor_override: Some(1), ..ceil(pixels_only(pool(3, 2, 1))) },
            [2, 2, 6, 6],
        ),
        ("no images", pool(2, 2, 0), [0, 3, 4, 4]),
        ("no channels", pool(2, 2, 0), [2, 0, 4, 4]),
    ]
}

/// As [`examples`], too large for the gradient check.
fn large_examples() -> Vec<(&'static str, AvgPool2d, [usize; 4])> {
    vec![
        ("many planes", pool(2, 2, 0), [60, 7, 14, 18]),
        ("many planes, padding", pixels_only(pool(3, 1, 1)), [60, 7, 14, 18]),
    ]
}

fn timed_examples() -> Vec<(&'static str, AvgPool2d, [usize; 4])> {
    vec![
        ("LeNet, first", pool(2, 2, 0), [256, 6, 24, 24]),
        ("LeNet, second", pool(2, 2, 0), [256, 16, 8, 8]),
        ("ResNet", pool(3, 2, 1), [32, 64, 48, 48]),
        ("DenseNet", pool(2, 2, 0), [32, 128, 24, 24]),
    ]
}

register_op!("avg_pool2d", || {
    let case =
        |(name, op, x): (&'static str, AvgPool2d, [usize; 4])| Case::new(name, op, [CaseInput::uniform(x)]);
    let small = examples().into_iter().map(case);
    let large = large_examples().into_iter().map(case).map(Case::without_gradient);
    small.chain(large).chain(timed_examples().into_iter().map(case).map(Case::timed)).collect()
});

register_op!("avg_pool2d_grad", || {
    let case = |(name, pool, x): (&'static str, AvgPool2d, [usize; 4])| {
        let y = pool.infer(&[Shape::from(x)]).expect("the pooling fits")[0];
        Case::new(name, AvgPool2dGrad { pool, input_size: [x[2], x[3]] }, [CaseInput::uniform(y)])
    };
    let small = examples().into_iter().map(case);
    let large = large_examples().into_iter().map(case).map(Case::without_gradient);
    small.chain(large).chain(timed_examples().into_iter().map(case).map(Case::timed)).collect()
});
