//! Runs graphs on a tape.

use std::sync::Arc;

use neocog_graph::{Graph, Node, Source};
use neocog_tensor::{Error, Op, Result};
use smallvec::SmallVec;

use crate::tape::{Tape, Var};

impl Tape {
    /// Runs the operations of a graph on this tape and returns the outputs. Gradients flow to the inputs that are not
    /// constants. Operations that draw random numbers draw those of `seed`
    /// ([`Op::reseeded`](neocog_tensor::Op::reseeded)).
    ///
    /// # Errors
    /// When the number or shape of an input is wrong, or the device fails.
    pub fn run_graph(
        &self,
        graph: &Graph,
        inputs: impl IntoIterator<Item = Var>,
        seed: u64,
    ) -> Result<Vec<Var>> {
        self.run_graph_observed(graph, inputs, seed, |_, _, _| ())
    }

    /// As [`Tape::run_graph`]. `observe` gets each operation after it has run, with its inputs and outputs.
    ///
    /// # Errors
    /// As [`Tape::run_graph`].
    pub fn run_graph_observed(
        &self,
        graph: &Graph,
        inputs: impl IntoIterator<Item = Var>,
        seed: u64,
        mut observe: impl FnMut(&Node, &[&Var], &[Var]),
    ) -> Result<Vec<Var>> {
        let mut values: Vec<Option<Var>> = Vec::with_capacity(graph.value_count());
        values.extend(inputs.into_iter().map(Some));
        let fits =
            |(i, var): (usize, &Option<Var>)| var.as_ref().is_some_and(|v| v.shape() == graph.shape(i));
        if values.len() != graph.input_count() || !values.iter().enumerate().all(fits) {
            let shapes: Vec<_> = values.iter().flatten().map(|var| *var.shape()).collect();
            return Err(Error::shape(format!("the inputs {shapes:?} are not those of the graph")));
        }
        values.resize(graph.value_count(), None);
        let last_uses = graph.last_uses();
        for (i, node) in graph.nodes().iter().enumerate() {
            let _scope = node.scope.enter();
            let reseeded: Option<Arc<dyn Op>> = node.op.reseeded(seed);
            let constants: SmallVec<[Option<Var>; 4]> =
                node.inputs.iter().map(|source| source.constant().cloned().map(Var::constant)).collect();
            let outputs = {
                let inputs: SmallVec<[&Var; 6]> = node
                    .inputs
                    .iter()
                    .zip(&constants)
                    .map(|(source, constant)| match source {
                        Source::Constant(_) => constant.as_ref(),
                        Source::Value(value) => values[*value].as_ref(),
                    })
                    .map(|var| var.expect("values are computed before they are used"))
                    .collect();
                let outputs = self.apply_shared(reseeded.as_ref().unwrap_or(&node.op), &inputs)?;
                observe(node, &inputs, &outputs);
                outputs
            };
            for (value, var) in node.outputs.iter().zip(outputs) {
                if last_uses[*value].is_some() || graph.outputs().contains(value) {
                    values[*value] = Some(var);
                }
            }
            // What the gradients need is on the tape.
            for value in node.values() {
                if last_uses[value] == Some(i) && !graph.outputs().contains(&value) {
                    values[value] = None;
                }
            }
        }
        let outputs = graph.outputs().iter().map(|value| values[*value].clone());
        Ok(outputs.map(|value| value.expect("outputs are inputs or are computed")).collect())
    }
}
