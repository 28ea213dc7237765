//! One step of training: the shards of a batch, forward and backward, then the update.

use std::ops::Range;

use neocog_autograd::{Grads, ParamId, Tape, Var};
use neocog_base::random::philox;
use neocog_data::{Batch, shard_ranges};
use neocog_layers::Context;
use neocog_models::{Factors, ScheduleStep};
use neocog_tensor::ops::Scale;
use neocog_tensor::{Device, Result, Tensor};

use super::Trainer;
use super::exchange::Exchange;
use crate::meter::{BatchMetrics, Target, labels_on, sample_weights, to_device, training_metrics};
use crate::mix::{Mix, mix};
use crate::progress::Progress;
use crate::ranks::Compressed;
use crate::shard::{RunningState, ShardSum, TreeSum, in_proportion};

/// Is called with a parameter and its gradient.
type OnFinal<'a> = &'a mut dyn FnMut(ParamId, Option<&Tensor>) -> Result<()>;

/// A part of a batch.
struct Shard<'a> {
    number: usize,
    /// `[n, c, h, w]`.
    shape: [usize; 4],
    pixels: &'a mut [f32],
    labels: &'a [u32],
    /// Its share of the images of the batch that are trained on.
    share: f64,
    /// The weight of each class, and the sum of the weights of the batch's images.
    class_weights: Option<(&'a [f64], f64)>,
}

/// What a rank knows of each shard of a batch that it computes: the number of images that are trained on, and the sum of the weights
/// of their classes.
pub(super) type ShardCounts = Vec<(usize, f64)>;

/// A batch, and what all ranks know of it.
pub(super) struct SharedBatch<'a> {
    /// The images of the shards of this rank.
    pub batch: Batch,
    /// Of each of these shards, its images in the batch.
    pub own: Vec<Range<usize>>,
    /// Of each shard of all ranks.
    pub counts: ShardCounts,
    /// The weight of each class.
    pub class_weights: Option<&'a [f64]>,
}

impl Trainer {
    /// Returns the images in `batch` of each shard of this rank, of `images` in the batches of all ranks, and counts them.
    pub(super) fn own_shards(
        &self,
        batch: &Batch,
        images: usize,
        class_weights: Option<&[f64]>,
    ) -> (Vec<Range<usize>>, ShardCounts) {
        let shards = shard_ranges(images, self.config.shards);
        let index = |position: usize| batch.positions.partition_point(|&at| (at as usize) < position);
        let own: Vec<Range<usize>> = shards[self.ranks.own_shards(self.config.shards)]
            .iter()
            .map(|range| index(range.start)..index(range.end))
            .collect();
        let count = |range: &Range<usize>| {
            let weight = |weights: &[f64]| {
                batch.labels[range.clone()].iter().map(|&label| weights[label as usize]).sum()
            };
            (range.len(), class_weights.map_or(0.0, weight))
        };
        let counts = own.iter().map(count).collect();
        (own, counts)
    }

    /// Makes one step: forward pass, loss and backward pass of each shard, then the update. `None` if no image is trained on.
    pub(super) fn train_step(
        &mut self,
        shared: SharedBatch<'_>,
        steps_per_epoch: usize,
        progress: &mut dyn Progress,
    ) -> Result<Option<BatchMetrics>> {
        let mut compressed = self.compressed.take();
        let result = self.train_step_with(compressed.as_mut(), shared, steps_per_epoch, progress);
        if let Some(compressed) = compressed.as_mut().filter(|_| result.is_err()) {
            compressed.abandon_step();
        }
        self.compressed = compressed;
        result
    }

