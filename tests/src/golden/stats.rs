//! The few numbers by which golden files know a large tensor.

use neocog_tensor::{Error, Result};

use super::compare::Checked;
use super::files::{Array, Tensors};
use super::hash::Stream;

/// How many elements are kept.
const FIRST: usize = 16;

/// A tensor's sum, norm, product with fixed random numbers, and first elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// How many elements it has; 0 if that is not known.
    pub elements: usize,
    /// The sum.
    pub sum: f64,
    /// The root of the sum of squares.
    pub norm: f64,
    /// The sum of the products with numbers of the hash: it sees order, sign and layout.
    pub dot: f64,
    /// The first elements, filled up with zeros.
    pub first: [f64; FIRST],
}

impl Stats {
    /// The numbers of a tensor with these elements.
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

    /// The largest deviation, relative to the norm.
    pub fn deviation(&self, expected: &Stats) -> f64 {
        let pairs = [(self.sum, expected.sum), (self.norm, expected.norm), (self.dot, expected.dot)];
        let first = self.first.iter().copied().zip(expected.first);
        pairs.into_iter().chain(first).filter(|(g, e)| g != e).fold(0.0f64, |worst, (g, e)| {
            let deviation = (g - e).abs() / expected.norm;
            if deviation > worst || deviation.is_nan() { deviation } else { worst }
        })
    }

    /// Compares all numbers; each may deviate by `allowed` times the norm.
    pub fn compare(&self, expected: &Stats, allowed: f64, checked: &mut Checked) {
        let allowed = allowed * expected.norm;
        checked.compare("sum", &[self.sum], &[expected.sum], |_| allowed);
        checked.compare("norm", &[self.norm], &[expected.norm], |_| allowed);
        checked.compare("dot", &[self.dot], &[expected.dot], |_| allowed);
        checked.compare("first16", &self.first, &expected.first, |_| allowed);
    }
}

/// The numbers of several tensors, a row each.
#[derive(Debug)]
pub struct Rows<'a> {
    sum: &'a Array,
    norm: &'a Array,
    dot: &'a Array,
    first: &'a Array,
}

impl<'a> Rows<'a> {
    /// The tensors `KEY_sum`, `KEY_norm`, `KEY_dot` and `KEY_first16`.
    ///
    /// # Errors
    /// When one is absent or has not `count` rows.
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

    /// The numbers of one tensor.
    pub fn row(&self, row: usize) -> Stats {
        let mut first = [0.0; FIRST];
        first.copy_from_slice(&self.first.values[row * FIRST..(row + 1) * FIRST]);
        let at = |array: &Array| array.values[row];
        Stats { elements: 0, sum: at(self.sum), norm: at(self.norm), dot: at(self.dot), first }
    }
}
