//! The layer: parameters, and what it computes of its input.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use neocog_autograd::{Param, Var};
use neocog_tensor::ops::Activation;
use neocog_tensor::{Op, Result};

use crate::context::Context;

/// A named, built piece of a network.
///
/// `forward` takes `&self`: a network can predict on many threads at once. Training changes parameters through their
/// own locks, and a batch norm its running statistics likewise.
pub trait Layer: fmt::Debug + Send + Sync {
    /// What it is called where it is printed: its kind, or a network's own name for a block.
    fn label(&self) -> &str;

    /// Its parameters in PyTorch's notation, as printed between the parentheses: `1, 6, kernel_size=(5, 5)`. Empty
    /// for layers that print their children.
    fn arguments(&self) -> String {
        String::new()
    }

    /// The output for an input.
    ///
    /// # Errors
    /// When the input's shape does not fit, or a device fails.
    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var>;

    /// Shows parameters, buffers and children to `visitor`, in the order in which they are declared.
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>);

    /// The activation that this layer is, if it is one and nothing else.
    fn as_activation(&self) -> Option<Activation> {
        None
    }

    /// Whether [`forward_activated`](Layer::forward_activated) saves a pass over memory.
    fn fuses_activation(&self) -> bool {
        false
    }

    /// Whether a relu before the layer may as well be applied after it, with the same output and gradients: so it is for a
    /// layer that picks the largest of some numbers.
    fn commutes_with_relu(&self) -> bool {
        false
    }

    /// The output with an activation applied to it.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn forward_activated(&self, context: &Context<'_>, input: &Var, activation: Activation) -> Result<Var> {
        let y = self.forward(context, input)?;
        activate(context, &y, activation)
    }
}

/// Applies an activation by itself.
///
/// # Errors
/// When the device fails.
pub fn activate(context: &Context<'_>, x: &Var, activation: Activation) -> Result<Var> {
    use neocog_tensor::ops::{Relu, Sigmoid, Tanh};
    fn one(context: &Context<'_>, op: impl Op, x: &Var) -> Result<Var> {
        context.tape().apply_single(op, &[x])
    }
    match activation {
        Activation::Relu => one(context, Relu, x),
        Activation::Sigmoid => one(context, Sigmoid, x),
        Activation::Tanh => one(context, Tanh, x),
    }
}

/// What is shown the parts of a layer.
pub trait Visitor<'a> {
    /// A parameter.
    fn param(&mut self, name: &str, param: &'a Param);

    /// A tensor that is no parameter: a running statistic.
    fn buffer(&mut self, name: &str, buffer: &'a Buffer);

    /// A number that counts: the batches that a batch norm has seen.
    fn counter(&mut self, name: &str, counter: &'a Counter);

    /// A layer within. Without a name, its own parts belong to the layer that holds it.
    fn child(&mut self, name: Option<&str>, layer: &'a dyn Layer);
}

/// A tensor of a layer that is no parameter.
#[derive(Debug)]
pub struct Buffer {
    value: Param,
    persistent: bool,
}

impl Buffer {
    /// A buffer with its initial value. One that is not `persistent` is kept in checkpoints, but is no part of the
    /// `state_dict` that is exchanged with PyTorch.
    pub fn new(value: neocog_tensor::Tensor, persistent: bool) -> Self {
        Buffer { value: Param::new(value), persistent }
    }

    /// The tensor, with the access of a parameter.
    pub fn value(&self) -> &Param {
        &self.value
    }

    /// Whether it is part of the `state_dict`.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }
}

/// A number of a layer that counts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds one and returns the new number.
    pub fn increment(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}
