//! Sums of gradients in bf16, with error feedback.
//!
//! Each shard's gradient, and each sum of two neighbors in the tree over the shards, is rounded to bf16, so that whatever ranks send each
//! other has half the size. What rounding leaves out is kept, separately for each shard and each sum, and added in the next step: nothing is
//! lost in the long run. Who computes a sum makes no difference, so a run has the same bits for any number of ranks.
//!
//! F. Seide et al., "1-bit stochastic gradient descent and its application to data-parallel distributed training of speech DNNs",
//! Interspeech 2014.

use std::collections::BTreeMap;
use std::ops::Range;

use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use neocog_tensor::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::reduce::{Addition, Part, add_parts, levels, reduce};
use super::{Pending, Ranks};

/// What rounding has left out of one sum, for the elements from `start` on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Feedback {
    pub start: usize,
    pub values: Vec<f32>,
}

impl Feedback {
    /// Nothing, for these elements.
    fn of(range: Range<usize>) -> Self {
        Feedback { start: range.start, values: vec![0.0; range.len()] }
    }

    /// Returns the same for fewer elements.
    fn cut(mut self, range: Range<usize>) -> Self {
        let start = range.start - self.start;
        self.values.truncate(start + range.len());
        self.values.drain(..start);
        Feedback { start: range.start, values: self.values }
    }

    /// Rounds `values`, which are the elements from `start` on, and keeps what is left out.
    fn round(&mut self, start: usize, values: &mut [f32]) {
        let kept = &mut self.values[start - self.start..][..values.len()];
        for (value, kept) in values.iter_mut().zip(kept) {
            let exact = *value + *kept;
            *value = bf16::from_f32(exact).to_f32();
            // A gradient that is not finite ends the run.
            *kept = if value.is_finite() { exact - *value } else { 0.0 };
        }
    }
}

/// A sum of the tree: 1 is the sum over all shards, `2 n` and `2 n + 1` are the halves of sum `n`.
type Node = usize;

/// The sum of some shards, for the gradients of a bucket.
#[derive(Debug)]
struct NodeSum {
    node: Node,
    values: Vec<f32>,
    parts: Vec<Part>,
}

/// The gradients of a run, which are added in bf16.
#[derive(Debug)]
pub(crate) struct Compressed {
    shards: usize,
    buckets: Vec<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Number of elements.
    len: usize,
    feedback: BTreeMap<Node, Feedback>,
    /// The sums of this step that wait for their neighbors, from the left.
    sums: Vec<NodeSum>,
}

/// Adds in bf16. Of each level above the ranks: what its sums leave out.
#[derive(Debug)]
pub(crate) struct Rounding(Vec<(Node, Feedback)>);

impl Addition<f32> for Rounding {
    const BYTES: usize = size_of::<bf16>();

    fn encode(&self, values: &[f32], message: &mut Vec<u8>) {
        let mut rounded = vec![bf16::ZERO; values.len()];
        rounded.convert_from_f32_slice(values);
        message.extend(rounded.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn decode(&self, message: &[u8], values: &mut [f32]) {
        let (bytes, _) = message.as_chunks();
        values.iter_mut().zip(bytes).for_each(|(value, bytes)| *value = bf16::from_le_bytes(*bytes).to_f32());
    }

    fn add(&mut self, level: usize, at: Range<usize>, own: &mut [f32], theirs: &[f32]) {
        own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own += *theirs);
        self.0[level].1.round(at.start, own);
    }
}

/// What the exchange of a bucket returns: the sums over all ranks.
pub(crate) type Summed = (Vec<f32>, Vec<Part>, Rounding);

impl Compressed {
    /// Creates the state before the first step, for buckets of these numbers of elements.
    pub(crate) fn new(shards: usize, lengths: impl IntoIterator<Item = usize>) -> Self {
        let bucket = |len| Bucket { len, feedback: BTreeMap::new(), sums: Vec::new() };
        Compressed { shards, buckets: lengths.into_iter().map(bucket).collect() }
    }

    /// Adds the gradients of the next shard of this rank.
    pub(crate) fn push(&mut self, bucket: usize, shard: usize, values: Vec<f32>, parts: Vec<Part>) {
        let Bucket { len, feedback, sums } = &mut self.buckets[bucket];
        let mut round = |node, start, values: &mut [f32]| {
            feedback.entry(node).or_insert_with(|| Feedback::of(0..*len)).round(start, values);
        };
        let mut sum = NodeSum { node: self.shards + shard, values, parts };
        // There is feedback for all sums from the first step on.
        round(sum.node, 0, &mut []);
        for part in sum.parts.iter().filter(|part| part.is_present) {
            round(sum.node, part.range.start, &mut sum.values[part.range.clone()]);
        }
        while let Some(mut left) = sums.pop_if(|left| left.node == sum.node - 1 && sum.node % 2 == 1) {
            let presence = sum.parts.iter().map(|part| part.is_present);
            let node = sum.node / 2;
            round(node, 0, &mut []);
            add_parts(
                &mut left.values,
                &mut left.parts,
                &(0..*len),
                &sum.values,
                presence,
                |at, own, theirs| {
                    own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own += *theirs);
                    round(node, at.start, own);
                },
            );
            sum = NodeSum { node, ..left };
        }
        sums.push(sum);
    }

