//! Rewrites: what simplifies a graph without changing what it computes.
//!
//! All rewrites are registered with [`register_rewrite!`](crate::register_rewrite) and applied in one order, for inference and
//! for training. Each has cases, on which [`check`](crate::check) compares the graph before and after on every device.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use neocog_base::{Context as _, Result};
use neocog_tensor::{Device, Pass};

use crate::graph::Graph;

/// What a graph is rewritten for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The kind of pass.
    pub pass: Pass,
    /// The device that will run it.
    pub device: &'a Device,
}

/// A registered rewrite; created by [`register_rewrite!`](crate::register_rewrite).
#[derive(Clone, Copy)]
pub struct Rewrite {
    /// Its name.
    pub name: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    /// Its position: rewrites are applied in ascending order. Those of this crate are at 100, 200, .. What depends on the number of
    /// images of a batch is at [`LAYOUT_ORDER`] or later: before that, a graph may be split into parts of a batch.
    pub order: u32,
    /// Whether it is applied for a target.
    pub applies: fn(&Target<'_>) -> bool,
    /// Rewrites a graph.
    pub apply: fn(&mut Graph, &Target<'_>) -> Result<()>,
    /// Small examples.
    pub cases: fn() -> Vec<Case>,
}

inventory::collect!(Rewrite);

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, at {}", self.name, self.crate_name, self.order)
    }
}

/// Registers a rewrite of graphs: `register_rewrite!("prune", order 100, applies, apply, cases);` with the functions of
/// [`Rewrite`].
#[macro_export]
macro_rules! register_rewrite {
    ($name:expr, order $order:expr, $applies:expr, $apply:expr, $cases:expr) => {
        $crate::inventory::submit! {
            $crate::Rewrite {
                name: $name,
                crate_name: env!("CARGO_PKG_NAME"),
                order: $order,
                applies: $applies,
                apply: $apply,
                cases: $cases,
            }
        }
    };
}

/// Returns all registered rewrites in the order in which they are applied.
pub fn registered_rewrites() -> Vec<&'static Rewrite> {
    let mut all: Vec<_> = inventory::iter::<Rewrite>.into_iter().collect();
    all.sort_by_key(|rewrite| (rewrite.order, rewrite.name, rewrite.crate_name));
    all
}

/// The order from which on rewrites choose how values and weights are stored, for a graph and a batch that stay the same.
pub const LAYOUT_ORDER: u32 = 450;

/// Applies all registered rewrites for `target`.
///
/// # Errors
/// When a constant cannot be read or written; when a rewrite leaves an invalid graph.
pub fn rewrite(graph: &mut Graph, target: &Target<'_>) -> Result<()> {
    rewrite_in(graph, target, ..)
}

/// Applies the registered rewrites in a range of the order.
///
/// # Errors
/// As [`rewrite`].
pub(crate) fn rewrite_in(
    graph: &mut Graph,
    target: &Target<'_>,
    orders: impl RangeBounds<u32>,
) -> Result<()> {
    for rewrite in registered_rewrites() {
        if orders.contains(&rewrite.order) && (rewrite.applies)(target) {
            (rewrite.apply)(graph, target).context(|| rewrite.name)?;
        }
    }
    Ok(())
}

/// Creates the graph of a case.
type MakeGraph = dyn Fn(&Device) -> Result<Graph> + Send + Sync;

/// An example of a rewrite: a graph, and the operations that the rewrite alone leaves in it.
#[derive(Clone)]
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// Creates the graph with constants on a device.
    pub graph: Arc<MakeGraph>,
    /// The names of the operations after the rewrite.
    pub expected: Vec<&'static str>,
}

impl Case {
    /// Creates a case.
    pub fn new(
        name: &'static str,
        graph: impl Fn(&Device) -> Result<Graph> + Send + Sync + 'static,
        expected: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        Case { name, graph: Arc::new(graph), expected: expected.into_iter().collect() }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {:?}", self.name, self.expected)
    }
}
