//! The distinct convolutions of networks, forward and both gradients, optionally interleaved with PyTorch (oneDNN).

use std::any::Any;
use std::time::Duration;

use neocog_autograd::{Tape, Var};
use neocog_base::memory::try_collect;
use neocog_base::random::Random;
use neocog_layers::{Builder, Context};
use neocog_models::Model;
use neocog_tensor::ops::{Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad, conv_algorithms};
use neocog_tensor::{Device, Error, Op, Result, Shape, Tensor, run_single};
use serde::Serialize;
use serde_json::{Value, json};

use crate::batch::default_batch;
use crate::python::Python;
use crate::timing::{measure, median};

/// Options of [`bench_convolutions`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Number of threads: the size of the caller's rayon pool, and the setting for PyTorch. Default: the size of the
    /// current pool.
    pub threads: usize,
    /// Batch size; `None` uses that of each model. Default: `None`.
    pub batch: Option<usize>,
    /// Measuring time per pass of a convolution. Default: 0.6 s.
    pub budget: Duration,
    /// Number of interleaved rounds. Default: 5.
    pub rounds: usize,
}

impl Default for Options {
    fn default() -> Self {
        let threads = rayon::current_num_threads();
        Options { threads, batch: None, budget: Duration::from_millis(600), rounds: 5 }
    }
}

impl Options {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of threads that is reported and used by PyTorch.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the batch size; `None` uses that of each model.
    #[must_use]
    pub fn batch(mut self, batch: Option<usize>) -> Self {
        self.batch = batch;
        self
    }

    /// Sets the measuring time per pass of a convolution.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the number of interleaved rounds.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

/// The measurement of one pass of one convolution.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ConvTiming {
    /// The networks that contain this convolution.
    pub networks: Vec<String>,
    /// Shape of the input, `[n, c, h, w]`.
    #[serde(rename = "x")]
    pub input: Vec<usize>,
    /// Shape of the weight, `[out, c / groups, kh, kw]`.
    pub weight: Vec<usize>,
    /// Vertical stride, which equals the horizontal stride in all networks here.
    pub stride: usize,
    /// `forward`, `input_grad` or `weight_grad`.
    pub pass: String,
    /// Name of the algorithm that computes it.
    pub algorithm: String,
    /// Number of occurrences in all networks together.
    #[serde(rename = "times")]
    pub count: usize,
    /// Number of threads of both implementations.
    pub threads: usize,
    /// Median time of neocog in seconds.
    #[serde(rename = "ours_s")]
    pub median_s: f64,
    /// Median time of PyTorch in seconds; `None` without PyTorch.
    #[serde(rename = "theirs_s")]
    pub baseline_median_s: Option<f64>,
    /// 10^9 floating point operations per second of neocog, with the operation count of a direct convolution.
    pub gflops: f64,
    /// 10^9 floating point operations per second of PyTorch.
    #[serde(rename = "theirs_gflops")]
    pub baseline_gflops: Option<f64>,
    /// Speed of neocog relative to PyTorch, the median of the rounds.
    pub ratio: Option<f64>,
}

/// A distinct convolution of the networks.
struct ConvCase {
    networks: Vec<String>,
    x: Shape,
    weight: Shape,
    y: Shape,
    geometry: Conv2dGeometry,
    /// Whether the input gradient is computed: in all layers but the first.
    input_grad: bool,
    count: usize,
}

