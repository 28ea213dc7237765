//! Activation functions. This file is the one list of them: kernels that fuse an activation, the operations, and the layers of
//! `neocog-layers` are generated from it.

use serde::{Deserialize, Serialize};

use crate::cpu::simd::Real;

/// Calls a macro with the list of activation functions: `for_each_activation! { callback (tokens) }` expands to
/// `callback! { (tokens) of_output { .. } of_input { .. } }`, where an entry is
///
/// ```text
/// /// Documentation.
/// Variant GradientOp "operation" "operation_grad" [Layer "Kind"]
///     (c, x) = value;
///     (c, saved, dy) = gradient of the input;
/// ```
///
/// In the expressions, `c(1.0)` is a constant. Functions whose gradient is computed from their output are in `of_output`: their
/// `saved` is the output. They can be fused in training, too. The `saved` of the others, in `of_input`, is the input. An entry
/// without a layer has `[]`.
#[macro_export]
macro_rules! for_each_activation {
    ($callback:ident $tokens:tt) => {
        $callback! { $tokens
            of_output {
                /// Rectified linear unit, `max(x, 0)`; the gradient at 0 is 0.
                Relu ReluGrad "relu" "relu_grad" [ReLU "ReLU"]
                    (c, x) = Real::max(c(0.0), x);
                    (c, y, dy) = Real::select_gt(y, c(0.0), dy, c(0.0));

                /// Logistic sigmoid, `1 / (1 + e^-x)`.
                Sigmoid SigmoidGrad "sigmoid" "sigmoid_grad" [Sigmoid "Sigmoid"]
                    (c, x) = c(1.0) / (c(1.0) + Real::exp(-x));
                    (c, y, dy) = dy * y * (c(1.0) - y);

                /// Hyperbolic tangent.
                Tanh TanhGrad "tanh" "tanh_grad" [Tanh "Tanh"]
                    (c, x) = Real::tanh(x);
                    (c, y, dy) = dy * (c(1.0) - y * y);

                /// Rectified linear unit with an upper bound, `min(max(x, 0), 6)`; the gradient at 0 and at 6 is 0.
                Relu6 Relu6Grad "relu6" "relu6_grad" [ReLU6 "ReLU6"]
                    (c, x) = -Real::max(c(-6.0), -Real::max(c(0.0), x));
                    (c, y, dy) = Real::select_gt(y, c(0.0), Real::select_gt(c(6.0), y, dy, c(0.0)), c(0.0));
            }
            of_input {
                /// Hard swish, `x clamp(x + 3, 0, 6) / 6`. A. Howard et al., "Searching for MobileNetV3", ICCV 2019.
                Hardswish HardswishGrad "hardswish" "hardswish_grad" [Hardswish "Hardswish"]
                    (c, x) = x * -Real::max(c(-6.0), -Real::max(c(0.0), x + c(3.0))) * c(1.0 / 6.0);
                    (c, x, dy) = Real::select_gt(
                        c(3.0),
                        x,
                        Real::select_gt(x, c(-3.0), dy * (x * c(1.0 / 3.0) + c(0.5)), c(0.0)),
                        dy
                    );

                /// Hard sigmoid, `clamp(x + 3, 0, 6) / 6`; the gradient at -3 and at 3 is 0.
                Hardsigmoid HardsigmoidGrad "hardsigmoid" "hardsigmoid_grad" [Hardsigmoid "Hardsigmoid"]
                    (c, x) = -Real::max(c(-6.0), -Real::max(c(0.0), x + c(3.0))) * c(1.0 / 6.0);
                    (c, x, dy) = Real::select_gt(
                        c(3.0),
                        x,
                        Real::select_gt(x, c(-3.0), dy * c(1.0 / 6.0), c(0.0)),
                        c(0.0)
                    );

                /// Sigmoid linear unit, `x / (1 + e^-x)`, also called swish.
                Silu SiluGrad "silu" "silu_grad" [SiLU "SiLU"]
                    (c, x) = x / (c(1.0) + Real::exp(-x));
                    (c, x, dy) = {
                        let sigmoid = c(1.0) / (c(1.0) + Real::exp(-x));
                        dy * sigmoid * (c(1.0) + x * (c(1.0) - sigmoid))
                    };

                /// Gaussian error linear unit, `x (1 + erf(x / sqrt(2))) / 2`. D. Hendrycks, K. Gimpel, "Gaussian error linear
                /// units", 2016.
                Gelu GeluGrad "gelu" "gelu_grad" []
                    (c, x) = c(0.5) * x * (c(1.0) + Real::erf(x * c(std::f64::consts::FRAC_1_SQRT_2)));
                    (c, x, dy) = {
                        let distribution = c(0.5) + c(0.5) * Real::erf(x * c(std::f64::consts::FRAC_1_SQRT_2));
                        let density = c(0.398_942_280_401_432_7) * Real::exp(c(-0.5) * x * x);
                        dy * (distribution + x * density)
                    };

                /// Approximation of the Gaussian error linear unit, `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³))) / 2`.
                GeluTanh GeluTanhGrad "gelu_tanh" "gelu_tanh_grad" []
                    (c, x) = {
                        let inner = c(0.797_884_560_802_865_4) * x * (c(1.0) + c(0.044_715) * x * x);
                        c(0.5) * x * (c(1.0) + Real::tanh(inner))
                    };
                    (c, x, dy) = {
                        let inner = c(0.797_884_560_802_865_4) * x * (c(1.0) + c(0.044_715) * x * x);
                        let tanh = Real::tanh(inner);
                        let slope = c(0.797_884_560_802_865_4) * (c(1.0) + c(0.134_145) * x * x);
                        dy * c(0.5) * (c(1.0) + tanh + x * (c(1.0) - tanh * tanh) * slope)
                    };
            }
        }
    };
}

