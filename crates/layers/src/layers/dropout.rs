//! Dropout.

use neocog_autograd::Var;
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// In training, sets each element to 0 with probability `p` and divides the others by `1 - p`; the identity in evaluation.
/// N. Srivastava et al., "Dropout", JMLR 15 (2014).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability of an element to be set to 0.
    pub p: f64,
}

impl Spec for Dropout {
    const KIND: &'static str = "Dropout";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Error::invalid_argument(format!("p must be from 0 to 1, not {}", self.p)));
        }
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![Example::new(Dropout { p: 0.5 }, [2, 9]), Example::new(Dropout { p: 0.0 }, [2, 2, 3, 3])]
    }
}

register_layer!(Dropout);

impl Layer for Dropout {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!("p={:?}, inplace=False", self.p)
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        if !context.is_training() || self.p == 0.0 {
            return Ok(input.clone());
        }
        let (seed, offset) = context.draw();
        context.tape().apply_single(ops::Dropout { p: self.p, seed, offset }, &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}
