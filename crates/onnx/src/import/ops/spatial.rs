//! Windows of convolutions and poolings: their attributes along one axis.

use neocog_base::{Error, Result};

use crate::import::Node;

/// A window along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) struct Spatial {
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub begin: usize,
    pub end: usize,
    pub output: usize,
}

/// Largest size of a kernel, a stride, a dilation or a padding: a model that asks for more is damaged.
const LARGEST: i64 = 1 << 30;

impl Spatial {
    /// Returns the windows of a node along all axes of images of these extents.
    ///
    /// # Errors
    /// When an attribute has the wrong number of values, or values that are not valid; when an image is smaller than a window.
    pub fn all(node: &Node<'_>, input: &[usize], kernel: &[usize]) -> Result<Vec<Self>> {
        let axes = input.len();
        let ones = vec![1; axes];
        let strides = sizes(node, "strides", axes, 1)?.unwrap_or_else(|| ones.clone());
        let dilations = sizes(node, "dilations", axes, 1)?.unwrap_or(ones);
        let auto = node.text("auto_pad").unwrap_or_else(|| "NOTSET".to_string());
        let pads = match sizes(node, "pads", 2 * axes, 0)? {
            Some(pads) if auto == "NOTSET" => pads,
            _ => vec![0; 2 * axes],
        };
        let ceil = node.int("ceil_mode").unwrap_or(0) != 0;
        let axis = |a: usize| {
            let (input, kernel, stride, dilation) = (input[a], kernel[a], strides[a], dilations[a]);
            if input == 0 {
                return Err(Error::shape("the image is empty"));
            }
            let reach = dilation
                .checked_mul(kernel - 1)
                .and_then(|reach| reach.checked_add(1))
                .ok_or_else(|| Error::format("the kernel is too large"))?;
            let (mut begin, mut end) = (pads[a], pads[axes + a]);
            if auto.starts_with("SAME") {
                let output = input.div_ceil(stride);
                let total = ((output - 1) * stride + reach).saturating_sub(input);
                (begin, end) = (total / 2, total - total / 2);
                if auto == "SAME_LOWER" {
                    (begin, end) = (end, begin);
                }
            } else if auto != "NOTSET" && auto != "VALID" {
                return Err(Error::format(format!("auto_pad is {auto}, which is not defined")));
            }
            let padded = begin + input + end;
            let Some(steps) = padded.checked_sub(reach) else {
                return Err(Error::shape(format!(
                    "the image is smaller than the window: {input} with padding {begin} and {end}, but the window spans {reach}"
                )));
            };
            let mut output = steps / stride + 1;
            if ceil && auto == "NOTSET" && !steps.is_multiple_of(stride) && output * stride < input + begin {
                // Not a window that starts in the padding at the end.
                output += 1;
            }
            Ok(Spatial { input, kernel, stride, dilation, begin, end, output })
        };
        (0..axes).map(axis).collect()
    }

    /// Returns the padding at the end that the last window reaches into.
    pub fn needed_end(&self) -> usize {
        let reach = (self.output - 1) * self.stride + self.dilation * (self.kernel - 1) + 1;
        reach.saturating_sub(self.begin + self.input)
    }
}

/// Returns an attribute of `count` sizes of at least `least`.
///
/// # Errors
/// When it has another number of values, or one is too small or too large.
pub(super) fn sizes(node: &Node<'_>, name: &str, count: usize, least: i64) -> Result<Option<Vec<usize>>> {
    let Some(values) = node.ints(name) else { return Ok(None) };
    if values.len() != count || values.iter().any(|value| !(least..=LARGEST).contains(value)) {
        return Err(Error::format(format!(
            "{name} is {values:?}; expected {count} values from {least} to {LARGEST}"
        )));
    }
    Ok(Some(values.into_iter().map(|value| value as usize).collect()))
}
