//! A model as layers, where it is made of them: to train it further.
//!
//! Between a value that several nodes use and the node where all that follows from it meets again, the model is a residual block (the
//! node adds), parallel branches (it concatenates) or a gate (it multiplies); the rest is a chain.

use std::collections::{HashMap, HashSet};

use neocog_base::{Context as _, Error, Result};
use neocog_layers::{self as layers, Builder, Layer, LayerSpec, Sequential, state};
use neocog_tensor::{Device, Shape, Tensor};

use super::model::OnnxModel;
use super::names::describe;
use super::value::integers;
use crate::proto::{AttributeProto, NodeProto};

/// A model as a network of layers, with its weights.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OnnxLayers {
    /// The network.
    pub spec: LayerSpec,
    /// The parameters and buffers, in the order of the network's state.
    tensors: Vec<Tensor>,
}

impl OnnxLayers {
    /// Builds the network with the weights of the model, for inputs of shape `[n, c, h, w]`.
    ///
    /// # Errors
    /// When the network does not accept such an input, or a device fails.
    pub fn build(&self, input: &Shape, device: &Device) -> Result<Box<dyn Layer>> {
        let network = Builder::to_load(device).build(&self.spec, input)?;
        let mut tensors = self.tensors.iter();
        for (name, entry) in state::entries(&*network) {
            let Some(param) = entry.tensor() else { continue };
            let tensor =
                tensors.next().ok_or_else(|| Error::shape(format!("the model has no tensor for {name}")))?;
            param.set(&tensor.to_device(device)?.reshape(param.shape())?).context(|| name)?;
        }
        Ok(network)
    }
}

impl OnnxModel {
    /// Returns the model as layers with its weights.
    ///
    /// # Errors
    /// When it has several inputs or outputs, or is not made of layers: the message names the node where that is seen.
    pub fn to_layers(&self) -> Result<OnnxLayers> {
        let ([input], [output]) = (self.inputs(), self.outputs()) else {
            return Err(Error::invalid_argument("a network of layers has one input and one output"));
        };
        let mut reader = Reader::new(self);
        let chain = reader.chain(&input.name, output)?;
        Ok(OnnxLayers { spec: chain.into(), tensors: reader.tensors })
    }
}

/// Reads the layers of a model.
struct Reader<'a> {
    model: &'a OnnxModel,
    /// The positions of the nodes that use each value.
    users: HashMap<&'a str, Vec<usize>>,
    /// The positions of the nodes that compute each value.
    producers: HashMap<&'a str, usize>,
    tensors: Vec<Tensor>,
    /// Whether images have become rows of features.
    is_flat: bool,
}

impl<'a> Reader<'a> {
    fn new(model: &'a OnnxModel) -> Self {
        let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut producers = HashMap::new();
        for (i, node) in model.nodes().iter().enumerate() {
            for name in node.input.iter().filter(|name| !name.is_empty() && model.constant_of(name).is_none())
            {
                users.entry(name).or_default().push(i);
            }
            producers.extend(node.output.iter().map(|output| (output.as_str(), i)));
        }
        Reader { model, users, producers, tensors: Vec::new(), is_flat: false }
    }

    /// Returns the layers from one value to another.
    fn chain(&mut self, start: &'a str, end: &'a str) -> Result<Sequential> {
        let inside = self.between(start, end);
        let mut chain = Sequential::new();
        let mut value = start;
        while value != end {
            let users = self.users_in(value, &inside);
            let &[first, ..] = users.as_slice() else {
                return Err(Error::invalid_argument(format!(
                    "no layers lead from the value {value} to {end}"
                )));
            };
            let node = &self.model.nodes()[first];
            if users.len() == 1 {
                if let Some(layer) = self.layer(node).context(|| describe(node))? {
                    chain = chain.then(layer);
                }
                value = output_of(node)?;
                continue;
            }
            let join = &self.model.nodes()[self.join(value, first, &inside).ok_or_else(|| {
                Error::invalid_argument("the branches that follow do not meet again in one node")
                    .context(describe(node))
            })?];
            let layer = self.block(value, join).context(|| describe(join))?;
            chain = chain.then(layer);
            value = output_of(join)?;
        }
        Ok(chain)
    }

