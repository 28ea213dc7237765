//! Recorded computations.

use smallvec::SmallVec;

use crate::core::op::Op;
use crate::core::profile::Scope;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use neocog_base::{Context as _, Error, Result};

/// Where an operation's input comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A value of the graph, by its number.
    Value(usize),
    /// A tensor that is the same in each run.
    Constant(Tensor),
}

/// Operations on values, in the order in which they are run. Value 0 is the input; the others are numbered as they are made.
#[derive(Debug)]
pub struct Graph {
    /// The shape of each value.
    pub(super) shapes: Vec<Shape>,
    pub(super) steps: Vec<Step>,
}

/// An operation, its inputs and its outputs.
#[derive(Debug)]
pub(super) struct Step {
    pub op: Box<dyn Op>,
    pub inputs: SmallVec<[Source; 4]>,
    /// The value that its first output is; the others follow.
    pub first_output: usize,
    pub outputs: usize,
    /// The layer that it belongs to.
    pub scope: Scope,
}

impl Step {
    pub fn outputs(&self) -> std::ops::Range<usize> {
        self.first_output..self.first_output + self.outputs
    }

    /// The value that its output is in another shape, if that is all it does.
    pub fn reshapes(&self) -> Option<usize> {
        match self.inputs[..] {
            [Source::Value(value)] if self.op.reshapes() => Some(value),
            _ => None,
        }
    }

    /// The values among its inputs.
    pub fn values(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().filter_map(|source| match source {
            Source::Value(value) => Some(*value),
            Source::Constant(_) => None,
        })
    }
}

impl Graph {
    /// A graph without operations, for inputs of one shape.
    pub fn new(input: Shape) -> Self {
        Graph { shapes: vec![input], steps: Vec::new() }
    }

    /// Adds an operation; returns the number of its first output, which the others follow.
    ///
    /// # Errors
    /// When the shapes of its inputs do not fit, there is no such value, or it updates state, which a plan does not hold.
    pub fn push(
        &mut self,
        op: Box<dyn Op>,
        inputs: impl IntoIterator<Item = Source>,
        scope: Scope,
    ) -> Result<usize> {
        let inputs: SmallVec<[Source; 4]> = inputs.into_iter().collect();
        if op.state_outputs() > 0 {
            return Err(Error::invalid_argument(format!("{} updates state, a plan has none", op.name())));
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

/// The step that uses each value last.
pub(super) fn last_uses(steps: &[Step], values: usize) -> Vec<Option<usize>> {
    let mut last = vec![None; values];
    for (i, step) in steps.iter().enumerate() {
        step.values().for_each(|value| last[value] = Some(i));
    }
    last
}
