//! Windows with extreme parameters: an error, or the right result, in no more time than any other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use neocog_base::testing::cases;
use neocog_tensor::cases::{Case, CaseInput};
use neocog_tensor::conformance::check_device;
use neocog_tensor::ops::{
    AvgPool2d, AvgPool2dGrad, Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad, MaxPool2d, Relu,
};
use neocog_tensor::{Device, Op, Tensor, run_single};
use proptest::prelude::*;

/// More outputs than that are memory, not time.
const MAX_OUTPUTS: usize = 10_000;

/// Mostly small numbers, and some at which computations go wrong.
fn number(low: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => low..=4,
        1 => low..=100,
        1 => Just(100_000usize),
        1 => proptest::sample::select(vec![
            1 << 24, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40, 1 << 52, 1 << 62, usize::MAX / 2, usize::MAX
        ]),
    ]
}

fn pair(low: usize) -> impl Strategy<Value = [usize; 2]> {
    [number(low), number(low)]
}

/// Runs a case on all devices, if its sizes are small.
fn check(case: &Case) -> Result<(), TestCaseError> {
    let shapes: Vec<_> = case.inputs.iter().map(|input| input.shape).collect();
    let Ok(outputs) = case.op.infer(&shapes) else { return Ok(()) };
    if shapes.iter().chain(&outputs).any(|shape| shape.elements() > MAX_OUTPUTS) {
        return Ok(());
    }
    for device in common::devices() {
        let start = Instant::now();
        let checked = check_device(case, &device);
        let time = start.elapsed();
        // A kernel of a new shape is compiled first.
        let limit = Duration::from_secs(20);
        prop_assert!(time < limit, "{:?} of {shapes:?} on {device} takes {time:?}", case.op);
        if let Err(e) = checked {
            let text = e.to_string();
            let limits = ["too large for an OpenCL device", "supports buffers of at most"];
            let is_limit = limits.iter().any(|limit| text.contains(limit));
            prop_assert!(is_limit, "{:?} of {shapes:?} on {device}: {text}", case.op);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(150), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_with_extreme_parameters(
        stride in pair(1), padding in pair(0), dilation in pair(1), kernel in [1usize..=3, 1usize..=3],
        [n, c, o] in [1usize..=2, 1usize..=2, 1usize..=3], size in [1usize..=9, 1usize..=9], depthwise: bool,
    ) {
        let groups = if depthwise { c } else { 1 };
        let geometry = Conv2dGeometry { stride, padding, dilation, groups, flip: false };
        let Ok([oh, ow]) = geometry.output_size(size, kernel) else { return Ok(()) };
        let out = o * groups;
        if oh.saturating_mul(ow).saturating_mul(n * out) > MAX_OUTPUTS {
            return Ok(());
        }
        let (x, w, y) =
            ([n, c, size[0], size[1]], [out, c / groups, kernel[0], kernel[1]], [n, out, oh, ow]);
        // Of one sign: a sum of few terms that cancel is not exact relative to itself.
        let uniform = |shape: [usize; 4]| CaseInput::between(shape, 0.1, 1.0);
        check(&Case::new("", Conv2d::new(geometry, None), [uniform(x), uniform(w)]))?;
        check(&Case::new("", Conv2dInputGrad { geometry, input_size: size }, [uniform(y), uniform(w)]))?;
        check(&Case::new("", Conv2dWeightGrad { geometry, kernel_size: kernel }, [uniform(x), uniform(y)]))?;
    }

    #[test]
    fn poolings_with_extreme_parameters(
        kernel_size in pair(1), stride in pair(1), padding in pair(0), dilation in pair(1),
        [n, c] in [1usize..=2, 1usize..=2], [h, w] in [1usize..=9, 1usize..=9],
        [half, ceil_mode, count_include_pad, single] in [any::<bool>(); 4],
    ) {
        let x = CaseInput::uniform([n, c, h, w]);
        // The most padding that is allowed, or any.
        let padding = if half { kernel_size.map(|k| k / 2) } else { padding };
        let dilation = if single { [1; 2] } else { dilation };
        let max = MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode, return_indices: true };
        check(&Case::new("", max, [x.clone()]))?;
        let divisor_override = None;
        let avg = AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override };
        check(&Case::new("", avg, [x.clone()]))?;
        if let Ok(shapes) = avg.infer(&[x.shape])
            && shapes[0].elements() <= MAX_OUTPUTS
        {
            let back = AvgPool2dGrad { pool: avg, input_size: [h, w] };
            check(&Case::new("", back, [CaseInput::uniform(shapes[0])]))?;
        }
    }
}

/// Sizes whose products exceed all integers: an error on a device that computes positions with 31 bits, not the end of the program.
#[test]
fn a_convolution_with_a_huge_stride_is_an_error_on_opencl() {
    let Some(device) = common::devices().into_iter().find(|device| *device != Device::Cpu) else { return };
    let far = 1 << 29;
    let geometry = Conv2dGeometry {
        stride: [far; 2],
        padding: [far; 2],
        dilation: [far - 1; 2],
        groups: 1,
        flip: false,
    };
    let run = |device: &Device| {
        let x = Tensor::full([1, 16, 1, 1], 1.0, device)?;
        let weight = Tensor::full([1, 16, 2, 2], 1.0, device)?;
        run_single(&Conv2d::new(geometry, None), &[&x, &weight])
    };
    let y = run(&Device::Cpu).unwrap();
    assert!(y.shape().elements() > 0);
    let e = run(&device).unwrap_err().to_string();
    assert!(e.contains("31 bits"), "{e}");
    // No elements, but an extent that a kernel cannot count.
    let empty = Tensor::zeros([0, 1 << 40], &device).unwrap();
    let e = run_single(&Relu, &[&empty]).unwrap_err().to_string();
    assert!(e.contains("31 bits"), "{e}");
}
