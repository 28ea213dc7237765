//! Cases of max pooling.

use super::{MaxPool2d, MaxPool2dGrad};
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

/// A square window without padding or dilation, with indices.
fn pool(kernel: usize, stride: usize) -> MaxPool2d {
    MaxPool2d {
        kernel_size: [kernel; 2],
        stride: [stride; 2],
        padding: [0; 2],
        dilation: [1; 2],
        ceil_mode: false,
        return_indices: true,
    }
}

fn padded(kernel: usize, stride: usize, padding: usize) -> MaxPool2d {
    MaxPool2d { padding: [padding; 2], ..pool(kernel, stride) }
}

fn values(shape: impl Into<Shape>, values: &[f32]) -> CaseInput {
    CaseInput::values(shape, values).expect("as many values as the shape has").constant()
}

register_op!("max_pool2d", || {
    let case = |name: &str, op: MaxPool2d, x: [usize; 4]| Case::new(name, op, [CaseInput::distinct(x)]);
    let without = |op: MaxPool2d| MaxPool2d { return_indices: false, ..op };
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    let special = [1.0, nan, 2.0, nan, nan, 3.0, 0.0, 1.0, low, low, low, 5.0, low, low, f32::INFINITY, 5.0];
    let mut cases = vec![
        case("one pixel", pool(1, 1), [1, 1, 1, 1]),
        case("1 x 1", pool(1, 1), [2, 3, 4, 5]),
        case("1 x 1, stride 2", pool(1, 2), [2, 3, 5, 6]),
        case("2 x 2", pool(2, 2), [2, 3, 6, 8]),
        case("2 x 2, odd", pool(2, 2), [2, 3, 7, 9]),
        case("2 x 2, odd, ceil", MaxPool2d { ceil_mode: true, ..pool(2, 2) }, [2, 3, 7, 9]),
        case("2 x 2, wide", pool(2, 2), [1, 2, 4, 95]),
        case("2 x 2, overlapping", pool(2, 1), [1, 2, 5, 23]),
        case("2 x 2, stride 3", pool(2, 3), [2, 2, 8, 11]),
        case("3 x 3, stride 2", pool(3, 2), [2, 2, 9, 12]),
        case("3 x 3, stride 2, padding", padded(3, 2, 1), [2, 2, 12, 12]),
        case("3 x 3, stride 2, padding, wide", padded(3, 2, 1), [1, 1, 5, 70]).without_gradient(),
        case("3 x 3, stride 1, padding", padded(3, 1, 1), [1, 3, 7, 7]),
        case("3 x 3, stride 1, padding, wide", padded(3, 1, 1), [1, 1, 3, 61]).without_gradient(),
        case("5 x 5, stride 1, padding 2", padded(5, 1, 2), [1, 2, 6, 21]),
        case("5 x 5, stride 3", pool(5, 3), [1, 2, 12, 14]),
        case("smaller than the window", padded(3, 1, 1), [1, 2, 1, 2]),
        case("smaller than the window, ceil", MaxPool2d { ceil_mode: true, ..pool(2, 2) }, [1, 2, 1, 1]),
        case("a dropped last window", MaxPool2d { ceil_mode: true, ..padded(2, 4, 1) }, [1, 1, 5, 5]),
        case("dilation", MaxPool2d { dilation: [2, 2], ..padded(3, 2, 1) }, [1, 2, 10, 9]),
        case("dilation, ceil", MaxPool2d { dilation: [3, 2], ceil_mode: true, ..pool(2, 1) }, [1, 1, 9, 12]),
        case(
            "not square",
            MaxPool2d { kernel_size: [3, 2], stride: [2, 3], padding: [1, 0], ..pool(1, 1) },
            [2, 1, 8, 7],
        ),
        case("rows only", MaxPool2d { kernel_size: [4, 1], stride: [4, 1], ..pool(1, 1) }, [1, 2, 8, 19]),
        case("no images", pool(2, 2), [0, 3, 4, 4]),
        case("no channels", pool(2, 2), [2, 0, 4, 4]),
        case("without indices", without(pool(2, 2)), [2, 3, 6, 8]).without_gradient(),
        case("without indices, padding", without(padded(3, 2, 1)), [2, 3, 9, 7]).without_gradient(),
        case("many planes", pool(2, 2), [60, 7, 14, 18]).without_gradient(),
        case("many planes, without indices", without(padded(3, 1, 1)), [60, 7, 14, 18]).without_gradient(),
    ];
    for (name, op) in [("2 x 2", pool(2, 2)), ("3 x 3", padded(3, 1, 1)), ("any", padded(4, 3, 2))] {
        let ties = CaseInput::index([2, 2, 6, 38], 3);
        cases.push(Case::new(format!("ties, {name}"), op, [ties]).without_gradient());
        let lowest = values([1, 2, 5, 8], &[low; 80]);
        cases.push(Case::new(format!("the lowest number, {name}"), op, [lowest]).without_gradient());
        let negative = CaseInput::between([1, 2, 5, 40], -6.0, -5.0);
        cases.push(Case::new(format!("below 0, {name}"), op, [negative]).without_gradient());
        let special = values([1, 1, 2, 8], &special);
        cases.push(Case::new(format!("NaN and infinities, {name}"), op, [special]).without_gradient());
        let nan = values([1, 1, 9, 12], &[nan; 108]);
        cases.push(Case::new(format!("NaN, {name}"), op, [nan]).without_gradient());
    }
    cases.extend([
        case("LeNet, first", pool(2, 2), [256, 6, 24, 24]).timed(),
        case("LeNet, second", pool(2, 2), [256, 16, 8, 8]).timed(),
        case("LeNet, first, without indices", without(pool(2, 2)), [256, 6, 24, 24]).timed(),
        case("ResNet", padded(3, 2, 1), [32, 64, 48, 48]).timed(),
        case("GoogLeNet, inception", padded(3, 1, 1), [32, 192, 12, 12]).timed(),
    ]);
    cases
});

