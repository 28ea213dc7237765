//! Memory layout of the values of a plan on the CPU.
//!
//! All values between input and output share one buffer. A value is live from the node that computes it to the last node that
//! uses it; values that are live at the same time do not overlap. The largest values are placed first, each at the lowest free
//! offset. Parts of concatenated values are stored within them.

use neocog_base::Result;
use neocog_tensor::Program;
use neocog_tensor::program::{Base, Instruction, Operand, Place};

use crate::graph::{Graph, Source};

/// Alignment of values in floats: a cache line.
const ALIGN: usize = 16;

/// The place of a value within another one, its root, which is within no other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub root: usize,
    /// Position of its first element in the root.
    pub offset: usize,
    /// Distance between positions of its first axis.
    pub batch_stride: usize,
}

/// Returns the slots of all values.
pub(crate) fn slots(graph: &Graph) -> Vec<Slot> {
    let mut reshaped = vec![None; graph.value_count()];
    for node in graph.nodes() {
        if let Some(value) = node.reshaped() {
            reshaped[node.outputs[0]] = Some(value);
        }
    }
    (0..graph.value_count()).map(|value| slot(graph, &reshaped, value)).collect()
}

fn slot(graph: &Graph, reshaped: &[Option<usize>], value: usize) -> Slot {
    let row = graph.shape(value).row();
    match (graph.part(value), reshaped[value]) {
        (Some(part), _) => {
            let whole = slot(graph, reshaped, part.of);
            Slot { offset: whole.offset + part.offset, ..whole }
        }
        (None, Some(other)) => Slot { batch_stride: row, ..slot(graph, reshaped, other) },
        (None, None) => Slot { root: value, offset: 0, batch_stride: row },
    }
}

/// Live range of a value: from the node that computes it to the last node that uses it.
#[derive(Clone, Copy, Debug)]
struct LiveRange {
    first: usize,
    last: usize,
}

impl LiveRange {
    fn overlaps(&self, other: &LiveRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where an output of a graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputPlace {
    /// The input at a position, in another shape.
    Input(usize),
    /// The output of the program at a position, in another shape.
    Computed(usize),
}

/// Creates the program of a graph, and returns where the outputs of the graph are; no program if all are inputs.
pub(crate) fn program(graph: &Graph) -> Result<(Option<Program>, Vec<OutputPlace>)> {
    let slots = slots(graph);
    // The values that are outputs of the program, each once.
    let mut roots: Vec<usize> = Vec::new();
    let mut places = Vec::with_capacity(graph.outputs().len());
    for &output in graph.outputs() {
        let root = slots[output].root;
        if root < graph.input_count() {
            places.push(OutputPlace::Input(root));
            continue;
        }
        let at = roots.iter().position(|other| *other == root).unwrap_or_else(|| {
            roots.push(root);
            roots.len() - 1
        });
        places.push(OutputPlace::Computed(at));
    }
    if roots.is_empty() {
        return Ok((None, places));
    }
    let (offsets, floats) =
        offsets(graph, &slots, |value| value >= graph.input_count() && !roots.contains(&value));
    let value = |value: usize| {
        let Slot { root, offset, batch_stride } = slots[value];
        let base = match roots.iter().position(|other| *other == root) {
            Some(k) => Base::Output(k),
            None if root < graph.input_count() => Base::Input(root),
            None => Base::Buffer,
        };
        (Place { base, offset: offsets[root] + offset, batch_stride }, *graph.shape(value))
    };
    let nodes = graph.nodes().iter().filter(|node| node.reshaped().is_none());
    let instructions = nodes.map(|node| Instruction {
        op: node.op.clone(),
        inputs: node
            .inputs
            .iter()
            .map(|source| match source {
                Source::Constant(tensor) => Operand::Constant(tensor.clone()),
                Source::Value(number) => Operand::Value(value(*number)),
            })
            .collect(),
        outputs: node.outputs.iter().map(|number| value(*number)).collect(),
        scope: node.scope.clone(),
    });
    let inputs = (0..graph.input_count()).map(|value| *graph.shape(value)).collect();
    let outputs = roots.iter().map(|root| *graph.shape(*root)).collect();
    Ok((Some(Program::new(instructions.collect(), inputs, outputs, floats)?), places))
}

/// Returns the offset of each root in the buffer, and the size of the buffer. Only roots with `is_in_buffer` are placed.
fn offsets(graph: &Graph, slots: &[Slot], is_in_buffer: impl Fn(usize) -> bool) -> (Vec<usize>, usize) {
    let ranges = live_ranges(graph, slots);
    let is_root = |value: usize| slots[value].root == value && ranges[value].is_some();
    let mut values: Vec<usize> = (0..slots.len()).filter(|&v| is_root(v) && is_in_buffer(v)).collect();
    values.sort_by_key(|&v| (std::cmp::Reverse(graph.shape(v).elements()), v));
    let size = |value: usize| graph.shape(value).elements().next_multiple_of(ALIGN);
    let mut offsets = vec![0; slots.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(values.len());
    let mut floats = 0;
    for value in values {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| ranges[value].zip(ranges[other]).is_some_and(|(a, b)| a.overlaps(&b)))
            .map(|&other| (offsets[other], size(other)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, len) in taken {
            if offset + size(value) <= start {
                break;
            }
            offset = offset.max(start + len);
        }
        offsets[value] = offset;
        floats = floats.max(offset + size(value));
        placed.push(value);
    }
    (offsets, floats)
}

/// Returns the live range of each root: the union of those of the values within it.
fn live_ranges(graph: &Graph, slots: &[Slot]) -> Vec<Option<LiveRange>> {
    let mut ranges: Vec<Option<LiveRange>> = vec![None; graph.value_count()];
    let mut extend = |value: usize, node: usize| {
        let range = ranges[slots[value].root].get_or_insert(LiveRange { first: node, last: node });
        *range = LiveRange { first: range.first.min(node), last: range.last.max(node) };
    };
    for (i, node) in graph.nodes().iter().enumerate() {
        node.outputs.iter().for_each(|value| extend(*value, i));
    }
    for (value, last) in graph.last_uses().into_iter().enumerate() {
        last.into_iter().for_each(|last| extend(value, last));
    }
    ranges
}
