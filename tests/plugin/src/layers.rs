//! Two layers: one of an operation of this crate, one composed of layers and operations of neocog.

use neocog_autograd::Var;
use neocog_layers::{Builder, Context, Example, Layer, Linear, Spec, Visitor, register_layer};
use neocog_tensor::ops::{Flatten, GlobalAvgPool2d, Mul, Relu, Reshape, Sigmoid};
use neocog_tensor::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

use crate::ops;

/// Rearranges blocks of pixels to channels, `[n, c, h, w]` to `[n, c·r², h/r, w/r]`. Without parameters, the spec is the layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelUnshuffle {
    /// Side `r` of a block in pixels.
    pub downscale_factor: usize,
}

impl Spec for PixelUnshuffle {
    const KIND: &'static str = "PixelUnshuffle";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(PixelUnshuffle { downscale_factor: 2 }, [2, 2, 4, 6]),
            Example::new(PixelUnshuffle { downscale_factor: 3 }, [1, 1, 3, 3]),
        ]
    }
}

register_layer!(PixelUnshuffle);

impl Layer for PixelUnshuffle {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!("downscale_factor={}", self.downscale_factor)
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let op = ops::PixelUnshuffle { downscale_factor: self.downscale_factor };
        context.tape().apply_single(op, &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

/// Scales each channel by a factor that depends on the means of all channels, `[n, c, h, w]` to `[n, c, h, w]`:
/// `x · sigmoid(fc2(relu(fc1(mean(x)))))`. J. Hu, L. Shen, G. Sun, "Squeeze-and-excitation networks", CVPR 2018.
///
/// Parameters: those of the linear layers `fc1`, from c to c / reduction features, and `fc2`, back to c.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqueezeExcitation {
    /// Number of channels `c`.
    pub channels: usize,
    /// Reduction factor of the number of channels in `fc1`.
    #[serde(default = "sixteen")]
    pub reduction: usize,
}

fn sixteen() -> usize {
    16
}

impl Spec for SqueezeExcitation {
    const KIND: &'static str = "SqueezeExcitation";

    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        let SqueezeExcitation { channels, reduction } = *self;
        if reduction == 0 || channels / reduction.max(1) == 0 {
            return Err(Error::invalid_argument(format!(
                "reduction must be from 1 to the number of channels, {channels}, not {reduction}"
            )));
        }
        // `child` names the parameters `fc1.weight`, ..., and adds the name to the path of errors.
        let n = input.first().copied().unwrap_or(1);
        let hidden = channels / reduction;
        let (fc1, _) =
            builder.child(Some("fc1"), &Linear::new(channels, hidden).into(), &[n, channels].into())?;
        let (fc2, _) =
            builder.child(Some("fc2"), &Linear::new(hidden, channels).into(), &[n, hidden].into())?;
        Ok(Box::new(Built { fc1, fc2 }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(SqueezeExcitation { channels: 4, reduction: 2 }, [2, 4, 3, 2]),
            Example::new(SqueezeExcitation { channels: 3, reduction: 1 }, [1, 3, 2, 2]),
        ]
    }
}

register_layer!(SqueezeExcitation);

#[derive(Debug)]
struct Built {
    fc1: Box<dyn Layer>,
    fc2: Box<dyn Layer>,
}

impl Layer for Built {
    fn label(&self) -> &str {
        SqueezeExcitation::KIND
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let tape = context.tape();
        let [n, c, _, _] = input.shape().nchw()?;
        let mean = tape.apply_single(GlobalAvgPool2d, &[input])?;
        let mean = tape.apply_single(Flatten { start_dim: 1, end_dim: -1 }, &[&mean])?;
        let hidden = tape.apply_single(Relu, &[&context.child(Some("fc1"), &*self.fc1, &mean)?])?;
        let factor = tape.apply_single(Sigmoid, &[&context.child(Some("fc2"), &*self.fc2, &hidden)?])?;
        let factor = tape.apply_single(Reshape { shape: [n, c, 1, 1].into() }, &[&factor])?;
        tape.apply_single(Mul, &[input, &factor])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.child(Some("fc1"), &*self.fc1);
        visitor.child(Some("fc2"), &*self.fc2);
    }
}
