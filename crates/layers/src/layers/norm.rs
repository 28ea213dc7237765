//! Batch normalization: PyTorch's, and the implementation from scratch of the notes.
//!
//! S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015. In training, each channel is normalized with the mean and the biased
//! variance of the batch, which update the running statistics; in evaluation, and in training if they are frozen, with the running
//! statistics.

use std::sync::Arc;

use neocog_autograd::{Param, Var};
use neocog_base::text::count;
use neocog_tensor::{Device, Error, Result, Shape, Tensor, ops, update};
use serde::{Deserialize, Serialize};

use super::{python_bool, python_float};
use crate::builder::{Builder, Init};
use crate::layer::{Buffer, Context, Counter, Layer, StateUpdate, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// PyTorch's batch norms, which differ in the rank of the input.
macro_rules! batch_norms {
    ($($(#[$doc:meta])* $name:ident $kind:literal, ranks $ranks:expr, examples [$($example:expr),*];)*) => {$(
        $(#[$doc])*
        ///
        /// Parameters: `weight` `[num_features]`, initially 1, and `bias` `[num_features]`, initially 0. Buffers:
        /// `running_mean`, initially 0, and `running_var`, initially 1, of the unbiased variance. Counter:
        /// `num_batches_tracked`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Number of channels.
            pub num_features: usize,
            /// Value added to the variance for numerical stability.
            #[serde(default = "default_eps")]
            pub eps: f64,
            /// Weight of the new value in the running statistics; `null` for a cumulative average.
            #[serde(default = "default_momentum")]
            pub momentum: Option<f64>,
            /// Whether to have a learnable weight and bias.
            #[serde(default = "yes")]
            pub affine: bool,
            /// Whether to track running statistics; if not, evaluation uses those of the batch.
            #[serde(default = "yes")]
            pub track_running_stats: bool,
        }

        impl $name {
            /// Creates a spec with PyTorch's defaults.
            pub fn new(num_features: usize) -> Self {
                $name {
                    num_features,
                    eps: default_eps(),
                    momentum: default_momentum(),
                    affine: true,
                    track_running_stats: true,
                }
            }
        }

        impl Spec for $name {
            const KIND: &'static str = $kind;

            fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
                let $name { num_features, eps, momentum, affine, track_running_stats } = *self;
                let config = Config {
                    label: $kind, ranks: &$ranks, num_features, eps, momentum, affine, track_running_stats,
                };
                Ok(Box::new(BuiltBatchNorm::new(config, builder)?))
            }

            fn examples() -> Vec<Example> {
                vec![$($example),*]
            }
        }

        register_layer!($name);
    )*};
}

fn default_eps() -> f64 {
    1e-5
}

fn default_momentum() -> Option<f64> {
    Some(0.1)
}

fn yes() -> bool {
    true
}

batch_norms! {
    /// Batch normalization of `[n, c]` or `[n, c, l]`.
    BatchNorm1d "BatchNorm1d", ranks [2, 3], examples [
        Example::new(BatchNorm1d::new(3), [5, 3]),
        Example::new(BatchNorm1d { momentum: None, ..BatchNorm1d::new(2) }, [3, 2, 4])
    ];
    /// Batch normalization of `[n, c, h, w]`.
    BatchNorm2d "BatchNorm2d", ranks [4], examples [
        Example::new(BatchNorm2d::new(2), [3, 2, 2, 3]),
        Example::new(BatchNorm2d { affine: false, ..BatchNorm2d::new(2) }, [2, 2, 3, 2]),
        Example::new(BatchNorm2d { track_running_stats: false, ..BatchNorm2d::new(2) }, [2, 2, 2, 2])
    ];
}

struct Config {
    label: &'static str,
    ranks: &'static [usize],
    num_features: usize,
    eps: f64,
    momentum: Option<f64>,
    affine: bool,
    track_running_stats: bool,
}

#[derive(Debug)]
struct BuiltBatchNorm {
    config: Config,
    affine: Option<(Param, Param)>,
    running: Option<Arc<Running>>,
}

/// Running statistics.
#[derive(Debug)]
struct Running {
    mean: Buffer,
    var: Buffer,
    num_batches_tracked: Counter,
    /// Weight of the new value; `None` for a cumulative average.
    momentum: Option<f64>,
    /// Whether the variance is the unbiased one.
    unbiased: bool,
}

impl Running {
    /// Whether the statistics are frozen: training then uses them as evaluation does, and does not update them.
    fn is_frozen(&self) -> bool {
        self.mean.value().is_frozen() || self.var.value().is_frozen()
    }
}

/// An update of running statistics with the mean and the biased variance of a batch.
#[derive(Debug)]
struct RunningUpdate {
    running: Arc<Running>,
    /// Number of elements of each channel.
    count: usize,
}

impl StateUpdate for RunningUpdate {
    fn update(&self, statistics: &[&Tensor]) -> Result<()> {
        let Running { mean, var, num_batches_tracked, momentum, unbiased } = &*self.running;
        let batches = num_batches_tracked.increment();
        let factor = momentum.unwrap_or(1.0 / batches as f64);
        let op = ops::UpdateRunningStats { factor, unbiased: *unbiased, count: self.count };
        let (mut mean, mut var) = (mean.value().write()?, var.value().write()?);
        update(&op, statistics, &mut [&mut mean, &mut var]).map(drop)
    }
}

/// Updates running statistics with outputs 1 and 2 of the operation that normalizes `input`.
fn update_running(
    context: &Context<'_>,
    running: &Arc<Running>,
    outputs: &[Var],
    input: &Shape,
) -> Result<()> {
    let count = input.elements() / input[1].max(1);
    let update = RunningUpdate { running: running.clone(), count };
    context.update(Arc::new(update), &[&outputs[1], &outputs[2]])
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label)
    }
}