    fn train_step_with(
        &mut self,
        compressed: Option<&mut Compressed>,
        shared: SharedBatch<'_>,
        steps_per_epoch: usize,
        progress: &mut dyn Progress,
    ) -> Result<Option<BatchMetrics>> {
        let SharedBatch { mut batch, own, mut counts, class_weights } = shared;
        self.leave_out(&mut counts, steps_per_epoch);
        let images: usize = counts.iter().map(|(images, _)| images).sum();
        if images == 0 {
            return Ok(None);
        }
        let weight: f64 = counts.iter().map(|(_, weight)| weight).sum();
        let [_, c, h, w] = batch.shape();
        let numbers = self.ranks.own_shards(counts.len());
        let mut exchange = (self.ranks.size() > 1 || compressed.is_some())
            .then(|| Exchange::new(&self.ranks, &self.buckets, self.device, compressed, numbers.end - 1));
        let mut state = (counts.len() > 1).then(|| RunningState::of(self.pass.network()));
        let mut sum = TreeSum::default();
        let mut is_handed_over = false;
        for (number, range) in numbers.clone().zip(own) {
            let is_last = number + 1 == numbers.end;
            if counts[number].0 == 0 {
                if let Some(exchange) = exchange.as_mut().filter(|_| !is_last) {
                    exchange.take(number, &mut Grads::default())?;
                }
                sum.push(None)?;
                continue;
            }
            let image = c * h * w;
            let shard = Shard {
                number,
                shape: [range.len(), c, h, w],
                pixels: &mut batch.pixels[range.start * image..range.end * image],
                labels: &batch.labels[range.clone()],
                share: range.len() as f64 / images as f64,
                class_weights: class_weights.map(|weights| (weights, weight)),
            };
            let share = shard.share;
            // The last shard's backward pass completes the gradients, one after the other.
            is_handed_over = exchange.is_some() && is_last;
            let mut hand_over = |id: ParamId, gradient: Option<&Tensor>| match &mut exchange {
                Some(exchange) => exchange.add(id, sum.gradient_with_last(id, gradient)?),
                None => Ok(()),
            };
            let on_final: Option<OnFinal<'_>> = if is_handed_over { Some(&mut hand_over) } else { None };
            let mut computed = match &mut state {
                None => self.compute(shard, on_final)?,
                Some(state) => {
                    let (mut computed, updated) = state.run(|| self.compute(shard, on_final))?;
                    let scaled = updated
                        .iter()
                        .map(|tensor| tensor.as_ref().map(|tensor| in_proportion(tensor, share)).transpose());
                    computed.running = scaled.collect::<Result<_>>()?;
                    computed
                }
            };
            if is_handed_over {
                computed.grads = Grads::default();
                sum.forget_gradients();
            } else if let Some(exchange) = &mut exchange {
                exchange.take(number, &mut computed.grads)?;
            }
            sum.push(Some(computed))?;
        }
        drop(batch);
        let own_sum = sum.finish()?;
        let sum = match exchange {
            None => own_sum,
            Some(mut exchange) => {
                if let Some(own_sum) = own_sum.as_ref().filter(|_| !is_handed_over) {
                    for id in self.buckets.ids() {
                        exchange.add(id, own_sum.grads.of(id).cloned())?;
                    }
                }
                let running = state.as_ref().map(RunningState::shapes).unwrap_or_default();
                Some(exchange.finish(own_sum, &running)?)
            }
        };
        let Some(sum) = sum else { return Ok(None) };
        let ShardSum { mut grads, loss, correct, running } = sum;
        if let Some(mut state) = state {
            self.count_alike(&mut state, &counts)?;
            state.finish(&running)?;
            if self.ranks.size() == 1 {
                grads = self.buckets.in_order(|id| grads.of(id).cloned());
            }
        }
        self.update(grads, steps_per_epoch, progress)?;
        Ok(Some(BatchMetrics { images, loss, correct }))
    }

    /// Sets the shards that are left out to no images.
    ///
    /// A single image that is left at the end of an epoch, which batch norm cannot normalize, is left out. In each epoch it is another
    /// one, if the images are shuffled.
    fn leave_out(&self, counts: &mut ShardCounts, batches: usize) {
        let (full, shards) = (self.config.batch, counts.len());
        let images: usize = counts.iter().map(|(images, _)| images).sum();
        if self.config.options.drop_last && images < full && batches > 1 {
            counts.fill((0, 0.0));
        }
        let has_single = counts.iter().any(|(images, _)| *images == 1);
        if has_single && full / shards > 1 && batches > 1 && !self.accepts(1) && self.accepts(2) {
            counts.iter_mut().filter(|(images, _)| *images == 1).for_each(|count| *count = (0, 0.0));
        }
    }

