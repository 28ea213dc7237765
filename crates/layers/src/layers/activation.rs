//! Activation functions.

use std::sync::Arc;

use neocog_autograd::Var;
use neocog_tensor::ops::{self, Activation};
use neocog_tensor::{Op, Result, Shape};
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor, activate};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Defines the layers of the activation functions without parameters: the spec is the layer.
macro_rules! layers {
    ($tokens:tt $($group:ident { $(
        $(#[$doc:meta])* $activation:ident $grad:ident $op:literal $grad_op:literal [$($name:ident $kind:literal)?]
            ($c:ident, $x:ident) = $value:expr;
            ($gc:ident, $y:ident, $dy:ident) = $grad_value:expr;
    )* })*) => {
        $($(layer! { [$(#[$doc])*] [$($name $kind)?] $activation })*)*
    };
}

macro_rules! layer {
    ([$($doc:tt)*] [] $activation:ident) => {};
    ([$($doc:tt)*] [$name:ident $kind:literal] $activation:ident) => {
        $($doc)*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {}

        impl Spec for $name {
            const KIND: &'static str = $kind;

            fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
                Ok(Box::new(self.clone()))
            }

            fn examples() -> Vec<Example> {
                vec![Example::new($name {}, [2, 5]), Example::new($name {}, [2, 2, 3, 3])]
            }
        }

        register_layer!($name);

        impl Layer for $name {
            fn label(&self) -> &str {
                Self::KIND
            }

            fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
                activate(context, input, Activation::$activation)
            }

            fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
        }
    };
}

neocog_tensor::for_each_activation! { layers () }

/// Layers of activation functions with a field.
macro_rules! layers_with_field {
    ($($(#[$doc:meta])* $name:ident $kind:literal {
        $(#[$field_doc:meta])* $field:ident: $type:ty = $default:ident $default_name:literal, $value:expr
    } [$($example:expr),*] ($layer:ident) arguments $arguments:expr; op $op:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(#[$field_doc])*
            #[serde(default = $default_name)]
            pub $field: $type,
        }

        fn $default() -> $type {
            $value
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $field: $default() }
            }
        }

        impl Spec for $name {
            const KIND: &'static str = $kind;

            fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
                Ok(Box::new(self.clone()))
            }

            fn examples() -> Vec<Example> {
                vec![
                    Example::new($name::default(), [2, 5]),
                    $(Example::new($name { $field: $example }, [2, 2, 3, 3])),*
                ]
            }
        }

        register_layer!($name);

        impl Layer for $name {
            fn label(&self) -> &str {
                Self::KIND
            }

            fn arguments(&self) -> String {
                let $layer = self;
                $arguments
            }

            fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
                let $layer = self;
                Ok(context.tape().apply_shared(&$op, &[input])?.remove(0))
            }

            fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
        }
    )*};
}

/// How [`GELU`] is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approximate {
    /// With the error function.
    #[default]
    None,
    /// An approximation with the hyperbolic tangent.
    Tanh,
}

layers_with_field! {
    /// `x` if `x > 0`, else `negative_slope * x`.
    LeakyReLU "LeakyReLU" {
        /// Slope for negative inputs.
        negative_slope: f64 = default_negative_slope "default_negative_slope", 0.01
    } [0.2] (layer) arguments format!("negative_slope={:?}", layer.negative_slope);
        op Arc::new(ops::LeakyRelu { negative_slope: layer.negative_slope }) as Arc<dyn Op>;

    /// `x` if `x > 0`, else `alpha * (e^x - 1)`.
    ELU "ELU" {
        /// Negative limit.
        alpha: f64 = default_alpha "default_alpha", 1.0
    } [0.5] (layer) arguments format!("alpha={:?}", layer.alpha);
        op Arc::new(ops::Elu { alpha: layer.alpha }) as Arc<dyn Op>;

    /// Gaussian error linear unit, `x (1 + erf(x / sqrt(2))) / 2`.
    GELU "GELU" {
        /// How it is computed.
        approximate: Approximate = default_approximate "default_approximate", Approximate::None
    } [Approximate::Tanh] (layer) arguments match layer.approximate {
            Approximate::None => "approximate='none'".to_string(),
            Approximate::Tanh => "approximate='tanh'".to_string(),
        };
        op match layer.approximate {
            Approximate::None => Activation::Gelu,
            Approximate::Tanh => Activation::GeluTanh,
        }
        .op();
}

/// Softmax layers, with the axis as their only field.
macro_rules! softmaxes {
    ($($(#[$doc:meta])* $name:ident $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The axis along which the sum is computed; negative values count from the last.
            pub dim: isize,
        }

        impl Spec for $name {
            const KIND: &'static str = $kind;

            fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
                Ok(Box::new(self.clone()))
            }

            fn examples() -> Vec<Example> {
                vec![Example::new($name { dim: 1 }, [3, 4]), Example::new($name { dim: 1 }, [2, 3, 2, 2])]
            }
        }

        register_layer!($name);

        impl Layer for $name {
            fn label(&self) -> &str {
                Self::KIND
            }

            fn arguments(&self) -> String {
                format!("dim={}", self.dim)
            }

            fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
                context.tape().apply_single(ops::$name { dim: self.dim }, &[input])
            }

            fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
        }
    )*};
}

softmaxes! {
    /// `e^x / Σ e^x` along an axis.
    Softmax "Softmax";
    /// `x - ln Σ e^x` along an axis.
    LogSoftmax "LogSoftmax";
}