    /// Returns the positions of the nodes on all ways from one value to another.
    fn between(&self, start: &str, end: &str) -> HashSet<usize> {
        let mut inside = HashSet::new();
        let mut values = vec![end];
        while let Some(value) = values.pop() {
            let producer = self.producers.get(value).filter(|_| value != start);
            if let Some(&node) = producer
                && inside.insert(node)
            {
                values.extend(self.model.nodes()[node].input.iter().map(String::as_str));
            }
        }
        inside
    }

    fn users_in(&self, value: &str, inside: &HashSet<usize>) -> Vec<usize> {
        let users = self.users.get(value).into_iter().flatten().copied();
        users.filter(|user| inside.contains(user)).collect()
    }

    /// Returns the node where all that follows from a value meets: after it, only its output is still used.
    fn join(&self, value: &'a str, first: usize, inside: &HashSet<usize>) -> Option<usize> {
        let mut open: HashMap<&str, usize> = HashMap::from([(value, self.users_in(value, inside).len())]);
        for (i, node) in self.model.nodes().iter().enumerate().skip(first).filter(|(i, _)| inside.contains(i))
        {
            let mut is_behind = false;
            for name in &node.input {
                if let Some(left) = open.get_mut(name.as_str()) {
                    *left -= 1;
                    is_behind = true;
                }
            }
            if !is_behind {
                continue;
            }
            open.retain(|_, left| *left > 0);
            if open.is_empty() {
                return Some(i);
            }
            let output = node.output.first()?;
            open.insert(output, self.users_in(output, inside).len());
            open.retain(|_, left| *left > 0);
        }
        None
    }

    /// Returns the block of the branches between a value and the node where they meet.
    fn block(&mut self, value: &'a str, join: &'a NodeProto) -> Result<LayerSpec> {
        let ends: Vec<&str> = join.input.iter().map(String::as_str).collect();
        match (join.op_type.as_str(), ends.as_slice()) {
            ("Add", &[a, b]) => {
                // The body is the branch with more nodes; its tensors come first.
                let (body, shortcut) = if self.between(value, a).len() >= self.between(value, b).len() {
                    (a, b)
                } else {
                    (b, a)
                };
                let (body, shortcut) = (self.chain(value, body)?, self.chain(value, shortcut)?);
                Ok(layers::Residual {
                    label: None,
                    body: named(body, "body"),
                    shortcut: named(shortcut, "shortcut"),
                    activation: None,
                    order: Vec::new(),
                }
                .into())
            }
            ("Concat", ends) => {
                let dim = attribute(join, "axis").and_then(|axis| axis.i).unwrap_or(1) as isize;
                let mut branches = Vec::with_capacity(ends.len());
                for (i, end) in ends.iter().enumerate() {
                    branches.push(named(self.chain(value, end)?, &format!("branch{i}_")));
                }
                Ok(layers::Concat { label: None, dim, branches }.into())
            }
            ("Mul", &[a, b]) if a == value || b == value => {
                let end = if a == value { b } else { a };
                let body = self.chain(value, end)?;
                match body.layers.as_slice() {
                    [only] if only.layer == layers::Sigmoid {}.into() => Ok(layers::SiLU {}.into()),
                    _ => {
                        Ok(layers::Gate { label: None, body: named(body, "gate"), order: Vec::new() }.into())
                    }
                }
            }
            _ => Err(Error::invalid_argument("branches that meet in such a node are no layer")),
        }
    }

    /// Returns the constant tensors of a node from input 1 on.
    fn weights(&self, node: &NodeProto) -> Result<Vec<Tensor>> {
        let constant = |name: &String| {
            self.model
                .constant_of(name)
                .ok_or_else(|| Error::invalid_argument(format!("the input {name} is not constant")))
        };
        node.input.iter().skip(1).filter(|name| !name.is_empty()).map(constant).collect()
    }

