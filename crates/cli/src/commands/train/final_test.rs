//! `train --final-test`: the test images, used once.

use neocog_data::{Loader, LoaderOptions, Part, Split};
use neocog_layers::Predictor;
use neocog_tensor::{Device, Result};
use neocog_train::{Checkpoint, CheckpointDir, Trainer, evaluate};
use serde::Serialize;

use crate::output;

#[derive(Serialize)]
struct JsonRow {
    epoch: u64,
    test_loss: f64,
    test_acc: f64,
}

/// Evaluates the network of the best epoch, or of the last one where the best was chosen on the test images, on the test
/// images.
///
/// # Errors
/// When the checkpoint of the best epoch cannot be read, or the evaluation fails.
pub fn run(
    trainer: &Trainer,
    data: &Split,
    folder: &CheckpointDir,
    device: &Device,
    json: bool,
) -> Result<()> {
    let config = trainer.config();
    let (network, epoch) = match trainer.best_saved() {
        Some(best) if config.selected_on == Some(Part::Validation) => {
            let checkpoint = Checkpoint::read(&folder.path().join(CheckpointDir::BEST))?;
            (checkpoint.network(device)?.into(), best.epoch)
        }
        _ => (trainer.shared_network(), trainer.position().epoch),
    };
    let [c, h, w] = trainer.input();
    let options = LoaderOptions::new()
        .batch_size(config.batch)
        .image_size((h, w))
        .channels(Some(c))
        .augment(config.transforms.fixed().into_augment(config.seed));
    let loader = Loader::new(std::sync::Arc::clone(data.test()?), options)?;
    let result = evaluate(&Predictor::new(network), &loader, device)?;
    for (_, message) in loader.unreadable() {
        output::note(format_args!("warning: left out: {message}"));
    }
    let text = format!(
        "final test of epoch {epoch} on {} images: loss {:.4}, accuracy {:.4}",
        result.images, result.loss, result.accuracy
    );
    if json {
        output::note(format_args!("{text}"));
        return output::json(&JsonRow { epoch, test_loss: result.loss, test_acc: result.accuracy });
    }
    output::line(text)
}
