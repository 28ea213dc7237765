//! The fully connected layer.

use neocog_autograd::{Param, Var};
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::python_bool;
use crate::builder::{Builder, Init};
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// `y = x · weightᵀ + bias`, `[.., in_features]` to `[.., out_features]`.
///
/// Parameters: `weight` `[out_features, in_features]` and `bias` `[out_features]`, both initialized uniformly in
/// ±1/√in_features, as in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Size of the last axis of the input.
    pub in_features: usize,
    /// Size of the last axis of the output.
    pub out_features: usize,
    /// Whether to add a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

fn yes() -> bool {
    true
}

impl Linear {
    /// Creates a spec with bias.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        Linear { in_features, out_features, bias: true }
    }
}

impl Spec for Linear {
    const KIND: &'static str = "Linear";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if self.in_features == 0 || self.out_features == 0 {
            return Err(Error::invalid_argument("in_features and out_features must be at least 1"));
        }
        let init = Init::Uniform { bound: 1.0 / (self.in_features as f64).sqrt() };
        let weight = builder.param("weight", &[self.out_features, self.in_features], init)?;
        let bias = if self.bias { Some(builder.param("bias", &[self.out_features], init)?) } else { None };
        Ok(Box::new(Built { spec: self.clone(), weight, bias }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(Linear::new(3, 4), [2, 3]),
            Example::new(Linear { bias: false, ..Linear::new(5, 2) }, [3, 5]),
            Example::new(Linear::new(2, 3), [2, 2, 2]),
        ]
    }
}

register_layer!(Linear);

#[derive(Debug)]
struct Built {
    spec: Linear,
    weight: Param,
    bias: Option<Param>,
}

impl Layer for Built {
    fn label(&self) -> &str {
        Linear::KIND
    }

    fn arguments(&self) -> String {
        let Linear { in_features, out_features, bias } = self.spec;
        format!("in_features={in_features}, out_features={out_features}, bias={}", python_bool(bias))
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let op = ops::Linear { activation: None };
        let tape = context.tape();
        let weight = tape.param(&self.weight);
        match &self.bias {
            Some(bias) => tape.apply_single(op, &[input, &weight, &tape.param(bias)]),
            None => tape.apply_single(op, &[input, &weight]),
        }
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.param("bias", bias);
        }
    }
}
