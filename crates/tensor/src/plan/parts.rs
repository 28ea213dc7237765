//! Concats without copies: what is joined along axis 1 is made where it will lie.
//!
//! ```text
//!   joined:    [ a: image 0 | b: image 0 | a: image 1 | b: image 1 | .. ]
//!   part b:                  [ image 0 ]   gap         [ image 1 ]
//! ```
//!
//! A value can lie in such a part if the operations that make and use it take gaps ([`Op::supports_batch_stride`](crate::Op::supports_batch_stride)). A
//! joined value can be a part itself: then the features of a dense block lie in one place from the first to the last.

use std::any::Any;

use smallvec::smallvec;

use super::graph::{Graph, Source, Step};
use crate::ops::Concat;

/// Where a value lies within another, its root, that lies in no other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub root: usize,
    /// Of its first element from the root's.
    pub offset: usize,
    /// From a position along the first axis to the next.
    pub step: usize,
}

/// What a value lies in.
#[derive(Clone, Copy)]
enum Within {
    Nothing,
    /// It is this value in another shape.
    Same(usize),
    /// A part of this value, from this element on.
    Part(usize, usize),
}

/// Takes the graph's concats along axis 1 apart. What cannot be made in its place is copied there, by a concat of its own.
pub(super) fn join(graph: &mut Graph, output: usize) -> Vec<Spot> {
    let mut within = vec![Within::Nothing; graph.shapes.len()];
    for step in &graph.steps {
        if let Some(value) = step.reshapes() {
            within[step.first_output] = Within::Same(value);
        }
    }
    let free = can_lie_apart(graph, output);
    for step in graph.steps.iter().filter(|step| joins(step)) {
        for (value, offset) in parts(graph, step) {
            if let Source::Value(value) = value
                && free[*value]
            {
                within[*value] = Within::Part(step.first_output, offset);
            }
        }
    }
    // A step must not write between the rows of what it reads.
    for step in graph.steps.iter().filter(|step| !joins(step) && step.reshapes().is_none()) {
        let root = spot(graph, &within, step.first_output).root;
        if step.values().any(|value| spot(graph, &within, value).root == root) {
            within[step.first_output] = Within::Nothing;
        }
    }
    for step in std::mem::take(&mut graph.steps) {
        if !joins(&step) {
            graph.steps.push(step);
            continue;
        }
        let joined = step.first_output;
        let parts: Vec<(Source, usize)> =
            parts(graph, &step).map(|(source, at)| (source.clone(), at)).collect();
        for (source, offset) in parts {
            let shape = match &source {
                Source::Value(value) => match within[*value] {
                    Within::Part(of, _) if of == joined => continue,
                    _ => graph.shapes[*value],
                },
                Source::Constant(tensor) => *tensor.shape(),
            };
            let copy = graph.shapes.len();
            graph.shapes.push(shape);
            within.push(Within::Part(joined, offset));
            graph.steps.push(Step {
                op: Box::new(Concat { dim: 1 }),
                inputs: smallvec![source],
                first_output: copy,
                outputs: 1,
                scope: step.scope.clone(),
            });
        }
    }
    (0..graph.shapes.len()).map(|value| spot(graph, &within, value)).collect()
}

/// Whether a step is a concat along axis 1.
fn joins(step: &Step) -> bool {
    let op: &dyn Any = &*step.op;
    op.downcast_ref::<Concat>().is_some_and(|concat| concat.dim == 1)
}

/// The inputs of a concat, and where each begins in a row of its output.
fn parts<'a>(graph: &'a Graph, concat: &'a Step) -> impl Iterator<Item = (&'a Source, usize)> {
    concat.inputs.iter().scan(0, |at, source| {
        let offset = *at;
        *at += match source {
            Source::Value(value) => graph.shapes[*value].row(),
            Source::Constant(tensor) => tensor.shape().row(),
        };
        Some((source, offset))
    })
}

/// Which values may have gaps: they are made by a step that can leave them, used by steps that expect them, and joined once.
fn can_lie_apart(graph: &Graph, output: usize) -> Vec<bool> {
    let mut free = vec![false; graph.shapes.len()];
    for step in graph.steps.iter().filter(|step| step.outputs == 1) {
        free[step.first_output] = step.op.supports_batch_stride();
    }
    let mut joined = vec![0; graph.shapes.len()];
    for step in &graph.steps {
        for (i, source) in step.inputs.iter().enumerate() {
            let Source::Value(value) = source else { continue };
            if joins(step) {
                joined[*value] += 1;
            } else {
                free[*value] &= i == 0 && step.op.supports_batch_stride();
            }
        }
    }
    free.iter_mut().zip(joined).for_each(|(free, joined)| *free &= joined == 1);
    free[output] = false;
    free
}

fn spot(graph: &Graph, within: &[Within], value: usize) -> Spot {
    match within[value] {
        Within::Nothing => Spot { root: value, offset: 0, step: graph.shapes[value].row() },
        Within::Same(other) => Spot { step: graph.shapes[value].row(), ..spot(graph, within, other) },
        Within::Part(of, at) => {
            let whole = spot(graph, within, of);
            Spot { offset: whole.offset + at, ..whole }
        }
    }
}
