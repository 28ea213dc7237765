//! Layers one after the other: what the combinators are made of.

use std::collections::HashSet;

use neocog_autograd::Var;
use neocog_tensor::ops::Activation;
use neocog_tensor::{Context as _, Error, Result, Shape};
use serde::{Deserialize, Deserializer, Serialize};

use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor, path_element};
use crate::json::nested_error;
use crate::parse::{RawSpec, kind_in};
use crate::spec::LayerSpec;

/// A layer within a combinator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Child {
    /// Its name, under which its parameters are found. Without one it is either a function that has no parameters
    /// and is not printed (as a call in PyTorch's `forward`), or its own children count as the outer layer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    pub layer: LayerSpec,
}

impl Child {
    /// A layer with a name.
    pub fn named(name: impl Into<String>, layer: impl Into<LayerSpec>) -> Self {
        Child { name: Some(name.into()), layer: layer.into() }
    }

    /// A layer without a name.
    pub fn unnamed(layer: impl Into<LayerSpec>) -> Self {
        Child { name: None, layer: layer.into() }
    }
}

/// By hand, so that the errors of the layer are said with its name.
impl<'de> Deserialize<'de> for Child {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename = "Child")]
        struct Stored {
            #[serde(default)]
            name: Option<String>,
            layer: RawSpec,
        }
        let Stored { name, layer: RawSpec(value) } = Stored::deserialize(deserializer)?;
        let kind = kind_in(&value).unwrap_or("a layer").to_string();
        let layer = LayerSpec::parse(value).context(|| path_element(name.as_deref(), &kind)).map_err(nested_error)?;
        Ok(Child { name, layer })
    }
}

/// Built layers, one after the other.
#[derive(Debug)]
pub(super) struct Chain(Vec<(Option<String>, Box<dyn Layer>)>);

impl Chain {
    /// Builds the layers for inputs like `input`; returns the shape of the last one's output too.
    pub(super) fn build(children: &[Child], builder: &mut Builder, input: &Shape) -> Result<(Self, Shape)> {
        let mut shape = *input;
        let mut built = Vec::with_capacity(children.len());
        for child in children {
            let (layer, output) = builder.child(child.name.as_deref(), &child.layer, &shape)?;
            built.push((child.name.clone(), layer));
            shape = output;
        }
        Ok((Chain(built), shape))
    }

    /// Runs the layers. A layer that can takes the activation behind it in, unless someone wants to see both outputs. Where
    /// gradients are wanted, a relu before a pooling that picks the largest is applied to what is picked: there is less
    /// of it, in both directions, and what goes into the pooling need not be kept.
    pub(super) fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let mut value = input.clone();
        let mut rest = self.0.as_slice();
        let run = |(name, layer): &(Option<String>, Box<dyn Layer>), value: &Var| {
            context.child(name.as_deref(), &**layer, value)
        };
        while let [first @ (name, layer), behind @ ..] = rest {
            let fuses = layer.fuses_activation() && !context.is_observed();
            let activation = behind.first().filter(|_| fuses).and_then(|(_, next)| next.as_activation());
            (value, rest) = match (activation, behind) {
                (Some(Activation::Relu), [relu, pooling, later @ ..])
                    if pooling.1.commutes_with_relu() && context.tape().is_recording() =>
                {
                    (run(relu, &run(pooling, &run(first, &value)?)?)?, later)
                }
                (Some(activation), _) => {
                    (context.child_activated(name.as_deref(), &**layer, &value, activation)?, &behind[1..])
                }
                (None, _) => (run(first, &value)?, behind),
            };
        }
        Ok(value)
    }

    pub(super) fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        for (name, layer) in &self.0 {
            visitor.child(name.as_deref(), &**layer);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&str>, &dyn Layer)> {
        self.0.iter().map(|(name, layer)| (name.as_deref(), &**layer))
    }
}

/// Checks the names of the children of one layer: they become parts of dotted names.
pub(super) fn check_names<'a>(children: impl IntoIterator<Item = &'a Child>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in children.into_iter().filter_map(|c| c.name.as_deref()) {
        if name.is_empty() || name.contains('.') {
            return Err(Error::invalid_argument(format!(
                "a layer's name must not be empty or contain a dot: \"{name}\""
            )));
        }
        if !seen.insert(name) {
            return Err(Error::invalid_argument(format!("two layers have the same name, \"{name}\"")));
        }
    }
    Ok(())
}
