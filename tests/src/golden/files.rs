//! The format of golden files: JSON that describes the computations, and safetensors with their results.

use std::collections::BTreeMap;
use std::path::Path;

use neocog_tensor::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::hash::Stream;

/// A suite of operations.
#[derive(Debug, Deserialize)]
pub struct Suite {
    /// Name.
    pub suite: String,
    /// The cases, each a [`Case`]; parsed separately, so that an invalid one does not affect the others.
    pub cases: Vec<Value>,
    /// Expected properties of dropout.
    #[serde(default)]
    pub dropout: Vec<Value>,
}

/// An operation with its attributes, inputs and results.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// Name of the case, and prefix of its tensors: `ID/NAME`.
    pub id: String,
    /// The operation.
    pub op: String,
    /// Attributes.
    #[serde(default)]
    pub attrs: Map<String, Value>,
    /// Inputs.
    pub inputs: Vec<Input>,
    /// Inputs whose gradients are results.
    #[serde(default)]
    pub grads: Vec<String>,
    /// Gradient of the output: a tensor, or 1.0 for a scalar.
    pub grad_output: Option<GradOutput>,
    /// Results.
    pub outputs: Vec<Output>,
}

/// The gradient of the output of a case.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum GradOutput {
    /// The same value for every element.
    Number(f64),
    /// A tensor.
    Tensor(Box<Input>),
}

/// A tensor, computed by the hash or given by its values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Seed of the hash.
    pub seed: Option<u64>,
    /// Stream of the hash.
    pub stream: Option<u64>,
    /// Factor of the random numbers.
    pub scale: Option<f64>,
    /// Offset of the random numbers.
    pub offset: Option<f64>,
    /// Number of quantization levels per unit, to get many equal values.
    pub levels: Option<f64>,
    /// Values, nested or flat.
    pub values: Option<Value>,
    /// Type of the values: `f32` or `i64`.
    pub dtype: Option<String>,
}

/// A result of a case.
#[derive(Debug, Deserialize)]
pub struct Output {
    /// Name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Error of the single-precision result of PyTorch.
    #[serde(default)]
    pub f32_max_abs_diff: f64,
}

impl Input {
    /// Returns the values, rounded to single precision.
    ///
    /// # Errors
    /// When the description is incomplete, or the number of values does not match the shape.
    pub fn make(&self) -> Result<Vec<f32>> {
        let count = self.shape.iter().product::<usize>();
        if let Some(values) = &self.values {
            match self.dtype.as_deref() {
                None | Some("f32" | "i64") => {}
                Some(other) => return Err(Error::format(format!("{}: unknown dtype {other}", self.name))),
            }
            let mut flat = Vec::with_capacity(count);
            flatten(values, &mut flat)?;
            if flat.len() != count {
                return Err(Error::format(format!(
                    "{} has {} values for the shape {:?}",
                    self.name,
                    flat.len(),
                    self.shape
                )));
            }
            return Ok(flat);
        }
        let (Some(seed), Some(stream), Some(scale), Some(offset)) =
            (self.seed, self.stream, self.scale, self.offset)
        else {
            return Err(Error::format(format!(
                "{} has neither values nor all of seed, stream, scale and offset",
                self.name
            )));
        };
        let stream = Stream::new(seed, stream);
        Ok(match self.levels {
            None => (0..count as u64).map(|i| stream.value(i, scale, offset)).collect(),
            Some(levels) => (0..count as u64)
                .map(|i| (offset + scale * ((stream.unit(i) * levels).floor() / levels)) as f32)
                .collect(),
        })
    }
}

fn flatten(value: &Value, out: &mut Vec<f32>) -> Result<()> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|v| flatten(v, out)),
        Value::Number(n) => {
            out.push(n.as_f64().unwrap_or(f64::NAN) as f32);
            Ok(())
        }
        other => Err(Error::format(format!("values must be numbers, found {other}"))),
    }
}

/// A whole network.
#[derive(Debug, Deserialize)]
pub struct Network {
    /// Name of the network.
    pub net: String,
    /// Seed of the hash.
    pub seed: u64,
    /// Shape of the input, `[n, c, h, w]`.
    pub input_shape: [usize; 4],
    /// Description of the input.
    pub input: Images,
    /// Description of the labels.
    pub labels: Labels,
    /// Optimizers with hyperparameters and number of steps.
    pub optimisers: BTreeMap<String, Map<String, Value>>,
    /// Initial state, in the order of the `state_dict`.
    pub state: Vec<StateEntry>,
    /// Parameters in the order of the rows of `…/grad_*` and `…/param_*`.
    pub params: Vec<String>,
    /// Buffers in the order of the rows of `…/buffer_*`.
    pub buffers: Vec<String>,
    /// Modules in the order of the rows of `…/act_*`.
    pub modules: Vec<Module>,
    /// Parameters whose exact gradient is 0.
    pub zero_gradient_params: Vec<String>,
    /// Errors of the single-precision results of PyTorch, for each array.
    #[serde(default)]
    pub f32_vs_f64: BTreeMap<String, Deviation>,
    /// Seed of the random numbers for `dot`.
    #[serde(default = "dot_seed")]
    pub dot_seed: u64,
}

