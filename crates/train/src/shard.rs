//! Shards: the fixed parts of a batch, each computed by itself, and sums over them in a fixed order.
//!
//! What a shard computes depends on its images and its number, not on what else is computed or by whom. So a training has the same bits
//! however its shards are distributed.

use neocog_autograd::{Grads, Param, ParamId};
use neocog_layers::state::{self, Entry};
use neocog_layers::{Counter, Layer};
use neocog_tensor::ops::{Accumulate, Scale};
use neocog_tensor::{Result, Shape, Tensor, run_single, update};

/// What shards contribute to a step, to be added.
#[derive(Debug)]
pub(crate) struct ShardSum {
    /// Gradients, in proportion to the images of the shard.
    pub grads: Grads,
    /// Loss, a scalar, in the same proportion.
    pub loss: Tensor,
    /// Number of correctly classified images, a scalar.
    pub correct: Tensor,
    /// Tensors that the forward pass has updated, in proportion; `None` for those that it has not.
    pub running: Vec<Option<Tensor>>,
}

impl ShardSum {
    fn add(&mut self, other: &ShardSum) -> Result<()> {
        self.grads.add(&other.grads)?;
        add(&mut self.loss, &other.loss)?;
        add(&mut self.correct, &other.correct)?;
        for (own, other) in self.running.iter_mut().zip(&other.running) {
            add_present(own, other.as_ref())?;
        }
        Ok(())
    }
}

fn add(to: &mut Tensor, x: &Tensor) -> Result<()> {
    update(&Accumulate, &[x], &mut [to]).map(drop)
}

/// Adds a tensor, if there is one.
fn add_present(to: &mut Option<Tensor>, x: Option<&Tensor>) -> Result<()> {
    match (to.as_mut(), x) {
        (Some(to), Some(x)) => add(to, x)?,
        (None, Some(x)) => *to = Some(x.clone()),
        (_, None) => {}
    }
    Ok(())
}

/// Returns `tensor` times `share`.
pub(crate) fn in_proportion(tensor: &Tensor, share: f64) -> Result<Tensor> {
    if share == 1.0 { Ok(tensor.clone()) } else { run_single(&Scale { factor: share }, &[tensor]) }
}

/// Adds what shards contribute as a binary tree does: neighbors first, then pairs of neighbors. At most one sum for each level of the
/// tree is in memory.
#[derive(Debug, Default)]
pub(crate) struct TreeSum {
    /// The level of each sum, from the left: decreasing.
    sums: Vec<(u32, Option<ShardSum>)>,
}

impl TreeSum {
    /// Adds the next shard; `None` if it has no images.
    pub(crate) fn push(&mut self, shard: Option<ShardSum>) -> Result<()> {
        let (mut level, mut sum) = (0, shard);
        while let Some((_, left)) = self.sums.pop_if(|(last, _)| *last == level) {
            sum = merge(left, sum)?;
            level += 1;
        }
        self.sums.push((level, sum));
        Ok(())
    }

    /// Returns the gradient of a parameter summed over all shards, of which the last one, with the gradient `last`, is not added yet.
    /// The number of shards is a power of two.
    pub(crate) fn gradient_with_last(&self, id: ParamId, last: Option<&Tensor>) -> Result<Option<Tensor>> {
        let mut sum = last.cloned();
        for (_, left) in self.sums.iter().rev() {
            add_present(&mut sum, left.as_ref().and_then(|left| left.grads.of(id)))?;
        }
        Ok(sum)
    }

    /// Drops the gradients of the shards so far.
    pub(crate) fn forget_gradients(&mut self) {
        for sum in self.sums.iter_mut().filter_map(|(_, sum)| sum.as_mut()) {
            sum.grads = Grads::default();
        }
    }

    /// Returns the sum over all shards; `None` if there are none with images.
    pub(crate) fn finish(mut self) -> Result<Option<ShardSum>> {
        let mut sum = None;
        while let Some((_, left)) = self.sums.pop() {
            sum = merge(left, sum)?;
        }
        Ok(sum)
    }
}

fn merge(left: Option<ShardSum>, right: Option<ShardSum>) -> Result<Option<ShardSum>> {
    match (left, right) {
        (Some(mut left), Some(right)) => {
            left.add(&right)?;
            Ok(Some(left))
        }
        (left, right) => Ok(left.or(right)),
    }
}

