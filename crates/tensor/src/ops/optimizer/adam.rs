//! Adam and AdamW.

use super::{StepFormula, below_one, not_negative, step};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

macro_rules! adam {
    ($(#[$doc:meta])* $op:ident $name:literal, decay $decay:literal, decoupled $decoupled:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $op {
            /// Learning rate.
            pub lr: f64,
            /// Decay rates of the first and the second moment.
            pub betas: [f64; 2],
            /// Added to the denominator for numerical stability.
            pub eps: f64,
            /// Weight decay coefficient.
            pub weight_decay: f64,
            /// Whether to use the AMSGrad variant: the largest second moment so far.
            pub amsgrad: bool,
            /// Whether to maximize the objective instead of minimizing it.
            pub maximize: bool,
            /// Number of this step, from 1.
            pub step: u64,
        }

        impl $op {
            /// Creates step number `step`, from 1, with PyTorch's defaults.
            pub const fn new(lr: f64, step: u64) -> Self {
                let betas = [0.9, 0.999];
                $op { lr, betas, eps: 1e-8, weight_decay: $decay, amsgrad: false, maximize: false, step }
            }

            fn check(&self) -> Result<()> {
                not_negative("the learning rate", self.lr)?;
                below_one("the first of betas", self.betas[0])?;
                below_one("the second of betas", self.betas[1])?;
                not_negative("eps", self.eps)?;
                not_negative("weight_decay", self.weight_decay)?;
                if self.step == 0 {
                    return Err(Error::invalid_argument("step must be at least 1"));
                }
                Ok(())
            }
        }

        impl StepFormula for $op {
            fn state(&self) -> usize {
                if self.amsgrad { 4 } else { 3 }
            }

            #[inline(always)]
            fn step<R: Real>(&self, grad: R, [param, first, second, largest]: [R; 4]) -> [R; 4] {
                let c = R::constant;
                let [beta1, beta2] = self.betas;
                let corrections = self.betas.map(|beta| 1.0 - beta.powf(self.step as f64));
                let mut g = if self.maximize { -grad } else { grad };
                let mut param = param;
                if self.weight_decay != 0.0 {
                    if $decoupled {
                        param = param * c(1.0 - self.lr * self.weight_decay);
                    } else {
                        g = g + c(self.weight_decay) * param;
                    }
                }
                let first = first + c(1.0 - beta1) * (g - first);
                let second = c(beta2) * second + c(1.0 - beta2) * (g * g);
                let largest = if self.amsgrad { largest.max(second) } else { second };
                let root = largest.sqrt() * c(1.0 / corrections[1].sqrt()) + c(self.eps);
                [param - c(self.lr / corrections[0]) * (first / root), first, second, largest]
            }
        }

        step!($op $name);

        register_op!($name, || {
            let plain = $op::new(0.1, 1);
            let case = |name: &str, step: $op, shape: Shape| {
                // Second moments are not negative.
                let state = [
                    CaseInput::uniform(shape),
                    CaseInput::uniform(shape),
                    CaseInput::between(shape, 0.0, 1.0),
                    CaseInput::between(shape, 0.0, 1.0),
                ];
                Case::new(name, step, [CaseInput::uniform(shape)])
                    .with_state(state.into_iter().take(StepFormula::state(&step)))
                    .without_gradient()
            };
            let shape = Shape::from([3, 7]);
            vec![
                case("first step", plain, shape),
                case("step 100", $op { step: 100, ..plain }, shape),
                case("step 10 million", $op { step: 10_000_000, ..plain }, shape),
                case("weight decay", $op { weight_decay: 0.1, step: 3, ..plain }, shape),
                case("no weight decay", $op { weight_decay: 0.0, step: 3, ..plain }, shape),
                case("amsgrad", $op { amsgrad: true, step: 2, ..plain }, shape),
                case("maximize", $op { maximize: true, weight_decay: 0.1, step: 2, ..plain }, shape),
                case("other betas", $op { betas: [0.5, 0.9], eps: 1e-3, step: 7, ..plain }, shape),
                case("a scalar", plain, Shape::scalar()),
                case("empty", plain, Shape::from([0])),
                case("large", $op { amsgrad: true, step: 5, ..plain }, Shape::from([100_003])),
                case("a million", $op { step: 9, ..plain }, Shape::from([1 << 20])).timed(),
            ]
        });
    };
}

adam! {
    /// One step of Adam, as `torch.optim.Adam`:
    ///
    /// ```text
    /// g = grad + weight_decay * param
    /// first = beta1 * first + (1 - beta1) * g
    /// second = beta2 * second + (1 - beta2) * g^2
    /// largest = max(largest, second) with amsgrad, else second
    /// param = param - lr / (1 - beta1^step) * first / (sqrt(largest) / sqrt(1 - beta2^step) + eps)
    /// ```
    ///
    /// Input: the gradient. State: the parameter, the first moment, the second moment and, with amsgrad, the largest
    /// second moment. D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    AdamStep "adam_step", decay 0.0, decoupled false
}

adam! {
    /// One step of AdamW, as `torch.optim.AdamW`: [`AdamStep`] with decoupled weight decay,
    /// `param = (1 - lr * weight_decay) * param`, which does not affect the moments.
    ///
    /// Input and state as those of [`AdamStep`]. I. Loshchilov, F. Hutter, "Decoupled weight decay regularization",
    /// ICLR 2019.
    AdamWStep "adamw_step", decay 0.01, decoupled true
}
