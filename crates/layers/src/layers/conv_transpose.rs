//! Transposed convolution.

use neocog_autograd::{Param, Var};
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::pair;
use crate::builder::{Builder, Init};
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// The gradient of a convolution with respect to its input, as a layer: `[n, in_channels, h, w]` to `[n, out_channels, oh, ow]` with
/// `oh = (h - 1) · stride - 2 · padding + dilation · (kernel_size - 1) + output_padding + 1`. V. Dumoulin, F. Visin, "A guide to
/// convolution arithmetic for deep learning", 2016.
///
/// Parameters: `weight` `[in_channels, out_channels / groups, kh, kw]` and `bias` `[out_channels]`, both initialized uniformly in
/// ±1/√fan_in, with fan_in = out_channels / groups · kh · kw, as in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose2d {
    /// Number of input channels.
    pub in_channels: usize,
    /// Number of output channels.
    pub out_channels: usize,
    /// Height and width of the kernel.
    #[serde(with = "pair")]
    pub kernel_size: [usize; 2],
    /// Stride of the convolution.
    #[serde(with = "pair", default = "ones")]
    pub stride: [usize; 2],
    /// Padding of the convolution: as many pixels are removed on each side.
    #[serde(with = "pair", default)]
    pub padding: [usize; 2],
    /// Pixels added at the end of both axes; less than the stride or the dilation.
    #[serde(with = "pair", default)]
    pub output_padding: [usize; 2],
    /// Distance between the elements of the kernel.
    #[serde(with = "pair", default = "ones")]
    pub dilation: [usize; 2],
    /// Number of groups of channels that are convolved separately.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether to add a bias.
    #[serde(default = "yes")]
    pub bias: bool,
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

impl ConvTranspose2d {
    /// Creates a spec with a square kernel, the same stride on both axes, no padding, and bias.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize, stride: usize) -> Self {
        ConvTranspose2d {
            in_channels,
            out_channels,
            kernel_size: [kernel_size; 2],
            stride: [stride; 2],
            padding: [0, 0],
            output_padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            bias: true,
        }
    }

    /// Returns the size of the output for an image of `input` pixels.
    fn output_size(&self, input: [usize; 2]) -> Result<[usize; 2]> {
        let along = |axis: usize| {
            let steps = input[axis].checked_sub(1)?.checked_mul(self.stride[axis])?;
            let reach = self.dilation[axis].checked_mul(self.kernel_size[axis] - 1)?;
            let all = steps.checked_add(reach)?.checked_add(self.output_padding[axis])?.checked_add(1)?;
            all.checked_sub(self.padding[axis].checked_mul(2)?).filter(|size| *size > 0)
        };
        match [along(0), along(1)] {
            [Some(h), Some(w)] => Ok([h, w]),
            _ => Err(Error::shape(format!(
                "the output for images of {} x {} pixels would be empty or too large",
                input[0], input[1]
            ))),
        }
    }
}

impl Spec for ConvTranspose2d {
    const KIND: &'static str = "ConvTranspose2d";

    fn build(&self, builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        let ConvTranspose2d { in_channels, out_channels, groups, kernel_size: [kh, kw], .. } = *self;
        if [in_channels, out_channels, kh, kw].contains(&0)
            || self.stride.contains(&0)
            || self.dilation.contains(&0)
        {
            return Err(Error::invalid_argument(
                "in_channels, out_channels, kernel_size, stride and dilation must be at least 1",
            ));
        }
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            return Err(Error::invalid_argument(format!(
                "groups = {groups} must divide in_channels = {in_channels} and out_channels = {out_channels}"
            )));
        }
        if (0..2).any(|axis| self.output_padding[axis] >= self.stride[axis].max(self.dilation[axis])) {
            return Err(Error::invalid_argument(format!(
                "output_padding {} must be less than stride {} or dilation {}",
                pair::long(self.output_padding),
                pair::long(self.stride),
                pair::long(self.dilation)
            )));
        }
        let fan_in = (out_channels / groups) as f64 * kh as f64 * kw as f64;
        let init = Init::Uniform { bound: 1.0 / fan_in.sqrt() };
        let weight = builder.param("weight", &[in_channels, out_channels / groups, kh, kw], init)?;
        let bias = if self.bias { Some(builder.param("bias", &[out_channels], init)?) } else { None };
        Ok(Box::new(Built { spec: self.clone(), weight, bias }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(ConvTranspose2d::new(2, 3, 2, 2), [2, 2, 3, 4]),
            Example::new(
                ConvTranspose2d {
                    padding: [1, 1],
                    output_padding: [1, 1],
                    bias: false,
                    ..ConvTranspose2d::new(3, 2, 3, 2)
                },
                [1, 3, 3, 2],
            ),
            Example::new(
                ConvTranspose2d {
                    kernel_size: [3, 2],
                    dilation: [2, 1],
                    groups: 2,
                    ..ConvTranspose2d::new(4, 2, 1, 1)
                },
                [2, 4, 2, 3],
            ),
        ]
    }
}

register_layer!(ConvTranspose2d);

#[derive(Debug)]
struct Built {
    spec: ConvTranspose2d,
    weight: Param,
    bias: Option<Param>,
}

impl Layer for Built {
    fn label(&self) -> &str {
        ConvTranspose2d::KIND
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
        for (name, value, default) in [
            ("padding", s.padding, [0, 0]),
            ("dilation", s.dilation, [1, 1]),
            ("output_padding", s.output_padding, [0, 0]),
        ] {
            if value != default {
                text += &format!(", {name}={}", pair::long(value));
            }
        }
        if s.groups != 1 {
            text += &format!(", groups={}", s.groups);
        }
        if !s.bias {
            text += ", bias=False";
        }
        text
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let (tape, [_, c, h, w]) = (context.tape(), input.shape().nchw()?);
        let ConvTranspose2d { in_channels, stride, padding, dilation, groups, .. } = self.spec;
        if c != in_channels {
            return Err(Error::shape(format!(
                "the input has {c} channels, the layer expects {in_channels}; input {}",
                input.shape()
            )));
        }
        let geometry = ops::Conv2dGeometry { stride, padding, dilation, groups, flip: false };
        let op = ops::Conv2dInputGrad { geometry, input_size: self.spec.output_size([h, w])? };
        let output = tape.apply_single(op, &[input, &tape.param(&self.weight)])?;
        let Some(bias) = &self.bias else { return Ok(output) };
        let shape = Shape::new(&[self.spec.out_channels, 1, 1])?;
        let bias = tape.apply_single(ops::Reshape { shape }, &[&tape.param(bias)])?;
        tape.apply_single(ops::Add, &[&output, &bias])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.param("bias", bias);
        }
    }
}
