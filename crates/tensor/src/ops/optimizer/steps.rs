//! The steps of all parameters of a network in one operation.

use rayon::prelude::*;

use super::{AdamStep, AdamWStep, RmsPropStep, SgdStep};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Context as _, Error, Result};

/// The steps of several parameters, such as [`SgdStep`], as one operation, which is distributed over all threads.
///
/// Inputs: a gradient for each step. State: that of the first step, then that of the second, and so on.
#[derive(Debug, Default)]
pub struct OptimizerSteps {
    /// One step for each parameter.
    pub steps: Vec<Box<dyn Op>>,
}

impl OptimizerSteps {
    /// Returns each step and the range of its state outputs.
    fn state_ranges(&self) -> impl Iterator<Item = (&dyn Op, std::ops::Range<usize>)> {
        self.steps.iter().scan(0, |end, step| {
            let start = *end;
            *end += step.state_outputs();
            Some((&**step, start..*end))
        })
    }
}

impl Op for OptimizerSteps {
    fn name(&self) -> &'static str {
        "optimizer_steps"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        if inputs.len() != self.steps.len() {
            return Err(Error::invalid_argument(format!(
                "{} steps expect one gradient each, found {}",
                self.steps.len(),
                inputs.len()
            )));
        }
        let mut shapes = Shapes::new();
        for (i, (step, grad)) in self.steps.iter().zip(inputs).enumerate() {
            shapes.extend(step.infer(&[*grad]).context(|| format!("step {i}, {}", step.name()))?);
        }
        Ok(shapes)
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        for ((step, state), grad) in self.state_ranges().zip(inputs) {
            step.reference(&[*grad], &mut outputs[state]);
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        let mut rest = outputs;
        let mut parts = Vec::with_capacity(self.steps.len());
        for (step, grad) in self.steps.iter().zip(inputs) {
            let (state, others) = std::mem::take(&mut rest).split_at_mut(step.state_outputs());
            parts.push((step, grad, state));
            rest = others;
        }
        // Large steps are split further by their own kernels.
        parts.into_par_iter().for_each(|(step, grad, state)| step.cpu(&[*grad], state, scratch));
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        for (i, (step, state)) in self.state_ranges().enumerate() {
            step.opencl(&call.part(step.name(), &call.inputs()[i..=i], &call.outputs()[state]))?;
        }
        Ok(())
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }

    fn state_outputs(&self) -> usize {
        self.steps.iter().map(|step| step.state_outputs()).sum()
    }
}

register_op!("optimizer_steps", || {
    // The state of each step: the parameter, then its state tensors.
    let case = |name: &str, steps: Vec<(Box<dyn Op>, Shape)>| {
        let grads: Vec<CaseInput> = steps.iter().map(|(_, shape)| CaseInput::uniform(*shape)).collect();
        let state: Vec<CaseInput> = steps
            .iter()
            .flat_map(|(step, shape)| (0..step.state_outputs()).map(|_| CaseInput::between(*shape, 0.0, 1.0)))
            .collect();
        let op = OptimizerSteps { steps: steps.into_iter().map(|(step, _)| step).collect() };
        Case::new(name, op, grads).with_state(state).without_gradient()
    };
    let sgd = |shape: Shape| -> (Box<dyn Op>, Shape) { (Box::new(SgdStep::new(0.1)), shape) };
    let momentum = |shape: Shape| -> (Box<dyn Op>, Shape) {
        (Box::new(SgdStep { momentum: 0.9, ..SgdStep::new(0.1) }), shape)
    };
    let adam = |shape: Shape| -> (Box<dyn Op>, Shape) { (Box::new(AdamStep::new(0.1, 3)), shape) };
    vec![
        case("one", vec![sgd(Shape::from([3, 7]))]),
        case(
            "several shapes",
            vec![
                sgd(Shape::from([3, 7])),
                sgd(Shape::scalar()),
                sgd(Shape::from([0])),
                sgd(Shape::from([19])),
            ],
        ),
        case(
            "several states",
            vec![momentum(Shape::from([5])), sgd(Shape::from([33])), adam(Shape::from([4, 4]))],
        ),
        case(
            "long and short",
            vec![adam(Shape::from([70_001])), adam(Shape::from([3])), adam(Shape::from([17]))],
        ),
        case(
            "other optimizers",
            vec![
                (Box::new(AdamWStep { amsgrad: true, ..AdamWStep::new(0.1, 2) }), Shape::from([6, 5])),
                (Box::new(RmsPropStep { momentum: 0.9, ..RmsPropStep::new(0.1) }), Shape::from([41])),
                (Box::new(RmsPropStep::new(0.1)), Shape::from([2, 3])),
            ],
        ),
    ]
});
