//! Models as they are read from files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use neocog_base::file::open_input;
use neocog_base::memory::try_with_capacity;
use neocog_base::text::count;
use neocog_base::{Context as _, Error, ErrorKind, Result};
use neocog_graph::Graph;
use neocog_tensor::profile::{Naming, scope};
use neocog_tensor::{Device, Shape, Tensor};
use prost::Message as _;

use super::constant::constant;
use super::converted::{Converted, OutputSource};
use super::functions::{ModelNode, inline, standard_opset};
use super::names::{describe, name_of};
use super::node::{GraphBuilder, Node, find};
use super::value::{Content, Value};
use crate::element::check_type;
use crate::proto::{DataType, ModelProto, NodeProto, ValueInfoProto};

/// The operator sets that can be read.
pub const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// An input of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelInput {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub data_type: DataType,
    /// Its extents, `None` for those that are not fixed; `None` if the file does not say how many there are.
    pub dims: Option<Vec<Option<usize>>>,
}

/// An ONNX model.
#[derive(Debug)]
pub struct OnnxModel {
    nodes: Vec<ModelNode>,
    opset: i64,
    inputs: Vec<ModelInput>,
    outputs: Vec<String>,
    constants: HashMap<String, Value>,
    metadata: BTreeMap<String, String>,
    folder: Option<PathBuf>,
}

