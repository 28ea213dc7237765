//! The layer, and the context of a forward pass through layers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use neocog_autograd::{Param, Tape, Var};
use neocog_tensor::ops::Activation;
use neocog_tensor::{Context as _, Device, Result, Tensor, profile};

pub use crate::buffer::{Buffer, Counter};

/// A built layer: its parameters and its forward pass.
///
/// `forward` takes `&self`, so a network can run on many threads at once. Training changes parameters and running
/// statistics through their locks.
pub trait Layer: fmt::Debug + Send + Sync {
    /// Returns the name that is printed: the kind, or the class name of a block.
    fn label(&self) -> &str;

    /// Returns the arguments that PyTorch prints between the parentheses: `1, 6, kernel_size=(5, 5)`. Empty for layers
    /// that print their children.
    fn arguments(&self) -> String {
        String::new()
    }

    /// Whether this layer computes with statistics of the batch in evaluation too, so that the result for an image depends on those
    /// beside it. Not asked for its children.
    fn uses_batch_statistics(&self) -> bool {
        false
    }

    /// Computes the output for `input`.
    ///
    /// # Errors
    /// When the shape of the input does not fit, or the device fails.
    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var>;

    /// Passes parameters, buffers and children to `visitor`, in the order in which they are declared.
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>);
}

/// Applies an activation function.
///
/// # Errors
/// When the device fails.
pub fn activate(context: &Context<'_>, x: &Var, activation: Activation) -> Result<Var> {
    Ok(context.tape().apply_shared(&activation.op(), &[x])?.remove(0))
}

