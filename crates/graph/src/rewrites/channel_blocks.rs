//! Brings feature maps into blocks of channels, the layout that convolutions on the CPU compute in.
//!
//! An operation that has a form in blocks ([`Op::in_channel_blocks`](neocog_tensor::Op::in_channel_blocks)) takes it if it is faster so,
//! or if a value that it uses is in blocks. Between such operations nothing is transposed; values are brought into blocks, and out
//! of them, where others compute or use them, once each.

use neocog_base::Result;
use neocog_tensor::ops::{
    Add, Concat, Conv2d, Conv2dGeometry, Flatten, FromChannelBlocks, GlobalAvgPool2d, Linear, MaxPool2d, Mul,
    Relu, Reshape, Sigmoid, ToChannelBlocks,
};
use neocog_tensor::profile::Scope;
use neocog_tensor::{BlockForm, Device, Op, Pass, Shape, Shapes};
use smallvec::smallvec;
use std::sync::Arc;

use super::{push, random};
use crate::graph::{Graph, Node, Source};
use crate::register_rewrite;
use crate::rewrite::{Case, LAYOUT_ORDER, Target};

register_rewrite!(
    "channel_blocks",
    order LAYOUT_ORDER,
    |target| target.pass == Pass::Inference && *target.device == Device::Cpu,
    bring_into_blocks,
    cases
);

fn bring_into_blocks(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    let nodes = graph.take_nodes();
    let mut layouts = Layouts::new(graph);
    for node in nodes {
        match layouts.form_of(&node) {
            Some(form) => layouts.push_in_blocks(node, form)?,
            None => layouts.push_plain(node)?,
        }
    }
    let nodes = layouts.finish()?;
    graph.set_nodes(nodes)
}

/// The values of a graph, in the layouts that they are needed in.
struct Layouts<'a> {
    graph: &'a mut Graph,
    nodes: Vec<Node>,
    lanes: usize,
    /// Whether each value of the graph as it was is computed, and the value that it is in blocks.
    is_plain: Vec<bool>,
    blocks: Vec<Option<usize>>,
}

impl<'a> Layouts<'a> {
    fn new(graph: &'a mut Graph) -> Self {
        let mut is_plain = vec![false; graph.value_count()];
        is_plain[..graph.input_count()].fill(true);
        let blocks = vec![None; graph.value_count()];
        Layouts { graph, nodes: Vec::new(), lanes: ToChannelBlocks::default().lanes, is_plain, blocks }
    }

    /// Returns the form in blocks of a node that should take it.
    fn form_of(&self, node: &Node) -> Option<BlockForm> {
        let form = node.op.in_channel_blocks(&self.graph.input_shapes(node))?;
        let wanted = node.inputs.iter().zip(&form.inputs).filter(|(_, in_blocks)| **in_blocks);
        let is_there =
            wanted.filter_map(|(source, _)| source.value()).any(|value| self.blocks[value].is_some());
        (node.outputs.len() == 1 && (form.is_faster || is_there)).then_some(form)
    }

    fn push_in_blocks(&mut self, mut node: Node, form: BlockForm) -> Result<()> {
        for (source, in_blocks) in node.inputs.iter_mut().zip(&form.inputs) {
            match source {
                Source::Value(value) if *in_blocks => *value = self.in_blocks(*value, &node.scope)?,
                Source::Value(value) => self.make_plain(*value, &node.scope)?,
                Source::Constant(tensor) if *in_blocks => {
                    let op = ToChannelBlocks { lanes: self.lanes };
                    *tensor = neocog_tensor::run_single(&op, &[tensor])?;
                }
                Source::Constant(_) => {}
            }
        }
        let shapes: Shapes = self.graph.input_shapes(&node);
        let value = self.graph.add_value(form.op.infer(&shapes)?[0]);
        self.blocks[node.outputs[0]] = Some(value);
        self.nodes.push(Node { op: form.op, outputs: smallvec![value], ..node });
        Ok(())
    }

    fn push_plain(&mut self, node: Node) -> Result<()> {
        for value in node.values() {
            self.make_plain(value, &node.scope)?;
        }
        node.outputs.iter().for_each(|value| self.is_plain[*value] = true);
        self.nodes.push(node);
        Ok(())
    }

    /// Returns a value in blocks, which an operation of `scope` needs.
    fn in_blocks(&mut self, value: usize, scope: &Scope) -> Result<usize> {
        if let Some(value) = self.blocks[value] {
            return Ok(value);
        }
        let shape = *self.graph.shape(value);
        let to = ToChannelBlocks { lanes: self.lanes };
        let blocked = to.infer(&[shape])?[0];
        let value_in_blocks = self.graph.add_value(blocked);
        self.convert(value, value_in_blocks, shape, blocked, Arc::new(to), scope);
        self.blocks[value] = Some(value_in_blocks);
        Ok(value_in_blocks)
    }

    /// Computes a value out of blocks, if it is there in blocks only.
    fn make_plain(&mut self, value: usize, scope: &Scope) -> Result<()> {
        if self.is_plain[value] {
            return Ok(());
        }
        if let Some(from) = self.blocks[value] {
            let [shape, plain] = [*self.graph.shape(from), *self.graph.shape(value)];
            let op = FromChannelBlocks { channels: plain[1] };
            self.convert(from, value, shape, plain, Arc::new(op), scope);
            self.is_plain[value] = true;
        }
        Ok(())
    }

