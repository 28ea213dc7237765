//! Combinators: layers that consist of layers.

use neocog_autograd::Var;
use neocog_tensor::ops::{self, Activation};
use neocog_tensor::{Error, Result, Shape};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::chain::{Chain, Child, Order, check_names};
use super::{BatchNorm2d, Conv2d, Linear, ReLU, Sigmoid};
use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor, activate};
use crate::register_layer;
use crate::spec::{Example, LayerSpec, Spec};

/// A chain of layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequential {
    /// Name that is printed; "Sequential" if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The layers.
    pub layers: Vec<Child>,
}

impl Sequential {
    /// Creates an empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name that is printed.
    #[must_use]
    pub fn labeled(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Appends a layer with a name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, layer: impl Into<LayerSpec>) -> Self {
        self.layers.push(Child::named(name, layer));
        self
    }

    /// Appends a layer whose name is its index among the named layers.
    #[must_use]
    pub fn then(self, layer: impl Into<LayerSpec>) -> Self {
        let number = self.layers.iter().filter(|c| c.name.is_some()).count();
        self.with(number.to_string(), layer)
    }

    /// Appends a layer without a name; see [`Child::name`].
    #[must_use]
    pub fn unnamed(mut self, layer: impl Into<LayerSpec>) -> Self {
        self.layers.push(Child::unnamed(layer));
        self
    }
}

impl Spec for Sequential {
    const KIND: &'static str = "Sequential";

    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        check_names(&self.layers)?;
        let (chain, _) = Chain::build(&self.layers, builder, input)?;
        Ok(Box::new(BuiltSequential { label: label(&self.label, Self::KIND), chain }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(
                Sequential::new()
                    .then(Conv2d::new(1, 2, 3))
                    .then(Sigmoid {})
                    .then(BatchNorm2d::new(2))
                    .then(ReLU {}),
                [3, 1, 4, 4],
            ),
            Example::new(Sequential::new(), [2, 3]),
            Example::new(
                Sequential::new()
                    .with("in", Linear::new(3, 4))
                    .unnamed(Sigmoid {})
                    .with("out", Linear::new(4, 2)),
                [2, 3],
            ),
        ]
    }
}

register_layer!(Sequential);

#[derive(Debug)]
struct BuiltSequential {
    label: String,
    chain: Chain,
}

impl Layer for BuiltSequential {
    fn label(&self) -> &str {
        &self.label
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        self.chain.forward(context, input)
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.chain.visit(visitor);
    }
}

/// `activation(body(x) + shortcut(x))`; a shortcut without layers is the identity. K. He, X. Zhang, S. Ren, J. Sun, "Deep residual
/// learning for image recognition", CVPR 2016.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// Name that is printed; "Residual" if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Layers of the residual branch.
    pub body: Vec<Child>,
    /// Layers of the shortcut.
    #[serde(default)]
    pub shortcut: Vec<Child>,
    /// Activation of the sum.
    #[serde(default)]
    pub activation: Option<Activation>,
    /// Names of all named layers in the order in which they are declared and printed, if it differs from body, then shortcut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
}

