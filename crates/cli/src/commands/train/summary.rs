//! What `train` prints about a run: its configuration at the start, and its result at the end.

use std::time::Instant;

use neocog_base::memory::readable_bytes;
use neocog_base::text::count;
use neocog_data::{Part, Split};
use neocog_layers::state;
use neocog_tensor::Device;
use neocog_train::{CheckpointDir, ClassBalance, Trainer};

use super::options::describe;
use super::parts::sizes;
use crate::output;

/// Prints the hyperparameters, and where a resumed training continues, to standard error.
pub fn print_configuration(trainer: &Trainer, data: &Split, device: &Device) {
    let config = trainer.config();
    output::note(format_args!(
        "{} on {}: {}{}, {}, batch {}{}, {} with learning rate {:?}{}{}, seed {}, {device} with {}",
        config.network,
        config.data,
        sizes(data),
        described_input(trainer, data),
        count(config.epochs, "epoch"),
        config.batch,
        if config.shards == 1 { String::new() } else { format!(" in {} shards", config.shards) },
        config.optimizer.kind.name(),
        config.optimizer.lr,
        if config.schedule == neocog_train::Schedule::default() {
            String::new()
        } else {
            format!(" ({})", config.schedule)
        },
        if config.transforms.is_empty() { String::new() } else { format!(", {}", config.transforms) },
        config.seed,
        count(rayon::current_num_threads(), "thread"),
    ));
    if trainer.ranks().size() > 1 {
        output::note(format_args!("{} processes train together", trainer.ranks().size()));
    }
    print_fine_tuning(trainer);
    print_images(trainer, data);
    let position = trainer.position();
    if position.epoch >= config.epochs {
        let finished = if config.epochs == 1 {
            "the epoch is finished".to_string()
        } else {
            format!("all {} epochs are finished", config.epochs)
        };
        output::note(format_args!("{finished}; use --epochs to train for more"));
    } else if position.step > 0 {
        output::note(format_args!("resuming in epoch {} after batch {}", position.epoch + 1, position.batch));
    }
}

/// Prints how much each process has sent since step `first`, if there are several.
pub fn note_exchange(trainer: &Trainer, first: u64) {
    let steps = trainer.position().step.saturating_sub(first);
    if trainer.ranks().size() > 1 && steps > 0 {
        let trained = state::params(trainer.network()).into_iter().filter(|(_, param)| !param.is_frozen());
        let gradients: usize = trained.map(|(_, param)| param.shape().elements() * size_of::<f32>()).sum();
        output::note(format_args!(
            "each process sent about {} per step; the gradients have {}",
            readable_bytes(trainer.ranks().bytes_sent() / steps),
            readable_bytes(gradients as u64)
        ));
    }
}

/// Classes and input, where they are not the notes'.
fn described_input(trainer: &Trainer, data: &Split) -> String {
    if !data.train.is_on_disk() {
        return String::new();
    }
    let [c, h, w] = trainer.input();
    let resized = if trainer.config().transforms.sets_size() { "" } else { ", images resized to the input" };
    format!(" of {} classes, input {c}x{h}x{w}{resized}", data.train.classes())
}

/// Prints what is frozen and what has a learning rate of its own.
fn print_fine_tuning(trainer: &Trainer) {
    let config = trainer.config();
    let params = state::params(trainer.network());
    let count = |frozen: bool| -> u64 {
        let of_kind = params.iter().filter(|(_, param)| param.is_frozen() == frozen);
        of_kind.map(|(_, param)| param.shape().elements() as u64).sum()
    };
    if let Some(pattern) = &config.freeze {
        output::note(format_args!(
            "frozen by {pattern:?}: {} of {} parameters",
            output::thousands(count(true)),
            output::thousands(count(true) + count(false))
        ));
    }
    for group in &config.param_groups {
        let decay = group.weight_decay.map_or(String::new(), |decay| format!(", weight decay {decay:?}"));
        output::note(format_args!("learning rate {:?}{decay} for {:?}", group.lr, group.pattern));
    }
    if config.decay_weights_only {
        output::note(format_args!("no weight decay of biases and norms"));
    }
    let text = describe(&config.options);
    if !text.is_empty() {
        output::note(format_args!("{text}"));
    }
}