/// Receives the parts of a layer from [`Layer::visit`].
pub trait Visitor<'a> {
    /// Visits a parameter.
    fn param(&mut self, name: &str, param: &'a Param);

    /// Visits a buffer.
    fn buffer(&mut self, name: &str, buffer: &'a Buffer);

    /// Visits a counter.
    fn counter(&mut self, name: &str, counter: &'a Counter);

    /// Visits a child layer. The parts of a child without a name belong to the layer that holds it.
    fn child(&mut self, name: Option<&str>, layer: &'a dyn Layer);
}

/// A change of the state of a layer in a training pass, as an update of running statistics. It is made after the operations
/// that compute its values, in the order in which the layers ran.
///
/// What `Debug` shows of it must be the same in each step: its attributes, without the state itself.
pub trait StateUpdate: fmt::Debug + Send + Sync {
    /// Changes the state with the values that were passed to [`Context::update`].
    ///
    /// # Errors
    /// When the device fails.
    fn update(&self, values: &[&Tensor]) -> Result<()>;
}

/// An update with its values.
pub(crate) type RecordedUpdate = (Arc<dyn StateUpdate>, Vec<Var>);

/// The state of one forward pass: tape, training or evaluation mode, random numbers and observer.
pub struct Context<'a> {
    tape: &'a Tape,
    training: bool,
    seed: u64,
    draws: Cell<u64>,
    /// The updates of a pass that is traced.
    updates: Option<RefCell<Vec<RecordedUpdate>>>,
    observer: Option<&'a dyn Observer>,
    path: RefCell<Vec<String>>,
}

/// Receives the output of every layer during a forward pass, like PyTorch's forward hooks.
pub trait Observer {
    /// Called after a layer has computed its output.
    fn output(&self, seen: &Seen<'_>);
}

/// A layer with its input and output, as passed to an [`Observer`].
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Dotted name of the layer, empty for the network itself. A layer without a name has that of the layer around it.
    pub path: &'a str,
    /// Whether the layer has a name, or is the network itself.
    pub is_named: bool,
    /// The layer.
    pub layer: &'a dyn Layer,
    /// Its input.
    pub input: &'a Var,
    /// Its output.
    pub output: &'a Var,
    /// Number of images at the end of the batch that the network has added: a model for a fixed batch fills up smaller ones.
    pub filled: usize,
}

impl<'a> Context<'a> {
    /// Creates a context in training mode: dropout is active, and batch norm uses the statistics of the batch and updates
    /// its running statistics. Use a different `seed` for each step.
    pub fn train(tape: &'a Tape, seed: u64) -> Self {
        Context {
            tape,
            training: true,
            seed,
            draws: Cell::new(0),
            updates: None,
            observer: None,
            path: RefCell::default(),
        }
    }

    /// Creates a context in evaluation mode.
    pub fn eval(tape: &'a Tape) -> Self {
        Context { training: false, ..Self::train(tape, 0) }
    }

    /// Records the updates of state instead of making them.
    pub(crate) fn tracing(mut self) -> Self {
        self.updates = Some(RefCell::default());
        self
    }

    /// Returns the number of draws and the recorded updates.
    pub(crate) fn into_trace(self) -> (u64, Vec<RecordedUpdate>) {
        (self.draws.get(), self.updates.map(RefCell::into_inner).unwrap_or_default())
    }

    /// Sets an observer.
    #[must_use]
    pub fn observed(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Returns the tape that operations are recorded on.
    pub fn tape(&self) -> &'a Tape {
        self.tape
    }

    /// Whether the pass is in training mode.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Whether the pass has an observer.
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Returns a seed and an offset for random numbers. The offset increases with each call within a pass, so the
    /// numbers are determined by the order of the calls.
    pub fn draw(&self) -> (u64, u64) {
        let offset = self.draws.get();
        self.draws.set(offset + 1);
        (self.seed, offset)
    }

    /// Changes the state of a layer with values of this pass. A pass that is traced records the change, to make it in each of
    /// the runs of its graph; a pass on [`Device::Meta`] changes nothing.
    ///
    /// # Errors
    /// Those of the update.
    pub fn update(&self, update: Arc<dyn StateUpdate>, values: &[&Var]) -> Result<()> {
        if let Some(updates) = &self.updates {
            updates.borrow_mut().push((update, values.iter().map(|var| (*var).clone()).collect()));
            return Ok(());
        }
        if values.iter().any(|var| var.tensor().device() == Device::Meta) {
            return Ok(());
        }
        update.update(&values.iter().map(|var| var.tensor()).collect::<Vec<_>>())
    }

    /// Runs a network: [`Layer::forward`], followed by the observer.
    ///
    /// # Errors
    /// Those of the network.
    pub fn run(&self, network: &dyn Layer, input: &Var) -> Result<Var> {
        let output = network.forward(self, input)?;
        if let Some(observer) = self.observer {
            observer.output(&Seen {
                path: "",
                is_named: true,
                layer: network,
                input,
                output: &output,
                filled: 0,
            });
        }
        Ok(output)
    }

    /// Reports to the observer what a part of a layer, which is no child of it, has computed for a batch with `filled` images more than
    /// were given.
    pub fn observe(&self, name: &str, layer: &dyn Layer, input: &Var, output: &Var, filled: usize) {
        if let Some(observer) = self.observer {
            let mut path = self.path.borrow().clone();
            path.push(name.to_string());
            observer.output(&Seen { path: &path.join("."), is_named: true, layer, input, output, filled });
        }
    }

    /// Runs a layer within another one, under its name. All combinators call it, so that every layer is observed and
    /// errors have the path to the layer.
    ///
    /// # Errors
    /// Those of the layer, with the name added to their path.
    pub fn child(&self, name: Option<&str>, layer: &dyn Layer, input: &Var) -> Result<Var> {
        if self.observer.is_some()
            && let Some(name) = name
        {
            self.path.borrow_mut().push(name.to_string());
        }
        let scope = name.map(profile::scope);
        let output = layer.forward(self, input).context(|| path_element(name, layer.label()));
        drop(scope);
        if let Some(observer) = self.observer {
            if let Ok(output) = &output {
                let path = self.path.borrow().join(".");
                observer.output(&Seen {
                    path: &path,
                    is_named: name.is_some(),
                    layer,
                    input,
                    output,
                    filled: 0,
                });
            }
            if name.is_some() {
                self.path.borrow_mut().pop();
            }
        }
        output
    }
}

/// Returns the element of an error's path for a layer: `conv1 (Conv2d)`.
pub(crate) fn path_element(name: Option<&str>, label: &str) -> String {
    match name {
        Some(name) => format!("{name} ({label})"),
        None => label.to_string(),
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("training", &self.training)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
