//! The few numbers by which golden files know a large tensor.

use neocog_tensor::{Error, Result};

use super::compare::Checked;
use super::files::{Array, Tensors};
use super::hash::Stream;
use super::rules::Allowed;

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

    /// How many times more than the norm a sum may deviate: `√n` where all elements may have moved in one direction, as when
    /// a choice sends a gradient through other pixels; else as much.
    fn sums(&self, allowed: &Allowed) -> f64 {
        if allowed.in_one_direction { (self.elements as f64).sqrt() } else { 1.0 }
    }

    /// The largest deviation, relative to the norm.
    pub fn deviation(&self, expected: &Stats, allowed: &Allowed) -> f64 {
        let sum = (self.sum, expected.sum, self.sums(allowed));
        let others = [(self.norm, expected.norm, 1.0), (self.dot, expected.dot, 1.0)];
        let first = self.first.iter().zip(expected.first).map(|(&g, e)| (g, e, 1.0));
        let all = std::iter::once(sum).chain(others).chain(first);
        all.filter(|(g, e, _)| g != e).fold(0.0f64, |worst, (g, e, weight)| {
            let deviation = (g - e).abs() / (expected.norm * weight);
            if deviation > worst || deviation.is_nan() { deviation } else { worst }
        })
    }

    /// Compares all numbers; each may deviate by the allowed share of the norm.
    pub fn compare(&self, expected: &Stats, allowed: &Allowed, checked: &mut Checked) {
        let share = allowed.single * expected.norm;
        checked.compare("sum", &[self.sum], &[expected.sum], |_| share * self.sums(allowed));
        checked.compare("norm", &[self.norm], &[expected.norm], |_| share);
        checked.compare("dot", &[self.dot], &[expected.dot], |_| share);
        checked.compare("first16", &self.first, &expected.first, |_| share);
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