/// Prints how classes are balanced, and how images are decoded.
fn print_images(trainer: &Trainer, data: &Split) {
    let config = trainer.config();
    let labels = data.train.labels();
    let range = |weights: &[f64]| {
        let present = || weights.iter().copied().filter(|weight| *weight > 0.0);
        let (least, most) = (present().fold(f64::INFINITY, f64::min), present().fold(0.0, f64::max));
        format!("weights of the classes from {least:.3} to {most:.3}")
    };
    let balanced = || ClassBalance::weights(labels, data.train.classes());
    let weighted = "the training loss is weighted by class";
    match &config.class_balance {
        ClassBalance::BalancedWeights => output::note(format_args!("{weighted}: {}", range(&balanced()))),
        ClassBalance::Weights(weights) => output::note(format_args!("{weighted}: {}", range(weights))),
        ClassBalance::WeightedSampler => {
            output::note(format_args!("training images are drawn with replacement: {}", range(&balanced())));
        }
        _ => {}
    }
    let on_disk = data.train.is_on_disk();
    match (config.fast_decode, on_disk) {
        (true, true) => output::note(format_args!(
            "training images are decoded at 1/2, 1/4 or 1/8 of their size where they are only resized"
        )),
        (true, false) => no_effect("--fast-decode", data),
        (false, _) => {}
    }
    if config.data_options.skip_broken && !on_disk {
        no_effect("--skip-broken", data);
    }
}

fn no_effect(option: &str, data: &Split) {
    output::note(format_args!(
        "warning: {option} has no effect: the images of {} are not in files of their own",
        data.train.name()
    ));
}

/// The result of a finished training, and what is expected of it.
pub fn result(trainer: &Trainer, folder: &CheckpointDir, start: Instant) -> String {
    let Some((last, best)) = trainer.history().last().zip(trainer.best()) else {
        return "no epochs were trained".to_string();
    };
    let part = trainer.config().selected_on.unwrap_or(Part::Test);
    let mut text = format!(
        "done in {:.1} s: {part} accuracy {:.4}, best {:.4} (epoch {}, selected on the {part} images); checkpoints in {}",
        start.elapsed().as_secs_f64(),
        last.eval_acc,
        best.eval_acc,
        best.epoch,
        folder.path().display()
    );
    match trainer.best_saved() {
        Some(saved) if saved == best => {}
        Some(saved) => {
            text += &format!(
                "; the checkpoint of epoch {} was not there when the run was resumed: {} is that of epoch {} ({:.4})",
                best.epoch,
                CheckpointDir::BEST,
                saved.epoch,
                saved.eval_acc
            );
        }
        None => {
            text += &format!(
                "; the checkpoint of epoch {} was not there when the run was resumed: there is no {}",
                best.epoch,
                CheckpointDir::BEST
            );
        }
    }
    if trainer.has_stopped_early() {
        text += &format!("\nended after epoch {}: no better accuracy since epoch {}", last.epoch, best.epoch);
    }
    let config = trainer.config();
    let model = neocog_models::find(&config.network).ok();
    let model = model.filter(|model| model.spec().is_ok_and(|spec| spec == *trainer.spec()));
    let expected = model.and_then(|model| model.expected);
    if let Some(expected) = expected.filter(|_| config.data == "fashion-mnist" && config.limit.is_none()) {
        text += &format!(
            "\nreported with the recipe of \"Dive into Deep Learning\": train accuracy {:.3}, test accuracy {:.3}{}",
            expected.train_accuracy,
            expected.test_accuracy,
            if expected.best_epoch { " (best epoch)" } else { "" }
        );
    }
    text
}