impl BuiltBatchNorm {
    fn new(config: Config, builder: &Builder) -> Result<Self> {
        let features = [config.num_features];
        check(config.num_features, config.eps)?;
        if config.momentum.is_some_and(|m| !(0.0..=1.0).contains(&m)) {
            return Err(Error::invalid_argument(format!(
                "momentum must be from 0 to 1, not {:?}",
                config.momentum
            )));
        }
        let affine = if config.affine {
            let weight = builder.param("weight", &features, Init::Constant(1.0))?;
            Some((weight, builder.param("bias", &features, Init::Constant(0.0))?))
        } else {
            None
        };
        let running = if config.track_running_stats {
            let mean = builder.buffer(&features, 0.0, true)?;
            let var = builder.buffer(&features, 1.0, true)?;
            let momentum = config.momentum;
            let num_batches_tracked = Counter::default();
            Some(Arc::new(Running { mean, var, num_batches_tracked, momentum, unbiased: true }))
        } else {
            None
        };
        Ok(BuiltBatchNorm { config, affine, running })
    }

    fn apply(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let config = &self.config;
        if !config.ranks.contains(&input.shape().rank()) {
            let expected = if config.ranks == [4] { "[n, c, h, w]" } else { "[n, c] or [n, c, l]" };
            return Err(Error::shape(format!("expected an input {expected}, found {}", input.shape())));
        }
        check_channels(config.num_features, input.shape())?;
        let tape = context.tape();
        let affine = self.affine.as_ref().map(|(w, b)| (tape.param(w), tape.param(b)));
        match &self.running {
            Some(running) if !context.is_training() || running.is_frozen() => {
                let [mean, var] = [&running.mean, &running.var].map(|b| Var::constant(b.value().value()));
                eval(context, config.eps, input, (&mean, &var), affine.as_ref())
            }
            // Shapes are computed for a batch of one image, which has no statistics of its own; they are those of any statistics.
            None if !context.is_training()
                && input.tensor().device() == Device::Meta
                && input.shape().elements() == config.num_features =>
            {
                let statistics = Var::constant(Tensor::zeros([config.num_features], &Device::Meta)?);
                eval(context, config.eps, input, (&statistics, &statistics), affine.as_ref())
            }
            running => {
                let op = ops::BatchNormTrain { eps: config.eps, activation: None };
                let outputs = match &affine {
                    Some((weight, bias)) => tape.apply(op, &[input, weight, bias])?,
                    None => tape.apply(op, &[input])?,
                };
                if let Some(running) = running {
                    update_running(context, running, &outputs, input.shape())?;
                }
                Ok(outputs[0].clone())
            }
        }
    }
}