    /// Starts to add the gradients of a bucket on all ranks, after the last shard of this rank.
    ///
    /// # Errors
    /// When a shard was not added.
    pub(crate) fn start(&mut self, bucket: usize, ranks: &Ranks) -> Result<Pending<Summed>> {
        let Bucket { len, feedback, sums } = &mut self.buckets[bucket];
        let own = ranks.size() + ranks.rank();
        let Some(NodeSum { mut values, mut parts, .. }) = sums.pop_if(|sum| sum.node == own) else {
            return Err(Error::new(ErrorKind::Internal, "the gradients of a shard are missing"));
        };
        let above = levels(ranks.rank(), ranks.size(), *len).into_iter().enumerate();
        let mut rounding = Rounding(
            above
                .map(|(number, level)| {
                    let node = own >> (number + 1);
                    (node, feedback.remove(&node).unwrap_or_else(|| Feedback::of(level.kept)))
                })
                .collect(),
        );
        Ok(ranks.submit(move |transport| {
            reduce(transport, &mut values, &mut parts, &mut rounding)?;
            Ok((values, parts, rounding))
        }))
    }

    /// Keeps what the sums over ranks have left out.
    pub(crate) fn finish(&mut self, bucket: usize, rounding: Rounding) {
        self.buckets[bucket].feedback.extend(rounding.0);
    }

    /// Forgets the sums of a step that was not finished.
    pub(crate) fn abandon_step(&mut self) {
        self.buckets.iter_mut().for_each(|bucket| bucket.sums.clear());
    }

    /// Keeps only what this rank computes.
    pub(crate) fn divide(&mut self, ranks: &Ranks) {
        let own = ranks.size() + ranks.rank();
        for bucket in &mut self.buckets {
            let levels = levels(ranks.rank(), ranks.size(), bucket.len);
            let all = std::mem::take(&mut bucket.feedback).into_iter();
            bucket.feedback = all
                .filter_map(|(node, feedback)| {
                    let depth = node.ilog2().abs_diff(own.ilog2());
                    if node >= ranks.size() {
                        return (node >> depth == own).then_some((node, feedback));
                    }
                    let level = &levels[depth as usize - 1];
                    (own >> depth == node).then(|| (node, feedback.cut(level.kept.clone())))
                })
                .collect();
        }
    }

    /// Returns what this rank keeps of a bucket.
    pub(crate) fn feedback(&self, bucket: usize) -> Vec<(Node, Feedback)> {
        self.buckets[bucket].feedback.iter().map(|(node, kept)| (*node, kept.clone())).collect()
    }

    /// Sets what rounding has left out of all elements of a bucket.
    pub(crate) fn set_feedback(&mut self, bucket: usize, node: Node, values: Vec<f32>) {
        self.buckets[bucket].feedback.insert(node, Feedback { start: 0, values });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn whole(len: usize) -> Vec<Part> {
        vec![Part { range: 0..len, is_present: true }]
    }

    /// Makes `steps` with the same gradients on a single rank; returns the sum over all steps.
    fn total(gradients: &[f32], steps: usize) -> f64 {
        let mut compressed = Compressed::new(gradients.len(), [1]);
        let mut total = 0.0;
        for _ in 0..steps {
            for (shard, gradient) in gradients.iter().enumerate() {
                compressed.push(0, shard, vec![*gradient], whole(1));
            }
            let (values, _, rounding) =
                compressed.start(0, &Ranks::single()).and_then(Pending::wait).unwrap();
            compressed.finish(0, rounding);
            assert_eq!(values[0].to_bits() & 0xffff, 0, "a sum is in bf16");
            total += f64::from(values[0]);
        }
        total
    }

    /// bf16 has 8 bits of precision: 1 + 1/1000 would be rounded to 1 in each step.
    #[test]
    fn what_rounding_leaves_out_is_not_lost() {
        for gradients in [vec![1.001], vec![1.001, 0.0001], vec![1.001, -1.0, 3e-5, 1e-6]] {
            let exact: f64 = gradients.iter().map(|&gradient| f64::from(gradient)).sum();
            let sum = total(&gradients, 1000);
            assert!((sum - 1000.0 * exact).abs() < 0.02, "{sum} for {gradients:?}");
        }
    }

    #[test]
    fn a_shard_without_a_gradient_adds_nothing_and_keeps_its_feedback() {
        let mut compressed = Compressed::new(2, [1]);
        let absent = vec![Part { range: 0..1, is_present: false }];
        let mut step = |first: Option<f32>, second: f32| {
            let parts = if first.is_some() { whole(1) } else { absent.clone() };
            compressed.push(0, 0, vec![first.unwrap_or(7.0)], parts);
            compressed.push(0, 1, vec![second], whole(1));
            let (values, parts, rounding) =
                compressed.start(0, &Ranks::single()).and_then(Pending::wait).unwrap();
            compressed.finish(0, rounding);
            assert!(parts[0].is_present);
            values[0]
        };
        assert_eq!(step(Some(1.0 + 1.0 / 1024.0), 0.0), 1.0);
        assert_eq!(step(None, 2.0), 2.0);
        // 1/1024 of the first step is added to the first shard again.
        assert_eq!(step(Some(1.0 / 1024.0), 0.0), 2.0 / 1024.0);
    }

    #[test]
    fn a_value_that_is_not_finite_leaves_nothing_behind() {
        let mut compressed = Compressed::new(1, [1]);
        let mut step = |value: f32| {
            compressed.push(0, 0, vec![value], whole(1));
            let (values, _, rounding) =
                compressed.start(0, &Ranks::single()).and_then(Pending::wait).unwrap();
            compressed.finish(0, rounding);
            values[0]
        };
        assert!(step(f32::NAN).is_nan());
        assert_eq!(step(f32::MAX), f32::INFINITY);
        assert_eq!(step(0.5), 0.5);
    }
}
