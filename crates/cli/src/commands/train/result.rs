//! What a training prints at its end.

use std::time::Instant;

use neocog_data::Part;
use neocog_train::{CheckpointDir, Trainer};

/// The result of a finished training, and what is expected of it.
pub fn describe(trainer: &Trainer, folder: &CheckpointDir, start: Instant) -> String {
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
