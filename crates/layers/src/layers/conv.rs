//! Convolution.

use neocog_autograd::{Param, Var};
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::pair;
use crate::builder::{Builder, Init};
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Two-dimensional convolution (cross-correlation), `[n, in_channels, h, w]` to `[n, out_channels, oh, ow]`.
///
/// Parameters: `weight` `[out_channels, in_channels / groups, kh, kw]` and `bias` `[out_channels]`, both initialized uniformly in
/// ±1/√fan_in, with fan_in = in_channels / groups · kh · kw, as in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Number of input channels.
    pub in_channels: usize,
    /// Number of output channels.
    pub out_channels: usize,
    /// Height and width of the kernel.
    #[serde(with = "pair")]
    pub kernel_size: [usize; 2],
    /// Stride of the kernel.
    #[serde(with = "pair", default = "ones")]
    pub stride: [usize; 2],
    /// Zero padding on each side.
    #[serde(with = "pair", default)]
    pub padding: [usize; 2],
    /// Distance between the elements of the kernel.
    #[serde(with = "pair", default = "ones")]
    pub dilation: [usize; 2],
    /// Number of groups of channels that are convolved separately.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether to add a bias.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether to flip the kernel on both axes: a convolution in the mathematical sense instead of a cross-correlation.
    #[serde(default)]
    pub flip: bool,
}

fn ones() -> [usize; 2] {
    [1, 1]
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl Conv2d {
    /// Creates a spec with a square kernel, stride 1, no padding, and bias.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> Self {
        Conv2d {
            in_channels,
            out_channels,
            kernel_size: [kernel_size; 2],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            bias: true,
            flip: false,
        }
    }

    /// Sets the stride of both axes.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 2];
        self
    }

    /// Sets the padding of all sides.
    #[must_use]
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding; 2];
        self
    }
}

impl Spec for Conv2d {
    const KIND: &'static str = "Conv2d";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        let Conv2d { in_channels, out_channels, groups, kernel_size: [kh, kw], .. } = *self;
        if in_channels == 0 || out_channels == 0 || kh == 0 || kw == 0 {
            return Err(Error::invalid_argument(
                "in_channels, out_channels and kernel_size must be at least 1",
            ));
        }
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            return Err(Error::invalid_argument(format!(
                "groups = {groups} must divide in_channels = {in_channels} and out_channels = {out_channels}"
            )));
        }
        let fan_in = (in_channels / groups) as f64 * kh as f64 * kw as f64;
        let bound = 1.0 / fan_in.sqrt();
        let weight = builder.param(
            "weight",
            &[out_channels, in_channels / groups, kh, kw],
            Init::Uniform { bound },
        )?;
        let bias = if self.bias {
            Some(builder.param("bias", &[out_channels], Init::Uniform { bound })?)
        } else {
            None
        };
        Ok(Box::new(Built { spec: self.clone(), weight, bias }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(Conv2d::new(1, 2, 3), [2, 1, 5, 6]),
            Example::new(Conv2d::new(2, 3, 3).padding(1).stride(2), [2, 2, 5, 5]),
            Example::new(Conv2d { groups: 2, bias: false, ..Conv2d::new(4, 2, 1) }, [1, 4, 3, 3]),
            Example::new(
                Conv2d { kernel_size: [1, 3], dilation: [1, 2], flip: true, ..Conv2d::new(2, 2, 1) },
                [2, 2, 3, 7],
            ),
        ]
    }
}

register_layer!(Conv2d);

#[derive(Debug)]
struct Built {
    spec: Conv2d,
    weight: Param,
    bias: Option<Param>,
}

impl Layer for Built {
    fn label(&self) -> &str {
        Conv2d::KIND
    }

    fn arguments(&self) -> String {
        let s = &self.spec;
        let mut text = format!(
            "{}, {}, kernel_size={}, stride={}",
            s.in_channels,
            s.out_channels,
            pair::long(s.kernel_size),
            pair::long(s.stride)
        );
        if s.padding != [0, 0] {
            text += &format!(", padding={}", pair::long(s.padding));
        }
        if s.dilation != [1, 1] {
            text += &format!(", dilation={}", pair::long(s.dilation));
        }
        if s.groups != 1 {
            text += &format!(", groups={}", s.groups);
        }
        if !s.bias {
            text += ", bias=False";
        }
        if s.flip {
            text += ", flip=True";
        }
        text
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let Conv2d { stride, padding, dilation, groups, flip, .. } = self.spec;
        let op = ops::Conv2d { stride, padding, dilation, groups, flip, activation: None };
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
