//! What a model consists of besides the network.

use std::collections::BTreeMap;

/// The opsets that can be written.
pub const OPSETS: std::ops::RangeInclusive<i64> = 17..=22;

/// The opset of a model if none is asked for.
pub const DEFAULT_OPSET: i64 = 18;

/// The name of the model's input, and of its first axis.
pub const INPUT: &str = "input";
/// The name of the model's output.
pub const OUTPUT: &str = "output";
/// The name of the batch size.
pub const BATCH: &str = "batch";

/// What a model consists of besides the network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportOptions {
    /// Name of the network.
    pub name: String,
    /// Version of ONNX's operator set, one of [`OPSETS`].
    pub opset: i64,
    /// Whether the output is the softmax of that of the network, along axis 1.
    pub softmax: bool,
    /// If present, the input are images of bytes, `[n, c, h, w]` of `u8`, which the model scales to 0 to 1 and normalizes.
    pub normalization: Option<Normalization>,
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A normalization of images: `(x - mean) / std` for values from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Normalization {
    /// The mean of each channel, of all channels, or none for no normalization.
    pub mean: Vec<f32>,
    /// The standard deviations likewise.
    pub std: Vec<f32>,
}

impl ExportOptions {
    /// Creates options: logits of an input of floats, in [`DEFAULT_OPSET`].
    pub fn new(name: impl Into<String>) -> Self {
        ExportOptions {
            name: name.into(),
            opset: DEFAULT_OPSET,
            softmax: false,
            normalization: None,
            metadata: BTreeMap::new(),
        }
    }
}
