//! One step of training: the shards of a batch, forward and backward, then the update.

use std::ops::Range;

use neocog_autograd::{Grads, Tape, Var};
use neocog_base::random::philox;
use neocog_data::Batch;
use neocog_layers::Context;
use neocog_models::{Factors, ScheduleStep};
use neocog_tensor::ops::Scale;
use neocog_tensor::{Device, Result, Tensor};

use super::Trainer;
use crate::meter::{BatchMetrics, Target, labels_on, sample_weights, to_device, training_metrics};
use crate::mix::{Mix, mix};
use crate::progress::Progress;
use crate::shard::{RunningState, ShardSum, TreeSum, in_proportion, shard_ranges};

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

impl Trainer {
    /// Makes one step: forward pass, loss and backward pass of each shard, then the update. `None` if no image is trained on.
    pub(super) fn train_step(
        &mut self,
        mut batch: Batch,
        class_weights: Option<&[f64]>,
        steps_per_epoch: usize,
        progress: &mut dyn Progress,
    ) -> Result<Option<BatchMetrics>> {
        let shards = self.shards(batch.len(), steps_per_epoch);
        let images: usize = shards.iter().map(Range::len).sum();
        if images == 0 {
            return Ok(None);
        }
        let class_weights = class_weights.map(|weights| {
            let trained = shards.iter().flat_map(|range| &batch.labels[range.clone()]);
            (weights, trained.map(|&label| weights[label as usize]).sum())
        });
        let [_, c, h, w] = batch.shape();
        let mut state = (shards.len() > 1).then(|| RunningState::of(self.pass.network()));
        let mut sum = TreeSum::default();
        for (number, range) in shards.into_iter().enumerate() {
            if range.is_empty() {
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
                class_weights,
            };
            let share = shard.share;
            let computed = match &mut state {
                None => self.compute(shard)?,
                Some(state) => {
                    let (mut computed, updated) = state.run(|| self.compute(shard))?;
                    let scaled = updated
                        .iter()
                        .map(|tensor| tensor.as_ref().map(|tensor| in_proportion(tensor, share)).transpose());
                    computed.running = scaled.collect::<Result<_>>()?;
                    computed
                }
            };
            sum.push(Some(computed))?;
        }
        drop(batch);
        let Some(sum) = sum.finish()? else { return Ok(None) };
        if let Some(state) = state {
            state.finish(&sum.running)?;
        }
        let ShardSum { grads, loss, correct, .. } = sum;
        self.update(grads, steps_per_epoch, progress)?;
        Ok(Some(BatchMetrics { images, loss, correct }))
    }

    /// Returns the shards of a batch. Those that are left out are empty.
    ///
    /// A single image that is left at the end of an epoch, which batch norm cannot normalize, is left out. In each epoch it is another
    /// one, if the images are shuffled.
    fn shards(&self, images: usize, batches: usize) -> Vec<Range<usize>> {
        let full = self.config.batch;
        if self.config.options.drop_last && images < full && batches > 1 {
            return Vec::new();
        }
        let mut shards = shard_ranges(images, self.config.shards);
        let has_single = shards.iter().any(|range| range.len() == 1);
        if has_single && full / self.config.shards > 1 && batches > 1 && !self.accepts(1) && self.accepts(2) {
            shards.iter_mut().filter(|range| range.len() == 1).for_each(|range| range.end = range.start);
        }
        shards
    }

    /// Whether the network can be trained on `n` images at once.
    fn accepts(&self, n: usize) -> bool {
        let [c, h, w] = self.input;
        let tape = Tape::no_grad();
        Tensor::zeros([n, c, h, w], &Device::Meta)
            .and_then(|x| Context::train(&tape, 0).run(self.pass.network(), &Var::constant(x)))
            .is_ok()
    }

    /// Computes the gradients and the metrics of a shard.
    fn compute(&self, shard: Shard<'_>) -> Result<ShardSum> {
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
        let grads = tape.backward(&loss)?;
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
