//! The exchange of gradients in bf16: what it leaves out, at the start of a run and in checkpoints.

use std::collections::BTreeMap;

use neocog_layers::{Layer, state};
use neocog_tensor::{Error, Result};

use super::Trainer;
use super::exchange::Buckets;
use crate::checkpoint::{Checkpoint, NamedTensor, SavedFeedback, Values};
use crate::config::TrainConfig;
use crate::ranks::{Compressed, Feedback, Receivers};

impl Trainer {
    /// Returns the state at the start of a run; `None` for a run that exchanges gradients as they are.
    pub(super) fn begin_compressed(config: &TrainConfig, buckets: &Buckets) -> Option<Compressed> {
        config.options.compression.map(|_| Compressed::new(config.shards, buckets.lengths()))
    }

    /// Returns the state of a checkpoint.
    pub(super) fn resume_compressed(
        checkpoint: &Checkpoint,
        network: &dyn Layer,
        buckets: &Buckets,
    ) -> Result<Option<Compressed>> {
        let Some(mut compressed) = Self::begin_compressed(&checkpoint.config, buckets) else {
            return Ok(None);
        };
        let damaged = |what: &str| Error::format(format!("the feedback of compressed gradients {what}"));
        let params = state::params(network);
        for saved in &checkpoint.feedback {
            let gradients: BTreeMap<&str, &NamedTensor> =
                saved.gradients.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
            let node = usize::try_from(saved.sum).unwrap_or(0);
            if !(1..2 * checkpoint.config.shards).contains(&node) {
                return Err(damaged(&format!("has a sum {}, which does not exist", saved.sum)));
            }
            for (number, params_of_bucket) in buckets.params().enumerate() {
                let mut values = Vec::new();
                for (id, shape) in params_of_bucket {
                    let name =
                        params.iter().find(|(_, param)| param.id() == *id).map(|(name, _)| name.as_str());
                    match name.and_then(|name| gradients.get(name)) {
                        Some(NamedTensor { shape: stored, values: Values::F32(stored_values), .. })
                            if **stored == **shape =>
                        {
                            values.extend_from_slice(stored_values);
                        }
                        _ => {
                            let name = name.unwrap_or_default();
                            return Err(damaged(&format!("lacks {name} of shape {:?}", &**shape)));
                        }
                    }
                }
                compressed.set_feedback(number, node, values);
            }
        }
        Ok(Some(compressed))
    }

    /// Returns what the exchange of gradients in bf16 has left out, for a checkpoint, on the ranks that receive it. Bucket by bucket:
    /// there is not much of it in messages at a time.
    pub(super) fn saved_feedback(&self, receivers: Receivers) -> Result<Vec<SavedFeedback>> {
        let Some(compressed) = &self.compressed else { return Ok(Vec::new()) };
        let params = state::params(self.network());
        let mut saved: BTreeMap<usize, Vec<NamedTensor>> = BTreeMap::new();
        for (number, (len, params_of_bucket)) in self.buckets.lengths().zip(self.buckets.params()).enumerate()
        {
            let mut nodes: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
            for rank in 0..self.ranks.size() {
                let own = self.ranks.pass_on(rank, receivers, || Ok(compressed.feedback(number)))?;
                for (node, Feedback { start, values }) in own.into_iter().flatten() {
                    let whole = nodes.entry(node).or_insert_with(|| vec![0.0; len]);
                    whole[start..start + values.len()].copy_from_slice(&values);
                }
            }
            for (node, values) in nodes {
                let mut rest = values.as_slice();
                let tensors = params_of_bucket.iter().map(|(id, shape)| {
                    let (values, others) = rest.split_at(shape.elements());
                    rest = others;
                    let name = params.iter().find(|(_, param)| param.id() == *id);
                    NamedTensor {
                        name: name.map(|(name, _)| name.clone()).unwrap_or_default(),
                        shape: shape.to_vec(),
                        values: Values::F32(values.to_vec()),
                    }
                });
                saved.entry(node).or_default().extend(tensors);
            }
        }
        let saved = saved.into_iter();
        Ok(saved.map(|(node, gradients)| SavedFeedback { sum: node as u64, gradients }).collect())
    }
}
