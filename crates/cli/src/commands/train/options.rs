//! Arguments of `train` about the loss, the optimizer and averages.

use neocog_models::OptimizerKind;
use neocog_tensor::{Error, Result};
use neocog_train::{Compression, LossKind, TrainOptions};
use serde_json::Value;

use crate::arguments::{non_negative, positive};

/// Techniques of training, and options of the optimizer.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Techniques")]
pub struct OptionArgs {
    /// Loss: cross-entropy, focal (see --gamma), or bce: binary cross-entropy of each class against all others.
    #[arg(long, value_enum, value_name = "NAME", default_value = "cross-entropy")]
    loss: LossName,
    /// Exponent of the focal loss.
    #[arg(long, value_name = "G", default_value_t = 2.0, value_parser = non_negative)]
    gamma: f64,
    /// Distribute the share S of the target over all classes, such as 0.1.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    label_smoothing: f64,
    /// Mix images and labels of a batch in pairs, with shares of the Beta distribution of ALPHA [default ALPHA: 0.2].
    #[arg(long, value_name = "ALPHA", num_args = 0..=1, require_equals = true, default_missing_value = "0.2")]
    mixup: Option<f64>,
    /// Replace a rectangle of each image by that of another one, with areas of the Beta distribution of ALPHA [default ALPHA: 1].
    #[arg(long, value_name = "ALPHA", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    cutmix: Option<f64>,
    /// Drop the branches of residual blocks in training, each image by itself: the last block with probability P, those before it with
    /// less, in proportion to their number.
    #[arg(long, value_name = "P")]
    pub(super) stochastic_depth: Option<f64>,
    /// Scale the gradients such that their norm is at most MAX.
    #[arg(long, value_name = "MAX")]
    clip_norm: Option<f64>,
    /// Limit each gradient to the range from -MAX to MAX.
    #[arg(long, value_name = "MAX")]
    clip_value: Option<f64>,
    /// Divide each batch into S parts, a power of two, whose gradients are computed one after the other and added. Activations need
    /// the memory of one part; batch norm normalizes each part by itself.
    #[arg(long, value_name = "S", value_parser = power_of_two, conflicts_with = "accumulate")]
    shards: Option<usize>,
    /// Add the gradients of K batches in each step: a batch that is K times as large, in K parts.
    #[arg(long, value_name = "K", value_parser = positive)]
    accumulate: Option<usize>,
    /// Round the gradients of each shard, and their sums, to bf16: processes send each other half as many bytes. What rounding leaves
    /// out is added in the next step.
    #[arg(long, value_enum, value_name = "FORMAT")]
    compress: Option<CompressName>,
    /// Leave out the last batch of an epoch if it is smaller than the others.
    #[arg(long)]
    drop_last: bool,
    /// Keep a moving average of the weights with this decay, evaluate it after each epoch, and write OUT/averaged.ckpt [default
    /// DECAY: 0.999].
    #[arg(long, value_name = "DECAY", num_args = 0..=1, require_equals = true, default_missing_value = "0.999")]
    ema: Option<f64>,
    /// Average the weights after epoch N and each further one, evaluate the average, and write OUT/averaged.ckpt.
    #[arg(long, value_name = "N", conflicts_with = "ema")]
    swa: Option<u64>,
    /// End the run when the accuracy was not better for N epochs.
    #[arg(long, value_name = "N")]
    early_stopping: Option<u64>,
    /// Nesterov momentum of sgd and muon.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nesterov: Option<bool>,
    /// Dampening of the momentum of sgd.
    #[arg(long, value_name = "FACTOR", value_parser = non_negative)]
    dampening: Option<f64>,
    /// Decay rates of the averages of adam, adamw, lamb and lion.
    #[arg(long, value_name = "FIRST,SECOND", value_delimiter = ',', num_args = 1)]
    betas: Option<Vec<f64>>,
    /// Term that adam, adamw, lamb and rmsprop add to the denominator.
    #[arg(long, value_name = "EPS", value_parser = non_negative)]
    eps: Option<f64>,
    /// AMSGrad variant of adam and adamw.
    #[arg(long)]
    amsgrad: bool,
    /// Smoothing constant of rmsprop.
    #[arg(long, value_name = "ALPHA", value_parser = non_negative)]
    alpha: Option<f64>,
    /// Normalize by the standard deviation, in rmsprop.
    #[arg(long)]
    centered: bool,
    /// Maximize the loss instead of minimizing it, with adam, adamw, rmsprop and sgd.
    #[arg(long)]
    maximize: bool,
}

