//! Activation functions.

use neocog_autograd::Var;
use neocog_tensor::ops::{self, Activation};
use neocog_tensor::{Result, Shape};
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
