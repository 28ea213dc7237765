//! Cases: every operation registers examples of itself, which one set of tests runs.
//!
//! Operations of other crates register in the same way and are tested in the same way: each device against the reference, the
//! gradient against central differences, every output element written, and nothing written outside the outputs.

use std::fmt;
use std::sync::Arc;

use crate::core::device::Device;
use crate::core::op::Op;
use crate::core::shape::Shape;
use neocog_base::random::philox;
use neocog_base::{Error, Result};

/// Entry of an operation in the registry, created by [`register_op!`](crate::register_op).
#[derive(Clone, Copy, Debug)]
pub struct OpEntry {
    /// Name of the operation.
    pub name: &'static str,
    /// Name of the crate that registered it.
    pub crate_name: &'static str,
    /// Returns its cases.
    pub cases: fn() -> Vec<Case>,
}

inventory::collect!(OpEntry);

/// A function that returns the names of the algorithms that can compute an operation on inputs of these shapes.
type AlgorithmNames = fn(&dyn Op, &[Shape], &Device) -> Result<Vec<&'static str>>;

/// The algorithms of operations that have several, for conformance checks of each of them.
pub(crate) struct AlgorithmsEntry {
    /// Returns the names of the algorithms that can compute an operation on inputs of these shapes; none for operations without
    /// a choice.
    pub names: AlgorithmNames,
    /// Calls a function in which this thread uses the algorithm of this name. Returns the name of the algorithm that computed
    /// the last operation meanwhile, if one did.
    pub with: fn(&'static str, &mut dyn FnMut()) -> Option<&'static str>,
}

inventory::collect!(AlgorithmsEntry);

/// Registers an operation's cases: `register_op!("relu", cases)`, with `fn cases() -> Vec<Case>`.
#[macro_export]
macro_rules! register_op {
    ($name:expr, $cases:expr) => {
        $crate::inventory::submit! { $crate::core::registration::RegisteredName($name) }
        $crate::inventory::submit! {
            $crate::testing::cases::OpEntry { name: $name, crate_name: env!("CARGO_PKG_NAME"), cases: $cases }
        }
    };
}

/// Returns all registered operations of the linked crates, sorted by name.
pub fn registered_ops() -> Vec<&'static OpEntry> {
    let mut all: Vec<_> = inventory::iter::<OpEntry>.into_iter().collect();
    all.sort_by_key(|e| (e.name, e.crate_name));
    all
}

/// An example of an operation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Case {
    /// Short description.
    pub name: String,
    /// The operation and its parameters.
    pub op: Arc<dyn Op>,
    /// The inputs.
    pub inputs: Vec<CaseInput>,
    /// The old values of state outputs.
    pub state: Vec<CaseInput>,
    /// Largest permitted deviation from the reference in single precision, relative to the largest absolute value of each
    /// output.
    pub tolerance: f64,
    /// Whether the gradient is checked; not for large cases.
    pub check_gradient: bool,
    /// Whether benchmarks time this case.
    pub bench: bool,
}

impl Case {
    /// Creates a small case for the tests.
    pub fn new(name: impl Into<String>, op: impl Op, inputs: impl IntoIterator<Item = CaseInput>) -> Self {
        Case {
            name: name.into(),
            op: Arc::new(op),
            inputs: inputs.into_iter().collect(),
            state: Vec::new(),
            tolerance: 1e-5,
            check_gradient: true,
            bench: false,
        }
    }

    /// Sets the old values of state outputs.
    #[must_use]
    pub fn with_state(mut self, state: impl IntoIterator<Item = CaseInput>) -> Self {
        self.state = state.into_iter().collect();
        self
    }

    /// Sets the tolerance in single precision. `reason` documents it.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: f64, reason: &str) -> Self {
        debug_assert!(!reason.is_empty());
        self.tolerance = tolerance;
        self
    }

    /// Disables the gradient check, for operations whose gradient does not exist or is not continuous.
    #[must_use]
    pub fn without_gradient(mut self) -> Self {
        self.check_gradient = false;
        self
    }

    /// Enables timing, and disables the gradient check.
    #[must_use]
    pub fn timed(mut self) -> Self {
        self.bench = true;
        self.check_gradient = false;
        self
    }
}

/// An input of a case: a shape and a reproducible rule for the values.
#[derive(Clone)]
pub struct CaseInput {
    /// Shape of the input.
    pub shape: Shape,
    /// Rule for the values.
    pub fill: Fill,
    /// Whether the gradient check differentiates with respect to this input.
    pub differentiable: bool,
}

/// A rule for values.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fill {
    /// Uniform in `[low, high)`.
    Uniform {
        /// Lower bound.
        low: f32,
        /// Upper bound (exclusive).
        high: f32,
    },
    /// Uniformly distributed integers in `[0, below)`.
    Index {
        /// Upper bound (exclusive).
        below: u32,
    },
    /// A shuffled arithmetic sequence in `(-1, 1)`: no two values are close and none is 0, so every maximum is unique.
    Distinct,
    /// The given values.
    Values(Arc<[f32]>),
}

impl CaseInput {
    /// Uniform values in `[-1, 1)`.
    pub fn uniform(shape: impl Into<Shape>) -> Self {
        Self::between(shape, -1.0, 1.0)
    }

    /// Uniform values in `[low, high)`.
    pub fn between(shape: impl Into<Shape>, low: f32, high: f32) -> Self {
        CaseInput { shape: shape.into(), fill: Fill::Uniform { low, high }, differentiable: true }
    }

    /// Integers in `[0, below)`, such as classes or indices. Not differentiable.
    pub fn index(shape: impl Into<Shape>, below: u32) -> Self {
        CaseInput { shape: shape.into(), fill: Fill::Index { below }, differentiable: false }
    }

    /// Distinct values; see [`Fill::Distinct`].
    pub fn distinct(shape: impl Into<Shape>) -> Self {
        CaseInput { shape: shape.into(), fill: Fill::Distinct, differentiable: true }
    }

    /// The given values.
    ///
    /// # Errors
    /// If their number differs from the shape's.
    pub fn values(shape: impl Into<Shape>, values: &[f32]) -> Result<Self> {
        let shape = shape.into();
        if values.len() != shape.elements() {
            return Err(Error::shape(format!("the shape {shape} does not have {} elements", values.len())));
        }
        Ok(CaseInput { shape, fill: Fill::Values(values.into()), differentiable: true })
    }

    /// Excludes the input from the gradient check.
    #[must_use]
    pub fn constant(mut self) -> Self {
        self.differentiable = false;
        self
    }

    /// Computes the values. Different values of `stream` yield independent inputs.
    pub fn make(&self, stream: u64) -> Vec<f32> {
        let count = self.shape.elements();
        let word = |i: usize| philox(stream, i as u128 / 4)[i % 4];
        match &self.fill {
            Fill::Uniform { low, high } => {
                (0..count).map(|i| low + (high - low) * ((word(i) >> 8) as f32 / (1 << 24) as f32)).collect()
            }
            Fill::Index { below } => (0..count).map(|i| (word(i) % below) as f32).collect(),
            Fill::Distinct => {
                let mut order: Vec<usize> = (0..count).collect();
                order.sort_by_key(|&i| word(i));
                order.into_iter().map(|p| ((2.0 * p as f64 + 0.75) / count as f64 - 1.0) as f32).collect()
            }
            Fill::Values(values) => values.to_vec(),
        }
    }
}

impl fmt::Debug for CaseInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shape)
    }
}
