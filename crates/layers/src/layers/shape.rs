//! Reshaping layers, and the identity.

use neocog_autograd::Var;
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Merges the axes from `start_dim` to `end_dim` into one; negative values count from the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flatten {
    /// The first axis.
    pub start_dim: i64,
    /// The last axis.
    pub end_dim: i64,
}

impl Default for Flatten {
    /// Merges all axes but the first: `[n, c, h, w]` to `[n, c · h · w]`.
    fn default() -> Self {
        Flatten { start_dim: 1, end_dim: -1 }
    }
}

/// [`Flatten`] with its defaults, `[n, c, h, w]` to `[n, c · h · w]`, with the name that it has in the notes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlattenLayer {}

/// The identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {}

/// Layers without learnable parameters: the spec is the layer.
macro_rules! plain_layer {
    ($name:ident, $kind:literal, [$($example:expr),*]) => {
        impl Spec for $name {
            const KIND: &'static str = $kind;

            fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
                Ok(Box::new(self.clone()))
            }

            fn examples() -> Vec<Example> {
                vec![$($example),*]
            }
        }

        register_layer!($name);
    };
}

plain_layer!(
    Flatten,
    "Flatten",
    [
        Example::new(Flatten::default(), [2, 2, 3, 1]),
        Example::new(Flatten { start_dim: 0, end_dim: 1 }, [2, 3, 2])
    ]
);
plain_layer!(FlattenLayer, "FlattenLayer", [Example::new(FlattenLayer {}, [2, 2, 3, 1])]);
plain_layer!(Identity, "Identity", [Example::new(Identity {}, [2, 3])]);

impl Layer for Flatten {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        format!("start_dim={}, end_dim={}", self.start_dim, self.end_dim)
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let rank = input.shape().rank() as i64;
        let axis = |dim: i64| if dim < 0 { dim + rank } else { dim };
        let (start, end) = (axis(self.start_dim), axis(self.end_dim));
        if start < 0 || end >= rank || start > end {
            return Err(Error::shape(format!(
                "cannot flatten the axes {} to {} of {}",
                self.start_dim,
                self.end_dim,
                input.shape()
            )));
        }
        let (start, end) = (start as usize, end as usize);
        let old = input.shape().extents();
        let mut extents = old[..start].to_vec();
        extents.push(old[start..=end].iter().product());
        extents.extend(&old[end + 1..]);
        context.tape().apply_single(ops::Reshape { shape: Shape::new(&extents)? }, &[input])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl Layer for FlattenLayer {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        Flatten::default().forward(context, input)
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl Layer for Identity {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn forward(&self, _context: &Context<'_>, input: &Var) -> Result<Var> {
        Ok(input.clone())
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}
