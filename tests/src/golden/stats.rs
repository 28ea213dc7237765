//! Statistics of tensors, which golden files hold instead of large tensors.

use neocog_tensor::{Error, Result};

use super::compare::Checked;
use super::files::{Array, Tensors};
use super::hash::Stream;
use super::rules::Allowed;

/// Number of first elements.
const FIRST: usize = 16;

/// Sum, norm, inner product with fixed random numbers, and first elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Number of elements; 0 if unknown.
    pub elements: usize,
    /// Sum.
    pub sum: f64,
    /// Euclidean norm.
    pub norm: f64,
    /// Inner product with random numbers of the hash, which depends on order, sign and layout.
    pub dot: f64,
    /// The first elements, padded with zeros.
    pub first: [f64; FIRST],
}

impl Stats {
    /// Computes the statistics of a tensor with these elements.
    pub fn of(values: &[f64], stream: Stream) -> Self {
        let mut first = [0.0; FIRST];
        first.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        Stats {
            elements: values.len(),
            sum: values.iter().sum(),
            norm: values.iter().map(|v| v * v).sum::<f64>().sqrt(),
            dot: values.iter().enumerate().map(|(i, v)| v * stream.unit(i as u64)).sum(),
            first,
        }
    }

    /// Returns the factor of the tolerance of sums: `√n` where errors of the elements can have the same sign, as when a gradient
    /// flows through other pixels after a different choice; 1 otherwise.
    fn sum_factor(&self, allowed: &Allowed) -> f64 {
        if allowed.in_one_direction { (self.elements as f64).sqrt() } else { 1.0 }
    }

    /// Returns the largest error, relative to the norm.
    pub fn deviation(&self, expected: &Stats, allowed: &Allowed) -> f64 {
        let sum = (self.sum, expected.sum, self.sum_factor(allowed));
        let others = [(self.norm, expected.norm, 1.0), (self.dot, expected.dot, 1.0)];
        let first = self.first.iter().zip(expected.first).map(|(&g, e)| (g, e, 1.0));
        let all = std::iter::once(sum).chain(others).chain(first);
        all.filter(|(g, e, _)| g != e).fold(0.0f64, |worst, (g, e, weight)| {
            let deviation = (g - e).abs() / (expected.norm * weight);
            if deviation > worst || deviation.is_nan() { deviation } else { worst }
        })
    }

    /// Compares all statistics, with tolerances relative to the norm.
    pub fn compare(&self, expected: &Stats, allowed: &Allowed, checked: &mut Checked) {
        let tolerance = allowed.single * expected.norm;
        checked.compare("sum", &[self.sum], &[expected.sum], |_| tolerance * self.sum_factor(allowed));
        checked.compare("norm", &[self.norm], &[expected.norm], |_| tolerance);
        checked.compare("dot", &[self.dot], &[expected.dot], |_| tolerance);
        checked.compare("first16", &self.first, &expected.first, |_| tolerance);
    }
}

/// The statistics of several tensors, a row for each.
#[derive(Debug)]
pub struct Rows<'a> {
    sum: &'a Array,
    norm: &'a Array,
    dot: &'a Array,
    first: &'a Array,
}

impl<'a> Rows<'a> {
    /// Reads the tensors `KEY_sum`, `KEY_norm`, `KEY_dot` and `KEY_first16`.
    ///
    /// # Errors
    /// When one is missing or does not have `count` rows.
    pub fn read(tensors: &'a Tensors, key: &str, count: usize) -> Result<Self> {
        let get = |suffix: &str, width: usize| {
            let array = tensors.get(&format!("{key}_{suffix}"))?;
            if array.values.len() == count * width {
                Ok(array)
            } else {
                let len = array.values.len();
                Err(Error::format(format!(
                    "{key}_{suffix} has {len} values, expected {count} rows of {width}"
                )))
            }
        };
        Ok(Rows {
            sum: get("sum", 1)?,
            norm: get("norm", 1)?,
            dot: get("dot", 1)?,
            first: get("first16", FIRST)?,
        })
    }

    /// Returns the statistics of one tensor.
    pub fn row(&self, row: usize) -> Stats {
        let mut first = [0.0; FIRST];
        first.copy_from_slice(&self.first.values[row * FIRST..(row + 1) * FIRST]);
        let at = |array: &Array| array.values[row];
        Stats { elements: 0, sum: at(self.sum), norm: at(self.norm), dot: at(self.dot), first }
    }
}
