//! Running averages.

use super::{StepFormula, step};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// Moves an average toward a value: `average = average + weight * (value - average)`, as PyTorch's `lerp_`.
///
/// Input: the value. State: the average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lerp {
    /// Weight of the value, from 0 to 1.
    pub weight: f64,
}

impl Lerp {
    fn check(&self) -> Result<()> {
        if (0.0..=1.0).contains(&self.weight) {
            return Ok(());
        }
        Err(Error::invalid_argument(format!("the weight must be from 0 to 1, it is {}", self.weight)))
    }
}

impl StepFormula for Lerp {
    fn state(&self) -> usize {
        1
    }

    #[inline(always)]
    fn step<R: Real>(&self, value: R, [average, ..]: [R; 4]) -> [R; 4] {
        let zero = R::constant(0.0);
        [average + R::constant(self.weight) * (value - average), zero, zero, zero]
    }
}

step!(Lerp "lerp");

register_op!("lerp", || {
    let case = |weight: f64, shape: Shape| {
        Case::new(format!("weight {weight} of {shape}"), Lerp { weight }, [CaseInput::uniform(shape)])
            .with_state([CaseInput::uniform(shape)])
            .without_gradient()
    };
    vec![
        case(0.001, Shape::from([3, 7])),
        case(0.5, Shape::scalar()),
        case(1.0, Shape::from([5])),
        case(0.0, Shape::from([0])),
        case(0.25, Shape::from([100_003])),
    ]
});