register_op!("max_pool2d_grad", || {
    let case = |name: &str, input_size: [usize; 2], y: [usize; 4]| {
        let below = (input_size[0] * input_size[1]).max(1) as u32;
        let inputs = [CaseInput::uniform(y), CaseInput::index(y, below)];
        Case::new(name, MaxPool2dGrad { input_size }, inputs).without_gradient()
    };
    // Each index in its own cell of 2 x 2, as pooling without overlap yields.
    let cells = |name: &str, n: usize, [h, w]: [usize; 2], output_size: [usize; 2]| {
        let [oh, ow] = output_size;
        let y = [n, 1, oh, ow];
        let indices: Vec<f32> = (0..n * oh * ow)
            .map(|i| {
                let (r, s) = (i / ow % oh, i % ow);
                let row = (2 * r + i * 7 / 3 % 2).min(h - 1);
                let column = (2 * s + i * 5 / 2 % 2).min(w - 1);
                (row * w + column) as f32
            })
            .collect();
        let inputs = [CaseInput::uniform(y), values(y, &indices)];
        Case::new(name, MaxPool2dGrad { input_size: [h, w] }, inputs).without_gradient()
    };
    vec![
        case("as pooling", [6, 8], [2, 3, 3, 4]),
        case("one place", [1, 1], [2, 3, 5, 4]),
        case("overlapping", [7, 5], [2, 3, 7, 5]),
        case("more outputs than pixels", [2, 3], [2, 3, 9, 9]),
        case("no windows", [3, 3], [2, 3, 0, 4]),
        case("no pixels", [0, 3], [2, 3, 0, 1]),
        case("no images", [4, 4], [0, 3, 2, 2]),
        case("many planes", [14, 18], [60, 7, 7, 9]),
        cells("cells", 5, [6, 8], [3, 4]),
        cells("cells, wide", 2, [4, 90], [2, 45]),
        cells("cells, odd", 2, [7, 43], [3, 21]),
        cells("cells, odd, ceil", 2, [7, 43], [4, 22]),
        cells("cells, one column", 2, [6, 1], [3, 1]),
        Case::new(
            "indices outside",
            MaxPool2dGrad { input_size: [4, 4] },
            [CaseInput::uniform([1, 1, 2, 2]), values([1, 1, 2, 2], &[f32::NAN, -1.0, 16.0, f32::INFINITY])],
        )
        .without_gradient(),
        Case::new(
            "one index in another cell",
            MaxPool2dGrad { input_size: [4, 4] },
            [CaseInput::uniform([1, 1, 2, 2]), values([1, 1, 2, 2], &[0.0, 2.0, 0.0, 10.0])],
        )
        .without_gradient(),
        cells("LeNet, first", 256 * 6, [24, 24], [12, 12]).timed(),
        cells("LeNet, second", 256 * 16, [8, 8], [4, 4]).timed(),
        case("ResNet", [48, 48], [32, 64, 24, 24]).timed(),
    ]
});
