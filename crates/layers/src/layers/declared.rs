//! Wrappers that change how a layer is declared, as PyTorch's modules declare theirs.

use neocog_autograd::Var;
use neocog_tensor::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

use super::{Dropout, ReLU};
use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, LayerSpec, Spec};

/// A layer that PyTorch computes in place. The values are the same; `inplace=True` is printed, as PyTorch does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InPlace {
    /// The layer: without parameters and children.
    pub layer: LayerSpec,
}

/// A layer that is declared and printed, but not run: the output is the input. Its parameters are part of the `state_dict`, and have
/// no gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unused {
    /// The layer.
    pub layer: LayerSpec,
    /// Extents of its input after the first, as `[c, h, w]`; those of the input of this layer if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Vec<usize>>,
}

impl InPlace {
    /// Wraps a layer.
    pub fn new(layer: impl Into<LayerSpec>) -> Self {
        InPlace { layer: layer.into() }
    }
}

impl Unused {
    /// Wraps a layer that would accept the same input.
    pub fn new(layer: impl Into<LayerSpec>) -> Self {
        Unused { layer: layer.into(), input: None }
    }
}

impl Spec for InPlace {
    const KIND: &'static str = "InPlace";

    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        let (layer, _) = builder.child(None, &self.layer, input)?;
        if !crate::state::entries(&*layer).is_empty() || crate::state::has_children(&*layer) {
            return Err(Error::invalid_argument(format!(
                "{} has parameters or children and cannot be computed in place",
                self.layer.kind()
            )));
        }
        Ok(Box::new(BuiltInPlace { layer }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(InPlace::new(ReLU {}), [2, 3, 2, 2]),
            Example::new(InPlace::new(Dropout { p: 0.5 }), [2, 9]),
        ]
    }
}

impl Spec for Unused {
    const KIND: &'static str = "Unused";

    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        let own = match &self.input {
            Some(extents) => Shape::new(&[&[1], extents.as_slice()].concat())?,
            None => *input,
        };
        Ok(Box::new(BuiltUnused { layer: builder.child(None, &self.layer, &own)?.0 }))
    }

    fn examples() -> Vec<Example> {
        vec![Example::new(Unused::new(Dropout { p: 0.5 }), [2, 3])]
    }
}

register_layer!(InPlace);
register_layer!(Unused);

#[derive(Debug)]
struct BuiltInPlace {
    layer: Box<dyn Layer>,
}

#[derive(Debug)]
struct BuiltUnused {
    layer: Box<dyn Layer>,
}

impl Layer for BuiltInPlace {
    fn label(&self) -> &str {
        self.layer.label()
    }

    fn arguments(&self) -> String {
        let own = self.layer.arguments();
        match own.strip_suffix("inplace=False") {
            Some(others) => format!("{others}inplace=True"),
            None if own.is_empty() => "inplace=True".to_string(),
            None => format!("{own}, inplace=True"),
        }
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        self.layer.forward(context, input)
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

impl Layer for BuiltUnused {
    fn label(&self) -> &str {
        self.layer.label()
    }

    fn arguments(&self) -> String {
        self.layer.arguments()
    }

    fn forward(&self, _context: &Context<'_>, input: &Var) -> Result<Var> {
        Ok(input.clone())
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.layer.visit(visitor);
    }
}
