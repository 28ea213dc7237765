//! Cases: every operation submits examples of itself, and one set of tests reads them all.
//!
//! An operation of another crate registers in the same way, and is then held to the same: each device against the
//! reference, the gradient against central differences, no element left unwritten, none written outside.

use std::fmt;
use std::sync::Arc;

use crate::core::op::Op;
use crate::core::shape::Shape;
use neocog_base::Result;
use neocog_base::random::philox;

/// An operation's entry in the list of all that were linked in; made by [`register_op!`](crate::register_op).
pub struct OpEntry {
    /// The operation's name.
    pub name: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    /// Its cases.
    pub cases: fn() -> Vec<Case>,
}

inventory::collect!(OpEntry);

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

/// All registered operations, sorted by name.
pub fn registered_ops() -> Vec<&'static OpEntry> {
    let mut all: Vec<_> = inventory::iter::<OpEntry>.into_iter().collect();
    all.sort_by_key(|e| (e.name, e.crate_name));
    all
}

/// One example of an operation.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it, in a few words.
    pub name: String,
    /// The operation with its parameters.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<CaseInput>,
    /// The old values of the state that it updates.
    pub state: Vec<CaseInput>,
    /// The largest deviation from the reference that single precision may have, relative to the largest value of
    /// each output.
    pub tolerance: f64,
    /// Whether the gradient check includes this case (large cases for timing are left out of it).
    pub check_gradient: bool,
    /// Whether the benchmarks time this case.
    pub bench: bool,
}

impl Case {
    /// A small case for the tests.
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

    /// With old values for the state.
    #[must_use]
    pub fn with_state(mut self, state: impl IntoIterator<Item = CaseInput>) -> Self {
        self.state = state.into_iter().collect();
        self
    }

    /// With another tolerance in single precision; `reason` is for the reader.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: f64, reason: &str) -> Self {
        debug_assert!(!reason.is_empty());
        self.tolerance = tolerance;
        self
    }

    /// Without the gradient check, for operations that have no gradient or steps in it.
    #[must_use]
    pub fn without_gradient(mut self) -> Self {
        self.check_gradient = false;
        self
    }

    /// Timed by the benchmarks; too large for the gradient check.
    #[must_use]
    pub fn timed(mut self) -> Self {
        self.bench = true;
        self.check_gradient = false;
        self
    }
}

/// An input of a case: a shape and a rule for the values, which are the same everywhere.
#[derive(Clone)]
pub struct CaseInput {
    /// The extents.
    pub shape: Shape,
    /// How the values are made.
    pub fill: Fill,
    /// Whether the gradient check differentiates by this input.
    pub differentiable: bool,
}

/// A rule for values.
#[derive(Clone, Debug)]
pub enum Fill {
    /// Uniform in `[low, high)`.
    Uniform {
        /// The lower end.
        low: f32,
        /// The upper end.
        high: f32,
    },
    /// Whole numbers from 0, below the limit.
    Index {
        /// The limit.
        below: u32,
    },
    /// A shuffled arithmetic sequence over `(-1, 1)`: no two values are near, none is 0, so that no maximum is in doubt.
    Distinct,
    /// These values.
    Values(Arc<[f32]>),
}

impl CaseInput {
    /// Values uniform in `[-1, 1)`.
    pub fn uniform(shape: impl Into<Shape>) -> Self {
        Self::between(shape, -1.0, 1.0)
    }

    /// Values uniform in `[low, high)`.
    pub fn between(shape: impl Into<Shape>, low: f32, high: f32) -> Self {
        CaseInput { shape: shape.into(), fill: Fill::Uniform { low, high }, differentiable: true }
    }

    /// Whole numbers from 0, below `below`: classes or indices. Not differentiated.
    pub fn index(shape: impl Into<Shape>, below: u32) -> Self {
        CaseInput { shape: shape.into(), fill: Fill::Index { below }, differentiable: false }
    }

    /// Values of which no two are near each other.
    pub fn distinct(shape: impl Into<Shape>) -> Self {
        CaseInput { shape: shape.into(), fill: Fill::Distinct, differentiable: true }
    }

    /// These values.
    ///
    /// # Errors
    /// When their number is not the shape's.
    pub fn values(shape: impl Into<Shape>, values: &[f32]) -> Result<Self> {
        let shape = shape.into();
        crate::Tensor::from_f32(shape, values, &crate::Device::Cpu)?;
        Ok(CaseInput { shape, fill: Fill::Values(values.into()), differentiable: true })
    }

    /// Not differentiated by the gradient check.
    #[must_use]
    pub fn constant(mut self) -> Self {
        self.differentiable = false;
        self
    }

    /// The values; `stream` keeps the inputs of a case apart.
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
