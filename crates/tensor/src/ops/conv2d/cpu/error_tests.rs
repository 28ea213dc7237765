//! The error of every algorithm against the reference; `cargo test -p neocog-tensor error_tests -- --nocapture` prints
//! it.

use super::*;
use crate::ops::conv2d::{Conv2dGeometry, reference};
use crate::testing::cases::CaseInput;

/// The operands of a convolution, and its exact results.
pub struct Sample {
    pub conv: ConvShape,
    pub x: Vec<f32>,
    pub weight: Vec<f32>,
    pub dy: Vec<f32>,
    /// The output and the gradients of input and weight.
    exact: [Vec<f64>; 3],
}

impl Sample {
    /// Makes uniformly distributed operands.
    pub fn new([n, c, h, w]: [usize; 4], out: usize, kernel: usize, padding: [usize; 2], flip: bool) -> Self {
        let geometry = Conv2dGeometry { padding, flip, ..Conv2dGeometry::default() };
        let [oh, ow] = geometry.output_size([h, w], [kernel; 2]).unwrap();
        let conv = geometry.conv_shape(&[n, c, h, w], &[out, c, kernel, kernel], &[n, out, oh, ow]);
        let values = |shape: [usize; 4], stream| CaseInput::uniform(shape).make(stream);
        let x = values([n, c, h, w], 1);
        let weight = values([out, c, kernel, kernel], 2);
        let dy = values([n, out, oh, ow], 3);
        let [x64, weight64, dy64] = [&x, &weight, &dy].map(|v| wide(v));
        let mut exact = [&dy, &x, &weight].map(|v| vec![0.0; v.len()]);
        reference::forward(&conv, &x64, &weight64, &mut exact[0]);
        reference::input_grad(&conv, &dy64, &weight64, &mut exact[1]);
        reference::weight_grad(&conv, &x64, &dy64, &mut exact[2]);
        Sample { conv, x, weight, dy, exact }
    }

    /// Returns the result of a pass before it is computed.
    pub fn empty(&self, pass: Pass) -> Vec<f32> {
        vec![f32::NAN; self.exact[pass as usize].len()]
    }

    /// Returns the maximum absolute error of the result of a pass relative to the largest absolute value.
    pub fn error(&self, pass: Pass, got: &[f32]) -> f64 {
        let exact = &self.exact[pass as usize];
        let largest = exact.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        let off = got.iter().zip(exact).map(|(g, e)| (f64::from(*g) - e).abs());
        off.fold(0.0, |a, v| if v.is_nan() { f64::INFINITY } else { a.max(v) }) / largest
    }

    /// Returns the error that is allowed: rounding errors grow with the root of the number of terms.
    pub fn allowed(&self, pass: Pass) -> f64 {
        let conv = &self.conv;
        let terms = match pass {
            Pass::Forward => conv.in_per_group,
            Pass::InputGrad => conv.out_per_group,
            Pass::WeightGrad => conv.n * conv.out_pixels(),
        };
        1e-6 + 2e-7 * (terms as f64).sqrt()
    }
}

pub fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v)).collect()
}

#[test]
#[allow(clippy::print_stdout, reason = "the report")]
fn errors_of_every_algorithm_are_small() {
    let shapes = [
        ([2, 1, 5, 7], 1, 3, [0, 0]),
        ([3, 8, 9, 12], 17, 3, [1, 1]),
        ([1, 16, 5, 150], 33, 5, [2, 2]),
        ([2, 64, 24, 24], 64, 3, [1, 1]),
        ([2, 128, 12, 12], 128, 3, [1, 1]),
        ([3, 512, 7, 7], 40, 3, [1, 1]),
        ([16, 5, 14, 14], 6, 5, [0, 0]),
        ([4, 256, 9, 11], 70, 1, [0, 0]),
        ([8, 30, 28, 28], 20, 1, [0, 0]),
        ([2, 12, 19, 17], 10, 7, [3, 3]),
    ];
    let mut tested = std::collections::BTreeMap::new();
    for (x, out, kernel, padding) in shapes {
        let sample = Sample::new(x, out, kernel, padding, out == 17);
        for pass in [Pass::Forward, Pass::InputGrad, Pass::WeightGrad] {
            let device = InstructionSet::current();
            for algorithm in ALGORITHMS.iter().filter(|a| a.cost(&sample.conv, pass, &device).is_some()) {
                let mut result = sample.empty(pass);
                compute(*algorithm, &sample, pass, &mut result);
                let (error, allowed) = (sample.error(pass, &result), sample.allowed(pass));
                let name = format!("{x:?} to {out}, {kernel}x{kernel}");
                println!("{name:32} {:16} {pass:10?} {error:8.1e} of {allowed:8.1e}", algorithm.name());
                assert!(error < allowed, "{name}, {pass:?}, {}: {error:e} of {allowed:e}", algorithm.name());
                *tested.entry(algorithm.name()).or_insert(0) += 1;
            }
        }
    }
    assert!(tested.len() == ALGORITHMS.len() && tested.values().all(|&count| count >= 2), "{tested:?}");
}

fn compute(algorithm: Algorithm<Cpu>, sample: &Sample, pass: Pass, result: &mut [f32]) {
    let Sample { conv, x, weight, dy, .. } = sample;
    let [x, weight, dy] = [x, weight, dy].map(Vec::as_slice);
    let scratch = Scratch::new();
    let packed;
    let operands = match pass {
        Pass::Forward => {
            packed = algorithm.pack(&scratch, conv, weight);
            let weight = packed.as_deref().unwrap_or(weight);
            Operands::Forward { x, weight, bias: None, activation: None, y: result }
        }
        Pass::InputGrad => Operands::InputGrad { dy, weight, dx: result },
        Pass::WeightGrad => Operands::WeightGrad { x, dy, dw: result },
    };
    algorithm.run(&scratch, conv, operands);
}