/// The tensors and counters that forward passes in training mode update, as they are before a step: each shard starts from them.
#[derive(Debug)]
pub(crate) struct RunningState<'a> {
    buffers: Vec<(&'a Param, Tensor)>,
    counters: Vec<(&'a Counter, u64)>,
    /// The counters after a pass.
    counted: Vec<u64>,
}

impl<'a> RunningState<'a> {
    pub(crate) fn of(network: &'a dyn Layer) -> Self {
        let (mut buffers, mut counters): (Vec<(&Param, Tensor)>, Vec<_>) = (Vec::new(), Vec::new());
        for (_, entry) in state::entries(network) {
            match entry {
                Entry::Param(_) => {}
                // A layer that occurs twice has one state.
                Entry::Buffer(buffer)
                    if buffers.iter().any(|(other, _)| other.id() == buffer.value().id()) => {}
                Entry::Buffer(buffer) => buffers.push((buffer.value(), buffer.value().value())),
                Entry::Counter(counter) => counters.push((counter, counter.get())),
            }
        }
        let counted = counters.iter().map(|(_, count)| *count).collect();
        RunningState { buffers, counters, counted }
    }

    /// Returns the shapes of the tensors.
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        self.buffers.iter().map(|(_, before)| *before.shape()).collect()
    }

    /// Returns the counters after a pass.
    pub(crate) fn counted(&self) -> &[u64] {
        &self.counted
    }

    /// Sets the counters after a pass that was not made here.
    pub(crate) fn set_counted(&mut self, counted: Vec<u64>) {
        self.counted = counted;
    }

    /// Runs the forward pass `f` from the state before the step. Returns its result and the tensors that it has updated, which are then
    /// as before.
    pub(crate) fn run<T>(&mut self, f: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Option<Tensor>>)> {
        let versions: Vec<u64> = self.buffers.iter().map(|(param, _)| param.version()).collect();
        let result = f();
        let mut updated = Vec::with_capacity(self.buffers.len());
        for ((param, before), version) in self.buffers.iter().zip(versions) {
            if param.version() == version {
                updated.push(None);
                continue;
            }
            updated.push(Some(param.value()));
            param.set(before)?;
        }
        for ((counter, before), counted) in self.counters.iter().zip(&mut self.counted) {
            *counted = counter.get();
            counter.set(*before);
        }
        Ok((result?, updated))
    }

    /// Sets the state after the step: the sums over the shards, and the counters after any of them.
    pub(crate) fn finish(self, running: &[Option<Tensor>]) -> Result<()> {
        for ((param, _), value) in self.buffers.iter().zip(running) {
            if let Some(value) = value {
                param.set(value)?;
            }
        }
        for ((counter, _), counted) in self.counters.iter().zip(self.counted) {
            counter.set(counted);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use neocog_autograd::Tape;
    use neocog_tensor::Device;

    use super::*;

    /// Neighbors are added first: in single precision, 1 is lost beside 1e8.
    #[test]
    fn the_order_of_sums_is_that_of_a_tree() {
        let shard = |value: f32| {
            let scalar = |value: f32| Tensor::from_f32([], &[value], &Device::Cpu).unwrap();
            let (tape, param) = (Tape::new(), Param::new(scalar(1.0)));
            let loss = tape.apply_single(Scale { factor: value.into() }, &[&tape.param(&param)]).unwrap();
            let grads = tape.backward(&loss).unwrap();
            let (loss, correct) = (scalar(value), scalar(1.0));
            Some(ShardSum { grads, loss, correct, running: vec![Some(scalar(value)), None] })
        };
        let sum = |shards: Vec<Option<ShardSum>>| {
            let mut tree = TreeSum::default();
            shards.into_iter().for_each(|shard| tree.push(shard).unwrap());
            tree.finish().unwrap().map(|sum| {
                let running = sum.running[0].as_ref().unwrap().item().unwrap();
                assert!(sum.running[1].is_none());
                (sum.loss.item().unwrap(), running, sum.correct.item().unwrap())
            })
        };
        let values = [1e8, 1.0, -1e8, 1.0].map(shard);
        assert_eq!(sum(values.into()), Some((0.0, 0.0, 4.0)));
        let values = [1e8, -1e8, 1.0, 1.0].map(shard);
        assert_eq!(sum(values.into()), Some((2.0, 2.0, 4.0)));
        assert_eq!(sum(vec![None, shard(3.0), None, None, shard(4.0)]), Some((7.0, 7.0, 2.0)));
        assert_eq!(sum(vec![None, None]), None);
    }
}
