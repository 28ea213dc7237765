//! Stochastic gradient descent.

use super::{StepFormula, not_negative, step};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// One step of gradient descent, as `torch.optim.SGD`:
///
/// ```text
/// g = grad + weight_decay * param
/// buffer = g at the first step, later momentum * buffer + (1 - dampening) * g
/// g = g + momentum * buffer with nesterov, else buffer
/// param = param - lr * g
/// ```
///
/// Input: the gradient. State: the parameter and, where momentum is not 0, the momentum buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Momentum factor; 0 for none.
    pub momentum: f64,
    /// Dampening of the momentum.
    pub dampening: f64,
    /// Whether to use Nesterov momentum; requires momentum, and no dampening.
    pub nesterov: bool,
    /// Weight decay coefficient (L2 penalty).
    pub weight_decay: f64,
    /// Whether to maximize the objective instead of minimizing it.
    pub maximize: bool,
    /// Whether this is the first step, which initializes the momentum buffer.
    pub first: bool,
}

impl SgdStep {
    /// Creates a step without momentum and weight decay.
    pub const fn new(lr: f64) -> Self {
        SgdStep {
            lr,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            maximize: false,
            first: false,
        }
    }

    fn check(&self) -> Result<()> {
        not_negative("the learning rate", self.lr)?;
        not_negative("momentum", self.momentum)?;
        not_negative("weight_decay", self.weight_decay)?;
        if !self.dampening.is_finite() {
            return Err(Error::invalid_argument(format!(
                "dampening must be finite, it is {}",
                self.dampening
            )));
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(Error::invalid_argument("nesterov requires a momentum above 0 and a dampening of 0"));
        }
        Ok(())
    }
}

impl StepFormula for SgdStep {
    fn state(&self) -> usize {
        if self.momentum == 0.0 { 1 } else { 2 }
    }

    #[inline(always)]
    fn step<R: Real>(&self, grad: R, [param, buffer, ..]: [R; 4]) -> [R; 4] {
        let c = R::constant;
        let mut g = if self.maximize { -grad } else { grad };
        if self.weight_decay != 0.0 {
            g = g + c(self.weight_decay) * param;
        }
        let mut new_buffer = buffer;
        if self.momentum != 0.0 {
            new_buffer = if self.first { g } else { c(self.momentum) * buffer + c(1.0 - self.dampening) * g };
            g = if self.nesterov { g + c(self.momentum) * new_buffer } else { new_buffer };
        }
        [param - c(self.lr) * g, new_buffer, c(0.0), c(0.0)]
    }
}

step!(SgdStep "sgd_step");

register_op!("sgd_step", || {
    let plain = SgdStep::new(0.1);
    let momentum = SgdStep { momentum: 0.9, ..plain };
    let case = |name: &str, step: SgdStep, shape: Shape| {
        Case::new(name, step, [CaseInput::uniform(shape)])
            .with_state((0..StepFormula::state(&step)).map(|_| CaseInput::uniform(shape)))
            .without_gradient()
    };
    let shape = Shape::from([3, 7]);
    vec![
        case("plain", plain, shape),
        case("plain, maximize", SgdStep { maximize: true, ..plain }, shape),
        case("weight decay", SgdStep { weight_decay: 0.01, ..plain }, shape),
        case("momentum, first step", SgdStep { first: true, ..momentum }, shape),
        case("momentum", momentum, shape),
        case("dampening", SgdStep { dampening: 0.5, ..momentum }, shape),
        case("nesterov", SgdStep { nesterov: true, weight_decay: 0.1, ..momentum }, shape),
        case("a scalar", momentum, Shape::scalar()),
        case("empty", momentum, Shape::from([0])),
        case("large", SgdStep { nesterov: true, ..momentum }, Shape::from([100_003])),
        case("plain, a million", plain, Shape::from([1 << 20])).timed(),
        case("momentum, a million", momentum, Shape::from([1 << 20])).timed(),
    ]
});
