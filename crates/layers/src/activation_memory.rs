//! Memory of activations, computed from a recorded pass.

use std::collections::{BTreeMap, HashMap, HashSet};

use neocog_autograd::Tape;
use neocog_tensor::Shape;

/// Size of an element on devices that compute in single precision.
const ELEMENT_BYTES: usize = size_of::<f32>();

/// Returns the bytes of a tensor, `usize::MAX` if they are more. Sums saturate as well.
fn bytes_of(shape: &Shape) -> usize {
    shape.elements().saturating_mul(ELEMENT_BYTES)
}

/// Maps the slots of reshaped values to the slot whose memory they share.
#[derive(Default)]
struct Roots(HashMap<usize, usize>);

impl Roots {
    fn root(&self, slot: usize) -> usize {
        self.0.get(&slot).copied().unwrap_or(slot)
    }
}

/// Returns for each operation of a training pass the bytes of the tensors that it is the first to save for its gradient.
/// Parameters are not counted.
pub(crate) fn saved_bytes(tape: &Tape, input: Option<usize>) -> Vec<usize> {
    let mut roots = Roots::default();
    let mut values: HashSet<usize> = input.into_iter().collect();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    tape.for_each_entry(|entry| {
        if entry.op.reshapes() {
            if let Some(input) = entry.inputs[0] {
                roots.0.insert(entry.first_output, roots.root(input));
            }
            all.push(0);
            return;
        }
        values.extend((0..entry.output_shapes.len()).map(|i| entry.first_output + i));
        let saves = entry.op.saves();
        let inputs = entry.inputs.iter().zip(entry.input_shapes).enumerate();
        let inputs = inputs.filter(|(i, _)| saves.saves_input(*i));
        let inputs = inputs.filter_map(|(_, (slot, shape))| Some((roots.root((*slot)?), shape)));
        let outputs = entry.output_shapes.iter().enumerate().filter(|(i, _)| saves.saves_output(*i));
        let outputs = outputs.map(|(i, shape)| (entry.first_output + i, shape));
        let new = inputs.chain(outputs).filter(|(slot, _)| values.contains(slot) && seen.insert(*slot));
        all.push(new.map(|(_, shape): (usize, &Shape)| bytes_of(shape)).fold(0, usize::saturating_add));
    });
    all
}

/// Returns for each operation of an inference pass the bytes of the values that are live while it runs: its inputs and outputs,
/// and the inputs of later operations. `output` is live to the end.
pub(crate) fn live_bytes(tape: &Tape, input: Option<(usize, &Shape)>, output: Option<usize>) -> Vec<usize> {
    let mut roots = Roots::default();
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut last_use: HashMap<usize, usize> = HashMap::new();
    let mut outputs_of: Vec<(usize, usize)> = Vec::new();
    let mut number = 0;
    tape.for_each_entry(|entry| {
        if entry.op.reshapes()
            && let Some(input) = entry.inputs[0]
        {
            roots.0.insert(entry.first_output, roots.root(input));
        } else {
            let outputs = entry.output_shapes.iter().enumerate();
            sizes.extend(outputs.map(|(i, s)| (entry.first_output + i, bytes_of(s))));
        }
        for slot in entry.inputs.iter().flatten() {
            last_use.insert(roots.root(*slot), number);
        }
        outputs_of.push((entry.first_output, entry.output_shapes.len()));
        number += 1;
    });
    if let Some(output) = output {
        last_use.insert(roots.root(output), usize::MAX);
    }
    let mut alive: BTreeMap<usize, usize> = input.map(|(slot, s)| (slot, bytes_of(s))).into_iter().collect();
    let mut all = Vec::with_capacity(outputs_of.len());
    for (number, (first, count)) in outputs_of.into_iter().enumerate() {
        // Outputs that are never read are needed for gradients only.
        let outputs = (first..first + count).filter(|slot| last_use.contains_key(slot));
        alive.extend(outputs.filter_map(|slot| Some((slot, *sizes.get(&slot)?))));
        all.push(alive.values().copied().fold(0, usize::saturating_add));
        alive.retain(|slot, _| last_use.get(slot).is_some_and(|last| *last > number));
    }
    all
}

/// Returns the largest number of bytes that are live in a training step besides the parameters: what is saved for gradients,
/// the values of the forward pass, and gradients, those of the parameters included. The tape has recorded the forward pass;
/// `param` tells which slots are parameters.
pub(crate) fn step_bytes(tape: &Tape, param: impl Fn(usize) -> bool) -> usize {
    struct Operation {
        /// Roots of the inputs and outputs with their bytes.
        inputs: Vec<(usize, usize)>,
        outputs: Vec<(usize, usize)>,
        saves: Vec<(usize, usize)>,
    }
    let mut roots = Roots::default();
    let mut operations = Vec::new();
    tape.for_each_entry(|entry| {
        if entry.op.reshapes() {
            if let Some(input) = entry.inputs[0] {
                roots.0.insert(entry.first_output, roots.root(input));
            }
            return;
        }
        let saves = entry.op.saves();
        let inputs = entry.inputs.iter().zip(entry.input_shapes);
        let inputs: Vec<_> =
            inputs.map(|(slot, shape)| slot.map(|slot| (roots.root(slot), bytes_of(shape)))).collect();
        let outputs: Vec<_> = entry
            .output_shapes
            .iter()
            .enumerate()
            .map(|(i, s)| (entry.first_output + i, bytes_of(s)))
            .collect();
        let saved_inputs = inputs.iter().enumerate().filter(|(i, _)| saves.saves_input(*i));
        let saved_inputs = saved_inputs.filter_map(|(_, input)| *input).filter(|(slot, _)| !param(*slot));
        let saved_outputs = outputs.iter().enumerate().filter(|(i, _)| saves.saves_output(*i));
        let saves = saved_inputs.chain(saved_outputs.map(|(_, output)| *output)).collect();
        operations.push(Operation { inputs: inputs.into_iter().flatten().collect(), outputs, saves });
    });
    let sum = |parts: &HashMap<usize, usize>| parts.values().fold(0usize, |sum, &b| sum.saturating_add(b));
    let mut peak = 0;
    // The first operation that saves a value: it is freed when the backward pass has passed that one.
    let mut saved: HashMap<usize, usize> = HashMap::new();
    let mut first_saved = Vec::with_capacity(operations.len());
    for operation in &operations {
        let mut live = saved.clone();
        live.extend(operation.inputs.iter().filter(|(slot, _)| !param(*slot)).copied());
        live.extend(operation.outputs.iter().copied());
        peak = peak.max(sum(&live));
        let new: Vec<_> =
            operation.saves.iter().filter(|(slot, bytes)| saved.insert(*slot, *bytes).is_none()).collect();
        first_saved.push(new);
    }
    let mut grads: HashMap<usize, usize> =
        operations.last().map(|last| last.outputs.iter().copied().collect()).unwrap_or_default();
    for (operation, first) in operations.iter().zip(first_saved).rev() {
        grads.extend(operation.inputs.iter().copied());
        peak = peak.max(sum(&saved).saturating_add(sum(&grads)));
        operation.outputs.iter().for_each(|(slot, _)| _ = grads.remove(slot));
        first.iter().for_each(|(slot, _)| _ = saved.remove(slot));
    }
    peak
}
