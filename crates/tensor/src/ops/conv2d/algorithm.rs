//! What the algorithms of a convolution have in common: the trait, the choice by cost, and the request for one of
//! them by `NEOCOG_CONV`.
//!
//! Each device has an ordered list of algorithms. The first with the least cost computes a convolution, so the choice
//! depends on the shape and on the device, never on the number of threads.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shape::{ConvShape, Pass};
use crate::cpu::Activation;

/// The environment variable that requests an algorithm by its name.
pub const ALGORITHM_VARIABLE: &str = "NEOCOG_CONV";

/// The factor on the cost of the general algorithms that a specialized one costs outside of the shapes for which it is
/// known to be faster. Any factor above 1 gives the same choices.
pub const NOT_FASTER: f64 = 4.0;

/// The types of a kind of device.
pub trait Backend: Sized + 'static {
    /// What the cost depends on besides the shape.
    type Device;
    /// What a run needs besides its operands.
    type Context<'a>: Copy;
    type Input<'a>: Copy;
    type Output<'a>;
    /// Memory of a packed weight.
    type Buffer;
    /// The result of something that can fail on this kind of device only.
    type Outcome<T>;
}

/// The operands of a pass. The weight of the forward pass is packed by [`ConvAlgorithm::pack`]; `original` is the weight
/// before.
pub enum Operands<'a, B: Backend> {
    Forward {
        x: B::Input<'a>,
        weight: B::Input<'a>,
        original: B::Input<'a>,
        bias: Option<B::Input<'a>>,
        activation: Option<Activation>,
        y: B::Output<'a>,
    },
    InputGrad {
        dy: B::Input<'a>,
        weight: B::Input<'a>,
        dx: B::Output<'a>,
    },
    WeightGrad {
        x: B::Input<'a>,
        dy: B::Input<'a>,
        dw: B::Output<'a>,
    },
}

/// An algorithm for convolutions on one kind of device.
pub trait ConvAlgorithm<B: Backend>: Sync {
    /// Returns the name in lower case with underscores, unique in its list.
    fn name(&self) -> &'static str;

    /// Whether the algorithm can read and write what is in blocks of channels.
    fn works_in_blocks(&self) -> bool {
        false
    }

    /// Returns the estimated cost in vector multiply-adds, or `None` if the algorithm cannot compute this pass of this
    /// convolution.
    fn cost(&self, conv: &ConvShape, pass: Pass, device: &B::Device) -> Option<f64>;

    /// Returns the weight in the layout that [`run`](ConvAlgorithm::run) expects for the forward pass, or `None` if
    /// that is the original layout.
    fn pack(
        &self,
        context: B::Context<'_>,
        conv: &ConvShape,
        weight: B::Input<'_>,
    ) -> B::Outcome<Option<B::Buffer>>;

    /// Computes a pass that has a cost, of a convolution that is not empty. Every element of the output is written.
    fn run(&self, context: B::Context<'_>, conv: &ConvShape, operands: Operands<'_, B>) -> B::Outcome<()>;
}

/// An entry of a list of algorithms.
pub type Algorithm<B> = &'static dyn ConvAlgorithm<B>;

/// Returns the cost of a pass, or `None` if the algorithm cannot compute it.
fn cost<B: Backend>(
    algorithm: Algorithm<B>,
    conv: &ConvShape,
    pass: Pass,
    device: &B::Device,
) -> Option<f64> {
    let fits = conv.in_blocks == [false; 2] || algorithm.works_in_blocks();
    if fits { algorithm.cost(conv, pass, device) } else { None }
}

/// Returns the algorithm that computes a pass: the requested one if it can, else the first with the least cost.
///
/// # Panics
/// If none of the list can compute it; the implicit GEMM computes every shape.
pub fn choose<B: Backend>(
    all: &[Algorithm<B>],
    conv: &ConvShape,
    pass: Pass,
    device: &B::Device,
) -> Algorithm<B> {
    if let Some(name) = wanted()
        && let Some(&found) = all.iter().find(|algorithm| algorithm.name() == name)
        && cost(found, conv, pass, device).is_some()
    {
        return found;
    }
    cheapest(all, conv, pass, device)
}

/// Returns the first algorithm with the least cost.
///
/// # Panics
/// As [`choose`].
pub fn cheapest<B: Backend>(
    all: &[Algorithm<B>],
    conv: &ConvShape,
    pass: Pass,
    device: &B::Device,
) -> Algorithm<B> {
    let costs = all.iter().filter_map(|&algorithm| Some((algorithm, cost(algorithm, conv, pass, device)?)));
    // `min_by` returns the first of equal elements.
    let best = costs.min_by(|(_, a), (_, b)| a.total_cmp(b));
    best.expect("the implicit GEMM computes every shape").0
}

/// Returns the names of the algorithms that can compute a pass, the chosen one first.
pub fn applicable<B: Backend>(
    all: &[Algorithm<B>],
    conv: &ConvShape,
    pass: Pass,
    device: &B::Device,
) -> Vec<&'static str> {
    let chosen = choose(all, conv, pass, device).name();
    let others = all.iter().filter(|a| a.name() != chosen && cost(**a, conv, pass, device).is_some());
    std::iter::once(chosen).chain(others.map(|a| a.name())).collect()
}

thread_local! {
    /// The algorithm that [`with_algorithm`] requests on this thread.
    static REQUESTED_HERE: Cell<Option<&'static str>> = const { Cell::new(None) };
    /// The algorithm of the last pass that this thread has run.
    static LAST_RUN: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// How many passes the algorithm that `NEOCOG_CONV` requests has computed.
static COMPUTED: AtomicU64 = AtomicU64::new(0);

/// Returns the value of `NEOCOG_CONV`, read once; `None` if it is not set or empty.
pub fn requested() -> Option<&'static str> {
    static REQUESTED: OnceLock<Option<String>> = OnceLock::new();
    // A value that is not UTF-8 is no name of an algorithm, which is an error.
    let read = || Some(std::env::var_os(ALGORITHM_VARIABLE)?.to_string_lossy().into_owned());
    REQUESTED.get_or_init(|| read().filter(|name| !name.is_empty())).as_deref()
}

fn wanted() -> Option<&'static str> {
    REQUESTED_HERE.get().or_else(requested)
}

/// Calls `work`, in which this thread prefers the algorithm `name` to the cheapest one and to `NEOCOG_CONV`. Returns its
/// result, and the algorithm of the last pass that the thread ran meanwhile.
pub fn with_algorithm<R>(name: &'static str, work: impl FnOnce() -> R) -> (R, Option<&'static str>) {
    struct Restore(Option<&'static str>);
    impl Drop for Restore {
        fn drop(&mut self) {
            REQUESTED_HERE.set(self.0);
        }
    }
    let _restore = Restore(REQUESTED_HERE.replace(Some(name)));
    LAST_RUN.set(None);
    let result = work();
    (result, LAST_RUN.get())
}

/// Counts a pass that the algorithm `name` computes, if `NEOCOG_CONV` requests it, and notes it in the profile.
pub fn note_run(name: &'static str) {
    LAST_RUN.set(Some(name));
    crate::core::profile::note_algorithm(name);
    if requested() == Some(name) {
        COMPUTED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns how many passes the algorithm that `NEOCOG_CONV` requests has computed.
pub fn computed() -> u64 {
    COMPUTED.load(Ordering::Relaxed)
}
