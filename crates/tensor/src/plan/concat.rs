//! Concatenation without copies: inputs of a concatenation along axis 1 are computed in their place in the output.
//!
//! ```text
//!   output:    [ a: image 0 | b: image 0 | a: image 1 | b: image 1 | .. ]
//!   input b:                [ image 0    ]            [ image 1    ]
//!                            <------- batch stride -------->
//! ```
//!
//! This requires that the operations that compute and use an input support a batch stride
//! ([`Op::supports_batch_stride`](crate::Op::supports_batch_stride)). Concatenations may be nested: the features of a dense block
//! are then stored once.

use std::any::Any;

use smallvec::smallvec;

use super::graph::{Graph, Source, Step};
use crate::ops::Concat;

/// Storage of a value within its root, a value with its own storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub root: usize,
    /// Position of the first element in the root.
    pub offset: usize,
    /// Distance between positions of the first axis.
    pub batch_stride: usize,
}

/// How a value is stored.
#[derive(Clone, Copy)]
enum Storage {
    /// In its own storage.
    Own,
    /// As this value, in another shape.
    Reshaped(usize),
    /// Within this value, from this element on.
    Within(usize, usize),
}

/// Removes the graph's concatenations along axis 1. Inputs that cannot be computed in place are copied, each by its own
/// [`Concat`].
pub(super) fn place_in_output(graph: &mut Graph, output: usize) -> Vec<Slot> {
    let mut storage = vec![Storage::Own; graph.shapes.len()];
    for step in &graph.steps {
        if let Some(value) = step.reshapes() {
            storage[step.first_output] = Storage::Reshaped(value);
        }
    }
    let placeable = placeable(graph, output);
    for step in graph.steps.iter().filter(|step| is_concat(step)) {
        for (value, offset) in inputs_of(graph, step) {
            if let Source::Value(value) = value
                && placeable[*value]
            {
                storage[*value] = Storage::Within(step.first_output, offset);
            }
        }
    }
    // A step must not write between the images of its inputs.
    for step in graph.steps.iter().filter(|step| !is_concat(step) && step.reshapes().is_none()) {
        let root = slot(graph, &storage, step.first_output).root;
        if step.values().any(|value| slot(graph, &storage, value).root == root) {
            storage[step.first_output] = Storage::Own;
        }
    }
    for step in std::mem::take(&mut graph.steps) {
        if !is_concat(&step) {
            graph.steps.push(step);
            continue;
        }
        let concat = step.first_output;
        let inputs: Vec<(Source, usize)> =
            inputs_of(graph, &step).map(|(source, at)| (source.clone(), at)).collect();
        for (source, offset) in inputs {
            let shape = match &source {
                Source::Value(value) => match storage[*value] {
                    Storage::Within(of, _) if of == concat => continue,
                    _ => graph.shapes[*value],
                },
                Source::Constant(tensor) => *tensor.shape(),
            };
            let copy = graph.shapes.len();
            graph.shapes.push(shape);
            storage.push(Storage::Within(concat, offset));
            graph.steps.push(Step {
                op: Box::new(Concat { dim: 1 }),
                inputs: smallvec![source],
                first_output: copy,
                outputs: 1,
                scope: step.scope.clone(),
            });
        }
    }
    (0..graph.shapes.len()).map(|value| slot(graph, &storage, value)).collect()
}

/// Whether a step is a concatenation along axis 1.
fn is_concat(step: &Step) -> bool {
    let op: &dyn Any = &*step.op;
    op.downcast_ref::<Concat>().is_some_and(|concat| concat.dim == 1)
}

/// Returns the inputs of a concatenation, and the offset of each within an image of its output.
fn inputs_of<'a>(graph: &'a Graph, concat: &'a Step) -> impl Iterator<Item = (&'a Source, usize)> {
    concat.inputs.iter().scan(0, |at, source| {
        let offset = *at;
        *at += match source {
            Source::Value(value) => graph.shapes[*value].row(),
            Source::Constant(tensor) => tensor.shape().row(),
        };
        Some((source, offset))
    })
}

/// Returns which values may be placed: those computed and used by steps that support a batch stride, and concatenated once.
fn placeable(graph: &Graph, output: usize) -> Vec<bool> {
    let mut free = vec![false; graph.shapes.len()];
    for step in graph.steps.iter().filter(|step| step.outputs == 1) {
        free[step.first_output] = step.op.supports_batch_stride();
    }
    let mut concatenated = vec![0; graph.shapes.len()];
    for step in &graph.steps {
        for (i, source) in step.inputs.iter().enumerate() {
            let Source::Value(value) = source else { continue };
            if is_concat(step) {
                concatenated[*value] += 1;
            } else {
                free[*value] &= i == 0 && step.op.supports_batch_stride();
            }
        }
    }
    free.iter_mut().zip(concatenated).for_each(|(free, count)| *free &= count == 1);
    free[output] = false;
    free
}

fn slot(graph: &Graph, storage: &[Storage], value: usize) -> Slot {
    match storage[value] {
        Storage::Own => Slot { root: value, offset: 0, batch_stride: graph.shapes[value].row() },
        Storage::Reshaped(other) => {
            Slot { batch_stride: graph.shapes[value].row(), ..slot(graph, storage, other) }
        }
        Storage::Within(of, at) => {
            let whole = slot(graph, storage, of);
            Slot { offset: whole.offset + at, ..whole }
        }
    }
}
