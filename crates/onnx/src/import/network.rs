//! A model that classifies images, as a layer: for all that runs networks.

use std::any::Any;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use neocog_autograd::{Param, Var};
use neocog_base::text::count;
use neocog_base::{Error, Result};
use neocog_graph::{Graph, Node, Source};
use neocog_layers::{Context, Layer, Visitor};
use neocog_tensor::ops::{Concat, MaxPool2d, Narrow, Round, Scale, Softmax};
use neocog_tensor::profile::Scope;
use neocog_tensor::{Device, Shape, Tensor};

use super::converted::OutputSource;
use super::model::OnnxModel;
use super::names::name_of;
use super::node::find;
use crate::proto::DataType;

/// A model with one input, images `[n, c, h, w]`, as a layer in evaluation mode. Its output is the first one of the model, or what a
/// softmax at the end of the model is applied to: the logits. A model whose input are bytes gets 255 times that of the layer; one for
/// batches of a fixed size gets others in parts of that size, filled up with images of zeros.
///
/// The model is converted at the first use of an input shape. Its constants are not parameters: it cannot be trained.
#[derive(Debug)]
pub struct OnnxNetwork {
    model: Arc<OnnxModel>,
    device: Device,
    graphs: Mutex<HashMap<Shape, Arc<Graph>>>,
}

/// A node of a model, for an input of some shape.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OnnxRow {
    /// Its name, or that of its first output.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// The shape of its output.
    pub output: Shape,
    /// The number of elements of its floating-point constants that no node before it has.
    pub parameters: usize,
    /// Its multiply-adds.
    pub multiply_adds: u64,
}

impl OnnxNetwork {
    /// Creates the layer of a model on a device.
    ///
    /// # Errors
    /// When the model has nodes that are not supported, several inputs, or another input than images of floats.
    pub fn new(model: impl Into<Arc<OnnxModel>>, device: &Device) -> Result<Self> {
        let model = model.into();
        model.check_supported()?;
        let [input] = model.inputs() else {
            let names: Vec<&str> = model.inputs().iter().map(|input| input.name.as_str()).collect();
            return Err(Error::invalid_argument(format!(
                "a network that classifies images has one input, the model has {} ({}); `run` runs it on arrays",
                names.len(),
                names.join(", ")
            )));
        };
        use DataType::{Double, Float, Float16, Uint8};
        if !matches!(input.data_type, Float | Double | Float16 | Uint8) {
            return Err(Error::invalid_argument(format!(
                "the input {} is of type {}, not of floats or bytes; `run` runs the model on arrays",
                input.name,
                input.data_type.name()
            )));
        }
        if input.dims.as_ref().is_some_and(|dims| dims.len() != 4) {
            return Err(Error::invalid_argument(format!(
                "the input {} is not images [n, c, h, w]; `run` runs the model on arrays",
                input.name
            )));
        }
        Ok(OnnxNetwork { model, device: *device, graphs: Mutex::default() })
    }

    /// Returns the model.
    pub fn model(&self) -> &OnnxModel {
        &self.model
    }

    /// Whether the input of the model are bytes, which it normalizes itself.
    pub fn has_byte_input(&self) -> bool {
        self.model.inputs().first().is_some_and(|input| input.data_type == DataType::Uint8)
    }

    /// Returns the extents of the input, `[n, c, h, w]`, `None` for those that are not fixed.
    pub fn input(&self) -> [Option<usize>; 4] {
        let dims = self.model.inputs().first().and_then(|input| input.dims.as_deref());
        dims.and_then(|dims| dims.try_into().ok()).unwrap_or_default()
    }

