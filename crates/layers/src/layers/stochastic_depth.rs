//! Stochastic depth.

use neocog_autograd::Var;
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// In training, sets images to 0 with probability `p` and divides the others by `1 - p`; the identity in evaluation. As
/// torchvision's `StochasticDepth`, for residual branches. G. Huang et al., "Deep networks with stochastic depth", ECCV 2016.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StochasticDepth {
    /// Probability of an image to be set to 0.
    pub p: f64,
    /// What is dropped at once.
    #[serde(default)]
    pub mode: StochasticDepthMode,
}

/// What [`StochasticDepth`] drops at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StochasticDepthMode {
    /// Each image.
    #[default]
    Row,
    /// The whole batch.
    Batch,
}

impl StochasticDepth {
    /// Creates a spec that drops each image with probability `p`.
    pub fn rows(p: f64) -> Self {
        StochasticDepth { p, mode: StochasticDepthMode::Row }
    }
}

impl Spec for StochasticDepth {
    const KIND: &'static str = "StochasticDepth";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Error::invalid_argument(format!("p must be from 0 to 1, not {}", self.p)));
        }
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(StochasticDepth::rows(0.5), [5, 2, 2, 2]),
            Example::new(StochasticDepth::rows(0.0), [2, 3]),
            Example::new(StochasticDepth { p: 0.5, mode: StochasticDepthMode::Batch }, [2, 3, 2, 2]),
        ]
    }
}

register_layer!(StochasticDepth);

impl Layer for StochasticDepth {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        let mode = match self.mode {
            StochasticDepthMode::Row => "row",
            StochasticDepthMode::Batch => "batch",
        };
        format!("p={:?}, mode={mode}", self.p)
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        if !context.is_training() || self.p == 0.0 {
            return Ok(input.clone());
        }
        let (seed, offset) = context.draw();
        let dropout = ops::Dropout { p: self.p, seed, offset };
        let each_image = self.mode == StochasticDepthMode::Row;
        context.tape().apply_single(ops::StochasticDepth { dropout, each_image }, &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}