impl OnnxModel {
    /// Reads a model from a file, with its external data.
    ///
    /// # Errors
    /// `Io` when a file cannot be read; `Format` when it is no ONNX model, or damaged. The message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        let location = || path.display().to_string();
        let cannot_read = |e| Error::io(format!("cannot read the model {}", path.display()), e);
        let metadata = fs::metadata(path).map_err(cannot_read)?;
        if !metadata.is_file() {
            return Err(Error::format("not an ONNX model: it is not a regular file")).context(location);
        }
        let mut bytes = try_with_capacity(metadata.len() as usize, "the model").context(location)?;
        let mut file = open_input(path).map_err(cannot_read)?;
        std::io::Read::read_to_end(&mut file, &mut bytes).map_err(cannot_read)?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Self::from_bytes(bytes, Some(folder)).context(location)
    }

    /// Reads a model from memory; `folder` holds its external data.
    ///
    /// # Errors
    /// As [`OnnxModel::read`].
    pub fn from_bytes(bytes: impl Into<Bytes>, folder: Option<&Path>) -> Result<Self> {
        let proto = ModelProto::decode(bytes.into())
            .map_err(|e| Error::format("not an ONNX model, or damaged").with_source(e))?;
        let graph = proto.graph.ok_or_else(|| Error::format("not an ONNX model: it has no graph"))?;
        // Files before version 3 of the format have no opset.
        let opset =
            standard_opset(&proto.opset_import).or((proto.ir_version < 3).then_some(1)).ok_or_else(|| {
                Error::format("the model states no opset of the standard operators: it is damaged or cut off")
            })?;
        if !OPSETS.contains(&opset) {
            return Err(Error::format(format!(
                "the model is of opset {opset}; opsets {} to {} can be read",
                OPSETS.start(),
                OPSETS.end()
            )));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(Error::format("sparse constants are not supported"));
        }
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            let (value, data_type) =
                constant(tensor, folder).context(|| format!("the constant {}", tensor.name))?;
            if constants.insert(tensor.name.clone(), Value::constant(value, data_type)).is_some() {
                return Err(Error::format(format!("there are two constants {}", tensor.name)));
            }
        }
        let is_input = |info: &&ValueInfoProto| !constants.contains_key(&info.name);
        let inputs: Vec<ModelInput> =
            graph.input.iter().filter(is_input).map(model_input).collect::<Result<_>>()?;
        let outputs: Vec<String> = graph.output.iter().map(|info| info.name.clone()).collect();
        if outputs.is_empty() {
            return Err(Error::format("the model has no output"));
        }
        let given =
            inputs.iter().map(|input| input.name.as_str()).chain(constants.keys().map(String::as_str));
        let nodes = inline(graph.node, opset, &proto.functions)?;
        let nodes = sorted(nodes, given.map(String::from).collect())?;
        let computed: HashSet<&str> =
            nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let is_given =
            |name: &str| constants.contains_key(name) || inputs.iter().any(|input| input.name == name);
        if let Some(output) = outputs.iter().find(|name| !computed.contains(name.as_str()) && !is_given(name))
        {
            return Err(Error::format(format!("no node computes the output {output}")));
        }
        let metadata = proto.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
        Ok(OnnxModel {
            nodes,
            opset,
            inputs,
            outputs,
            constants,
            metadata,
            folder: folder.map(Path::to_path_buf),
        })
    }

    /// Returns the inputs.
    pub fn inputs(&self) -> &[ModelInput] {
        &self.inputs
    }

    /// Returns the names of the outputs.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Returns the version of the operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns the nodes in an order in which they can run.
    pub(super) fn nodes(&self) -> &[ModelNode] {
        &self.nodes
    }

    /// Returns a constant of the file, also of a node `Constant`.
    pub(super) fn constant_of(&self, name: &str) -> Option<Tensor> {
        let mut name = name;
        // Equal constants are stored once, under the other names by Identity. No name is followed twice.
        for _ in 0..=self.nodes.len() {
            if let Some(value) = self.constants.get(name) {
                return value.tensor().cloned();
            }
            let node = self.nodes.iter().find(|node| node.output.iter().any(|output| output == name))?;
            match (node.op_type.as_str(), node.input.as_slice()) {
                ("Constant", _) => {
                    let value =
                        node.attribute.iter().find(|attribute| attribute.name == "value")?.t.as_ref()?;
                    return constant(value, self.folder.as_deref()).ok().map(|(tensor, _)| tensor);
                }
                ("Identity", [input]) => name = input,
                _ => return None,
            }
        }
        None
    }

    /// Returns the number of floating-point elements of all constants of the file.
    pub fn parameters(&self) -> usize {
        self.constants.keys().map(|name| self.parameters_of(name)).sum()
    }

    /// Returns the number of elements of a constant of the file, if they are floating-point numbers, or else 0.
    pub(super) fn parameters_of(&self, name: &str) -> usize {
        let is_float =
            |data_type| matches!(data_type, DataType::Float | DataType::Double | DataType::Float16);
        let value = self.constants.get(name).filter(|value| is_float(value.data_type));
        value.map_or(0, |value| value.shape().elements())
    }

    /// Checks that all nodes have converters.
    ///
    /// # Errors
    /// `NotFound` with the name and the operator of each node that has none.
    pub fn check_supported(&self) -> Result<()> {
        let missing: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| find(&node.domain, &node.op_type).is_none())
            .map(|node| format!("\n  {}", describe(node)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!("{} not supported:{}", count(missing.len(), "node"), missing.concat());
        Err(Error::new(ErrorKind::NotFound, text))
    }

    /// Checks the number and the shapes of inputs.
    ///
    /// # Errors
    /// `Shape` with the name of the first input that does not fit.
    pub fn check_inputs(&self, inputs: &[Tensor]) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            let names: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
            return Err(Error::invalid_argument(format!(
                "the model has {} ({}), {} were given",
                count(names.len(), "input"),
                names.join(", "),
                inputs.len()
            )));
        }
        for (input, tensor) in self.inputs.iter().zip(inputs) {
            let Some(dims) = &input.dims else { continue };
            let shape = tensor.shape();
            let fits = dims.len() == shape.rank()
                && dims.iter().zip(shape.iter()).all(|(dim, extent)| dim.is_none_or(|dim| dim == *extent));
            if !fits {
                let dims: Vec<String> =
                    dims.iter().map(|dim| dim.map_or("any".to_string(), |dim| dim.to_string())).collect();
                return Err(Error::shape(format!(
                    "the input {} should be [{}], it is {shape}",
                    input.name,
                    dims.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Converts the model for inputs of these shapes. The values of the inputs `known` are constants. The inner error has the inputs
    /// that must be known besides.
    ///
    /// # Errors
    /// When a node does not accept its inputs.
    pub(super) fn convert(
        &self,
        inputs: &[Tensor],
        known: &BTreeSet<usize>,
        device: &Device,
    ) -> Result<Result<Converted, (BTreeSet<usize>, Error)>> {
        let given: Vec<usize> = (0..inputs.len()).filter(|input| !known.contains(input)).collect();
        let shapes: Vec<Shape> = given.iter().map(|&input| *inputs[input].shape()).collect();
        let mut values: HashMap<&str, Value> = HashMap::new();
        for &input in known {
            let tensor = inputs[input].to_device(&Device::Reference)?;
            values.insert(&self.inputs[input].name, Value::constant(tensor, self.inputs[input].data_type));
        }
        for (number, &input) in given.iter().enumerate() {
            let content =
                Content::Computed { number, shape: shapes[number], origins: BTreeSet::from([input]) };
            let data_type = self.inputs[input].data_type;
            values.insert(&self.inputs[input].name, Value { data_type, content });
        }
        let mut builder =
            GraphBuilder { graph: Graph::new(shapes), device: *device, wanted: BTreeSet::new() };
        // Operations have the names of their nodes.
        let _naming = Naming::begin();
        for ModelNode { proto, opset } in &self.nodes {
            let _scope = scope(name_of(proto));
            let converted =
                self.convert_node(proto, *opset, &values, &mut builder).context(|| describe(proto));
            match converted {
                Ok(outputs) => {
                    let named = proto.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty());
                    values.extend(named.map(|(name, value)| (name.as_str(), value)));
                }
                Err(error) if builder.wanted.is_empty() => return Err(error),
                Err(error) => return Ok(Err((builder.wanted, error))),
            }
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for name in &self.outputs {
            let value = values.get(name.as_str()).or_else(|| self.constants.get(name));
            let value = value.ok_or_else(|| Error::format(format!("no node computes the output {name}")))?;
            let source = match &value.content {
                Content::Constant(tensor) => OutputSource::Known(tensor.clone()),
                Content::Computed { number, .. } => OutputSource::Computed(*number),
            };
            outputs.push((source, value.data_type));
        }
        Ok(Ok(Converted { graph: builder.graph, inputs: given, outputs }))
    }

    fn convert_node(
        &self,
        proto: &NodeProto,
        opset: i64,
        values: &HashMap<&str, Value>,
        builder: &mut GraphBuilder,
    ) -> Result<Vec<Value>> {
        let converter = find(&proto.domain, &proto.op_type)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the operator is not supported"))?;
        let input = |name: &String| {
            if name.is_empty() {
                return Ok(None);
            }
            let value = values.get(name.as_str()).or_else(|| self.constants.get(name));
            value
                .cloned()
                .map(Some)
                .ok_or_else(|| Error::format(format!("no node computes its input {name}")))
        };
        let inputs = proto.input.iter().map(input).collect::<Result<_>>()?;
        let mut node = Node { proto, opset, inputs, builder, folder: self.folder.as_deref() };
        let outputs = (converter.convert)(&mut node)?;
        let wanted = proto.output.iter().rposition(|name| !name.is_empty()).map_or(0, |at| at + 1);
        if outputs.len() < wanted {
            return Err(Error::invalid_argument(format!("output {} is not supported", outputs.len())));
        }
        Ok(outputs)
    }
}

fn model_input(info: &ValueInfoProto) -> Result<ModelInput> {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let location = || format!("the input {}", info.name);
    let tensor = tensor.ok_or_else(|| Error::format("only tensors are supported")).context(location)?;
    let data_type = check_type(tensor.elem_type).context(location)?;
    let dims = tensor.shape.as_ref().map(|shape| {
        shape.dim.iter().map(|dim| dim.dim_value.and_then(|value| usize::try_from(value).ok())).collect()
    });
    Ok(ModelInput { name: info.name.clone(), data_type, dims })
}

/// Returns the nodes in an order in which inputs are computed before they are used. Files should have one.
///
/// # Errors
/// When a value is computed twice, an input is computed by no node, or nodes depend on each other in a circle.
fn sorted(nodes: Vec<ModelNode>, known: HashSet<String>) -> Result<Vec<ModelNode>> {
    let mut computed: HashSet<String> = known.clone();
    for node in &nodes {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !computed.insert(name.clone()) {
                return Err(Error::format(format!("the value {name} is computed twice")))
                    .context(|| describe(node));
            }
        }
    }
    for node in &nodes {
        if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !computed.contains(*name)) {
            return Err(Error::format(format!("no node computes its input {name}")))
                .context(|| describe(node));
        }
    }
    // For each value, the nodes that wait for it; for each node, the number of inputs that are not known yet.
    let mut waiting: HashMap<String, Vec<usize>> = HashMap::new();
    let mut missing = vec![0usize; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        for name in node.input.iter().filter(|name| !name.is_empty() && !known.contains(*name)) {
            waiting.entry(name.clone()).or_default().push(i);
            missing[i] += 1;
        }
    }
    // Of the nodes that can run, the first of the file is next.
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|i| missing[*i] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for name in &nodes[i].output {
            for other in waiting.remove(name).unwrap_or_default() {
                missing[other] -= 1;
                if missing[other] == 0 {
                    ready.insert(other);
                }
            }
        }
    }
    if let Some(i) = missing.iter().position(|missing| *missing > 0) {
        return Err(Error::format("the node depends on its own output, through others"))
            .context(|| describe(&nodes[i]));
    }
    let mut nodes: Vec<Option<ModelNode>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|i| nodes[i].take()).collect())
}