    fn convert(&mut self, from: usize, to: usize, old: Shape, new: Shape, op: Arc<dyn Op>, scope: &Scope) {
        // Full blocks of single pixels have the order of the channels.
        let is_same =
            old.elements() == new.elements() && old.iter().skip(2).take(2).all(|extent| *extent == 1);
        let op = if is_same { Arc::new(Reshape { shape: new }) } else { op };
        let scope = scope.clone();
        self.nodes.push(Node { op, inputs: smallvec![Source::Value(from)], outputs: smallvec![to], scope });
    }

    /// Computes the outputs out of blocks, and returns all operations.
    fn finish(mut self) -> Result<Vec<Node>> {
        for value in self.graph.outputs().to_vec() {
            self.make_plain(value, &Scope::default())?;
        }
        Ok(self.nodes)
    }
}

fn cases() -> Vec<Case> {
    let wide = ToChannelBlocks::default().lanes;
    let conv = |graph: &mut Graph, value: usize, out: usize, size: usize, groups: usize, device: &Device| {
        let weights = [
            random([out, graph.shape(value)[1] / groups, size, size], 2, device)?,
            random([out], 3, device)?,
        ];
        let geometry = Conv2dGeometry { padding: [size / 2; 2], groups, ..Conv2dGeometry::default() };
        push(graph, Conv2d::new(geometry, None), value, &weights)
    };
    let both = |graph: &mut Graph, op: &dyn Fn() -> Arc<dyn Op>, a: usize, b: usize| {
        graph.push_shared(op(), [Source::Value(a), Source::Value(b)], Scope::default())
    };
    let chain = move |device: &Device| {
        let mut graph = Graph::new([[5, 3, 9, 8].into()]);
        let y = conv(&mut graph, 0, wide + 3, 3, 1, device)?;
        let y = push(&mut graph, Relu, y, &[])?;
        let y = conv(&mut graph, y, 2 * wide, 1, 1, device)?;
        let y = push(&mut graph, Sigmoid, y, &[])?;
        let y = conv(&mut graph, y, 2 * wide, 3, 2 * wide, device)?;
        let y = push(&mut graph, GlobalAvgPool2d, y, &[])?;
        let y = push(&mut graph, Flatten { start_dim: 1, end_dim: -1 }, y, &[])?;
        let y = push(&mut graph, Linear::default(), y, &[random([5, 2 * wide], 9, device)?])?;
        graph.set_outputs([y])?;
        Ok(graph)
    };
    let residual = move |device: &Device| {
        let mut graph = Graph::new([[1, wide + 3, 6, 5].into()]);
        let y = conv(&mut graph, 0, wide + 3, 3, 1, device)?;
        let sum = both(&mut graph, &|| Arc::new(Add), y, 0)?;
        let pool = MaxPool2d {
            kernel_size: [2, 2],
            stride: [2, 2],
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
            return_indices: false,
        };
        let z = push(&mut graph, pool, sum, &[])?;
        graph.set_outputs([z, sum])?;
        Ok(graph)
    };
    let gate = move |device: &Device| {
        let mut graph = Graph::new([[2, wide, 6, 5].into()]);
        let y = conv(&mut graph, 0, wide + 3, 1, 1, device)?;
        let mean = push(&mut graph, GlobalAvgPool2d, y, &[])?;
        let gate = push(&mut graph, Sigmoid, mean, &[])?;
        let z = both(&mut graph, &|| Arc::new(Mul), y, gate)?;
        graph.set_outputs([z])?;
        Ok(graph)
    };
    let concat = move |first: usize| {
        move |device: &Device| {
            let mut graph = Graph::new([[2, wide, 6, 5].into()]);
            let a = conv(&mut graph, 0, first, 1, 1, device)?;
            let b = conv(&mut graph, 0, wide + 1, 3, 1, device)?;
            let y = both(&mut graph, &|| Arc::new(Concat { dim: 1 }), a, b)?;
            let z = conv(&mut graph, y, wide, 1, 1, device)?;
            graph.set_outputs([z])?;
            Ok(graph)
        }
    };
    let few = move |images: usize, size: usize, out: usize| {
        move |device: &Device| {
            let mut graph = Graph::new([[images, 3, size, size].into()]);
            let y = conv(&mut graph, 0, out, 3, 1, device)?;
            graph.set_outputs([y])?;
            Ok(graph)
        }
    };
    let (to, from, block) = ("to_channel_blocks", "from_channel_blocks", "in_channel_blocks");
    vec![
        Case::new(
            "a chain",
            chain,
            ["conv2d", "relu", to, block, "sigmoid", block, block, "reshape", "flatten", "linear"],
        ),
        Case::new(
            "a sum with a value that is not in blocks",
            residual,
            [to, block, "add", block, from, from],
        ),
        Case::new("a gate of channels", gate, [to, block, block, "sigmoid", "mul", from]),
        Case::new("concatenated full blocks", concat(2 * wide), [to, block, block, "concat", block, from]),
        Case::new(
            "concatenated incomplete blocks",
            concat(wide + 1),
            [to, block, block, from, from, "concat", to, block, from],
        ),
        Case::new("few channels to few", few(5, 16, 4), ["conv2d"]),
        Case::new("few channels of a small image", few(5, 6, wide), ["conv2d"]),
        Case::new("few channels of a large image", few(5, 16, wide), [block, from]),
        Case::new("few channels of one image", few(1, 6, 4), [block, from]),
    ]
}