fn dot_seed() -> u64 {
    super::hash::DOT_SEED
}

/// Description of a batch of images.
#[derive(Debug, Deserialize)]
pub struct Images {
    /// Stream of the noise.
    pub fine_stream: u64,
    /// Stream of the squares.
    pub coarse_stream: u64,
    /// Side of a square in pixels.
    pub cell: usize,
    /// The first values, for verification.
    pub first8: Vec<f64>,
}

/// Description of the labels.
#[derive(Debug, Deserialize)]
pub struct Labels {
    /// Stream of the hash.
    pub stream: u64,
    /// Number of classes.
    #[serde(rename = "mod")]
    pub modulus: u64,
    /// The labels, for verification.
    pub values: Vec<u64>,
}

/// An entry of the initial state.
#[derive(Debug, Deserialize)]
pub struct StateEntry {
    /// Stream of the hash.
    pub stream: u64,
    /// Dotted name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Factor of the random numbers; absent for counters.
    pub scale: Option<f64>,
    /// What is added; absent for counters.
    pub offset: Option<f64>,
    /// The first values, for verification.
    pub first4: Vec<f64>,
}

/// A module whose output is part of the results.
#[derive(Debug, Deserialize)]
pub struct Module {
    /// Stream of the random numbers for `dot`.
    pub stream: u64,
    /// Dotted name.
    pub name: String,
    /// Shape of the output.
    pub shape: Vec<usize>,
}

/// Relative errors of two single-precision runs of PyTorch.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deviation {
    /// Maximum of the first run.
    pub max_rel: f64,
    /// Maximum of the second run.
    pub max_rel_b: f64,
    /// Median of the first run.
    pub median_rel: f64,
    /// Median of the second run.
    pub median_rel_b: f64,
}

/// A tensor of a golden file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Shape.
    pub shape: Vec<usize>,
    /// Values; integers up to 2^53 are exact.
    pub values: Vec<f64>,
}

/// Results: tensors by name.
#[derive(Debug)]
pub struct Tensors(BTreeMap<String, Array>);

impl Tensors {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or has a tensor of a type other than F32, F64 and I64.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|e| Error::io(format!("cannot read {}", path.display()), e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| {
            Error::format(format!("{} is not a safetensors file", path.display())).with_source(e)
        })?;
        let mut all = BTreeMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F64 => values(data, f64::from_le_bytes),
                Dtype::F32 => values(data, |b| f64::from(f32::from_le_bytes(b))),
                Dtype::I64 => values(data, |b| i64::from_le_bytes(b) as f64),
                other => return Err(Error::format(format!("{name} has the unsupported type {other:?}"))),
            };
            all.insert(name, Array { shape: view.shape().to_vec(), values });
        }
        Ok(Tensors(all))
    }

    /// Returns the tensor called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<&Array> {
        self.0.get(name).ok_or_else(|| Error::format(format!("the safetensors file has no tensor {name}")))
    }

    /// Returns the names that start with `prefix`.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.range(prefix.to_string()..).map(|(k, _)| k.as_str()).take_while(move |k| k.starts_with(prefix))
    }
}

fn values<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_levels() {
        let json = r#"{"name": "x", "values": [[1.5, -2], [0, 4]], "dtype": "f32", "shape": [2, 2]}"#;
        let input: Input = serde_json::from_str(json).unwrap();
        assert_eq!(input.make().unwrap(), [1.5, -2.0, 0.0, 4.0]);
        let json = r#"{"shape": [100], "seed": 1, "stream": 2, "scale": 1.0, "offset": 0.0, "levels": 4}"#;
        let input: Input = serde_json::from_str(json).unwrap();
        assert!(input.make().unwrap().iter().all(|v| (v * 4.0).fract() == 0.0));
        let short = r#"{"values": [1], "shape": [2]}"#;
        assert!(serde_json::from_str::<Input>(short).unwrap().make().is_err());
        assert!(serde_json::from_str::<Input>(r#"{"shape": [2], "strem": 1}"#).is_err());
    }
}
