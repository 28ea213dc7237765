//! The steps of optimizers: operations that update a parameter and its moments in place, in one pass over memory.
//!
//! The input is the parameter's gradient; the state is the parameter, then what the step remembers of earlier steps,
//! which starts as zeros. [`OptimizerSteps`] makes those of all parameters in one run. The formulas are PyTorch's.

mod adam;
mod rms_prop;
mod sgd;
mod steps;

pub use adam::{AdamStep, AdamWStep};
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

/// A step's formula for one element, with room for the largest state; what is not used is 0.
trait Rule: Copy + Send + Sync {
    /// How many tensors the state has.
    fn state(&self) -> usize;
    /// The new state from the gradient and the old state.
    fn step<R: Real>(&self, grad: R, state: [R; 4]) -> [R; 4];
}

#[derive(Clone, Copy)]
struct WithState<T, const N: usize>(T);

impl<T: Rule, const N: usize> ElementwiseMap<1, N> for WithState<T, N> {
    #[inline(always)]
    fn eval<R: Real>(&self, [grad]: [R; 1], old: [R; N]) -> [R; N] {
        let state = std::array::from_fn(|k| if k < N { old[k] } else { R::constant(0.0) });
        let new = self.0.step(grad, state);
        std::array::from_fn(|k| new[k])
    }
}

fn infer<T: Rule>(rule: T, [grad]: [Shape; 1]) -> Shapes {
    std::iter::repeat_n(grad, rule.state()).collect()
}

fn reference<T: Rule>(rule: T, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
    match rule.state() {
        1 => map::reference::<_, 1, 1>(&WithState::<T, 1>(rule), inputs, outputs),
        2 => map::reference::<_, 1, 2>(&WithState::<T, 2>(rule), inputs, outputs),
        3 => map::reference::<_, 1, 3>(&WithState::<T, 3>(rule), inputs, outputs),
        _ => map::reference::<_, 1, 4>(&WithState::<T, 4>(rule), inputs, outputs),
    }
}

fn cpu<T: Rule>(rule: T, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>]) {
    match rule.state() {
        1 => map::cpu::<_, 1, 1>(WithState::<T, 1>(rule), inputs, outputs),
        2 => map::cpu::<_, 1, 2>(WithState::<T, 2>(rule), inputs, outputs),
        3 => map::cpu::<_, 1, 3>(WithState::<T, 3>(rule), inputs, outputs),
        _ => map::cpu::<_, 1, 4>(WithState::<T, 4>(rule), inputs, outputs),
    }
}

fn opencl<T: Rule>(rule: T, name: &'static str, call: &Call<'_>) -> Result<()> {
    match rule.state() {
        1 => map::opencl::<_, 1, 1>(WithState::<T, 1>(rule), name, call),
        2 => map::opencl::<_, 1, 2>(WithState::<T, 2>(rule), name, call),
        3 => map::opencl::<_, 1, 3>(WithState::<T, 3>(rule), name, call),
        _ => map::opencl::<_, 1, 4>(WithState::<T, 4>(rule), name, call),
    }
}

/// Makes an operation of a rule.
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
                super::cpu(*self, inputs, outputs);
            }
            fn opencl(&self, call: &crate::opencl::Call<'_>) -> Result<()> {
                super::opencl(*self, self.name(), call)
            }
            fn saves(&self) -> SavedTensors {
                SavedTensors::NONE
            }
            fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
                no_gradient(self)
            }
            fn state_outputs(&self) -> usize {
                Rule::state(self)
            }
        }
    };
}
use step;

/// Checks that a hyperparameter is a number from 0 on.
fn not_negative(name: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::invalid_argument(format!("{name} must be a number from 0 on, it is {value}")))
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
    fn bad_hyperparameters_are_errors() {
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
