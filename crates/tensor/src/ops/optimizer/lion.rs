//! Lion.

use super::{StepFormula, below_one, not_negative, step};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::Result;

/// One step of Lion:
///
/// ```text
/// param = (1 - lr * weight_decay) * param - lr * sign(beta1 * momentum + (1 - beta1) * grad)
/// momentum = beta2 * momentum + (1 - beta2) * grad
/// ```
///
/// Input: the gradient. State: the parameter and the momentum. X. Chen et al., "Symbolic discovery of optimization algorithms",
/// NeurIPS 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LionStep {
    /// Learning rate.
    pub lr: f64,
    /// Shares of the momentum in the step, and in the next momentum.
    pub betas: [f64; 2],
    /// Weight decay coefficient.
    pub weight_decay: f64,
}

impl LionStep {
    fn check(&self) -> Result<()> {
        not_negative("the learning rate", self.lr)?;
        below_one("the first of betas", self.betas[0])?;
        below_one("the second of betas", self.betas[1])?;
        not_negative("weight_decay", self.weight_decay)
    }
}

impl StepFormula for LionStep {
    fn state(&self) -> usize {
        2
    }

    #[inline(always)]
    fn step<R: Real>(&self, grad: R, [param, momentum, ..]: [R; 4]) -> [R; 4] {
        let c = R::constant;
        let [beta1, beta2] = self.betas;
        let direction = c(beta1) * momentum + c(1.0 - beta1) * grad;
        // NaN stays: it is neither positive nor negative.
        let sign =
            R::select_gt(direction, c(0.0), c(1.0), R::select_gt(c(0.0), direction, c(-1.0), direction));
        let decayed =
            if self.weight_decay == 0.0 { param } else { param * c(1.0 - self.lr * self.weight_decay) };
        [decayed - c(self.lr) * sign, c(beta2) * momentum + c(1.0 - beta2) * grad, c(0.0), c(0.0)]
    }
}

step!(LionStep "lion_step");

register_op!("lion_step", || {
    let plain = LionStep { lr: 0.1, betas: [0.9, 0.99], weight_decay: 0.0 };
    let case = |name: &str, step: LionStep, shape: Shape| {
        // Gradient and momentum of one sign: where they cancel, rounding would decide.
        let positive = CaseInput::between(shape, 0.1, 1.0);
        Case::new(name, step, [positive.clone()])
            .with_state([CaseInput::uniform(shape), positive])
            .without_gradient()
    };
    let shape = Shape::from([3, 7]);
    vec![
        case("plain", plain, shape),
        case("weight decay", LionStep { weight_decay: 0.1, ..plain }, shape),
        case("other betas", LionStep { betas: [0.5, 0.8], ..plain }, shape),
        case("a scalar", plain, Shape::scalar()),
        case("empty", plain, Shape::from([0])),
        case("a million", plain, Shape::from([1 << 20])).timed(),
    ]
});