macro_rules! define {
    ($tokens:tt
        of_output { $(
            $(#[$doc:meta])* $name:ident $grad:ident $op:literal $grad_op:literal $layer:tt
                ($c:ident, $x:ident) = $value:expr;
                ($gc:ident, $y:ident, $dy:ident) = $grad_value:expr;
        )* }
        of_input { $(
            $(#[$doc_:meta])* $name_:ident $grad_:ident $op_:literal $grad_op_:literal $layer_:tt
                ($c_:ident, $x_:ident) = $value_:expr;
                ($gc_:ident, $y_:ident, $dy_:ident) = $grad_value_:expr;
        )* }
    ) => {
        /// An activation function without parameters. Convolutions, linear layers and batch norms can apply one to their result.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Activation {
            $($(#[$doc])* $name,)*
            $($(#[$doc_])* $name_,)*
        }

        impl Activation {
            /// All activation functions.
            pub const ALL: &[Activation] = &[$(Activation::$name,)* $(Activation::$name_,)*];

            /// The activation functions whose gradient is computed from their output. Only these can be fused in training.
            pub const GRAD_OF_OUTPUT: &[Activation] = &[$(Activation::$name,)*];

            /// Whether the gradient of the input is computed from the output; if not, from the input.
            pub fn has_grad_of_output(self) -> bool {
                matches!(self, $(Activation::$name)|*)
            }

            /// Computes the function.
            #[inline(always)]
            pub(crate) fn apply<R: Real>(self, x: R) -> R {
                match self {
                    $(Activation::$name => {
                        #[allow(unused_variables, reason = "not every expression has a constant")]
                        let ($c, $x) = (R::constant, x);
                        $value
                    })*
                    $(Activation::$name_ => {
                        #[allow(unused_variables, reason = "not every expression has a constant")]
                        let ($c_, $x_) = (R::constant, x);
                        $value_
                    })*
                }
            }

            /// Computes the function of each value: the function is chosen once.
            #[inline(always)]
            pub(crate) fn apply_each<R: Real>(self, values: &mut [R]) {
                match self {
                    $(Activation::$name => {
                        for value in values {
                            #[allow(unused_variables, reason = "not every expression has a constant")]
                            let ($c, $x) = (R::constant, *value);
                            *value = $value;
                        }
                    })*
                    $(Activation::$name_ => {
                        for value in values {
                            #[allow(unused_variables, reason = "not every expression has a constant")]
                            let ($c_, $x_) = (R::constant, *value);
                            *value = $value_;
                        }
                    })*
                }
            }

            /// Computes the gradient of the input from the gradient `dy` of the output and from what is saved: the output,
            /// or the input if [`Activation::has_grad_of_output`] is false.
            #[inline(always)]
            pub(crate) fn grad_value<R: Real>(self, saved: R, dy: R) -> R {
                match self {
                    $(Activation::$name => {
                        let ($gc, $y, $dy) = (R::constant, saved, dy);
                        $grad_value
                    })*
                    $(Activation::$name_ => {
                        let ($gc_, $y_, $dy_) = (R::constant, saved, dy);
                        $grad_value_
                    })*
                }
            }
        }
    };
}

for_each_activation! { define () }

impl Activation {
    /// Returns the number of an optional activation, for kernels that have it as a constant: 0 is none.
    pub(crate) const fn number(activation: Option<Self>) -> u8 {
        match activation {
            None => 0,
            Some(activation) => activation as u8 + 1,
        }
    }

    /// Returns the activation with a number.
    #[inline(always)]
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        if number == 0 { None } else { Some(Self::ALL[number as usize - 1]) }
    }
}
