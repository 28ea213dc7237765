//! Each distinct convolution of networks, forward and both gradients, here and in PyTorch (oneDNN) in turns.

use std::any::Any;
use std::time::Duration;

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_layers::{Builder, Context};
use neocog_models::Model;
use neocog_tensor::ops::{Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad};
use neocog_tensor::{Device, Error, Op, Result, Shape, Tensor, run_single};
use serde::Serialize;
use serde_json::{Value, json};

use crate::batch::default_batch;
use crate::measure::{measure, median};
use crate::python::Python;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads on both sides; only noted for ours, the caller provides them.
    pub threads: usize,
    /// Images in a batch; each model's own number if `None`.
    pub batch: Option<usize>,
    /// Time for each pass of a convolution.
    pub budget: Duration,
    /// How often both sides take turns.
    pub rounds: usize,
}

/// One pass of one convolution.
#[derive(Clone, Debug, Serialize)]
pub struct Pass {
    /// The networks that have this convolution.
    pub networks: Vec<String>,
    /// `[n, c, h, w]` of the picture.
    pub x: Vec<usize>,
    /// `[out, c / groups, kh, kw]` of the weight.
    pub weight: Vec<usize>,
    /// The stride of rows; all networks here have the same for columns.
    pub stride: usize,
    /// `forward`, `input_grad` or `weight_grad`.
    pub pass: String,
    /// How often it occurs in the networks together.
    pub times: usize,
    /// Threads on both sides.
    pub threads: usize,
    /// Median time here, in seconds.
    pub ours_s: f64,
    /// Median time in PyTorch, in seconds; `None` if it was not asked.
    pub theirs_s: Option<f64>,
    /// 10^9 floating point operations per second here, counted as a direct convolution's.
    pub gflops: f64,
    /// The same in PyTorch.
    pub theirs_gflops: Option<f64>,
    /// The median of the rounds' ratios of speed, ours to PyTorch's.
    pub ratio: Option<f64>,
}

/// A convolution of some networks.
struct Found {
    networks: Vec<String>,
    x: Shape,
    weight: Shape,
    y: Shape,
    geometry: Conv2dGeometry,
    /// Whether the gradient of the picture is wanted: in all but first layers.
    input_grad: bool,
    times: usize,
}

/// Measures all convolutions of `models`, with `python`'s PyTorch in turns if there is one; the work that takes the longest
/// here comes first.
///
/// # Errors
/// When a network cannot be built, or Python or PyTorch is missing or fails.
pub fn bench_convolutions(models: &[Model], options: &Options, python: Option<&Python>) -> Result<Vec<Pass>> {
    let mut all = Vec::new();
    for model in models {
        find(model, options.batch.unwrap_or_else(|| default_batch(model)), &mut all)?;
    }
    let wanted: Vec<Value> = all.iter().map(Found::json).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let round: Result<Vec<Vec<f64>>> = all.iter().map(|c| c.measure(options.budget)).collect();
        ours.push(round?.concat());
        if let Some(python) = python {
            let answers = python.convolutions(&wanted, options.threads, options.budget)?;
            theirs.push(answers.into_iter().map(|a| a.median_s).collect::<Vec<f64>>());
        }
    }
    let passes: Vec<(&Found, &str)> =
        all.iter().flat_map(|c| c.passes().iter().map(move |&pass| (c, pass))).collect();
    if theirs.iter().any(|round| round.len() != passes.len()) {
        return Err(Error::device("PyTorch answered for another number of convolutions than it was asked"));
    }
    let mut rows: Vec<Pass> = passes
        .iter()
        .enumerate()
        .map(|(i, (convolution, pass))| {
            let ours: Vec<f64> = ours.iter().map(|round| round[i]).collect();
            let theirs: Vec<f64> = theirs.iter().map(|round| round[i]).collect();
            convolution.row(pass, options.threads, &ours, &theirs)
        })
        .collect();
    rows.sort_by(|a, b| (b.ours_s * b.times as f64).total_cmp(&(a.ours_s * a.times as f64)));
    Ok(rows)
}