    /// Sets the counters of a rank that has computed no shard as those of the others.
    fn count_alike(&self, state: &mut RunningState<'_>, counts: &ShardCounts) -> Result<()> {
        let each = counts.len() / self.ranks.size();
        if !counts.chunks(each).any(|of_rank| of_rank.iter().all(|(images, _)| *images == 0)) {
            return Ok(());
        }
        let all = self.ranks.collect(state.counted().to_vec())?;
        let largest = |i: usize| all.iter().map(|counted| counted[i]).max().unwrap_or_default();
        let counted = (0..state.counted().len()).map(largest).collect();
        state.set_counted(counted);
        Ok(())
    }

    /// Whether the network can be trained on `n` images at once.
    fn accepts(&self, n: usize) -> bool {
        let [c, h, w] = self.input;
        let tape = Tape::no_grad();
        Tensor::zeros([n, c, h, w], &Device::Meta)
            .and_then(|x| Context::train(&tape, 0).run(self.pass.network(), &Var::constant(x)))
            .is_ok()
    }

    /// Computes the gradients and the metrics of a shard; `on_final` gets each gradient when it is final.
    fn compute(&self, shard: Shard<'_>, on_final: Option<OnFinal<'_>>) -> Result<ShardSum> {
        let Shard { number, shape, pixels, labels, share, class_weights } = shard;
        let options = &self.config.options;
        let mixed = mix(options, self.config.seed, self.counter(number), pixels, shape);
        let weights = |labels: &[u32]| {
            class_weights
                .map(|(weights, sum)| sample_weights(labels, weights, sum * share, &self.device))
                .transpose()
        };
        let own_share = mixed.map_or(1.0, |mix| mix.share);
        let (images, on_device) = to_device(shape, pixels, labels, &self.device)?;
        let mut targets = vec![Target { labels: on_device, weights: weights(labels)?, share: own_share }];
        if mixed.is_some() {
            let others = Mix::others(labels);
            let labels = labels_on(&others, &self.device)?;
            targets.push(Target { labels, weights: weights(&others)?, share: 1.0 - own_share });
        }
        let tape = Tape::new();
        let logits = self.pass.run(&tape, &Var::constant(images), self.step_seed(number))?;
        let (mut loss, metrics) = training_metrics(&tape, &logits, &targets, options)?;
        if share != 1.0 {
            loss = tape.apply_single(Scale { factor: share }, &[&loss])?;
        }
        let grads = match on_final {
            None => tape.backward(&loss)?,
            Some(on_final) => tape.backward_with(&loss, on_final)?,
        };
        Ok(ShardSum { grads, loss: loss.tensor().clone(), correct: metrics.correct, running: Vec::new() })
    }

    /// Updates the parameters.
    fn update(
        &mut self,
        mut grads: Grads,
        steps_per_epoch: usize,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let options = self.config.options;
        progress.gradients(self.position.step + 1, self.pass.network(), &grads);
        if let Some(limit) = options.clip_value {
            grads.clip_value(limit)?;
        }
        if let Some(limit) = options.clip_norm {
            grads.clip_norm(limit)?;
        }
        let step = ScheduleStep {
            step: self.position.step,
            steps_per_epoch: steps_per_epoch as u64,
            epochs: self.config.epochs,
        };
        let factors = match self.fixed_lr {
            Some(lr) => Factors { lr: lr / self.config.optimizer.lr, momentum: None },
            None => self.factors_at(step),
        };
        self.optimizer.step_scheduled(self.pass.network(), &grads, factors)?;
        drop(grads);
        self.share_parameters()?;
        if let (Some(decay), Some(average)) = (options.ema, &mut self.average) {
            average.update(self.pass.network(), 1.0 - decay)?;
        }
        Ok(())
    }

    /// A number for each shard of each step; that of the first shard is that of the step.
    fn counter(&self, shard: usize) -> u128 {
        (shard as u128) << 64 | u128::from(self.position.step)
    }

    /// Returns the seed of a shard of the next step, a function of the seed of the run, the step and the shard: a resumed run needs no
    /// state.
    fn step_seed(&self, shard: usize) -> u64 {
        // The high bit keeps the counter apart from those of the streams with the same seed.
        let [a, b, ..] = philox(self.config.seed, 1 << 127 | self.counter(shard));
        u64::from(a) << 32 | u64::from(b)
    }
}
