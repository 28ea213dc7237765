//! Optimizer steps: operations that update a parameter and its state tensors in place, in one pass over memory.
//!
//! The input is the gradient of the parameter. The state is the parameter, then the state tensors of the optimizer, which are
//! initialized to zeros. [`OptimizerSteps`] updates all parameters in one run. The formulas are those of PyTorch.

mod adam;
mod lerp;
mod lion;
mod rms_prop;
mod sgd;
mod steps;

pub use adam::{AdamStep, AdamWStep};
pub use lerp::Lerp;
pub use lion::LionStep;
pub use rms_prop::RmsPropStep;
pub use sgd::SgdStep;
pub use steps::OptimizerSteps;

use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::opencl::Call;
use crate::ops::elementwise::ElementwiseMap;
use crate::ops::elementwise::map;
use neocog_base::{Error, Result};

/// The formula of a step for one element, with the largest number of state tensors; unused ones are 0.
trait StepFormula: Copy + Send + Sync {
    /// Returns the number of state outputs.
    fn state(&self) -> usize;
    /// Computes the new state from the gradient and the old state.
    fn step<R: Real>(&self, grad: R, state: [R; 4]) -> [R; 4];
}

#[derive(Clone, Copy)]
struct WithState<T, const N: usize>(T);

impl<T: StepFormula, const N: usize> ElementwiseMap<1, N> for WithState<T, N> {
    #[inline(always)]
    fn eval<R: Real>(&self, [grad]: [R; 1], old: [R; N]) -> [R; N] {
        let state = std::array::from_fn(|k| if k < N { old[k] } else { R::constant(0.0) });
        let new = self.0.step(grad, state);
        std::array::from_fn(|k| new[k])
    }
}

fn infer<T: StepFormula>(formula: T, [grad]: [Shape; 1]) -> Shapes {
    std::iter::repeat_n(grad, formula.state()).collect()
}

fn reference<T: StepFormula>(formula: T, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
    match formula.state() {
        1 => map::reference::<_, 1, 1>(&WithState::<T, 1>(formula), inputs, outputs),
        2 => map::reference::<_, 1, 2>(&WithState::<T, 2>(formula), inputs, outputs),
        3 => map::reference::<_, 1, 3>(&WithState::<T, 3>(formula), inputs, outputs),
        _ => map::reference::<_, 1, 4>(&WithState::<T, 4>(formula), inputs, outputs),
    }
}

fn cpu<T: StepFormula>(formula: T, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>]) {
    match formula.state() {
        1 => map::cpu::<_, 1, 1>(WithState::<T, 1>(formula), inputs, outputs),
        2 => map::cpu::<_, 1, 2>(WithState::<T, 2>(formula), inputs, outputs),
        3 => map::cpu::<_, 1, 3>(WithState::<T, 3>(formula), inputs, outputs),
        _ => map::cpu::<_, 1, 4>(WithState::<T, 4>(formula), inputs, outputs),
    }
}

fn opencl<T: StepFormula>(formula: T, name: &'static str, call: &Call<'_>) -> Result<()> {
    match formula.state() {
        1 => map::opencl::<_, 1, 1>(WithState::<T, 1>(formula), name, call),
        2 => map::opencl::<_, 1, 2>(WithState::<T, 2>(formula), name, call),
        3 => map::opencl::<_, 1, 3>(WithState::<T, 3>(formula), name, call),
        _ => map::opencl::<_, 1, 4>(WithState::<T, 4>(formula), name, call),
    }
}

/// Implements [`Op`] by a formula.
macro_rules! step {
    ($op:ident $name:literal) => {
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                self.check()?;
                Ok(super::infer(*self, expect_inputs::<1>(self, inputs)?))
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                super::reference(*self, inputs, outputs);
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                crate::core::check::check_views(self, inputs, outputs);
                super::cpu(*self, inputs, outputs);
            }
            fn opencl(&self, call: &crate::opencl::Call<'_>) -> Result<()> {
                crate::core::check::check_call(self, call)?;
                super::opencl(*self, self.name(), call)
            }
            fn saves(&self) -> SavedTensors {
                SavedTensors::NONE
            }
            fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
                no_gradient(self)
            }
            fn state_outputs(&self) -> usize {
                StepFormula::state(self)
            }
        }
    };
}
use step;

/// Checks that a hyperparameter is finite and not negative.
fn not_negative(name: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::invalid_argument(format!("{name} must be at least 0 and finite, it is {value}")))
    }
}

/// Checks that a decay rate is in `[0, 1)`.
fn below_one(name: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(Error::invalid_argument(format!("{name} must be at least 0 and below 1, it is {value}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::op::Op;

    #[test]
    fn invalid_hyperparameters_are_errors() {
        let shape = [Shape::from([2])];
        let sgd = SgdStep::new(0.1);
        assert!(sgd.infer(&shape).is_ok());
        assert!(SgdStep { lr: f64::NAN, ..sgd }.infer(&shape).is_err());
        assert!(SgdStep { nesterov: true, ..sgd }.infer(&shape).is_err());
        assert!(SgdStep { weight_decay: -1.0, ..sgd }.infer(&shape).is_err());
        let adam = AdamStep::new(1e-3, 1);
        assert!(adam.infer(&shape).is_ok());
        assert!(AdamStep { betas: [0.9, 1.0], ..adam }.infer(&shape).is_err());
        assert!(AdamStep { step: 0, ..adam }.infer(&shape).is_err());
        assert!(RmsPropStep { eps: f64::INFINITY, ..RmsPropStep::new(0.01) }.infer(&shape).is_err());
    }
}
