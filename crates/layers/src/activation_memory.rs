//! How much memory the values between the layers take.

use std::collections::{BTreeMap, HashMap, HashSet};

use neocog_autograd::Tape;
use neocog_tensor::Shape;

/// Bytes of a number on the devices that are meant for work.
const BYTES: usize = size_of::<f32>();

/// Values that share memory have one root: a reshape's output is its input.
#[derive(Default)]
struct Roots(HashMap<usize, usize>);

impl Roots {
    fn of(&self, slot: usize) -> usize {
        self.0.get(&slot).copied().unwrap_or(slot)
    }
}

/// For each step of a tape that trains, the bytes that its gradient is the first to keep. Parameters do not count: they
/// are there anyway.
pub(crate) fn kept(tape: &Tape, input: Option<usize>) -> Vec<usize> {
    let mut roots = Roots::default();
    let mut values: HashSet<usize> = input.into_iter().collect();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    tape.for_each_step(|step| {
        if step.op.reshapes() {
            if let Some(input) = step.inputs[0] {
                roots.0.insert(step.first_output, roots.of(input));
            }
            all.push(0);
            return;
        }
        values.extend((0..step.output_shapes.len()).map(|i| step.first_output + i));
        let keeps = step.op.saves();
        let inputs = step.inputs.iter().zip(step.input_shapes).enumerate();
        let inputs = inputs.filter(|(i, _)| keeps.saves_input(*i));
        let inputs = inputs.filter_map(|(_, (slot, shape))| Some((roots.of((*slot)?), shape)));
        let outputs = step.output_shapes.iter().enumerate().filter(|(i, _)| keeps.saves_output(*i));
        let outputs = outputs.map(|(i, shape)| (step.first_output + i, shape));
        let new = inputs.chain(outputs).filter(|(slot, _)| values.contains(slot) && seen.insert(*slot));
        all.push(new.map(|(_, shape): (usize, &Shape)| shape.elements() * BYTES).sum());
    });
    all
}

/// For each step of a tape that predicts, the bytes of the values that exist while it computes: its inputs and outputs, and
/// what later steps will need. `output` is needed to the end.
pub(crate) fn live(tape: &Tape, input: Option<(usize, &Shape)>, output: Option<usize>) -> Vec<usize> {
    let mut roots = Roots::default();
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut last_use: HashMap<usize, usize> = HashMap::new();
    let mut steps: Vec<(usize, usize)> = Vec::new();
    let mut number = 0;
    tape.for_each_step(|step| {
        if step.op.reshapes()
            && let Some(input) = step.inputs[0]
        {
            roots.0.insert(step.first_output, roots.of(input));
        } else {
            let outputs = step.output_shapes.iter().enumerate();
            sizes.extend(outputs.map(|(i, s)| (step.first_output + i, s.elements() * BYTES)));
        }
        for slot in step.inputs.iter().flatten() {
            last_use.insert(roots.of(*slot), number);
        }
        steps.push((step.first_output, step.output_shapes.len()));
        number += 1;
    });
    if let Some(output) = output {
        last_use.insert(roots.of(output), usize::MAX);
    }
    let mut alive: BTreeMap<usize, usize> =
        input.map(|(slot, s)| (slot, s.elements() * BYTES)).into_iter().collect();
    let mut all = Vec::with_capacity(steps.len());
    for (number, (first, count)) in steps.into_iter().enumerate() {
        // Outputs that nobody reads are made for gradients only.
        let outputs = (first..first + count).filter(|slot| last_use.contains_key(slot));
        alive.extend(outputs.filter_map(|slot| Some((slot, *sizes.get(&slot)?))));
        all.push(alive.values().sum());
        alive.retain(|slot, _| last_use.get(slot).is_some_and(|last| *last > number));
    }
    all
}
