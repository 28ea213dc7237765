//! Pooling.

use neocog_autograd::Var;
use neocog_tensor::{Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::{pair, python_bool};
use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Maximum of each window, `[n, c, h, w]` to `[n, c, oh, ow]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool2d {
    /// Height and width of the window.
    #[serde(with = "pair")]
    pub kernel_size: [usize; 2],
    /// Stride of the window; its size if absent.
    #[serde(with = "pair::option", default)]
    pub stride: Option<[usize; 2]>,
    /// Padding on each side with negative infinity; at most half of the window.
    #[serde(with = "pair", default)]
    pub padding: [usize; 2],
    /// Distance between the elements of the window.
    #[serde(with = "pair", default = "ones")]
    pub dilation: [usize; 2],
    /// Whether to round the size of the output up instead of down.
    #[serde(default)]
    pub ceil_mode: bool,
}

/// Mean of each window, `[n, c, h, w]` to `[n, c, oh, ow]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
    /// Height and width of the window.
    #[serde(with = "pair")]
    pub kernel_size: [usize; 2],
    /// Stride of the window; its size if absent.
    #[serde(with = "pair::option", default)]
    pub stride: Option<[usize; 2]>,
    /// Zero padding on each side.
    #[serde(with = "pair", default)]
    pub padding: [usize; 2],
    /// Whether to round the size of the output up instead of down.
    #[serde(default)]
    pub ceil_mode: bool,
    /// Whether the mean includes the padding.
    #[serde(default = "yes")]
    pub count_include_pad: bool,
    /// Divisor of the sum instead of the size of the window.
    #[serde(default)]
    pub divisor_override: Option<usize>,
}

/// Mean of each channel, `[n, c, h, w]` to `[n, c, 1, 1]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool2d {}

fn ones() -> [usize; 2] {
    [1, 1]
}

fn yes() -> bool {
    true
}

impl MaxPool2d {
    /// Creates a spec with a square window.
    pub fn new(kernel_size: usize, stride: usize) -> Self {
        MaxPool2d {
            kernel_size: [kernel_size; 2],
            stride: Some([stride; 2]),
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
        }
    }

    /// Sets the padding of all sides.
    #[must_use]
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding; 2];
        self
    }
}

impl AvgPool2d {
    /// Creates a spec with a square window.
    pub fn new(kernel_size: usize, stride: usize) -> Self {
        AvgPool2d {
            kernel_size: [kernel_size; 2],
            stride: Some([stride; 2]),
            padding: [0, 0],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }
}

/// Layers without learnable parameters: the spec is the layer.
macro_rules! pool {
    ($name:ident, $kind:literal, [$($example:expr),*]) => {
        impl Spec for $name {
            const KIND: &'static str = $kind;

            fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
                Ok(Box::new(self.clone()))
            }

            fn examples() -> Vec<Example> {
                vec![$($example),*]
            }
        }

        register_layer!($name);
    };
}

pool!(
    MaxPool2d,
    "MaxPool2d",
    [
        Example::new(MaxPool2d::new(2, 2), [2, 2, 4, 6]),
        Example::new(MaxPool2d::new(3, 2).padding(1), [1, 2, 5, 5]),
        Example::new(MaxPool2d { dilation: [2, 1], ceil_mode: true, ..MaxPool2d::new(2, 1) }, [1, 1, 5, 4])
    ]
);
pool!(
    AvgPool2d,
    "AvgPool2d",
    [
        Example::new(AvgPool2d::new(2, 2), [2, 2, 4, 6]),
        Example::new(
            AvgPool2d { padding: [1, 1], count_include_pad: false, ceil_mode: true, ..AvgPool2d::new(3, 2) },
            [1, 2, 6, 5]
        ),
        Example::new(AvgPool2d { divisor_override: Some(3), ..AvgPool2d::new(2, 1) }, [1, 1, 3, 3])
    ]
);
pool!(GlobalAvgPool2d, "GlobalAvgPool2d", [Example::new(GlobalAvgPool2d {}, [2, 3, 2, 4])]);

impl Layer for MaxPool2d {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!(
            "kernel_size={}, stride={}, padding={}, dilation={}, ceil_mode={}",
            pair::short(self.kernel_size),
            pair::short(self.stride.unwrap_or(self.kernel_size)),
            pair::short(self.padding),
            pair::short(self.dilation),
            python_bool(self.ceil_mode)
        )
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let op = ops::MaxPool2d {
            kernel_size: self.kernel_size,
            stride: self.stride.unwrap_or(self.kernel_size),
            padding: self.padding,
            dilation: self.dilation,
            ceil_mode: self.ceil_mode,
            // The indices of the maxima are needed for the gradient only.
            return_indices: context.tape().is_recording(),
        };
        Ok(context.tape().apply(op, &[input])?.remove(0))
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl Layer for AvgPool2d {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!(
            "kernel_size={}, stride={}, padding={}",
            pair::short(self.kernel_size),
            pair::short(self.stride.unwrap_or(self.kernel_size)),
            pair::short(self.padding)
        )
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let op = ops::AvgPool2d {
            kernel_size: self.kernel_size,
            stride: self.stride.unwrap_or(self.kernel_size),
            padding: self.padding,
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
            divisor_override: self.divisor_override,
        };
        context.tape().apply_single(op, &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl Layer for GlobalAvgPool2d {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        context.tape().apply_single(ops::GlobalAvgPool2d, &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}
