//! Chains of layers, of which the combinators consist.

use std::collections::HashSet;

use neocog_autograd::Var;
use neocog_tensor::{Context as _, Error, Result, Shape};
use serde::{Deserialize, Deserializer, Serialize};

use crate::builder::Builder;
use crate::json::nested_error;
use crate::layer::{Context, Layer, Visitor, path_element};
use crate::parse::{RawSpec, kind_in};
use crate::spec::LayerSpec;

/// A layer within a combinator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Child {
    /// Name, which becomes part of the names of its parameters. A layer without a name and without children corresponds to a
    /// function call in PyTorch's `forward` and is not printed; the children of one without a name belong to the outer layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Spec of the layer.
    pub layer: LayerSpec,
}

impl Child {
    /// Creates a layer with a name.
    pub fn named(name: impl Into<String>, layer: impl Into<LayerSpec>) -> Self {
        Child { name: Some(name.into()), layer: layer.into() }
    }

    /// Creates a layer without a name.
    pub fn unnamed(layer: impl Into<LayerSpec>) -> Self {
        Child { name: None, layer: layer.into() }
    }
}

/// Not derived, so that the path of an error includes the name of the layer.
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
        let layer =
            LayerSpec::parse(value).context(|| path_element(name.as_deref(), &kind)).map_err(nested_error)?;
        Ok(Child { name, layer })
    }
}

/// Built layers that run one after the other.
#[derive(Debug)]
pub(super) struct Chain(Vec<(Option<String>, Box<dyn Layer>)>);

impl Chain {
    /// Builds the layers for inputs of shape `input`; also returns the shape of the output.
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

    /// Runs the layers.
    pub(super) fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let mut layers = self.0.iter();
        let Some((name, first)) = layers.next() else { return Ok(input.clone()) };
        let first = context.child(name.as_deref(), &**first, input)?;
        layers.try_fold(first, |value, (name, layer)| context.child(name.as_deref(), &**layer, &value))
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

/// Checks that the names of the children of a layer are unique and can be part of dotted names.
pub(super) fn check_names<'a>(children: impl IntoIterator<Item = &'a Child>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in children.into_iter().filter_map(|c| c.name.as_deref()) {
        if name.is_empty() || name.contains('.') {
            return Err(Error::invalid_argument(format!(
                "the name of a layer must not be empty or contain a dot: \"{name}\""
            )));
        }
        if !seen.insert(name) {
            return Err(Error::invalid_argument(format!("two layers have the same name \"{name}\"")));
        }
    }
    Ok(())
}

/// The order in which the layers of a combinator are declared and printed, if it differs from that in which they run.
#[derive(Debug)]
pub(super) struct Order(Vec<String>);

impl Order {
    /// Checks that `order` is empty, or contains the name of each child that has one.
    pub(super) fn new<'a>(order: &[String], children: impl IntoIterator<Item = &'a Child>) -> Result<Self> {
        let mut names: Vec<&str> = children.into_iter().filter_map(|c| c.name.as_deref()).collect();
        if !order.is_empty() {
            let mut ordered: Vec<&str> = order.iter().map(String::as_str).collect();
            ordered.sort_unstable();
            names.sort_unstable();
            if ordered != names {
                return Err(Error::invalid_argument(format!(
                    "order must contain the names {names:?}, found {order:?}"
                )));
            }
        }
        Ok(Order(order.to_vec()))
    }

    /// Passes layers to `visitor` in this order; those without a name come first.
    pub(super) fn visit<'a>(
        &self,
        layers: impl Iterator<Item = (Option<&'a str>, &'a dyn Layer)>,
        visitor: &mut dyn Visitor<'a>,
    ) {
        let mut all: Vec<_> = layers.collect();
        if !self.0.is_empty() {
            all.sort_by_key(|(name, _)| name.and_then(|n| self.0.iter().position(|o| o == n)));
        }
        for (name, layer) in all {
            visitor.child(name, layer);
        }
    }
}
