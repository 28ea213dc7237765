//! Layers that move elements: permutation of axes, shuffled channels, a range of an axis.

use neocog_autograd::Var;
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Reorders the axes: axis `i` of the output is axis `dims[i]` of the input. As torchvision's `Permute`, prints no arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// For each axis of the output, the axis of the input.
    pub dims: Vec<usize>,
}

/// Interleaves the channels of `groups` groups, as PyTorch's `ChannelShuffle`: channel `j · groups + i` of the output is channel `j`
/// of group `i`. X. Zhang et al., "ShuffleNet", CVPR 2018.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelShuffle {
    /// Number of groups; it divides the number of channels.
    pub groups: usize,
}

/// The range `start .. start + length` of an axis, as PyTorch's `narrow`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrow {
    /// The axis; negative values count from the last.
    pub dim: isize,
    /// First position.
    pub start: usize,
    /// Number of positions.
    pub length: usize,
}

impl Spec for Permute {
    const KIND: &'static str = "Permute";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![Example::new(Permute { dims: vec![0, 2, 3, 1] }, [2, 3, 2, 4])]
    }
}

impl Spec for ChannelShuffle {
    const KIND: &'static str = "ChannelShuffle";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(ChannelShuffle { groups: 2 }, [2, 6, 2, 3]),
            Example::new(ChannelShuffle { groups: 3 }, [1, 6, 1, 2]),
        ]
    }
}

impl Spec for Narrow {
    const KIND: &'static str = "Narrow";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![Example::new(Narrow { dim: 1, start: 1, length: 2 }, [2, 4, 2, 3])]
    }
}

register_layer!(Permute);
register_layer!(ChannelShuffle);
register_layer!(Narrow);

impl Layer for Permute {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        context.tape().apply_single(ops::Permute::new(&self.dims), &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl Layer for ChannelShuffle {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!("groups={}", self.groups)
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let (tape, [n, c, h, w]) = (context.tape(), input.shape().nchw()?);
        if self.groups == 0 || !c.is_multiple_of(self.groups) {
            return Err(Error::shape(format!(
                "groups = {} must divide the {c} channels of the input",
                self.groups
            )));
        }
        let grouped = Shape::new(&[n, self.groups, c / self.groups, h, w])?;
        let grouped = tape.apply_single(ops::Reshape { shape: grouped }, &[input])?;
        let shuffled = tape.apply_single(ops::Permute::new(&[0, 2, 1, 3, 4]), &[&grouped])?;
        tape.apply_single(ops::Reshape { shape: *input.shape() }, &[&shuffled])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl Layer for Narrow {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!("dim={}, start={}, length={}", self.dim, self.start, self.length)
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let op = ops::Narrow { dim: self.dim, start: self.start, len: self.length };
        context.tape().apply_single(op, &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}
