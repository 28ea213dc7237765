//! Cases of the convolution operations: edge cases for the tests, layers of networks for the benchmarks.

use super::algorithm::with_algorithm;
use super::inspect::conv_algorithms;
use super::packed::PackedConv2d;
use super::{Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad};
use crate::core::device::Device;
use crate::core::tensor::Tensor;
use crate::ops::Activation;
use crate::register_op;
use crate::testing::cases::{AlgorithmsEntry, Case, CaseInput, Fill};

/// A convolution, from which a case of each operation is made.
#[derive(Clone)]
struct Example {
    name: String,
    geometry: Conv2dGeometry,
    x: [usize; 4],
    out: usize,
    kernel: [usize; 2],
    timed: bool,
}

impl Example {
    fn new(name: &str, x: [usize; 4], out: usize, kernel: [usize; 2]) -> Self {
        Example { name: name.into(), geometry: Conv2dGeometry::default(), x, out, kernel, timed: false }
    }

    fn with(mut self, change: impl FnOnce(&mut Conv2dGeometry)) -> Self {
        change(&mut self.geometry);
        self
    }

    fn weight(&self) -> [usize; 4] {
        [self.out, self.x[1] / self.geometry.groups, self.kernel[0], self.kernel[1]]
    }

    fn y(&self) -> [usize; 4] {
        let size = self.geometry.output_size([self.x[2], self.x[3]], self.kernel).expect("examples fit");
        [self.x[0], self.out, size[0], size[1]]
    }

    fn forward(&self, activation: Option<Activation>, bias: bool) -> Case {
        let inputs =
            [CaseInput::uniform(self.x), CaseInput::uniform(self.weight()), CaseInput::uniform([self.out])];
        let op = Conv2d::new(self.geometry, activation);
        self.case(Case::new(&self.name, op, inputs.into_iter().take(if bias { 3 } else { 2 })))
    }

    fn input_grad(&self) -> Case {
        let op = Conv2dInputGrad { geometry: self.geometry, input_size: [self.x[2], self.x[3]] };
        self.case(Case::new(
            &self.name,
            op,
            [CaseInput::uniform(self.y()), CaseInput::uniform(self.weight())],
        ))
    }

    fn weight_grad(&self) -> Case {
        let op = Conv2dWeightGrad { geometry: self.geometry, kernel_size: self.kernel };
        self.case(Case::new(&self.name, op, [CaseInput::uniform(self.x), CaseInput::uniform(self.y())]))
    }

    fn case(&self, case: Case) -> Case {
        if self.timed {
            case.timed()
        } else if self.x.iter().product::<usize>() > 400 || self.x[0] == 0 {
            case.without_gradient()
        } else {
            case
        }
    }
}

