//! What golden files hold: a JSON text that describes the computations, and beside it their results as safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use neocog_tensor::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::hash::Stream;

/// A suite of single operations.
#[derive(Debug, Deserialize)]
pub struct Suite {
    /// Its name.
    pub suite: String,
    /// The cases, each a [`Case`]; parsed one by one, so that one that is not understood does not hide the others.
    pub cases: Vec<Value>,
    /// What must hold of dropout.
    #[serde(default)]
    pub dropout: Vec<Value>,
}

/// An operation with its attributes and inputs, and the names of the results.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// Names the case, and its tensors: `ID/NAME`.
    pub id: String,
    /// The operation.
    pub op: String,
    /// Its attributes.
    #[serde(default)]
    pub attrs: Map<String, Value>,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// The inputs of which gradients are stored.
    #[serde(default)]
    pub grads: Vec<String>,
    /// The gradient of the output: numbers, or 1.0 for a scalar.
    pub grad_output: Option<GradOutput>,
    /// The results.
    pub outputs: Vec<Output>,
}

/// The gradient of a case's output.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum GradOutput {
    /// The same number for every element.
    Number(f64),
    /// Numbers of the hash.
    Tensor(Box<Input>),
}

/// A tensor of the hash, or with its values written out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// The hash's seed.
    pub seed: Option<u64>,
    /// The hash's stream.
    pub stream: Option<u64>,
    /// The factor of the hash's unit.
    pub scale: Option<f64>,
    /// What is added.
    pub offset: Option<f64>,
    /// So many steps in a unit, where values are to be equal often.
    pub levels: Option<f64>,
    /// The values themselves, nested or flat.
    pub values: Option<Value>,
    /// What they are: `f32` or `i64`.
    pub dtype: Option<String>,
}

/// A result of a case.
#[derive(Debug, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// The deviation of PyTorch's own result in single precision.
    #[serde(default)]
    pub f32_max_abs_diff: f64,
}

impl Input {
    /// The values, rounded to single precision.
    ///
    /// # Errors
    /// When the description is not complete, or the number of values is not the shape's.
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
        other => Err(Error::format(format!("values are numbers, found {other}"))),
    }
}

/// A whole network.
#[derive(Debug, Deserialize)]
pub struct Network {
    /// The network's name.
    pub net: String,
    /// The hash's seed.
    pub seed: u64,
    /// `[n, c, h, w]`.
    pub input_shape: [usize; 4],
    /// How the input is made.
    pub input: Pictures,
    /// How the classes are made.
    pub labels: Labels,
    /// The optimizers with their hyperparameters and number of steps.
    pub optimisers: BTreeMap<String, Map<String, Value>>,
    /// The initial state, in the order of the `state_dict`.
    pub state: Vec<StateEntry>,
    /// The parameters in the order of the rows of `…/grad_*` and `…/param_*`.
    pub params: Vec<String>,
    /// The buffers in the order of the rows of `…/buffer_*`.
    pub buffers: Vec<String>,
    /// The modules in the order of the rows of `…/act_*`.
    pub modules: Vec<Module>,
    /// Parameters whose exact gradient is 0.
    pub zero_gradient_params: Vec<String>,
    /// How much PyTorch's own results in single precision deviate, for each array.
    #[serde(default)]
    pub f32_vs_f64: BTreeMap<String, Deviation>,
    /// The seed of the numbers that `dot` is taken with.
    #[serde(default = "dot_seed")]
    pub dot_seed: u64,
}

fn dot_seed() -> u64 {
    super::hash::DOT_SEED
}

/// How a batch of pictures is made.
#[derive(Debug, Deserialize)]
pub struct Pictures {
    /// The stream of the noise.
    pub fine_stream: u64,
    /// The stream of the squares.
    pub coarse_stream: u64,
    /// The side of a square.
    pub cell: usize,
    /// The first values, to check.
    pub first8: Vec<f64>,
}

/// How the classes are made.
#[derive(Debug, Deserialize)]
pub struct Labels {
    /// The stream.
    pub stream: u64,
    /// How many classes there are.
    #[serde(rename = "mod")]
    pub modulus: u64,
    /// The classes, to check.
    pub values: Vec<u64>,
}

/// An entry of the initial state.
#[derive(Debug, Deserialize)]
pub struct StateEntry {
    /// The hash's stream.
    pub stream: u64,
    /// The dotted name.
    pub name: String,
    /// The extents.
    pub shape: Vec<usize>,
    /// The factor of the hash's unit; absent for counters.
    pub scale: Option<f64>,
    /// What is added; absent for counters.
    pub offset: Option<f64>,
    /// The first values, to check.
    pub first4: Vec<f64>,
}

/// A module whose output is known.
#[derive(Debug, Deserialize)]
pub struct Module {
    /// The stream of the numbers that `dot` is taken with.
    pub stream: u64,
    /// The dotted name.
    pub name: String,
    /// The output's extents.
    pub shape: Vec<usize>,
}

/// Deviations of two runs of PyTorch in single precision.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deviation {
    /// The largest relative one of the first run.
    pub max_rel: f64,
    /// The largest relative one of the second run.
    pub max_rel_b: f64,
    /// The median relative one of the first run.
    pub median_rel: f64,
    /// The median relative one of the second run.
    pub median_rel_b: f64,
}

/// The values of a tensor, as far as golden files have them.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its extents.
    pub shape: Vec<usize>,
    /// Its values; whole numbers below 2^53 are exact.
    pub values: Vec<f64>,
}

/// The results: tensors by name.
#[derive(Debug)]
pub struct Tensors(BTreeMap<String, Array>);

impl Tensors {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or holds other numbers than F32, F64 and I64.
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
                Dtype::F64 => numbers(data, f64::from_le_bytes),
                Dtype::F32 => numbers(data, |b| f64::from(f32::from_le_bytes(b))),
                Dtype::I64 => numbers(data, |b| i64::from_le_bytes(b) as f64),
                other => return Err(Error::format(format!("{name} has numbers of the kind {other:?}"))),
            };
            all.insert(name, Array { shape: view.shape().to_vec(), values });
        }
        Ok(Tensors(all))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<&Array> {
        self.0.get(name).ok_or_else(|| Error::format(format!("the safetensors file has no tensor {name}")))
    }

    /// The names that start with `prefix`.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.range(prefix.to_string()..).map(|(k, _)| k.as_str()).take_while(move |k| k.starts_with(prefix))
    }
}

fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_values_and_levels_are_read() {
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