/// Parses a number of shards.
fn power_of_two(text: &str) -> Result<usize, String> {
    positive(text)
        .and_then(|n| if n.is_power_of_two() { Ok(n) } else { Err("must be a power of two".into()) })
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LossName {
    CrossEntropy,
    Focal,
    Bce,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum CompressName {
    Bf16,
}

impl OptionArgs {
    /// Returns the techniques.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn options(&self) -> Result<TrainOptions> {
        let mut options = TrainOptions::default();
        options.loss = match self.loss {
            LossName::CrossEntropy => LossKind::CrossEntropy,
            LossName::Focal => LossKind::Focal { gamma: self.gamma },
            LossName::Bce => LossKind::Bce,
        };
        options.label_smoothing = self.label_smoothing;
        (options.mixup, options.cutmix) = (self.mixup, self.cutmix);
        (options.clip_norm, options.clip_value) = (self.clip_norm, self.clip_value);
        options.compression = self.compress.map(|CompressName::Bf16| Compression::Bf16);
        options.drop_last = self.drop_last;
        (options.ema, options.swa, options.early_stopping) = (self.ema, self.swa, self.early_stopping);
        options.check()?;
        Ok(options)
    }

    /// Returns the number of batches whose gradients are added.
    pub fn accumulated_batches(&self) -> usize {
        self.accumulate.unwrap_or(1)
    }

    /// Returns the batch size and the number of shards for batches of `batch` images.
    ///
    /// # Errors
    /// When the product is too large.
    pub fn batch_and_shards(&self, batch: usize) -> Result<(usize, usize)> {
        let factor = self.accumulated_batches();
        let Some(batch) = batch.checked_mul(factor) else {
            return Err(Error::invalid_argument(format!("{factor} batches of {batch} images are too many")));
        };
        Ok((batch, self.shards.unwrap_or(factor)))
    }

    /// Returns the optimizer with the options that the arguments give.
    ///
    /// # Errors
    /// When the optimizer does not have one of them.
    pub fn optimizer(&self, kind: OptimizerKind) -> Result<OptimizerKind> {
        let flag = |set: bool| set.then_some(Value::Bool(true));
        let values = [
            ("nesterov", self.nesterov.map(Value::Bool)),
            ("dampening", self.dampening.map(Value::from)),
            ("betas", self.betas.clone().map(Value::from)),
            ("eps", self.eps.map(Value::from)),
            ("amsgrad", flag(self.amsgrad)),
            ("alpha", self.alpha.map(Value::from)),
            ("centered", flag(self.centered)),
            ("maximize", flag(self.maximize)),
        ];
        let mut kind = kind;
        for (name, value) in values {
            if let Some(value) = value {
                kind = with_option(kind, name, value)?;
            }
        }
        Ok(kind)
    }
}

/// Sets a field of the stored form of an optimizer.
fn with_option(kind: OptimizerKind, option: &str, value: Value) -> Result<OptimizerKind> {
    let internal = |e| Error::format("an optimizer that cannot be stored").with_source(e);
    let mut stored = serde_json::to_value(kind).map_err(internal)?;
    let Some(fields) = stored.as_object_mut().and_then(|all| all.values_mut().next()?.as_object_mut()) else {
        return Err(Error::format("an optimizer without fields"));
    };
    // It is not stored unless it is set.
    let has_maximize = !matches!(kind.name(), "lamb" | "lion" | "muon");
    if !(fields.contains_key(option) || option == "maximize" && has_maximize) {
        let known: Vec<String> = fields.keys().map(|name| format!("--{}", name.replace('_', "-"))).collect();
        return Err(Error::invalid_argument(format!(
            "{} has no option --{option}; it has {}",
            kind.name(),
            known.join(", ")
        )));
    }
    fields.insert(option.to_string(), value.clone());
    serde_json::from_value(stored)
        .map_err(|e| Error::invalid_argument(format!("--{option} cannot be {value}")).with_source(e))
}

/// Describes the techniques in use, for the notes at the start.
pub fn describe(options: &TrainOptions) -> String {
    let number = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {value:?}"));
    let parts = [
        match options.loss {
            LossKind::Focal { gamma } => Some(format!("focal loss with gamma {gamma:?}")),
            LossKind::Bce => Some("binary cross-entropy".to_string()),
            _ => None,
        },
        number("label smoothing", Some(options.label_smoothing).filter(|share| *share > 0.0)),
        number("mixup", options.mixup),
        number("cutmix", options.cutmix),
        number("gradients clipped to the value", options.clip_value),
        number("gradients clipped to the norm", options.clip_norm),
        options.compression.map(|_| "gradients rounded to bf16, with error feedback".to_string()),
        options.drop_last.then(|| "without the last batch if it is smaller".to_string()),
        number("moving average of the weights with decay", options.ema),
        options.swa.map(|first| format!("average of the weights from epoch {first} on")),
        options.early_stopping.map(|epochs| format!("early stopping after {epochs} epochs")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