/// Returns edge cases: unusual geometries, and shapes that select each algorithm.
fn edge_cases() -> Vec<Example> {
    let new = Example::new;
    vec![
        new("plain", [2, 3, 5, 6], 4, [3, 3]),
        new("1x1", [2, 3, 4, 5], 4, [1, 1]),
        new("all sizes 1", [1, 1, 1, 1], 1, [1, 1]),
        new("batch 1", [1, 2, 6, 5], 3, [3, 2]),
        new("empty batch", [0, 2, 6, 5], 3, [3, 3]),
        new("padding", [2, 2, 4, 5], 3, [3, 3]).with(|g| g.padding = [1, 1]),
        new("padding as large as the kernel", [1, 2, 3, 3], 2, [3, 3]).with(|g| g.padding = [3, 4]),
        new("rows and columns differ", [2, 2, 7, 6], 3, [2, 4]).with(|g| {
            g.padding = [0, 2];
            g.stride = [2, 1];
        }),
        new("kernel above stride", [2, 2, 7, 8], 3, [3, 3]).with(|g| {
            g.stride = [2, 2];
            g.padding = [1, 1];
        }),
        new("kernel below stride", [2, 2, 9, 8], 3, [2, 2]).with(|g| g.stride = [3, 4]),
        new("1x1, stride 2", [2, 3, 5, 6], 4, [1, 1]).with(|g| g.stride = [2, 2]),
        new("stride 2, last row unused", [1, 2, 6, 6], 2, [3, 3]).with(|g| g.stride = [2, 2]),
        new("dilation", [2, 2, 7, 8], 3, [3, 3]).with(|g| {
            g.dilation = [2, 3];
            g.padding = [1, 2];
        }),
        new("dilation and stride", [1, 2, 9, 9], 2, [3, 2]).with(|g| {
            g.dilation = [2, 2];
            g.stride = [2, 3];
            g.padding = [2, 1];
        }),
        new("groups", [2, 6, 4, 5], 4, [3, 3]).with(|g| {
            g.groups = 2;
            g.padding = [1, 1];
        }),
        new("depthwise", [2, 4, 5, 5], 8, [3, 3]).with(|g| {
            g.groups = 4;
            g.stride = [2, 1];
        }),
        new("depthwise, rows of several vectors", [2, 3, 6, 71], 3, [3, 3]).with(|g| {
            g.groups = 3;
            g.padding = [1, 1];
        }),
        new("depthwise, 5x5, stride 2", [3, 4, 11, 40], 4, [5, 5]).with(|g| {
            *g = Conv2dGeometry { stride: [2, 2], padding: [2, 2], dilation: [1, 1], groups: 4, flip: false };
        }),
        new("depthwise, short rows, padding on one axis", [3, 18, 7, 7], 18, [3, 3]).with(|g| {
            g.groups = 18;
            g.padding = [0, 2];
        }),
        new("depthwise, stride 2, flip, last column unused", [2, 5, 10, 72], 5, [3, 3]).with(|g| {
            *g = Conv2dGeometry { stride: [2, 2], padding: [1, 1], dilation: [1, 1], groups: 5, flip: true };
        }),
        new("depthwise, 5x5, rows of nearly two vectors", [2, 3, 9, 30], 3, [5, 5]).with(|g| {
            g.groups = 3;
            g.padding = [2, 1];
        }),
        new("depthwise, 5x5, images of one row", [2, 4, 1, 19], 4, [5, 5]).with(|g| {
            g.groups = 4;
            g.padding = [4, 3];
        }),
        new("depthwise, 7x7", [2, 3, 14, 14], 3, [7, 7]).with(|g| {
            g.groups = 3;
            g.padding = [3, 3];
        }),
        new("depthwise, 7x7, stride 2", [1, 3, 23, 49], 3, [7, 7]).with(|g| {
            *g = Conv2dGeometry { stride: [2, 2], padding: [6, 5], dilation: [1, 1], groups: 3, flip: true };
        }),
        new("depthwise, stride, dilation, flip", [2, 2, 13, 35], 2, [3, 3]).with(|g| {
            *g = Conv2dGeometry { stride: [2, 3], padding: [3, 2], dilation: [3, 2], groups: 2, flip: true };
        }),
        new("depthwise, dilation", [2, 3, 13, 35], 3, [3, 3]).with(|g| {
            *g = Conv2dGeometry { dilation: [2, 2], padding: [2, 2], groups: 3, ..Conv2dGeometry::default() };
        }),
        new("depthwise, several outputs", [2, 3, 7, 18], 9, [3, 2]).with(|g| {
            g.groups = 3;
            g.padding = [0, 1];
        }),
        new("depthwise, stride above the kernel", [2, 3, 10, 20], 3, [1, 2]).with(|g| {
            g.groups = 3;
            g.stride = [3, 4];
        }),
        new("depthwise, padding above the kernel", [1, 2, 4, 5], 2, [2, 3]).with(|g| {
            g.groups = 2;
            g.padding = [5, 7];
        }),
        new("flip", [2, 3, 5, 4], 2, [3, 2]).with(|g| g.flip = true),
        new("flip, stride, padding, groups", [2, 4, 6, 5], 4, [3, 3]).with(|g| {
            *g = Conv2dGeometry { stride: [2, 2], padding: [1, 1], dilation: [1, 1], groups: 2, flip: true };
        }),
        new("no columns, stride 2", [1, 1, 5, 0], 2, [3, 3]).with(|g| {
            g.stride = [2, 2];
            g.padding = [2, 2];
        }),
        new("no rows", [13, 9, 0, 4], 10, [3, 3]).with(|g| g.padding = [2, 1]),
        new("no pixels, dilation", [3, 2, 0, 0], 2, [2, 3]).with(|g| {
            g.padding = [2, 3];
            g.dilation = [2, 2];
        }),
        new("1x1, padding", [16, 1, 1, 2], 1, [1, 1]).with(|g| g.padding = [1, 1]),
        new("1x1, padding 2, many images", [16, 1, 3, 2], 4, [1, 1]).with(|g| g.padding = [2, 2]),
        new("padding far above the kernel", [14, 3, 2, 3], 4, [3, 3]).with(|g| g.padding = [7, 5]),
        new("padding far above the kernel, many channels", [6, 17, 3, 2], 20, [3, 3])
            .with(|g| g.padding = [5, 8]),
        new("padding above the kernel, 5x5, flip", [2, 10, 4, 3], 9, [5, 5]).with(|g| {
            g.padding = [6, 5];
            g.flip = true;
        }),
        new("stride and padding above 100,000", [2, 3, 5, 6], 4, [3, 3]).with(|g| {
            g.stride = [100_000, 123_456];
            g.padding = [100_001, 123_456];
        }),
        new("the largest strides", [13, 2, 4, 5], 3, [3, 2]).with(|g| g.stride = [i64::MAX as usize; 2]),
        new("strides above the padding, many channels", [6, 20, 4, 5], 18, [2, 2]).with(|g| {
            g.stride = [1 << 40, 1000];
            g.padding = [(1 << 40) - 1, 999];
        }),
        new("dilation above 100,000", [2, 3, 5, 6], 4, [3, 2]).with(|g| {
            g.dilation = [100_000, 100_001];
            g.padding = [100_000, 50_000];
        }),
        new("1x1, the largest dilation", [9, 12, 4, 5], 10, [1, 1]).with(|g| g.dilation = [usize::MAX; 2]),
        new("stride without a tap, many channels", [7, 18, 9, 7], 20, [2, 1]).with(|g| g.stride = [4, 3]),
        new("40 taps", [6, 12, 9, 11], 10, [5, 8]).with(|g| g.padding = [2, 3]),
        new("5x5, dilation and stride, groups", [3, 6, 9, 11], 4, [5, 5]).with(|g| {
            *g = Conv2dGeometry { stride: [1, 2], padding: [4, 4], dilation: [2, 1], groups: 2, flip: true };
        }),
        new("image as large as the kernel", [3, 2, 4, 3], 5, [4, 3]),
        new("wide", [1, 3, 5, 70], 17, [3, 3]).with(|g| g.padding = [1, 1]),
        new("many channels", [2, 37, 6, 7], 35, [3, 3]).with(|g| g.padding = [1, 1]),
        new("small feature maps", [37, 18, 3, 3], 33, [3, 3]).with(|g| g.padding = [1, 1]),
        new("stride 2, feature map of odd size", [3, 19, 13, 13], 34, [3, 3]).with(|g| {
            g.stride = [2, 2];
            g.padding = [1, 1];
        }),
        new("stride 2, feature map of 17x19", [2, 19, 17, 19], 34, [3, 3]).with(|g| {
            g.stride = [2, 2];
            g.padding = [1, 1];
        }),
        new("one image, small feature map", [1, 40, 4, 5], 35, [3, 3]).with(|g| {
            g.stride = [2, 1];
            g.padding = [1, 1];
        }),
        new("empty batch, many channels", [0, 18, 4, 5], 17, [3, 3]).with(|g| g.stride = [2, 1]),
        new("one image of one pixel", [1, 33, 1, 1], 18, [3, 3]).with(|g| g.padding = [1, 1]),
        new("1x1, many channels", [3, 70, 7, 9], 50, [1, 1]),
        new("5x5, one channel", [5, 1, 28, 28], 6, [5, 5]),
        new("5x5, six channels", [5, 6, 12, 12], 16, [5, 5]),
        new("7x7, stride 2", [2, 3, 21, 21], 16, [7, 7]).with(|g| {
            g.stride = [2, 2];
            g.padding = [3, 3];
        }),
        new("many images", [15, 3, 9, 11], 7, [3, 2]).with(|g| {
            g.stride = [2, 1];
            g.padding = [1, 1];
        }),
        new("many images, flip", [29, 2, 6, 7], 9, [3, 3]).with(|g| {
            g.padding = [2, 1];
            g.flip = true;
        }),
        new("many images, one column", [16, 5, 7, 1], 3, [2, 1]),
        new("many images, few outputs", [31, 20, 5, 6], 4, [3, 3]).with(|g| g.padding = [1, 1]),
        new("many images, stride above the kernel", [13, 2, 11, 17], 18, [2, 2]).with(|g| {
            g.stride = [3, 4];
            g.padding = [1, 0];
        }),
        new("channel blocked, stride 2", [7, 19, 9, 8], 34, [3, 3]).with(|g| {
            g.stride = [2, 2];
            g.padding = [1, 1];
        }),
        new("channel blocked, stride above the kernel", [6, 20, 9, 10], 17, [2, 2])
            .with(|g| g.stride = [3, 4]),
        new("channel blocked, dilation, flip", [6, 17, 8, 9], 20, [3, 2]).with(|g| {
            g.dilation = [2, 3];
            g.padding = [2, 1];
            g.flip = true;
        }),
        new("channel blocked, 5x5", [35, 18, 4, 5], 33, [5, 5]).with(|g| {
            g.stride = [2, 1];
            g.padding = [2, 2];
        }),
        new("channel blocked, 1x1", [9, 18, 5, 6], 40, [1, 1]),
        new("channel blocked, 1x1, wide", [6, 33, 12, 53], 70, [1, 1]),
        new("1x1, stride 2, many channels", [8, 40, 7, 6], 18, [1, 1]).with(|g| g.stride = [2, 2]),
        new("1x1, images of a few pixels", [29, 9, 3, 3], 17, [1, 1]),
        new("1x1, many channels in groups, stride", [4, 48, 13, 15], 40, [1, 1]).with(|g| {
            g.groups = 2;
            g.stride = [2, 3];
        }),
        new("1x1, several channel blocks and parts of the batch", [8, 230, 9, 11], 21, [1, 1]),
        new("300 channels", [2, 300, 5, 5], 20, [3, 3]).with(|g| g.padding = [1, 1]),
        new("stride 3, dilation 2", [2, 20, 15, 14], 18, [3, 3]).with(|g| {
            g.stride = [3, 3];
            g.dilation = [2, 2];
            g.padding = [2, 2];
        }),
    ]
}

