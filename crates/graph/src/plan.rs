//! Execution plans: graphs that are rewritten once and run many times.

use neocog_base::{Error, Result};
use neocog_tensor::{Device, Pass, Program, Shape, Tensor};

use crate::graph::Graph;
use crate::layout;
use crate::rewrite::{Target, rewrite};

impl Graph {
    /// Creates a plan for inference on `device`, where all constants must be. The graph must have one input and one output.
    ///
    /// # Errors
    /// When a constant is on another device, or the graph has another number of inputs or outputs; when the device fails.
    pub fn plan(mut self, device: &Device) -> Result<Plan> {
        self.check_constants(device)?;
        rewrite(&mut self, &Target { pass: Pass::Inference, device })?;
        Plan::new(self, device)
    }

    fn check_constants(&self, device: &Device) -> Result<()> {
        for node in self.nodes() {
            if let Some(tensor) = node.constants().into_iter().flatten().find(|t| t.device() != *device) {
                return Err(Error::device(format!(
                    "the plan is for {device}, but an input of {} is on {}; move it with to_device",
                    node.op.name(),
                    tensor.device()
                )));
            }
        }
        Ok(())
    }
}

/// A graph that is ready to run on one device, for inputs of one shape.
#[derive(Debug)]
pub struct Plan {
    graph: Graph,
    device: Device,
    /// On the CPU.
    program: Option<Program>,
}

impl Plan {
    /// Creates a plan that runs a graph as it is.
    pub(crate) fn new(graph: Graph, device: &Device) -> Result<Self> {
        let (inputs, outputs) = (graph.input_count(), graph.outputs().len());
        if (inputs, outputs) != (1, 1) {
            return Err(Error::invalid_argument(format!(
                "a plan has one input and one output, the graph has {inputs} and {outputs}"
            )));
        }
        // A graph whose output is its input in another shape has nothing to run.
        let program = if *device == Device::Cpu { layout::program(&graph)? } else { None };
        Ok(Plan { graph, device: *device, program })
    }

    /// Computes the output for an input. Several threads may call it at once.
    ///
    /// # Errors
    /// When the input has another shape or is on another device than planned, or the device fails.
    pub fn run(&self, input: &Tensor) -> Result<Tensor> {
        if input.shape() != self.input() {
            return Err(Error::shape(format!(
                "the plan is for an input {}, the input is {}; make another plan for it",
                self.input(),
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
        match &self.program {
            Some(program) => program.run(input),
            None => Ok(self.graph.run(std::slice::from_ref(input))?.remove(0)),
        }
    }

    /// Returns the shape of the input.
    pub fn input(&self) -> &Shape {
        self.graph.shape(0)
    }

    /// Returns the shape of the output.
    pub fn output(&self) -> &Shape {
        self.graph.shape(self.graph.outputs()[0])
    }

    /// Returns the rewritten graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the names of the operations in the order in which they run.
    pub fn operations(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.graph.operations()
    }

    /// Returns the size in bytes of the buffer of all values between input and output, on the CPU; `None` on other devices.
    pub fn buffer_bytes(&self) -> Option<usize> {
        match &self.program {
            Some(program) => Some(program.floats() * size_of::<f32>()),
            None => (self.device == Device::Cpu).then_some(0),
        }
    }
}