/// Measures all convolutions of `models`, interleaved with PyTorch if `python` is given. The result is sorted by total time
/// in neocog, longest first.
///
/// # Errors
/// If a network cannot be built, or if Python or PyTorch is missing or fails.
pub fn bench_convolutions(
    models: &[Model],
    options: &Options,
    python: Option<&Python>,
) -> Result<Vec<ConvTiming>> {
    let mut cases = Vec::new();
    for model in models {
        collect_cases(model, options.batch.unwrap_or_else(|| default_batch(model)), &mut cases)?;
    }
    let requests: Vec<Value> = cases.iter().map(ConvCase::to_json).collect();
    let (mut rounds, mut baseline_rounds) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let round: Result<Vec<Vec<f64>>> = cases.iter().map(|c| c.measure(options.budget)).collect();
        rounds.push(round?.concat());
        if let Some(python) = python {
            let measurements = python.convolutions(&requests, options.threads, options.budget)?;
            baseline_rounds.push(measurements.into_iter().map(|m| m.median_s).collect::<Vec<f64>>());
        }
    }
    let passes: Vec<(&ConvCase, &str)> =
        cases.iter().flat_map(|c| c.passes().iter().map(move |&pass| (c, pass))).collect();
    if baseline_rounds.iter().any(|round| round.len() != passes.len()) {
        return Err(Error::device("PyTorch returned an unexpected number of measurements"));
    }
    let mut timings: Vec<ConvTiming> = passes
        .iter()
        .enumerate()
        .map(|(i, (case, pass))| {
            let times: Vec<f64> = rounds.iter().map(|round| round[i]).collect();
            let baseline_times: Vec<f64> = baseline_rounds.iter().map(|round| round[i]).collect();
            case.timing(pass, options.threads, &times, &baseline_times)
        })
        .collect::<Result<_>>()?;
    timings.sort_by(|a, b| (b.median_s * b.count as f64).total_cmp(&(a.median_s * a.count as f64)));
    Ok(timings)
}

/// Adds the convolutions of a network to `cases`.
fn collect_cases(model: &Model, batch: usize, cases: &mut Vec<ConvCase>) -> Result<()> {
    let input = model.input_shape(batch);
    let network = Builder::new(&Device::Meta, 0).build(&model.spec()?, &input)?;
    let tape = Tape::new();
    let x = Var::constant(Tensor::zeros(input, &Device::Meta)?);
    network.forward(&Context::train(&tape, 0), &x)?;
    tape.for_each_entry(|step| {
        let Some(conv) = (step.op as &dyn Any).downcast_ref::<Conv2d>() else { return };
        let (x, weight, y) = (step.input_shapes[0], step.input_shapes[1], step.output_shapes[0]);
        let geometry = conv.geometry();
        let same = |c: &&mut ConvCase| c.x == x && c.weight == weight && c.geometry == geometry;
        match cases.iter_mut().find(same) {
            Some(case) => {
                case.count += 1;
                case.input_grad |= step.inputs[0].is_some();
                if case.networks.last().is_none_or(|last| last != model.name) {
                    case.networks.push(model.name.to_string());
                }
            }
            None => cases.push(ConvCase {
                networks: vec![model.name.to_string()],
                x,
                weight,
                y,
                geometry,
                input_grad: step.inputs[0].is_some(),
                count: 1,
            }),
        }
    });
    Ok(())
}