/// Returns layers of LeNet at batch size 256, of ResNet-18 on 96 x 96 and 224 x 224 images at batch size 32, and of
/// depthwise networks, for the benchmarks.
fn networks() -> Vec<Example> {
    let layer = |n: usize, [c, out]: [usize; 2], size: usize, k: usize, stride: usize, padding: usize| {
        let name = format!("batch {n}: {c} to {out} channels, {size}x{size}, {k}x{k}, stride {stride}");
        let mut example = Example::new(&name, [n, c, size, size], out, [k, k]).with(|g| {
            g.stride = [stride, stride];
            g.padding = [padding, padding];
        });
        example.timed = true;
        example
    };
    let depthwise = |n: usize, c: usize, size: usize, k: usize, stride: usize| {
        let mut example = layer(n, [c, c], size, k, stride, k / 2);
        example.name.push_str(", depthwise");
        example.with(|g| g.groups = c)
    };
    vec![
        layer(256, [1, 6], 28, 5, 1, 0),
        layer(256, [6, 16], 12, 5, 1, 0),
        layer(32, [1, 64], 96, 7, 2, 3),
        layer(32, [64, 64], 24, 3, 1, 1),
        layer(32, [128, 128], 12, 3, 1, 1),
        layer(32, [256, 256], 6, 3, 1, 1),
        layer(32, [512, 512], 3, 3, 1, 1),
        layer(32, [64, 128], 24, 3, 2, 1),
        layer(32, [128, 256], 12, 3, 2, 1),
        layer(32, [256, 512], 6, 3, 2, 1),
        layer(32, [64, 128], 24, 1, 2, 0),
        layer(32, [128, 256], 12, 1, 2, 0),
        layer(32, [256, 512], 6, 1, 2, 0),
        layer(32, [64, 64], 56, 3, 1, 1),
        layer(32, [128, 128], 28, 3, 1, 1),
        layer(32, [256, 256], 14, 3, 1, 1),
        layer(32, [512, 512], 7, 3, 1, 1),
        layer(32, [256, 64], 56, 1, 1, 0),
        layer(32, [64, 256], 56, 1, 1, 0),
        layer(32, [512, 128], 28, 1, 1, 0),
        layer(1, [64, 64], 56, 3, 1, 1),
        layer(1, [512, 512], 7, 3, 1, 1),
        depthwise(32, 64, 56, 3, 1),
        depthwise(32, 128, 56, 3, 2),
        depthwise(32, 256, 14, 3, 1),
        depthwise(32, 64, 28, 5, 1),
    ]
}