    /// Returns the nodes that compute something, for an image `[c, h, w]` or as many as the model is for.
    ///
    /// # Errors
    /// When a node does not accept its inputs.
    pub fn rows(&self, [c, h, w]: [usize; 3]) -> Result<Vec<OnnxRow>> {
        let graph = self.graph(&Shape::new(&[self.input()[0].unwrap_or(1), c, h, w])?)?;
        let mut computed: HashMap<&str, (Shape, u64)> = HashMap::new();
        for node in graph.nodes() {
            let outputs: Vec<Shape> = node.outputs.iter().map(|value| *graph.shape(*value)).collect();
            let multiply_adds = node.op.multiply_adds(&graph.input_shapes(node), &outputs);
            let Some((name, output)) = node.scope.name().zip(outputs.first()) else { continue };
            let (shape, sum) = computed.entry(name).or_insert((*output, 0));
            (*shape, *sum) = (*output, sum.saturating_add(multiply_adds));
        }
        let mut counted = HashSet::new();
        let mut rows = Vec::new();
        for node in self.model.nodes() {
            let Some(&(output, multiply_adds)) = computed.get(name_of(node)) else { continue };
            let new = node.input.iter().filter(|name| counted.insert(name.as_str()));
            rows.push(OnnxRow {
                name: name_of(node).to_string(),
                operator: node.op_type.clone(),
                output,
                parameters: new.map(|name| self.model.parameters_of(name)).sum(),
                multiply_adds,
            });
        }
        Ok(rows)
    }

    /// Computes the output of a number of images in batches of the size that the model is for, the last one filled up with zeros.
    fn in_batches(&self, context: &Context<'_>, input: &Var, [images, batch]: [usize; 2]) -> Result<Var> {
        let tape = context.tape();
        let mut outputs = Vec::with_capacity(images.div_ceil(batch));
        for start in (0..images).step_by(batch) {
            let len = batch.min(images - start);
            let mut part = input.clone();
            if len < images {
                part = tape.apply_single(Narrow { dim: 0, start, len }, &[&part])?;
            }
            if len < batch {
                let zeros = Tensor::zeros(input.shape().with_extent(0, batch - len)?, &self.device)?;
                part = tape.apply_single(Concat { dim: 0 }, &[&part, &Var::constant(zeros)])?;
            }
            if images > batch && context.is_observed() {
                return Err(Error::invalid_argument(format!(
                    "what the nodes of the model compute is known for its batch of {batch} only, there are {}",
                    count(images, "image")
                )));
            }
            let output = self.forward_batch(context, &part, len)?;
            outputs.push(match len {
                _ if len == batch => output,
                len => tape.apply_single(Narrow { dim: 0, start: 0, len }, &[&output])?,
            });
        }
        match &outputs[..] {
            [output] => Ok(output.clone()),
            _ => tape.apply_single(Concat { dim: 0 }, &outputs.iter().collect::<Vec<_>>()),
        }
    }

    /// Returns the operations for an input of a shape.
    fn graph(&self, input: &Shape) -> Result<Arc<Graph>> {
        let lock = || self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(graph) = lock().get(input) {
            return Ok(graph.clone());
        }
        let x = [Tensor::zeros(*input, &Device::Meta)?];
        // Names of nodes, whatever the layer that runs the model is called.
        let _outside = Scope::default().enter();
        self.model.check_inputs(&x)?;
        let converted =
            self.model.convert(&x, &BTreeSet::new(), &self.device)?.map_err(|(_, error)| error)?;
        let mut graph = converted.graph;
        let Some((OutputSource::Computed(output), _)) = converted.outputs.first() else {
            return Err(Error::invalid_argument("the output of the model does not depend on its input"));
        };
        graph.set_outputs([logits(&graph, *output)])?;
        let graph = Arc::new(graph);
        lock().insert(*input, graph.clone());
        Ok(graph)
    }
}

/// Returns the input of the softmax over the classes that computes `output`, or else `output`.
fn logits(graph: &Graph, output: usize) -> usize {
    let Some(node) = graph.nodes().iter().find(|node| node.outputs.contains(&output)) else { return output };
    let softmax = (&*node.op as &dyn Any).downcast_ref::<Softmax>();
    match node.inputs[..] {
        [Source::Value(value)] if softmax.is_some_and(|softmax| softmax.dim == 1) => value,
        _ => output,
    }
}

/// Returns the graph with what gradients need besides.
fn differentiable(graph: &Graph) -> Result<Graph> {
    let mut graph = graph.clone();
    let mut nodes = graph.take_nodes();
    for node in &mut nodes {
        let pool = (&*node.op as &dyn Any).downcast_ref::<MaxPool2d>().filter(|pool| !pool.return_indices);
        if let Some(&pool) = pool {
            let indices = graph.add_value(*graph.shape(node.outputs[0]));
            node.op = Arc::new(MaxPool2d { return_indices: true, ..pool });
            node.outputs.push(indices);
        }
    }
    graph.set_nodes(nodes)?;
    Ok(graph)
}

