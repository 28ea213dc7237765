//! The error of every algorithm against the reference; `cargo test -p neocog-tensor error_tests -- --nocapture` prints
//! it.

use super::layout::FeatureMap;
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
        ([3, 1, 9, 12], 1, 5, [2, 2]),
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
            for (algorithm, conv) in applicable(&sample.conv, pass, &device) {
                let mut result = sample.empty(pass);
                compute(algorithm, &conv, &sample, pass, &mut result);
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

#[test]
fn far_values_reach_no_other_output_with_any_algorithm() {
    // The border of the image, so that taps of the weight's gradient do not meet the far pixel; several tiles.
    let far_pixels = [[0, 0], [13, 18]];
    let shapes = [
        ([2, 8, 19, 21], 17, 3, [1, 1]),
        ([1, 40, 20, 22], 33, 3, [1, 1]),
        ([1, 16, 24, 24], 16, 5, [2, 2]),
        ([16, 3, 20, 20], 6, 5, [0, 0]),
        ([4, 40, 15, 20], 18, 1, [0, 0]),
    ];
    let device = InstructionSet::current();
    for ((x, out, kernel, padding), far) in
        shapes.into_iter().flat_map(|shape| [1e8, f32::MAX, f32::INFINITY, f32::NAN].map(|far| (shape, far)))
    {
        let usual = Sample::new(x, out, kernel, padding, false);
        for (pass, [row, column]) in [Pass::Forward, Pass::InputGrad, Pass::WeightGrad]
            .into_iter()
            .flat_map(|p| far_pixels.map(|at| (p, at)))
        {
            let mut sample = Sample::new(x, out, kernel, padding, false);
            let ConvShape { h, w, oh, ow, .. } = sample.conv;
            // Which results depend on the far value: those that a one in its place and zeros elsewhere change.
            let mut alone = [vec![0.0; sample.x.len()], vec![0.0; sample.dy.len()]];
            let ones = vec![1.0; sample.weight.len()];
            let mut reached = vec![0.0; sample.exact[pass as usize].len()];
            match pass {
                Pass::InputGrad => {
                    let at = row.min(oh - 1) * ow + column.min(ow - 1);
                    (sample.dy[at], alone[1][at]) = (far, 1.0);
                    reference::input_grad(&sample.conv, &alone[1], &ones, &mut reached);
                }
                _ => {
                    let at = row.min(h - 1) * w + column.min(w - 1);
                    (sample.x[at], alone[0][at]) = (far, 1.0);
                    alone[1].fill(1.0);
                    if pass == Pass::Forward {
                        reference::forward(&sample.conv, &alone[0], &ones, &mut reached);
                    } else {
                        reference::weight_grad(&sample.conv, &alone[0], &alone[1], &mut reached);
                    }
                }
            }
            let exact = &usual.exact[pass as usize];
            let largest = exact.iter().fold(0.0f64, |a, v| a.max(v.abs()));
            for (algorithm, conv) in applicable(&sample.conv, pass, &device) {
                let mut result = sample.empty(pass);
                compute(algorithm, &conv, &sample, pass, &mut result);
                for (i, (&got, exact)) in
                    result.iter().zip(exact).enumerate().filter(|(i, _)| reached[*i] == 0.0)
                {
                    // A NaN is no error below the bound.
                    let error = (f64::from(got) - exact).abs() / largest;
                    assert!(
                        error < sample.allowed(pass),
                        "{x:?} to {out}, {kernel}x{kernel}, {pass:?}, {}: {far} at {row}, {column} changes result {i} from \
                         {exact} to {got}",
                        algorithm.name()
                    );
                }
            }
        }
    }
}

/// Returns the algorithms of a pass, each with every layout in which it computes it.
fn applicable(conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Vec<(Algorithm<Cpu>, ConvShape)> {
    let layouts = [[false, false], [true, true], [false, true]].map(|in_blocks| {
        let [src, dst] = conv.feature_maps();
        let stride = |map: FeatureMap, in_blocks: bool| {
            if in_blocks { map.blocks(device.lanes) * device.lanes * map.h * map.w } else { map.batch_stride }
        };
        let [x_batch_stride, y_batch_stride] = [stride(src, in_blocks[0]), stride(dst, in_blocks[1])];
        ConvShape { in_blocks, x_batch_stride, y_batch_stride, ..*conv }
    });
    let all = ALGORITHMS.iter().flat_map(|algorithm| layouts.map(|conv| (*algorithm, conv)));
    let fits = |(algorithm, conv): &(Algorithm<Cpu>, ConvShape)| {
        let is_plain = conv.in_blocks == [false; 2];
        (is_plain || pass == Pass::Forward && algorithm.works_in_blocks())
            && algorithm.cost(conv, pass, device).is_some()
    };
    all.filter(fits).collect()
}

/// Copies between a feature map `[n, channels, h, w]` and the same in the layout of `map`; `copy` gets both positions.
fn for_each_position(n: usize, map: FeatureMap, mut copy: impl FnMut(usize, usize)) {
    let (lanes, pixels) = (InstructionSet::current().lanes, map.h * map.w);
    for at in 0..n * map.channels * pixels {
        let (image, channel, pixel) = (at / pixels / map.channels, at / pixels % map.channels, at % pixels);
        copy(at, image * map.batch_stride + map.position(lanes, channel, pixel));
    }
}

/// Computes a pass of a sample in the layout of `conv`.
fn compute(algorithm: Algorithm<Cpu>, conv: &ConvShape, sample: &Sample, pass: Pass, result: &mut [f32]) {
    let Sample { x, weight, dy, .. } = sample;
    let [weight, dy] = [weight, dy].map(Vec::as_slice);
    let [src, dst] = conv.feature_maps();
    // No output may depend on what is behind the last channel.
    let mut laid_out = vec![7.0; conv.n * src.batch_stride];
    for_each_position(conv.n, src, |from, to| laid_out[to] = x[from]);
    let x = &laid_out[..];
    let mut output = vec![f32::NAN; conv.n * dst.batch_stride];
    let scratch = Scratch::new();
    let packed;
    let operands = match pass {
        Pass::Forward => {
            packed = algorithm.pack(&scratch, conv, weight);
            let (original, weight) = (weight, packed.as_deref().unwrap_or(weight));
            Operands::Forward { x, weight, original, bias: None, activation: None, y: &mut output[..] }
        }
        Pass::InputGrad => Operands::InputGrad { dy, weight, dx: &mut *result },
        Pass::WeightGrad => Operands::WeightGrad { x, dy, dw: &mut *result },
    };
    algorithm.run(&scratch, conv, operands);
    if pass == Pass::Forward {
        for_each_position(conv.n, dst, |at, from| result[at] = output[from]);
    }
}