fn all() -> Vec<Example> {
    let mut all = edge_cases();
    all.extend(networks());
    all
}

inventory::submit! {
    AlgorithmsEntry { names: conv_algorithms, with: |name, work| with_algorithm(name, work).1 }
}

// With weights that are packed for the CPU; the cases of the rewrite that packs weights are for all devices.
register_op!("packed_conv2d", || {
    let case = |name: &str, x: [usize; 4], weight: [usize; 4]| {
        let op = Conv2d { padding: [weight[2] / 2; 2], ..Conv2d::default() };
        let input = CaseInput::uniform(weight);
        let values = input.make(1);
        let packed = Tensor::from_f32(weight, &values, &Device::Cpu)
            .and_then(|tensor| PackedConv2d::new(op, x.into(), &tensor, [false; 2]))
            .expect("the shapes fit");
        let input = CaseInput { fill: Fill::Values(values.into()), ..input.constant() };
        Case::new(name, packed, [CaseInput::uniform(x), input, CaseInput::uniform([weight[0]])])
    };
    vec![
        case("one channel", [2, 1, 6, 5], [3, 1, 3, 3]),
        case("a 3x3 kernel", [2, 16, 7, 9], [32, 16, 3, 3]),
        case("a 1x1 kernel", [3, 20, 4, 4], [17, 20, 1, 1]),
    ]
});

register_op!("conv2d", || {
    let mut cases: Vec<Case> = all().iter().map(|e| e.forward(None, true)).collect();
    let plain = Example::new("no bias", [2, 3, 5, 6], 4, [3, 3]);
    cases.push(plain.forward(None, false));
    for &activation in Activation::ALL {
        let name = format!("{activation:?}");
        let case = Example { name: name.clone(), ..plain.clone() }.forward(Some(activation), true);
        cases.push(if activation.has_grad_of_output() { case } else { case.without_gradient() });
        let wide = Example::new(&format!("{name}, wide"), [1, 20, 9, 33], 19, [3, 3]);
        let depthwise = Example::new(&format!("{name}, depthwise"), [2, 3, 6, 23], 3, [3, 3]);
        for example in [wide, depthwise.with(|g| g.groups = 3)] {
            let case = example.with(|g| g.padding = [1, 1]).forward(Some(activation), false);
            cases.push(if activation.has_grad_of_output() { case } else { case.without_gradient() });
        }
    }
    cases
});

register_op!("conv2d_input_grad", || all().iter().map(Example::input_grad).collect());

register_op!("conv2d_weight_grad", || all().iter().map(Example::weight_grad).collect());