/// Adds the convolutions of a network to those found.
fn find(model: &Model, batch: usize, all: &mut Vec<Found>) -> Result<()> {
    let input = model.input_shape(batch);
    let network = Builder::new(&Device::Meta, 0).build(&model.spec()?, &input)?;
    let tape = Tape::new();
    let x = Var::constant(Tensor::zeros(input, &Device::Meta)?);
    network.forward(&Context::train(&tape, 0), &x)?;
    tape.for_each_entry(|step| {
        let Some(conv) = (step.op as &dyn Any).downcast_ref::<Conv2d>() else { return };
        let (x, weight, y) = (step.input_shapes[0], step.input_shapes[1], step.output_shapes[0]);
        let geometry = conv.geometry();
        let same = |f: &&mut Found| f.x == x && f.weight == weight && f.geometry == geometry;
        match all.iter_mut().find(same) {
            Some(found) => {
                found.times += 1;
                found.input_grad |= step.inputs[0].is_some();
                if found.networks.last().is_none_or(|last| last != model.name) {
                    found.networks.push(model.name.to_string());
                }
            }
            None => all.push(Found {
                networks: vec![model.name.to_string()],
                x,
                weight,
                y,
                geometry,
                input_grad: step.inputs[0].is_some(),
                times: 1,
            }),
        }
    });
    Ok(())
}

impl Found {
    fn passes(&self) -> &'static [&'static str] {
        if self.input_grad { &["forward", "input_grad", "weight_grad"] } else { &["forward", "weight_grad"] }
    }

    /// Median times of the passes, in their order.
    fn measure(&self, budget: Duration) -> Result<Vec<f64>> {
        let Found { x, weight, y, geometry, .. } = *self;
        let tensor = |name: &str, shape: Shape| {
            let mut random = Random::stream(0, name);
            let numbers: Vec<f32> = (0..shape.elements()).map(|_| random.next_unit() - 0.5).collect();
            Tensor::from_f32(shape, &numbers, &Device::Cpu)
        };
        let bias = tensor("bias", Shape::new(&[weight[0]])?)?;
        let (x, dy, kernel) = (tensor("x", x)?, tensor("dy", y)?, tensor("weight", weight)?);
        let forward = Conv2d::new(geometry, None);
        let input_grad = Conv2dInputGrad { geometry, input_size: [self.x[2], self.x[3]] };
        let weight_grad = Conv2dWeightGrad { geometry, kernel_size: [weight[2], weight[3]] };
        let time = |op: &dyn Op, inputs: &[&Tensor]| {
            measure(budget, || run_single(op, inputs).map(drop)).map(|times| times.median())
        };
        self.passes()
            .iter()
            .map(|&pass| match pass {
                "forward" => time(&forward, &[&x, &kernel, &bias]),
                "input_grad" => time(&input_grad, &[&dy, &kernel]),
                _ => time(&weight_grad, &[&x, &dy]),
            })
            .collect()
    }

    fn json(&self) -> Value {
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

    fn row(&self, pass: &str, threads: usize, ours: &[f64], theirs: &[f64]) -> Pass {
        let direct = Conv2d::new(self.geometry, None).multiply_adds(&[self.x, self.weight], &[self.y]);
        let gflops = |seconds: f64| 2.0 * direct as f64 / seconds / 1e9;
        let (ours_s, theirs_s) =
            (median(ours.iter().copied()), (!theirs.is_empty()).then(|| median(theirs.iter().copied())));
        Pass {
            networks: self.networks.clone(),
            x: self.x.to_vec(),
            weight: self.weight.to_vec(),
            stride: self.geometry.stride[0],
            pass: pass.to_string(),
            times: self.times,
            threads,
            ours_s,
            theirs_s,
            gflops: gflops(ours_s),
            theirs_gflops: theirs_s.map(gflops),
            ratio: theirs_s.map(|_| median(ours.iter().zip(theirs).map(|(o, t)| t / o))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_convolutions_of_lenet_are_found_once_each_and_measured() {
        let model = neocog_models::find("lenet").unwrap();
        let options = Options { threads: 1, batch: Some(2), budget: Duration::from_millis(1), rounds: 1 };
        let passes = bench_convolutions(&[model, model], &options, None).unwrap();
        let mut found: Vec<(Vec<usize>, &str, usize)> =
            passes.iter().map(|p| (p.x.clone(), p.pass.as_str(), p.times)).collect();
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
        // 6 maps of 24 x 24 pixels of 25 taps, for two images.
        let first = passes.iter().find(|p| p.x[1] == 1 && p.pass == "forward").unwrap();
        assert!((first.gflops * first.ours_s * 1e9 - 2.0 * 2.0 * 6.0 * 576.0 * 25.0).abs() < 1.0);
    }
}
