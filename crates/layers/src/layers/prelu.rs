//! Layers that scale by a parameter: PReLU and LayerScale.

use neocog_autograd::{Param, Var};
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use crate::builder::{Builder, Init};
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// `x` if `x > 0`, else `weight · x`, with one weight or one for each channel (axis 1). K. He et al., "Delving deep into
/// rectifiers", ICCV 2015.
///
/// Parameter: `weight` `[num_parameters]`, initially `init`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PReLU {
    /// 1, or the number of channels.
    pub num_parameters: usize,
    /// Initial value.
    pub init: f64,
}

/// Multiplies each channel of `[n, c, ..]` by a parameter. H. Touvron et al., "Going deeper with image transformers", ICCV 2021.
///
/// Parameter: `layer_scale` `[channels, 1, 1]`, initially `init`, as in torchvision's ConvNeXt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScale {
    /// Number of channels.
    pub channels: usize,
    /// Initial value.
    pub init: f64,
}

impl Default for PReLU {
    /// One weight, initially 0.25.
    fn default() -> Self {
        PReLU { num_parameters: 1, init: 0.25 }
    }
}

impl Spec for PReLU {
    const KIND: &'static str = "PReLU";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if self.num_parameters == 0 {
            return Err(Error::invalid_argument("num_parameters must be at least 1"));
        }
        let weight = builder.param("weight", &[self.num_parameters], Init::Constant(self.init))?;
        Ok(Box::new(BuiltPReLU { weight }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(PReLU::default(), [2, 3, 2, 3]),
            Example::new(PReLU { num_parameters: 3, init: 0.1 }, [2, 3, 2, 2]),
            Example::new(PReLU { num_parameters: 4, init: 0.1 }, [3, 4]),
        ]
    }
}

impl Spec for LayerScale {
    const KIND: &'static str = "LayerScale";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if self.channels == 0 {
            return Err(Error::invalid_argument("channels must be at least 1"));
        }
        let weight = builder.param("layer_scale", &[self.channels, 1, 1], Init::Constant(self.init))?;
        Ok(Box::new(BuiltLayerScale { weight }))
    }

    fn examples() -> Vec<Example> {
        vec![Example::new(LayerScale { channels: 3, init: 0.5 }, [2, 3, 2, 2])]
    }
}

register_layer!(PReLU);
register_layer!(LayerScale);

#[derive(Debug)]
struct BuiltPReLU {
    weight: Param,
}

#[derive(Debug)]
struct BuiltLayerScale {
    weight: Param,
}

impl Layer for BuiltPReLU {
    fn label(&self) -> &str {
        PReLU::KIND
    }

    fn arguments(&self) -> String {
        format!("num_parameters={}", self.weight.shape()[0])
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let (tape, weight) = (context.tape(), context.tape().param(&self.weight));
        let (count, shape) = (weight.shape()[0], input.shape());
        if count == 1 {
            return tape.apply_single(ops::PRelu, &[input, &weight]);
        }
        if shape.rank() < 2 || shape[1] != count {
            return Err(Error::shape(format!(
                "the layer has {count} weights, one for each channel, but the input is {shape}"
            )));
        }
        let mut extents = vec![1; shape.rank() - 1];
        extents[0] = count;
        let weight = tape.apply_single(ops::Reshape { shape: Shape::new(&extents)? }, &[&weight])?;
        tape.apply_single(ops::PRelu, &[input, &weight])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("weight", &self.weight);
    }
}

impl Layer for BuiltLayerScale {
    fn label(&self) -> &str {
        LayerScale::KIND
    }

    fn arguments(&self) -> String {
        self.weight.shape()[0].to_string()
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let (channels, [_, c, ..]) = (self.weight.shape()[0], input.shape().nchw()?);
        if c != channels {
            return Err(Error::shape(format!(
                "the input has {c} channels, the layer expects {channels}; input {}",
                input.shape()
            )));
        }
        context.tape().apply_single(ops::Mul, &[input, &context.tape().param(&self.weight)])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("layer_scale", &self.weight);
    }
}