    /// Returns the layer of a node with one input that is not constant; `None` for one that does nothing.
    fn layer(&mut self, node: &NodeProto) -> Result<Option<LayerSpec>> {
        let float = |name: &str, default: f64| {
            attribute(node, name).and_then(|found| found.f).map_or(default, f64::from)
        };
        let int =
            |name: &str, default: i64| attribute(node, name).and_then(|found| found.i).unwrap_or(default);
        let pair = |name: &str, default: [usize; 2]| match attribute(node, name)
            .map(|found| found.ints.as_slice())
        {
            None => Ok(default),
            Some(&[a, b]) if a >= 0 && b >= 0 => Ok([a as usize, b as usize]),
            Some(values) => Err(Error::invalid_argument(format!("{name} is {values:?}, a layer has a pair"))),
        };
        let padding = || match attribute(node, "pads").map(|found| found.ints.as_slice()) {
            None => Ok([0, 0]),
            Some(&[a, b, c, d]) if a == c && b == d && a >= 0 && b >= 0 => Ok([a as usize, b as usize]),
            Some(pads) => Err(Error::invalid_argument(format!("the pads {pads:?} are not those of a layer"))),
        };
        if attribute(node, "auto_pad").is_some_and(|found| found.s.as_deref() != Some(b"NOTSET")) {
            return Err(Error::invalid_argument("a layer has no auto_pad"));
        }
        let weights = if node.op_type == "Constant" { Vec::new() } else { self.weights(node)? };
        let layer: LayerSpec = match node.op_type.as_str() {
            "Identity" => return Ok(None),
            "Relu" => layers::ReLU {}.into(),
            "Sigmoid" => layers::Sigmoid {}.into(),
            "Tanh" => layers::Tanh {}.into(),
            "HardSwish" => layers::Hardswish {}.into(),
            "HardSigmoid" if (float("alpha", 0.2) - 1.0 / 6.0).abs() < 1e-7 => layers::Hardsigmoid {}.into(),
            "LeakyRelu" => layers::LeakyReLU { negative_slope: float("alpha", 0.01) }.into(),
            "Elu" => layers::ELU { alpha: float("alpha", 1.0) }.into(),
            "Clip" if is_relu6(node, &weights)? => layers::ReLU6 {}.into(),
            "Dropout" => layers::Dropout { p: float("ratio", 0.5) }.into(),
            "Softmax" => layers::Softmax { dim: int("axis", -1) as isize }.into(),
            "LogSoftmax" => layers::LogSoftmax { dim: int("axis", -1) as isize }.into(),
            "GlobalAveragePool" => layers::GlobalAvgPool2d {}.into(),
            "Flatten" if int("axis", 1) == 1 => self.flatten(),
            "Reshape" if is_to_rows(&weights)? => self.flatten(),
            "MaxPool" => {
                let stride = pair("strides", [1, 1])?;
                let (padding, is_longer) = pool_padding(node, stride)?;
                layers::MaxPool2d {
                    kernel_size: pair("kernel_shape", [1, 1])?,
                    stride: Some(stride),
                    padding,
                    dilation: pair("dilations", [1, 1])?,
                    ceil_mode: is_longer || int("ceil_mode", 0) != 0,
                }
                .into()
            }
            "AveragePool" => {
                let stride = pair("strides", [1, 1])?;
                let (padding, is_longer) = pool_padding(node, stride)?;
                let count_include_pad = int("count_include_pad", 0) != 0;
                if is_longer && count_include_pad {
                    return Err(Error::invalid_argument("a layer does not count such padding"));
                }
                layers::AvgPool2d {
                    kernel_size: pair("kernel_shape", [1, 1])?,
                    stride: Some(stride),
                    padding,
                    ceil_mode: is_longer || int("ceil_mode", 0) != 0,
                    count_include_pad,
                    divisor_override: None,
                }
                .into()
            }
            "Conv" => {
                let groups = usize::try_from(int("group", 1)).unwrap_or(1);
                let [out, inner, kh, kw] =
                    weights.first().map_or_else(|| Shape::scalar().nchw(), |w| w.shape().nchw())?;
                self.tensors.extend(weights.iter().cloned());
                layers::Conv2d {
                    in_channels: inner * groups,
                    out_channels: out,
                    kernel_size: [kh, kw],
                    stride: pair("strides", [1, 1])?,
                    padding: padding()?,
                    same_padding: false,
                    dilation: pair("dilations", [1, 1])?,
                    groups,
                    bias: weights.len() > 1,
                    flip: false,
                }
                .into()
            }
            "Gemm" if float("alpha", 1.0) == 1.0 && float("beta", 1.0) == 1.0 && int("transA", 0) == 0 => {
                self.linear(weights, int("transB", 0) != 0)?
            }
            "BatchNormalization" => {
                let channels = weights.first().map_or(0, |weight| weight.shape().elements());
                let eps = float("epsilon", 1e-5);
                self.tensors.extend(weights);
                if self.is_flat {
                    layers::BatchNorm1d { eps, ..layers::BatchNorm1d::new(channels) }.into()
                } else {
                    layers::BatchNorm2d { eps, ..layers::BatchNorm2d::new(channels) }.into()
                }
            }
            _ => return Err(Error::invalid_argument("the node is no layer")),
        };
        Ok(Some(layer))
    }

