//! Adaptive pooling: to a given number of pixels.

use neocog_autograd::Var;
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::pair;
use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Mean of windows that cover the image evenly, `[n, c, h, w]` to `[n, c, output_size]`, as PyTorch's `AdaptiveAvgPool2d`. Output
/// `i` of `o` is the mean of the rows `floor(i · h / o) .. ceil((i + 1) · h / o)`, and likewise of the columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool2d {
    /// Height and width of the output.
    pub output_size: OutputSize,
}

/// Height and width of an output. PyTorch prints one number and a pair of them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a positive integer or a pair of them")]
pub enum OutputSize {
    /// Height and width are the same number.
    Square(usize),
    /// `[height, width]`.
    Pair([usize; 2]),
}

impl OutputSize {
    /// Returns `[height, width]`.
    pub fn pair(self) -> [usize; 2] {
        match self {
            OutputSize::Square(both) => [both, both],
            OutputSize::Pair(pair) => pair,
        }
    }

    fn text(self) -> String {
        match self {
            OutputSize::Square(both) => both.to_string(),
            OutputSize::Pair(pair) => pair::long(pair),
        }
    }
}

impl AdaptiveAvgPool2d {
    /// Creates a spec with one number for height and width.
    pub fn square(output_size: usize) -> Self {
        AdaptiveAvgPool2d { output_size: OutputSize::Square(output_size) }
    }

    /// Creates a spec with a pair `[height, width]`.
    pub fn pair(output_size: [usize; 2]) -> Self {
        AdaptiveAvgPool2d { output_size: OutputSize::Pair(output_size) }
    }
}

impl Spec for AdaptiveAvgPool2d {
    const KIND: &'static str = "AdaptiveAvgPool2d";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if self.output_size.pair().contains(&0) {
            return Err(Error::invalid_argument(format!(
                "output_size must be at least 1, not {}",
                self.output_size.text()
            )));
        }
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(Self::square(1), [2, 3, 4, 5]),
            Example::new(Self::square(2), [2, 2, 4, 6]),
            Example::new(Self::pair([3, 2]), [2, 2, 7, 5]),
            Example::new(Self::pair([4, 3]), [1, 2, 2, 3]),
        ]
    }
}

register_layer!(AdaptiveAvgPool2d);

impl Layer for AdaptiveAvgPool2d {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!("output_size={}", self.output_size.text())
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let (tape, [_, _, h, w]) = (context.tape(), input.shape().nchw()?);
        let output = self.output_size.pair();
        match output {
            [1, 1] => return tape.apply_single(ops::GlobalAvgPool2d, &[input]),
            [oh, ow] if [oh, ow] == [h, w] => return Ok(input.clone()),
            [oh, ow] if h > 0 && w > 0 && h.is_multiple_of(oh) && w.is_multiple_of(ow) => {
                let window = [h / oh, w / ow];
                let op = ops::AvgPool2d {
                    kernel_size: window,
                    stride: window,
                    padding: [0, 0],
                    ceil_mode: false,
                    count_include_pad: true,
                    divisor_override: None,
                };
                return tape.apply_single(op, &[input]);
            }
            _ => {}
        }
        let along = |value: &Var, dim: isize, from, to| {
            let map = ops::AxisMap::adaptive_average(from, to)?;
            tape.apply_single(ops::Resample { dim, map, transposed: false }, &[value])
        };
        along(&along(input, 2, h, output[0])?, 3, w, output[1])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}
