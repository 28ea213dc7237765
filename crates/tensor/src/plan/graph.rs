//! Recorded computations.

use smallvec::SmallVec;

use crate::core::op::Op;
use crate::core::profile::Scope;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use neocog_base::{Context as _, Error, Result};

/// An input of an operation in a graph.
#[derive(Clone, Debug)]
pub enum Source {
    /// The value of the graph with this number.
    Value(usize),
    /// A tensor that is the same in every run.
    Constant(Tensor),
}

/// Operations on values, in execution order. Value 0 is the input; others are numbered in the order of computation.
#[derive(Debug)]
pub struct Graph {
    /// Shape of each value.
    pub(super) shapes: Vec<Shape>,
    pub(super) steps: Vec<Step>,
}

/// An operation, its inputs and its outputs.
#[derive(Debug)]
pub(super) struct Step {
    pub op: Box<dyn Op>,
    pub inputs: SmallVec<[Source; 4]>,
    /// Number of the first output value; the others follow.
    pub first_output: usize,
    pub outputs: usize,
    /// The layer that the operation is attributed to.
    pub scope: Scope,
}

impl Step {
    pub fn outputs(&self) -> std::ops::Range<usize> {
        self.first_output..self.first_output + self.outputs
    }

    /// Returns the value whose shape the step changes, if that is all it does.
    pub fn reshapes(&self) -> Option<usize> {
        match self.inputs[..] {
            [Source::Value(value)] if self.op.reshapes() => Some(value),
            _ => None,
        }
    }

    /// Returns the values among the inputs.
    pub fn values(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().filter_map(|source| match source {
            Source::Value(value) => Some(*value),
            Source::Constant(_) => None,
        })
    }
}

impl Graph {
    /// Creates a graph without operations for inputs of one shape.
    pub fn new(input: Shape) -> Self {
        Graph { shapes: vec![input], steps: Vec::new() }
    }

    /// Adds an operation, and returns the number of its first output; the numbers of the others follow.
    ///
    /// # Errors
    /// If the shapes of its inputs are invalid, a value does not exist, or the operation updates state, which plans do not
    /// support.
    pub fn push(
        &mut self,
        op: Box<dyn Op>,
        inputs: impl IntoIterator<Item = Source>,
        scope: Scope,
    ) -> Result<usize> {
        let inputs: SmallVec<[Source; 4]> = inputs.into_iter().collect();
        if op.state_outputs() > 0 {
            return Err(Error::invalid_argument(format!(
                "{} updates state, which plans do not support",
                op.name()
            )));
        }
        let shapes: Shapes = inputs.iter().map(|source| self.shape(source)).collect::<Result<_>>()?;
        let outputs = op.infer(&shapes).context(|| op.name())?;
        let first_output = self.shapes.len();
        self.steps.push(Step { op, inputs, first_output, outputs: outputs.len(), scope });
        self.shapes.extend(outputs);
        Ok(first_output)
    }

    pub(super) fn shape(&self, source: &Source) -> Result<Shape> {
        match source {
            Source::Constant(tensor) => Ok(*tensor.shape()),
            Source::Value(value) => self.shapes.get(*value).copied().ok_or_else(|| {
                Error::invalid_argument(format!(
                    "there is no value {value}, the graph has {}",
                    self.shapes.len()
                ))
            }),
        }
    }
}

/// Returns the last step that uses each value.
pub(super) fn last_uses(steps: &[Step], values: usize) -> Vec<Option<usize>> {
    let mut last = vec![None; values];
    for (i, step) in steps.iter().enumerate() {
        step.values().for_each(|value| last[value] = Some(i));
    }
    last
}