    fn flatten(&mut self) -> LayerSpec {
        self.is_flat = true;
        layers::Flatten::default().into()
    }

    fn linear(&mut self, weights: Vec<Tensor>, is_transposed: bool) -> Result<LayerSpec> {
        self.is_flat = true;
        let mut weights = weights.into_iter();
        let weight = weights.next().ok_or_else(|| Error::invalid_argument("the weight is missing"))?;
        let weight = if is_transposed {
            weight
        } else {
            neocog_tensor::run_single(&neocog_tensor::ops::Permute::new(&[1, 0]), &[&weight])?
        };
        let &[out, features] = weight.shape().extents() else {
            return Err(Error::shape(format!("the weight is {}", weight.shape())));
        };
        let bias = weights.next();
        self.tensors.push(weight);
        let has_bias = bias.is_some();
        self.tensors.extend(bias);
        Ok(layers::Linear { in_features: features, out_features: out, bias: has_bias }.into())
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// Returns the padding of a pooling, and whether more at the end lets a last window extend beyond it, as `ceil_mode` does.
fn pool_padding(node: &NodeProto, stride: [usize; 2]) -> Result<([usize; 2], bool)> {
    let Some(pads) = attribute(node, "pads") else { return Ok(([0, 0], false)) };
    let error = || Error::invalid_argument(format!("the pads {:?} are not those of a layer", pads.ints));
    let &[a, b, c, d] = pads.ints.as_slice() else { return Err(error()) };
    let more = [c.saturating_sub(a), d.saturating_sub(b)];
    let fits =
        a >= 0 && b >= 0 && more.iter().zip(stride).all(|(more, stride)| (0..stride as i64).contains(more));
    if fits { Ok(([a as usize, b as usize], more != [0, 0])) } else { Err(error()) }
}

fn output_of(node: &NodeProto) -> Result<&str> {
    let output = node.output.first().map(String::as_str);
    output.ok_or_else(|| Error::format("the node has no output").context(describe(node)))
}

/// Returns the layers with names that are unique within a block.
fn named(chain: Sequential, prefix: &str) -> Vec<layers::Child> {
    let named =
        |(i, child): (usize, layers::Child)| layers::Child::named(format!("{prefix}{i}"), child.layer);
    chain.layers.into_iter().enumerate().map(named).collect()
}

fn is_relu6(node: &NodeProto, limits: &[Tensor]) -> Result<bool> {
    let limit = |name: &str, i: usize| match limits.get(i) {
        Some(tensor) => tensor.item().map(Some),
        None => Ok(attribute(node, name).and_then(|found| found.f).map(f64::from)),
    };
    Ok(limit("min", 0)? == Some(0.0) && limit("max", 1)? == Some(6.0))
}

/// Whether the new shape of a reshape is `[n, -1]`.
fn is_to_rows(shape: &[Tensor]) -> Result<bool> {
    let [shape] = shape else { return Ok(false) };
    Ok(matches!(integers(shape)?[..], [-1..=1, -1] | [-1, _]))
}
