//! What a forward pass carries along.

use std::cell::{Cell, RefCell};
use std::fmt;

use neocog_autograd::{Tape, Var};
use neocog_tensor::{Context as _, Result, profile};

use crate::layer::Layer;

/// One forward pass: its tape, whether it trains, its random numbers, and who looks on.
pub struct Context<'a> {
    tape: &'a Tape,
    training: bool,
    seed: u64,
    draws: Cell<u64>,
    observer: Option<&'a dyn Observer>,
    path: RefCell<Vec<String>>,
}

/// Looks on while a network computes.
pub trait Observer {
    /// A layer has computed its output.
    fn output(&self, seen: &Seen<'_>);
}

/// What an [`Observer`] sees of a layer that has computed.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The layer's dotted name, empty for the network itself. A layer without a name has that of the layer around it.
    pub path: &'a str,
    /// Whether the layer has a name of its own, or is the network itself.
    pub is_named: bool,
    /// The layer.
    pub layer: &'a dyn Layer,
    /// What it was given.
    pub input: &'a Var,
    /// What it made of it.
    pub output: &'a Var,
}

impl<'a> Context<'a> {
    /// A pass that trains: dropout drops, batch norm normalises by the batch and updates its running statistics.
    /// `seed` should be another for each step.
    pub fn train(tape: &'a Tape, seed: u64) -> Self {
        Context { tape, training: true, seed, draws: Cell::new(0), observer: None, path: RefCell::default() }
    }

    /// A pass that predicts.
    pub fn eval(tape: &'a Tape) -> Self {
        Context { training: false, ..Self::train(tape, 0) }
    }

    /// The same with someone who looks on. Layers are then not fused with their neighbours, so that each has an
    /// output to show.
    #[must_use]
    pub fn observed(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Where operations are recorded.
    pub fn tape(&self) -> &'a Tape {
        self.tape
    }

    /// Whether this pass trains.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Whether someone looks on.
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// A seed and an offset for random numbers, different at each call within a pass, and the same in the same
    /// order of calls.
    pub fn draw(&self) -> (u64, u64) {
        let offset = self.draws.get();
        self.draws.set(offset + 1);
        (self.seed, offset)
    }

    /// Runs a whole network: as [`Layer::forward`], and shows the output to who looks on.
    ///
    /// # Errors
    /// Those of the network.
    pub fn run(&self, network: &dyn Layer, input: &Var) -> Result<Var> {
        let output = network.forward(self, input)?;
        if let Some(observer) = self.observer {
            observer.output(&Seen { path: "", is_named: true, layer: network, input, output: &output });
        }
        Ok(output)
    }

    /// Runs a layer within another one, under its name: errors tell the way to it, and who looks on sees it.
    /// Combinators use this, so that all layers within them are reached.
    ///
    /// # Errors
    /// Those of the layer, with the name added to their path.
    pub fn child(&self, name: Option<&str>, layer: &dyn Layer, input: &Var) -> Result<Var> {
        self.enter(name, layer, input, || layer.forward(self, input))
    }

    /// As [`Context::child`], with an activation applied to the output.
    ///
    /// # Errors
    /// As [`Context::child`].
    pub(crate) fn child_activated(
        &self,
        name: Option<&str>,
        layer: &dyn Layer,
        input: &Var,
        activation: neocog_tensor::ops::Activation,
    ) -> Result<Var> {
        self.enter(name, layer, input, || layer.forward_activated(self, input, activation))
    }

    fn enter(
        &self,
        name: Option<&str>,
        layer: &dyn Layer,
        input: &Var,
        run: impl FnOnce() -> Result<Var>,
    ) -> Result<Var> {
        if self.observer.is_some()
            && let Some(name) = name
        {
            self.path.borrow_mut().push(name.to_string());
        }
        let scope = name.map(profile::scope);
        let output = run().context(|| place(name, layer.label()));
        drop(scope);
        if let Some(observer) = self.observer {
            if let Ok(output) = &output {
                let path = self.path.borrow().join(".");
                observer.output(&Seen { path: &path, is_named: name.is_some(), layer, input, output });
            }
            if name.is_some() {
                self.path.borrow_mut().pop();
            }
        }
        output
    }
}

/// How a layer is named in the path of an error: `conv1 (Conv2d)`.
pub(crate) fn place(name: Option<&str>, label: &str) -> String {
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
