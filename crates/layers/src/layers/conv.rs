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
#[serde(from = "Stored", into = "Stored")]
pub struct Conv2d {
    /// Number of input channels.
    pub in_channels: usize,
    /// Number of output channels.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Stride of the kernel.
    pub stride: [usize; 2],
    /// Zero padding on each side.
    pub padding: [usize; 2],
    /// Whether the output has the size of the input, as PyTorch's `padding='same'`, which is also how JSON has it. For stride 1; an odd
    /// number of zeros has one more after the image than before. `padding` is 0 then.
    pub same_padding: bool,
    /// Distance between the elements of the kernel.
    pub dilation: [usize; 2],
    /// Number of groups of channels that are convolved separately.
    pub groups: usize,
    /// Whether to add a bias.
    pub bias: bool,
    /// Whether to flip the kernel on both axes: a convolution in the mathematical sense instead of a cross-correlation.
    pub flip: bool,
}

/// The fields as they are stored: `padding` is a number, a pair, `"same"` or `"valid"`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "Conv2d")]
struct Stored {
    in_channels: usize,
    out_channels: usize,
    #[serde(with = "pair")]
    kernel_size: [usize; 2],
    #[serde(with = "pair", default = "ones")]
    stride: [usize; 2],
    #[serde(default)]
    padding: Padding,
    #[serde(with = "pair", default = "ones")]
    dilation: [usize; 2],
    #[serde(default = "one")]
    groups: usize,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(default)]
    flip: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a non-negative integer or a pair of them, or \"same\" or \"valid\"")]
enum Padding {
    Pixels(#[serde(with = "pair")] [usize; 2]),
    Named(NamedPadding),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NamedPadding {
    Same,
    Valid,
}

impl Default for Padding {
    fn default() -> Self {
        Padding::Pixels([0, 0])
    }
}

impl From<Stored> for Conv2d {
    fn from(stored: Stored) -> Self {
        let Stored { in_channels, out_channels, kernel_size, stride, dilation, groups, bias, flip, .. } =
            stored;
        let (padding, same_padding) = match stored.padding {
            Padding::Pixels(padding) => (padding, false),
            Padding::Named(NamedPadding::Valid) => ([0, 0], false),
            Padding::Named(NamedPadding::Same) => ([0, 0], true),
        };
        Conv2d {
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            same_padding,
            dilation,
            groups,
            bias,
            flip,
        }
    }
}

impl From<Conv2d> for Stored {
    fn from(spec: Conv2d) -> Self {
        let Conv2d { in_channels, out_channels, kernel_size, stride, dilation, groups, bias, flip, .. } =
            spec;
        let padding = match spec.same_padding {
            true => Padding::Named(NamedPadding::Same),
            false => Padding::Pixels(spec.padding),
        };
        Stored { in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, flip }
    }
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
            same_padding: false,
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

    /// Sets the number of groups of channels; `in_channels` groups are a depthwise convolution.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Removes the bias.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// Pads so that the output has the size of the input; see [`Conv2d::same_padding`].
    #[must_use]
    pub fn padding_same(mut self) -> Self {
        self.same_padding = true;
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
        if self.same_padding && (self.stride != [1, 1] || self.padding != [0, 0]) {
            return Err(Error::invalid_argument(
                "padding \"same\" is for stride 1, and in place of other padding",
            ));
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
            Example::new(Conv2d::new(4, 4, 3).padding(1).groups(4), [2, 4, 4, 3]),
            Example::new(
                Conv2d { kernel_size: [2, 3], dilation: [1, 2], ..Conv2d::new(2, 2, 1).padding_same() },
                [2, 2, 4, 5],
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
        if s.same_padding {
            text += ", padding=same";
        } else if s.padding != [0, 0] {
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
        let Conv2d { stride, mut padding, dilation, groups, flip, kernel_size, same_padding, .. } = self.spec;
        let tape = context.tape();
        // One row or column too many before the image, which the output must not have.
        let mut excess = [0, 0];
        if same_padding {
            for axis in 0..2 {
                let total = dilation[axis].saturating_mul(kernel_size[axis] - 1);
                padding[axis] = total.div_ceil(2);
                excess[axis] = total % 2;
            }
        }
        let op = ops::Conv2d { stride, padding, dilation, groups, flip, activation: None };
        let weight = tape.param(&self.weight);
        let mut output = match &self.bias {
            Some(bias) => tape.apply_single(op, &[input, &weight, &tape.param(bias)]),
            None => tape.apply_single(op, &[input, &weight]),
        }?;
        for (axis, start) in excess.into_iter().enumerate().filter(|(_, excess)| *excess > 0) {
            let len = input.shape()[axis + 2];
            output = tape.apply_single(ops::Narrow { dim: axis as isize + 2, start, len }, &[&output])?;
        }
        Ok(output)
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.param("bias", bias);
        }
    }
}
