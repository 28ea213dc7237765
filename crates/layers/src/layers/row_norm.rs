//! Normalization of each image by itself: layer norm and group norm.
//!
//! Each group of elements is normalized with its mean and biased variance, in training and evaluation. This is the batch norm
//! of a tensor `[1, groups, elements]` by the statistics of the batch, and is computed as such.

use neocog_autograd::{Param, Tape, Var};
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::{python_bool, python_float};
use crate::builder::{Builder, Init};
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Layer normalization over the last axes, of `[.., normalized_shape]`. J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016.
///
/// Parameters: `weight` of shape `normalized_shape`, initially 1, and `bias`, initially 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Extents of the last axes.
    pub normalized_shape: Vec<usize>,
    /// Value added to the variance for numerical stability.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Whether to have a learnable weight and bias.
    #[serde(default = "yes")]
    pub elementwise_affine: bool,
}

/// Layer normalization over the channels of each pixel of `[n, c, h, w]`, as torchvision's `LayerNorm2d`.
///
/// Parameters: `weight` `[num_channels]`, initially 1, and `bias` `[num_channels]`, initially 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm2d {
    /// Number of channels.
    pub num_channels: usize,
    /// Value added to the variance for numerical stability.
    #[serde(default = "default_eps")]
    pub eps: f64,
}

/// Normalization over groups of channels of `[n, c, ..]`. Y. Wu, K. He, "Group normalization", ECCV 2018.
///
/// Parameters: `weight` `[num_channels]`, initially 1, and `bias` `[num_channels]`, initially 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Number of groups; it divides the number of channels.
    pub num_groups: usize,
    /// Number of channels.
    pub num_channels: usize,
    /// Value added to the variance for numerical stability.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Whether to have a learnable weight and bias.
    #[serde(default = "yes")]
    pub affine: bool,
}

fn default_eps() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

impl LayerNorm {
    /// Creates a spec for one axis, with PyTorch's defaults.
    pub fn new(features: usize) -> Self {
        LayerNorm { normalized_shape: vec![features], eps: default_eps(), elementwise_affine: true }
    }
}

impl GroupNorm {
    /// Creates a spec with PyTorch's defaults.
    pub fn new(num_groups: usize, num_channels: usize) -> Self {
        GroupNorm { num_groups, num_channels, eps: default_eps(), affine: true }
    }
}

impl Spec for LayerNorm {
    const KIND: &'static str = "LayerNorm";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if self.normalized_shape.is_empty() {
            return Err(Error::invalid_argument("normalized_shape must have at least one extent"));
        }
        check_eps(self.eps)?;
        let affine = affine(builder, self.elementwise_affine, &self.normalized_shape)?;
        Ok(Box::new(BuiltLayerNorm { spec: self.clone(), affine }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(LayerNorm::new(5), [3, 5]),
            Example::new(LayerNorm::new(4), [2, 2, 3, 4]),
            Example::new(LayerNorm { normalized_shape: vec![3, 2], ..LayerNorm::new(1) }, [4, 3, 2]),
            Example::new(LayerNorm { elementwise_affine: false, ..LayerNorm::new(6) }, [2, 6]),
        ]
    }
}

impl Spec for LayerNorm2d {
    const KIND: &'static str = "LayerNorm2d";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        check_eps(self.eps)?;
        let affine = affine(builder, true, &[self.num_channels])?;
        Ok(Box::new(BuiltLayerNorm2d { spec: self.clone(), affine }))
    }

    fn examples() -> Vec<Example> {
        vec![Example::new(LayerNorm2d { num_channels: 4, eps: 1e-6 }, [2, 4, 3, 2])]
    }
}

impl Spec for GroupNorm {
    const KIND: &'static str = "GroupNorm";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        let GroupNorm { num_groups, num_channels, .. } = *self;
        if num_groups == 0 || num_channels == 0 || !num_channels.is_multiple_of(num_groups) {
            return Err(Error::invalid_argument(format!(
                "num_groups = {num_groups} must divide num_channels = {num_channels}"
            )));
        }
        check_eps(self.eps)?;
        let affine = affine(builder, self.affine, &[num_channels])?;
        Ok(Box::new(BuiltGroupNorm { spec: self.clone(), affine }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(GroupNorm::new(2, 4), [2, 4, 2, 3]),
            Example::new(GroupNorm { affine: false, ..GroupNorm::new(1, 3) }, [2, 3, 4]),
        ]
    }
}

register_layer!(LayerNorm);
register_layer!(LayerNorm2d);
register_layer!(GroupNorm);

fn check_eps(eps: f64) -> Result<()> {
    if eps >= 0.0 && eps.is_finite() {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("eps must be finite and non-negative, not {eps}")))
}

/// A weight and a bias.
#[derive(Debug)]
struct Affine {
    weight: Param,
    bias: Param,
}

fn affine(builder: &Builder, wanted: bool, shape: &[usize]) -> Result<Option<Affine>> {
    if shape.contains(&0) {
        return Err(Error::invalid_argument(format!("the normalized extents {shape:?} must be at least 1")));
    }
    Ok(if wanted {
        let weight = builder.param("weight", shape, Init::Constant(1.0))?;
        Some(Affine { weight, bias: builder.param("bias", shape, Init::Constant(0.0))? })
    } else {
        None
    })
}