impl Layer for BuiltBatchNorm {
    fn label(&self) -> &str {
        self.config.label
    }

    fn uses_batch_statistics(&self) -> bool {
        !self.config.track_running_stats
    }

    fn arguments(&self) -> String {
        let Config { num_features, eps, momentum, affine, track_running_stats, .. } = self.config;
        let momentum = momentum.map_or("None".to_string(), |m| m.to_string());
        format!(
            "{num_features}, eps={}, momentum={momentum}, affine={}, track_running_stats={}",
            python_float(eps),
            python_bool(affine),
            python_bool(track_running_stats)
        )
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        self.apply(context, input)
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        if let Some((weight, bias)) = &self.affine {
            visitor.param("weight", weight);
            visitor.param("bias", bias);
        }
        if let Some(running) = &self.running {
            visitor.buffer("running_mean", &running.mean);
            visitor.buffer("running_var", &running.var);
            visitor.counter("num_batches_tracked", &running.num_batches_tracked);
        }
    }
}

/// The batch norm that the notes implement from scratch. It differs from PyTorch's: the moving variance is of the biased variance
/// and initially 0, `momentum` is the weight of the old value, the parameters have the rank of the input, and the moving
/// statistics are not part of the `state_dict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Number of channels.
    pub num_features: usize,
    /// Rank of the input: 2 for `[n, c]`, 4 for `[n, c, h, w]`.
    pub num_dims: usize,
    /// Value added to the variance for numerical stability.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Weight of the old value in the moving statistics.
    #[serde(default = "scratch_momentum")]
    pub momentum: f64,
}

fn scratch_momentum() -> f64 {
    0.9
}

impl BatchNorm {
    /// Creates a spec with the defaults of the notes.
    pub fn new(num_features: usize, num_dims: usize) -> Self {
        BatchNorm { num_features, num_dims, eps: default_eps(), momentum: scratch_momentum() }
    }
}

impl Spec for BatchNorm {
    const KIND: &'static str = "BatchNorm";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        check(self.num_features, self.eps)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(Error::invalid_argument(format!(
                "momentum must be from 0 to 1, not {}",
                self.momentum
            )));
        }
        let shape: &[usize] = match self.num_dims {
            2 => &[1, self.num_features],
            4 => &[1, self.num_features, 1, 1],
            other => return Err(Error::invalid_argument(format!("num_dims must be 2 or 4, not {other}"))),
        };
        Ok(Box::new(BuiltFromScratch {
            spec: self.clone(),
            gamma: builder.param("gamma", shape, Init::Constant(1.0))?,
            beta: builder.param("beta", shape, Init::Constant(0.0))?,
            moving: Arc::new(Running {
                mean: builder.buffer(&[self.num_features], 0.0, false)?,
                var: builder.buffer(&[self.num_features], 0.0, false)?,
                num_batches_tracked: Counter::default(),
                momentum: Some(1.0 - self.momentum),
                unbiased: false,
            }),
        }))
    }

    fn examples() -> Vec<Example> {
        vec![Example::new(BatchNorm::new(3, 2), [5, 3]), Example::new(BatchNorm::new(2, 4), [3, 2, 2, 3])]
    }
}

register_layer!(BatchNorm);

#[derive(Debug)]
struct BuiltFromScratch {
    spec: BatchNorm,
    gamma: Param,
    beta: Param,
    moving: Arc<Running>,
}