impl Layer for OnnxNetwork {
    fn label(&self) -> &'static str {
        "Onnx"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        if context.is_training() {
            return Err(Error::invalid_argument(
                "an ONNX model cannot be trained as it is; `import` makes a network of layers of it",
            ));
        }
        let images = input.shape().first().copied().unwrap_or(0);
        if let Some(batch) = self.input()[0]
            && images != batch
            && images.min(batch) > 0
        {
            return self.in_batches(context, input, [images, batch]);
        }
        self.forward_batch(context, input, images)
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl OnnxNetwork {
    /// Runs the model for a batch that it accepts, of which `images` are asked for.
    fn forward_batch(&self, context: &Context<'_>, input: &Var, images: usize) -> Result<Var> {
        let graph = self.graph(input.shape())?;
        let tape = context.tape();
        let batch = input.shape().first().copied();
        let input = if self.has_byte_input() {
            let scaled = tape.apply_single(Scale { factor: 255.0 }, &[input])?;
            tape.apply_single(Round, &[&scaled])?
        } else {
            input.clone()
        };
        // Nothing in a model draws random numbers.
        let seed = 0;
        let differentiable = if tape.is_recording() { Some(differentiable(&graph)?) } else { None };
        let graph = differentiable.as_ref().unwrap_or(&graph);
        let mut outputs = if context.is_observed() {
            self.check_names()?;
            let filled = batch.map_or(0, |batch| batch.saturating_sub(images));
            let mut nodes = Nodes { network: self, filled, seen: None };
            let outputs = tape.run_graph_observed(graph, [input], seed, |node, inputs, outputs| {
                if let ([input, ..], [output, ..]) = (inputs, outputs) {
                    nodes.see(context, node, input, output);
                }
            })?;
            nodes.report(context);
            outputs
        } else {
            tape.run_graph(graph, [input], seed)?
        };
        outputs.pop().ok_or_else(|| Error::invalid_argument("no operation computes the output"))
    }
}

impl OnnxNetwork {
    /// Checks that nodes can be told apart by their names.
    fn check_names(&self) -> Result<()> {
        let mut names = HashSet::new();
        match self.model.nodes().iter().map(|node| name_of(node)).find(|name| !names.insert(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::invalid_argument(format!(
                "the model has several nodes named `{name}`; its layers are its nodes, by name: give each node its own"
            ))),
        }
    }
}

/// Reports nodes of a model to an observer. Several operations can be one node.
struct Nodes<'a> {
    network: &'a OnnxNetwork,
    filled: usize,
    /// The current node: its name, its input and its last output, and its parameters.
    seen: Option<(String, Var, Var, OnnxLayer)>,
}

impl Nodes<'_> {
    fn see(&mut self, context: &Context<'_>, node: &Node, input: &Var, output: &Var) {
        let Some(name) = node.scope.name() else { return };
        if self.seen.as_ref().is_none_or(|(seen, ..)| seen != name) {
            self.report(context);
            let operator = self.network.model.nodes().iter().find(|node| name_of(node) == name);
            let converter = operator.and_then(|node| find(&node.domain, &node.op_type));
            let label = converter.map_or(node.op.name(), |converter| converter.op_type);
            let layer = OnnxLayer { label, params: Vec::new() };
            self.seen = Some((name.to_string(), input.clone(), output.clone(), layer));
        }
        if let Some((_, _, last, layer)) = &mut self.seen {
            *last = output.clone();
            layer
                .params
                .extend(node.constants().into_iter().flatten().map(|tensor| Param::new(tensor.clone())));
        }
    }

    fn report(&mut self, context: &Context<'_>) {
        if let Some((name, input, output, layer)) = self.seen.take() {
            context.observe(&name, &layer, &input, &output, self.filled);
        }
    }
}

/// A node of a model as observers see it.
#[derive(Debug)]
struct OnnxLayer {
    label: &'static str,
    /// The constants that it computes with.
    params: Vec<Param>,
}