impl ConvCase {
    fn passes(&self) -> &'static [&'static str] {
        if self.input_grad { &["forward", "input_grad", "weight_grad"] } else { &["forward", "weight_grad"] }
    }

    /// Returns the median time of each pass in seconds.
    fn measure(&self, budget: Duration) -> Result<Vec<f64>> {
        let ConvCase { x, weight, y, .. } = *self;
        let tensor = |name: &str, shape: Shape| {
            let mut random = Random::stream(0, name);
            let values = try_collect(
                shape.elements(),
                std::iter::repeat_with(|| random.next_unit() - 0.5),
                format_args!("{name} of shape {shape}"),
            )?;
            Tensor::from_f32(shape, &values, &Device::Cpu)
        };
        let bias = tensor("bias", Shape::new(&[weight[0]])?)?;
        let (x, dy, kernel) = (tensor("x", x)?, tensor("dy", y)?, tensor("weight", weight)?);
        let time = |op: &dyn Op, inputs: &[&Tensor]| {
            measure(budget, || run_single(op, inputs).map(drop)).map(|times| times.median())
        };
        self.passes()
            .iter()
            .map(|&pass| {
                let op = self.op(pass);
                match pass {
                    "forward" => time(&*op, &[&x, &kernel, &bias]),
                    "input_grad" => time(&*op, &[&dy, &kernel]),
                    _ => time(&*op, &[&x, &dy]),
                }
            })
            .collect()
    }

    /// Returns the operation of a pass.
    fn op(&self, pass: &str) -> Box<dyn Op> {
        let ConvCase { x, weight, geometry, .. } = *self;
        match pass {
            "forward" => Box::new(Conv2d::new(geometry, None)),
            "input_grad" => Box::new(Conv2dInputGrad { geometry, input_size: [x[2], x[3]] }),
            _ => Box::new(Conv2dWeightGrad { geometry, kernel_size: [weight[2], weight[3]] }),
        }
    }

    /// Returns the name of the algorithm of a pass.
    fn algorithm(&self, pass: &str) -> Result<String> {
        let inputs = match pass {
            "forward" => [self.x, self.weight],
            "input_grad" => [self.y, self.weight],
            _ => [self.x, self.y],
        };
        let names = conv_algorithms(&*self.op(pass), &inputs, &Device::Cpu)?;
        Ok(names[0].to_string())
    }

    /// Describes the case for `run_torch_convolutions.py`.
    fn to_json(&self) -> Value {
        json!({
            "x": &self.x[..],
            "weight": &self.weight[..],
            "stride": self.geometry.stride,
            "padding": self.geometry.padding,
            "dilation": self.geometry.dilation,
            "groups": self.geometry.groups,
            "input_grad": self.input_grad,
        })
    }

    /// Summarizes the times of all rounds.
    fn timing(
        &self,
        pass: &str,
        threads: usize,
        times: &[f64],
        baseline_times: &[f64],
    ) -> Result<ConvTiming> {
        let multiply_adds = Conv2d::new(self.geometry, None).multiply_adds(&[self.x, self.weight], &[self.y]);
        let gflops = |seconds: f64| 2.0 * multiply_adds as f64 / seconds / 1e9;
        let median_s = median(times.iter().copied());
        let baseline_median_s = (!baseline_times.is_empty()).then(|| median(baseline_times.iter().copied()));
        Ok(ConvTiming {
            networks: self.networks.clone(),
            input: self.x.to_vec(),
            weight: self.weight.to_vec(),
            stride: self.geometry.stride[0],
            pass: pass.to_string(),
            algorithm: self.algorithm(pass)?,
            count: self.count,
            threads,
            median_s,
            baseline_median_s,
            gflops: gflops(median_s),
            baseline_gflops: baseline_median_s.map(gflops),
            ratio: baseline_median_s
                .map(|_| median(times.iter().zip(baseline_times).map(|(time, baseline)| baseline / time))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distinct_convolution_of_lenet_is_measured() {
        let model = neocog_models::find("lenet").unwrap();
        let options = Options::new().threads(1).batch(Some(2)).budget(Duration::from_millis(1)).rounds(1);
        let passes = bench_convolutions(&[model, model], &options, None).unwrap();
        let mut found: Vec<(Vec<usize>, &str, usize)> =
            passes.iter().map(|p| (p.input.clone(), p.pass.as_str(), p.count)).collect();
        found.sort();
        let (first, second) = (vec![2, 1, 28, 28], vec![2, 6, 12, 12]);
        let expected = [
            (first.clone(), "forward", 2),
            (first, "weight_grad", 2),
            (second.clone(), "forward", 2),
            (second.clone(), "input_grad", 2),
            (second, "weight_grad", 2),
        ];
        assert_eq!(found, expected);
        assert!(passes.iter().all(|p| p.gflops > 0.0 && p.ratio.is_none()));
        // Two images do not fill a vector, and few channels do not fill blocks.
        assert!(passes.iter().all(|p| ["implicit_gemm", "col2im"].contains(&p.algorithm.as_str())));
        // Two images, 6 feature maps of 24x24 pixels, 25 taps.
        let first = passes.iter().find(|p| p.input[1] == 1 && p.pass == "forward").unwrap();
        assert!((first.gflops * first.median_s * 1e9 - 2.0 * 2.0 * 6.0 * 576.0 * 25.0).abs() < 1.0);
    }
}
