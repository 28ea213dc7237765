//! Squeeze and excitation.

use neocog_autograd::Var;
use neocog_tensor::{Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Child, Order, check_names};
use super::{Conv2d, GlobalAvgPool2d, Sigmoid};
use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// `x · body(x)`, with broadcasting: a body that ends with one number for each channel is squeeze and excitation. J. Hu, L. Shen,
/// G. Sun, "Squeeze-and-excitation networks", CVPR 2018.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Name that is printed; "Gate" if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Layers that compute the factors.
    pub body: Vec<Child>,
    /// Names of all named layers in the order in which they are declared and printed, if it differs from that of the body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
}

impl Spec for Gate {
    const KIND: &'static str = "Gate";

    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        check_names(&self.body)?;
        let order = Order::new(&self.order, &self.body)?;
        let (body, _) = Chain::build(&self.body, builder, input)?;
        let label = self.label.clone().unwrap_or_else(|| Self::KIND.to_string());
        Ok(Box::new(Built { label, body, order }))
    }

    fn examples() -> Vec<Example> {
        let body = vec![
            Child::named("avgpool", GlobalAvgPool2d {}),
            Child::named("fc1", Conv2d::new(3, 2, 1)),
            Child::named("activation", Sigmoid {}),
            Child::named("fc2", Conv2d::new(2, 3, 1)),
            Child::named("scale_activation", Sigmoid {}),
        ];
        let order = ["avgpool", "fc1", "fc2", "activation", "scale_activation"].map(String::from).to_vec();
        let spatial = vec![Child::named("0", Conv2d::new(2, 1, 3).padding(1))];
        vec![
            Example::new(Gate { label: Some("SqueezeExcitation".into()), body, order }, [2, 3, 3, 2]),
            Example::new(Gate { label: None, body: spatial, order: Vec::new() }, [2, 2, 3, 3]),
        ]
    }
}

register_layer!(Gate);

#[derive(Debug)]
struct Built {
    label: String,
    body: Chain,
    order: Order,
}

impl Layer for Built {
    fn label(&self) -> &str {
        &self.label
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let factors = self.body.forward(context, input)?;
        context.tape().apply_single(ops::Mul, &[input, &factors])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.order.visit(self.body.iter(), visitor);
    }
}
