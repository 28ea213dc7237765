//! RMSprop.

use super::{StepFormula, not_negative, step};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::Result;

/// One step of RMSprop, as `torch.optim.RMSprop`:
///
/// ```text
/// g = grad + weight_decay * param
/// square = alpha * square + (1 - alpha) * g^2
/// mean = alpha * mean + (1 - alpha) * g and root = sqrt(square - mean^2) + eps when centered,
///     else root = sqrt(square) + eps
/// buffer = momentum * buffer + g / root
/// param = param - lr * buffer
/// ```
///
/// Input: the gradient. State: the parameter, the mean square, then, where momentum is not 0, the momentum buffer,
/// then, when centered, the mean. A variance that is negative due to rounding counts as 0.
/// G. Hinton, "Neural networks for machine learning", lecture 6e, 2012.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsPropStep {
    /// Learning rate.
    pub lr: f64,
    /// Smoothing constant of the mean square.
    pub alpha: f64,
    /// Added to the denominator for numerical stability.
    pub eps: f64,
    /// Weight decay coefficient (L2 penalty).
    pub weight_decay: f64,
    /// Momentum factor; 0 for none.
    pub momentum: f64,
    /// Whether to normalize by the standard deviation instead of the root mean square.
    pub centered: bool,
    /// Whether to maximize the objective instead of minimizing it.
    pub maximize: bool,
}

impl RmsPropStep {
    /// Creates a step with PyTorch's defaults.
    pub const fn new(lr: f64) -> Self {
        let alpha = 0.99;
        RmsPropStep {
            lr,
            alpha,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum: 0.0,
            centered: false,
            maximize: false,
        }
    }

    fn check(&self) -> Result<()> {
        not_negative("the learning rate", self.lr)?;
        not_negative("alpha", self.alpha)?;
        not_negative("eps", self.eps)?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("momentum", self.momentum)
    }
}

impl StepFormula for RmsPropStep {
    fn state(&self) -> usize {
        2 + usize::from(self.momentum != 0.0) + usize::from(self.centered)
    }

    #[inline(always)]
    fn step<R: Real>(&self, grad: R, [param, square, third, fourth]: [R; 4]) -> [R; 4] {
        let c = R::constant;
        let has_momentum = self.momentum != 0.0;
        let (buffer, mean) = if has_momentum { (third, fourth) } else { (c(0.0), third) };
        let mut g = if self.maximize { -grad } else { grad };
        if self.weight_decay != 0.0 {
            g = g + c(self.weight_decay) * param;
        }
        let square = c(self.alpha) * square + c(1.0 - self.alpha) * (g * g);
        let mut new_mean = mean;
        let mut variance = square;
        if self.centered {
            new_mean = mean + c(1.0 - self.alpha) * (g - mean);
            variance = c(0.0).max(square - new_mean * new_mean);
        }
        let mut change = g / (variance.sqrt() + c(self.eps));
        if has_momentum {
            change = c(self.momentum) * buffer + change;
        }
        let param = param - c(self.lr) * change;
        if has_momentum { [param, square, change, new_mean] } else { [param, square, new_mean, c(0.0)] }
    }
}

step!(RmsPropStep "rms_prop_step");

register_op!("rms_prop_step", || {
    let plain = RmsPropStep::new(0.05);
    let case = |name: &str, step: RmsPropStep, shape: Shape| {
        // The mean square is larger than the square of the mean.
        let small = CaseInput::between(shape, -0.5, 0.5);
        let state = [CaseInput::uniform(shape), CaseInput::between(shape, 0.5, 1.0), small.clone(), small];
        Case::new(name, step, [CaseInput::uniform(shape)])
            .with_state(state.into_iter().take(StepFormula::state(&step)))
            .without_gradient()
    };
    let shape = Shape::from([3, 7]);
    vec![
        case("plain", plain, shape),
        case("weight decay", RmsPropStep { weight_decay: 0.1, ..plain }, shape),
        case("momentum", RmsPropStep { momentum: 0.9, ..plain }, shape),
        case("centered", RmsPropStep { centered: true, ..plain }, shape),
        case("centered, momentum", RmsPropStep { centered: true, momentum: 0.5, ..plain }, shape),
        case("maximize", RmsPropStep { maximize: true, alpha: 0.9, eps: 1e-3, ..plain }, shape),
        case("a scalar", plain, Shape::scalar()),
        case("empty", plain, Shape::from([0])),
        case("large", RmsPropStep { centered: true, momentum: 0.5, ..plain }, Shape::from([100_003])),
    ]
});
