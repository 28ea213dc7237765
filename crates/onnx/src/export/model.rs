//! The model while it is written.

use std::collections::HashSet;

use neocog_base::Result;
use neocog_tensor::Tensor;

use super::dims::Dim;
use super::options::{BATCH, ExportOptions, INPUT, OUTPUT};
use crate::proto::{
    DataType, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Nodes and constants.
#[derive(Debug)]
pub(super) struct Model {
    pub opset: i64,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// The names that are taken.
    names: HashSet<String>,
    /// The names of the tensors of the network.
    known: Vec<(Tensor, String)>,
    /// The tensors that are initializers, with their names.
    written: Vec<(Tensor, String)>,
}

impl Model {
    pub fn new(opset: i64) -> Self {
        let names = [INPUT, OUTPUT, BATCH].map(String::from);
        Model {
            opset,
            nodes: Vec::new(),
            initializers: Vec::new(),
            names: names.into(),
            known: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Sets the name of a tensor of the network.
    pub fn name_tensor(&mut self, tensor: Tensor, name: String) {
        self.known.push((tensor, name));
    }

    /// Returns a name that is not taken yet: `hint`, or `hint` with a number.
    pub fn unique(&mut self, hint: String) -> String {
        let hint = hint.trim_start_matches(['/', '.']).to_string();
        let mut name = hint.clone();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            name = format!("{hint}_{number}");
            number += 1;
        }
        name
    }

    /// Returns the name of the initializer that holds a tensor.
    pub fn constant(&mut self, tensor: &Tensor, hint: String) -> Result<String> {
        if let Some(at) = position_of(&self.written, tensor) {
            return Ok(self.written[at].1.clone());
        }
        let hint = position_of(&self.known, tensor).map_or(hint, |at| self.known[at].1.clone());
        let name = self.floats(hint, tensor.shape(), &tensor.to_f32()?);
        self.written.push((tensor.clone(), name.clone()));
        Ok(name)
    }

    /// Adds an initializer of floats.
    pub fn floats(&mut self, hint: String, extents: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(hint, DataType::Float, extents, bytes)
    }

    /// Adds an initializer of integers.
    pub fn ints(&mut self, hint: String, extents: &[usize], values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(hint, DataType::Int64, extents, bytes)
    }

    fn initializer(
        &mut self,
        hint: String,
        data_type: DataType,
        extents: &[usize],
        bytes: Vec<u8>,
    ) -> String {
        let name = self.unique(hint);
        self.initializers.push(TensorProto {
            dims: extents.iter().map(|&extent| extent as i64).collect(),
            data_type: data_type as i32,
            name: name.clone(),
            raw_data: Some(bytes.into()),
            ..TensorProto::default()
        });
        name
    }

    pub fn add(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    pub fn into_proto(self, input: &[Dim], output: &[Dim], options: &ExportOptions) -> ModelProto {
        // The least version of the format that has the opset.
        let ir_version = match options.opset {
            ..=18 => 8,
            19 | 20 => 9,
            _ => 10,
        };
        let input_type = if options.normalization.is_some() { DataType::Uint8 } else { DataType::Float };
        let mut metadata = options.metadata.clone();
        metadata.insert("neocog.version".to_string(), env!("CARGO_PKG_VERSION").to_string());
        let entry = |(key, value)| StringStringEntryProto { key, value };
        ModelProto {
            ir_version,
            producer_name: "neocog".to_string(),
            producer_version: env!("CARGO_PKG_VERSION").to_string(),
            graph: Some(GraphProto {
                node: self.nodes,
                name: options.name.clone(),
                initializer: self.initializers,
                input: vec![value_info(INPUT, input_type, input)],
                output: vec![value_info(OUTPUT, DataType::Float, output)],
                ..GraphProto::default()
            }),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: options.opset }],
            metadata_props: metadata.into_iter().map(entry).collect(),
            ..ModelProto::default()
        }
    }
}

fn value_info(name: &str, data_type: DataType, dims: &[Dim]) -> ValueInfoProto {
    let dim = |dim: &Dim| match *dim {
        Dim::Fixed(extent) => DimensionProto { dim_value: Some(extent as i64), dim_param: None },
        Dim::Batch(1) => DimensionProto { dim_value: None, dim_param: Some(BATCH.to_string()) },
        Dim::Batch(multiple) => {
            DimensionProto { dim_value: None, dim_param: Some(format!("{multiple}*{BATCH}")) }
        }
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: data_type as i32, shape: Some(shape) };
    ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// Returns the position of a tensor in a list, by its memory.
fn position_of(tensors: &[(Tensor, String)], tensor: &Tensor) -> Option<usize> {
    tensors.iter().position(|(known, _)| known.is_same(tensor))
}