impl Layer for OnnxLayer {
    fn label(&self) -> &'static str {
        self.label
    }

    fn forward(&self, _context: &Context<'_>, _input: &Var) -> Result<Var> {
        Err(Error::invalid_argument("a node runs within its model"))
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        for (i, param) in self.params.iter().enumerate() {
            visitor.param(&i.to_string(), param);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use neocog_layers::{Builder, Conv2d, Flatten, Linear, MaxPool2d, Predictor, ReLU, Sequential};
    use prost::Message as _;

    use super::*;
    use crate::proto::{DimensionProto, ModelProto};
    use crate::{ExportOptions, Normalization, export_network};

    const IMAGE: [usize; 3] = [2, 6, 6];

    fn layers() -> Box<dyn Layer> {
        let spec = Sequential::new()
            .then(Conv2d::new(2, 3, 3))
            .then(MaxPool2d::new(2, 2))
            .then(ReLU {})
            .then(Flatten::default())
            .then(Linear::new(12, 4));
        Builder::new(&Device::Cpu, 1).build(&spec.into(), &[1, 2, 6, 6].into()).unwrap()
    }

    fn images(count: usize) -> Tensor {
        let values: Vec<f32> = (0..count * 72).map(|i| ((i * 37) % 256) as f32 / 255.0).collect();
        Tensor::from_f32([count, 2, 6, 6], &values, &Device::Cpu).unwrap()
    }

    fn assert_close(found: &Tensor, expected: &Tensor) {
        assert_eq!(found.shape(), expected.shape());
        let (found, expected) = (found.to_f32().unwrap(), expected.to_f32().unwrap());
        let pairs = found.iter().zip(&expected);
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 1e-5), "{found:?} {expected:?}");
    }

    fn opened(options: &ExportOptions, change: impl Fn(&mut ModelProto)) -> OnnxNetwork {
        let bytes = export_network(&*layers(), &IMAGE, options).unwrap();
        let mut proto = ModelProto::decode(&bytes[..]).unwrap();
        change(&mut proto);
        OnnxNetwork::new(OnnxModel::from_bytes(proto.encode_to_vec(), None).unwrap(), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_model_is_a_layer_whose_output_are_logits() {
        let expected = Predictor::new(layers()).run(&images(3)).unwrap();
        let mut options = ExportOptions::new("net");
        for softmax in [false, true] {
            options.softmax = softmax;
            let predictor = Predictor::new(opened(&options, |_| {}).boxed());
            assert_close(&predictor.run(&images(3)).unwrap(), &expected);
            assert!(predictor.reason(&[3, 2, 6, 6].into(), &Device::Cpu).unwrap().is_none());
        }
        // Bytes, which the model itself scales and normalizes.
        options.normalization = Some(Normalization::default());
        let network = opened(&options, |_| {});
        assert!(network.has_byte_input());
        assert_close(&Predictor::new(network.boxed()).run(&images(3)).unwrap(), &expected);
    }

    #[test]
    fn a_model_for_a_fixed_batch_takes_others_in_parts() {
        let network = opened(&ExportOptions::new("net"), |proto| {
            let input = &mut proto.graph.as_mut().unwrap().input[0];
            let tensor = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
            tensor.shape.as_mut().unwrap().dim[0] =
                DimensionProto { dim_value: Some(5), ..DimensionProto::default() };
        });
        assert_eq!(network.input(), [Some(5), Some(2), Some(6), Some(6)]);
        assert_eq!(network.rows(IMAGE).unwrap()[0].output.extents(), [5, 3, 4, 4]);
        let (predictor, own) = (Predictor::new(network.boxed()), Predictor::new(layers()));
        for count in [3, 5, 6, 10, 12] {
            assert_close(&predictor.run(&images(count)).unwrap(), &own.run(&images(count)).unwrap());
            let reason = predictor.reason(&[count, 2, 6, 6].into(), &Device::Cpu).unwrap();
            assert_eq!(reason, None, "{count}");
        }
    }

    /// A node with the shape of its output, the number of images that were added, and the sum of the gradient of the others.
    type SeenNode = (String, Vec<usize>, usize, f64);

    /// Runs three images, and returns what an observer sees.
    fn observed(network: &OnnxNetwork) -> Result<Vec<SeenNode>> {
        struct Seen(std::cell::RefCell<Vec<(String, Var, usize)>>);
        impl neocog_layers::Observer for Seen {
            fn output(&self, seen: &neocog_layers::Seen<'_>) {
                self.0.borrow_mut().push((seen.path.to_string(), seen.output.clone(), seen.filled));
            }
        }
        let count = |tape: &neocog_autograd::Tape| {
            let seen = Seen(std::cell::RefCell::default());
            let x = tape.leaf(images(3));
            let y = Context::eval(tape).observed(&seen).run(network, &x)?;
            Ok::<_, Error>((seen.0.into_inner(), y))
        };
        let nodes = count(&neocog_autograd::Tape::new())?.0.len();
        let node = |i: usize| {
            let tape = neocog_autograd::Tape::new();
            let (seen, y) = count(&tape)?;
            let (path, output, filled) = &seen[i];
            let ones = Tensor::full(*y.shape(), 1.0, &Device::Cpu)?;
            let gradient = tape.gradient_of(output, &[(&y, ones)])?.map_or(Ok(Vec::new()), |g| g.to_f64())?;
            let asked = gradient[..3 * output.shape().row()].iter().map(|g| g.abs()).sum();
            Ok((path.clone(), output.shape().to_vec(), *filled, asked))
        };
        (0..nodes - 1).map(node).collect()
    }

    #[test]
    fn nodes_are_observed_with_their_gradients() {
        let of_any_batch = observed(&opened(&ExportOptions::new("net"), |_| {})).unwrap();
        let of_five = opened(&ExportOptions::new("net"), |proto| {
            let input = &mut proto.graph.as_mut().unwrap().input[0];
            let tensor = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
            tensor.shape.as_mut().unwrap().dim[0] =
                DimensionProto { dim_value: Some(5), ..DimensionProto::default() };
        });
        let of_five = observed(&of_five).unwrap();
        assert_eq!(of_any_batch[0].1, [3, 3, 4, 4]);
        assert_eq!(of_any_batch.len(), of_five.len());
        for ((name, shape, filled, gradient), five) in of_any_batch.iter().zip(&of_five) {
            assert_eq!((filled, &five.0, five.2), (&0, name, 2));
            assert_eq!((shape[0], five.1[0], &shape[1..]), (3, 5, &five.1[1..]), "{name}");
            assert!(
                *gradient > 0.0 && (gradient - five.3).abs() < 1e-5 * gradient,
                "{name}: {gradient} {}",
                five.3
            );
        }
        let error = observed(&opened(&ExportOptions::new("net"), |proto| {
            let nodes = &mut proto.graph.as_mut().unwrap().node;
            nodes.iter_mut().for_each(|node| node.name = "same".into());
        }));
        assert!(error.unwrap_err().to_string().contains("several nodes named `same`"));
    }

    #[test]
    fn rows_have_parameters_and_multiply_adds() {
        let network = opened(&ExportOptions::new("net"), |_| {});
        let rows = network.rows(IMAGE).unwrap();
        let counts: Vec<(&str, usize, u64)> =
            rows.iter().map(|row| (row.operator.as_str(), row.parameters, row.multiply_adds)).collect();
        assert_eq!(counts[0], ("Conv", 57, 16 * 54));
        assert_eq!(counts.last(), Some(&("Gemm", 52, 48)));
        assert_eq!(network.model().parameters(), 57 + 52);
    }

    #[test]
    fn gradients_of_the_input_are_those_of_the_layers() {
        let gradient = |network: &dyn Layer| {
            let tape = neocog_autograd::Tape::new();
            let x = tape.leaf(images(2));
            let y = Context::eval(&tape).run(network, &x).unwrap();
            let loss = tape.apply_single(neocog_tensor::ops::Sum, &[&y]).unwrap();
            tape.backward(&loss).unwrap().get(&x).unwrap().clone()
        };
        let network = opened(&ExportOptions::new("net"), |_| {});
        assert_close(&gradient(&network), &gradient(&*layers()));
        let tape = neocog_autograd::Tape::new();
        let error = Context::train(&tape, 0).run(&network, &Var::constant(images(2))).unwrap_err();
        assert!(error.to_string().contains("cannot be trained as it is"), "{error}");
    }

    impl OnnxNetwork {
        fn boxed(self) -> Box<dyn Layer> {
            Box::new(self)
        }
    }
}