impl Affine {
    /// Applies weight and bias, reshaped to `shape`, with broadcasting.
    fn apply(&self, tape: &Tape, x: &Var, shape: &[usize]) -> Result<Var> {
        let parameter = |param: &Param| {
            let var = tape.param(param);
            if var.shape().extents() == shape {
                return Ok(var);
            }
            tape.apply_single(ops::Reshape { shape: Shape::new(shape)? }, &[&var])
        };
        let scaled = tape.apply_single(ops::Mul, &[x, &parameter(&self.weight)?])?;
        tape.apply_single(ops::Add, &[&scaled, &parameter(&self.bias)?])
    }
}

/// Normalizes each of `groups` groups of adjacent elements.
fn normalize(tape: &Tape, x: &Var, groups: usize, eps: f64) -> Result<Var> {
    if x.shape().elements() == 0 {
        return Ok(x.clone());
    }
    if x.shape().elements() == groups {
        // A single value is its own mean.
        return tape.apply_single(ops::Sub, &[x, x]);
    }
    let rows = Shape::new(&[1, groups, x.shape().elements() / groups])?;
    let flat = tape.apply_single(ops::Reshape { shape: rows }, &[x])?;
    let normalized = tape.apply(ops::BatchNormTrain { eps, activation: None }, &[&flat])?.remove(0);
    tape.apply_single(ops::Reshape { shape: *x.shape() }, &[&normalized])
}

fn visit<'a>(affine: &'a Option<Affine>, visitor: &mut dyn Visitor<'a>) {
    if let Some(Affine { weight, bias }) = affine {
        visitor.param("weight", weight);
        visitor.param("bias", bias);
    }
}

#[derive(Debug)]
struct BuiltLayerNorm {
    spec: LayerNorm,
    affine: Option<Affine>,
}

#[derive(Debug)]
struct BuiltLayerNorm2d {
    spec: LayerNorm2d,
    affine: Option<Affine>,
}

#[derive(Debug)]
struct BuiltGroupNorm {
    spec: GroupNorm,
    affine: Option<Affine>,
}

impl Layer for BuiltLayerNorm {
    fn label(&self) -> &str {
        LayerNorm::KIND
    }

    fn arguments(&self) -> String {
        let LayerNorm { normalized_shape, eps, elementwise_affine } = &self.spec;
        let mut extents: Vec<String> = normalized_shape.iter().map(usize::to_string).collect();
        if let [_] = extents[..] {
            // A tuple of one number in Python.
            extents.push(String::new());
        }
        let extents = extents.join(", ");
        format!(
            "({}), eps={}, elementwise_affine={}",
            extents.trim_end(),
            python_float(*eps),
            python_bool(*elementwise_affine)
        )
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let LayerNorm { normalized_shape, eps, .. } = &self.spec;
        let x = input.shape().extents();
        if !x.ends_with(normalized_shape) {
            return Err(Error::shape(format!(
                "the layer normalizes the last axes {normalized_shape:?}, but the input is {}",
                input.shape()
            )));
        }
        let groups: usize = x[..x.len() - normalized_shape.len()].iter().product();
        let tape = context.tape();
        let normalized = normalize(tape, input, groups, *eps)?;
        self.affine.as_ref().map_or(Ok(normalized.clone()), |a| a.apply(tape, &normalized, normalized_shape))
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visit(&self.affine, visitor);
    }
}

impl Layer for BuiltLayerNorm2d {
    fn label(&self) -> &str {
        LayerNorm2d::KIND
    }

    fn arguments(&self) -> String {
        let LayerNorm2d { num_channels, eps } = self.spec;
        format!("({num_channels},), eps={}, elementwise_affine=True", python_float(eps))
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let (tape, [n, c, h, w]) = (context.tape(), input.shape().nchw()?);
        let channels = self.spec.num_channels;
        if c != channels {
            return Err(Error::shape(format!(
                "the input has {c} channels, the layer expects {channels}; input {}",
                input.shape()
            )));
        }
        let last = tape.apply_single(ops::Permute::new(&[0, 2, 3, 1]), &[input])?;
        let normalized = normalize(tape, &last, n * h * w, self.spec.eps)?;
        let scaled = match &self.affine {
            Some(affine) => affine.apply(tape, &normalized, &[c])?,
            None => normalized,
        };
        tape.apply_single(ops::Permute::new(&[0, 3, 1, 2]), &[&scaled])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visit(&self.affine, visitor);
    }
}

impl Layer for BuiltGroupNorm {
    fn label(&self) -> &str {
        GroupNorm::KIND
    }

    fn arguments(&self) -> String {
        let GroupNorm { num_groups, num_channels, eps, affine } = self.spec;
        format!("{num_groups}, {num_channels}, eps={}, affine={}", python_float(eps), python_bool(affine))
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let GroupNorm { num_groups, num_channels, eps, .. } = self.spec;
        let x = input.shape();
        if x.rank() < 2 || x[1] != num_channels {
            return Err(Error::shape(format!("expected an input [n, {num_channels}, ..], found {x}")));
        }
        let tape = context.tape();
        let normalized = normalize(tape, input, x[0] * num_groups, eps)?;
        let mut shape = vec![1; x.rank() - 1];
        shape[0] = num_channels;
        self.affine.as_ref().map_or(Ok(normalized.clone()), |a| a.apply(tape, &normalized, &shape))
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visit(&self.affine, visitor);
    }
}
