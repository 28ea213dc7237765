//! Default batch sizes for measuring networks.

use neocog_models::Model;

/// Networks whose batch size does not follow from the size of their input.
const BATCHES: [(&str, usize); 1] = [("vgg", 8)];

/// Returns the batch size to measure a network with: 256 for inputs of at most 32x32 pixels, else 32, with exceptions for
/// networks that need much memory.
pub fn default_batch(model: &Model) -> usize {
    let [_, h, w] = model.input;
    match BATCHES.iter().find(|(name, _)| *name == model.name) {
        Some((_, batch)) => *batch,
        None if h * w <= 32 * 32 => 256,
        None => 32,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn registered_networks() {
        let batches: Vec<(&str, usize)> = neocog_models::models_of(neocog_models::Family::Notes)
            .unwrap()
            .iter()
            .map(|model| (model.name, default_batch(model)))
            .collect();
        let expected = [
            ("alexnet", 32),
            ("densenet", 32),
            ("googlenet", 32),
            ("lenet", 256),
            ("lenet_bn", 256),
            ("lenet_bn_scratch", 256),
            ("nin", 32),
            ("resnet", 32),
            ("vgg", 8),
            ("vgg_small", 32),
        ];
        assert_eq!(batches, expected);
    }
}
