//! Execution plans for inference: a computation is recorded once, simplified, and run many times.
//!
//! A [`Graph`] is a list of operations on values; values that do not depend on its input are constants. A [`Plan`] executes it
//! on one device:
//!
//! * Batch norms are folded into the preceding convolution or linear layer, activations are fused into the operation before
//!   them, and unused operations are removed.
//! * Weights of convolutions are packed once.
//! * On the CPU all values share one buffer: values that are not live at the same time may overlap, and inputs of
//!   concatenations are computed in place. On other devices each live value has a buffer of the device's pool.
//!
//! Unknown operations run unchanged, so every computation can be planned.

mod concat;
mod graph;
mod memory;
mod rewrite;
#[cfg(test)]
mod tests;

pub use graph::{Graph, Source};

use smallvec::SmallVec;

use crate::core::device::Device;
use crate::core::run::run;
use crate::core::shape::Shape;
use crate::core::tensor::Tensor;
use crate::memory::ShortLived;
use graph::last_uses;
use memory::Layout;
use neocog_base::{Error, Result};

impl Graph {
    /// Creates a plan that computes value `output` on `device`.
    ///
    /// # Errors
    /// If a constant is on another device, there is no such value, or the device fails.
    pub fn plan(mut self, output: usize, device: &Device) -> Result<Plan> {
        self.shape(&Source::Value(output))?;
        for step in &self.steps {
            for source in &step.inputs {
                if let Source::Constant(tensor) = source
                    && tensor.device() != *device
                {
                    return Err(Error::device(format!(
                        "the plan is for {device}, but an input of {} is on {}; move it with to_device",
                        step.op.name(),
                        tensor.device()
                    )));
                }
            }
        }
        rewrite::simplify(&mut self, output)?;
        rewrite::pack_weights(&mut self)?;
        let layout = (*device == Device::Cpu).then(|| Layout::new(&mut self, output));
        let last_uses = last_uses(&self.steps, self.shapes.len());
        Ok(Plan { graph: self, output, device: *device, layout, last_uses })
    }
}

/// A computation that is ready to run, for one device and one input shape.
#[derive(Debug)]
pub struct Plan {
    graph: Graph,
    output: usize,
    device: Device,
    /// Memory layout of the values on the CPU.
    layout: Option<Layout>,
    last_uses: Vec<Option<usize>>,
}

impl Plan {
    /// Computes the output for an input. May be called by several threads at once.
    ///
    /// # Errors
    /// If the input has another shape or is on another device than planned, or the device fails.
    pub fn run(&self, input: &Tensor) -> Result<Tensor> {
        if *input.shape() != self.graph.shapes[0] {
            return Err(Error::shape(format!(
                "the plan is for an input of shape {}, the input is {}; it needs another plan",
                self.graph.shapes[0],
                input.shape()
            )));
        }
        if input.device() != self.device {
            return Err(Error::device(format!(
                "the plan is for {}, the input is on {}; move it with to_device",
                self.device,
                input.device()
            )));
        }
        match &self.layout {
            Some(layout) => layout.run(&self.graph, self.output, input),
            None => self.run_each(input),
        }
    }

    /// Runs the operations one after the other. Each value has its own tensor until its last use; the pool reuses its memory.
    fn run_each(&self, input: &Tensor) -> Result<Tensor> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.graph.shapes.len()];
        values[0] = Some(input.clone());
        let _memory = ShortLived::begin();
        for (i, step) in self.graph.steps.iter().enumerate() {
            let _scope = step.scope.enter();
            let outputs = {
                let inputs: SmallVec<[&Tensor; 6]> = step
                    .inputs
                    .iter()
                    .map(|source| match source {
                        Source::Constant(tensor) => tensor,
                        Source::Value(value) => values[*value].as_ref().expect(
                            "values are computed before their first use and dropped after their last",
                        ),
                    })
                    .collect();
                run(&*step.op, &inputs)?
            };
            for (value, tensor) in step.outputs().zip(outputs) {
                values[value] = Some(tensor);
            }
            for value in step.values() {
                if self.last_uses[value] == Some(i) && value != self.output {
                    values[value] = None;
                }
            }
        }
        Ok(values[self.output].take().expect("the output is the input or was computed by a step"))
    }

    /// Returns the shape of the input.
    pub fn input(&self) -> &Shape {
        &self.graph.shapes[0]
    }

    /// Returns the shape of the output.
    pub fn output(&self) -> &Shape {
        &self.graph.shapes[self.output]
    }

    /// Returns the names of the operations, in execution order.
    pub fn operations(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.graph.steps.iter().map(|step| step.op.name())
    }

    /// Returns the size in bytes of the buffer of all intermediate values on the CPU; `None` on other devices.
    pub fn buffer_bytes(&self) -> Option<usize> {
        self.layout.as_ref().map(|layout| layout.floats() * size_of::<f32>())
    }
}