impl Spec for Residual {
    const KIND: &'static str = "Residual";

    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        check_names(self.body.iter().chain(&self.shortcut))?;
        let (body, body_shape) = Chain::build(&self.body, builder, input)?;
        let (shortcut, shortcut_shape) = Chain::build(&self.shortcut, builder, input)?;
        if body_shape != shortcut_shape {
            return Err(Error::shape(format!(
                "the output of the body is {body_shape}, but that of the shortcut is {shortcut_shape}; the shapes must be equal (use a 1x1 convolution in the shortcut to change channels and stride)"
            )));
        }
        let order = Order::new(&self.order, self.body.iter().chain(&self.shortcut))?;
        Ok(Box::new(BuiltResidual {
            label: label(&self.label, Self::KIND),
            body,
            shortcut,
            activation: self.activation,
            order,
        }))
    }

    fn examples() -> Vec<Example> {
        let body = vec![
            Child::named("conv1", Conv2d::new(2, 3, 3).padding(1)),
            Child::named("bn1", BatchNorm2d::new(3)),
            Child::unnamed(Sigmoid {}),
            Child::named("conv2", Conv2d::new(3, 3, 3).padding(1)),
        ];
        let shortcut = vec![Child::named("conv3", Conv2d::new(2, 3, 1))];
        let order = ["conv1", "conv2", "conv3", "bn1"].map(String::from).to_vec();
        vec![
            Example::new(
                Residual { label: None, body, shortcut, activation: Some(Activation::Relu), order },
                [2, 2, 4, 3],
            ),
            Example::new(
                Residual {
                    label: None,
                    body: vec![Child::named("fc", Linear::new(3, 3))],
                    shortcut: Vec::new(),
                    activation: None,
                    order: Vec::new(),
                },
                [2, 3],
            ),
        ]
    }
}

register_layer!(Residual);

#[derive(Debug)]
struct BuiltResidual {
    label: String,
    body: Chain,
    shortcut: Chain,
    activation: Option<Activation>,
    order: Order,
}

impl Layer for BuiltResidual {
    fn label(&self) -> &str {
        &self.label
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let body = self.body.forward(context, input)?;
        let shortcut = self.shortcut.forward(context, input)?;
        let sum = context.tape().apply_single(ops::Add, &[&body, &shortcut])?;
        match self.activation {
            Some(activation) => activate(context, &sum, activation),
            None => Ok(sum),
        }
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.order.visit(self.body.iter().chain(self.shortcut.iter()), visitor);
    }
}

/// The outputs of several branches, concatenated along one axis; a branch without layers is the identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// Name that is printed; "Concat" if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Axis, 1 (channels) if absent; negative values count from the last.
    #[serde(default = "channels")]
    pub dim: isize,
    /// Layers of each branch.
    pub branches: Vec<Vec<Child>>,
}

fn channels() -> isize {
    1
}

impl Spec for Concat {
    const KIND: &'static str = "Concat";

    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        if self.branches.is_empty() {
            return Err(Error::invalid_argument("Concat needs at least one branch"));
        }
        check_names(self.branches.iter().flatten())?;
        let branches = self
            .branches
            .iter()
            .map(|b| Ok(Chain::build(b, builder, input)?.0))
            .collect::<Result<Vec<_>>>()?;
        Ok(Box::new(BuiltConcat { label: label(&self.label, Self::KIND), dim: self.dim, branches }))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(
                Concat {
                    label: None,
                    dim: 1,
                    branches: vec![
                        vec![],
                        vec![Child::named("p1", Conv2d::new(2, 1, 1)), Child::unnamed(Sigmoid {})],
                        vec![Child::named("p2", Conv2d::new(2, 2, 3).padding(1))],
                    ],
                },
                [2, 2, 3, 4],
            ),
            Example::new(Concat { label: None, dim: 0, branches: vec![vec![], vec![]] }, [2, 3]),
        ]
    }
}

register_layer!(Concat);

#[derive(Debug)]
struct BuiltConcat {
    label: String,
    dim: isize,
    branches: Vec<Chain>,
}

impl Layer for BuiltConcat {
    fn label(&self) -> &str {
        &self.label
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let outputs = self
            .branches
            .iter()
            .map(|b| b.forward(context, input))
            .collect::<Result<SmallVec<[Var; 4]>>>()?;
        context
            .tape()
            .apply_single(ops::Concat { dim: self.dim }, &outputs.iter().collect::<SmallVec<[&Var; 4]>>())
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.branches.iter().for_each(|b| b.visit(visitor));
    }
}

fn label(label: &Option<String>, kind: &str) -> String {
    label.clone().unwrap_or_else(|| kind.to_string())
}