impl BuiltFromScratch {
    fn apply(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let BatchNorm { num_features, num_dims, eps, .. } = self.spec;
        if input.shape().rank() != num_dims {
            return Err(Error::shape(format!(
                "expected an input with {num_dims} axes, found {}",
                input.shape()
            )));
        }
        check_channels(num_features, input.shape())?;
        let tape = context.tape();
        let flat = |param: &Param| {
            tape.apply_single(ops::Reshape { shape: Shape::from([num_features]) }, &[&tape.param(param)])
        };
        let (gamma, beta) = (flat(&self.gamma)?, flat(&self.beta)?);
        if !context.is_training() || self.moving.is_frozen() {
            let [mean, var] = [&self.moving.mean, &self.moving.var].map(|b| Var::constant(b.value().value()));
            return eval(context, eps, input, (&mean, &var), Some(&(gamma, beta)));
        }
        let outputs = tape.apply(ops::BatchNormTrain { eps, activation: None }, &[input, &gamma, &beta])?;
        update_running(context, &self.moving, &outputs, input.shape())?;
        Ok(outputs[0].clone())
    }
}

impl Layer for BuiltFromScratch {
    fn label(&self) -> &str {
        BatchNorm::KIND
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        self.apply(context, input)
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("gamma", &self.gamma);
        visitor.param("beta", &self.beta);
        visitor.buffer("moving_mean", &self.moving.mean);
        visitor.buffer("moving_var", &self.moving.var);
    }
}

fn check(num_features: usize, eps: f64) -> Result<()> {
    if num_features == 0 {
        return Err(Error::invalid_argument("num_features must be at least 1"));
    }
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(Error::invalid_argument(format!("eps must be finite and non-negative, not {eps}")));
    }
    Ok(())
}

fn check_channels(num_features: usize, input: &Shape) -> Result<()> {
    if input[1] != num_features {
        return Err(Error::shape(format!(
            "the input has {}, the layer expects {num_features}; input {input}",
            count(input[1], "channel")
        )));
    }
    Ok(())
}

fn eval(
    context: &Context<'_>,
    eps: f64,
    input: &Var,
    (mean, var): (&Var, &Var),
    affine: Option<&(Var, Var)>,
) -> Result<Var> {
    let op = ops::BatchNormEval { eps, activation: None };
    match affine {
        Some((weight, bias)) => context.tape().apply_single(op, &[input, mean, var, weight, bias]),
        None => context.tape().apply_single(op, &[input, mean, var]),
    }
}

#[cfg(test)]
mod tests {
    use neocog_autograd::Tape;

    use super::*;
    use crate::predictor::Predictor;

    #[test]
    fn without_running_statistics_shapes_need_no_batch_but_values_do() {
        let spec = BatchNorm1d { track_running_stats: false, ..BatchNorm1d::new(3) };
        for shape in [Shape::from([1, 3]), Shape::from([1, 3, 1])] {
            let layer = Builder::new(&Device::Cpu, 0).build(&spec.clone().into(), &shape).unwrap();
            let tape = Tape::no_grad();
            let run = |device| {
                let x = Var::constant(Tensor::zeros(shape, device).unwrap());
                Context::eval(&tape).run(&*layer, &x).map(|y| *y.shape())
            };
            assert_eq!(run(&Device::Meta).unwrap(), shape);
            let e = run(&Device::Cpu).unwrap_err();
            assert!(e.to_string().contains("more than 1 value per channel"), "{e}");
        }
        // A predictor for one image is the same error, not a graph with statistics of no data.
        let layer = Builder::new(&Device::Cpu, 0).build(&spec.into(), &Shape::from([1, 3])).unwrap();
        let predictor = Predictor::new(layer);
        assert!(predictor.run(&Tensor::zeros([1, 3], &Device::Cpu).unwrap()).is_err());
        assert!(predictor.run(&Tensor::zeros([2, 3], &Device::Cpu).unwrap()).is_ok());
    }
}
