//! [`Predictions`]: what a network predicts for each image of a data set.

use neocog_data::Batch;
use neocog_tensor::{Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// The predictions of a network for some images: what all metrics are computed from.
///
/// ```
/// use neocog_train::Predictions;
///
/// let mut predictions = Predictions::default();
/// predictions.push(&[0.0, 2.0, 1.0], 1, 7)?;
/// assert_eq!((predictions.label(0), predictions.predicted(0), predictions.index(0)), (1, 1, 7));
/// assert!((predictions.probability(0, 1) - 0.665_241).abs() < 1e-6);
/// assert!((predictions.loss(0) - 0.407_606).abs() < 1e-6);
/// # Ok::<(), neocog_tensor::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    classes: usize,
    indices: Vec<u32>,
    labels: Vec<u32>,
    predicted: Vec<u32>,
    losses: Vec<f64>,
    /// `[n, classes]`.
    probabilities: Vec<f32>,
}

impl Predictions {
    /// Adds the prediction for the image `index` of its data set, of the class `label`: the softmax of `logits`, `[classes]`, in
    /// double precision.
    ///
    /// # Errors
    /// [`ErrorKind::Diverged`] when a logit is not finite. `Shape` when the number of logits differs from that of earlier images, or
    /// there is none for the label.
    pub fn push(&mut self, logits: &[f64], label: u32, index: u32) -> Result<()> {
        if let Some(class) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::new(
                ErrorKind::Diverged,
                format!("the output of the network for image {index} is {} for class {class}", logits[class]),
            ));
        }
        let classes = if self.is_empty() { logits.len() } else { self.classes };
        if logits.len() != classes || label as usize >= classes {
            return Err(Error::shape(format!(
                "image {index} of class {label} has {} outputs, expected {classes}",
                logits.len()
            )));
        }
        self.classes = classes;
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        let predicted = logits.iter().position(|logit| *logit == largest).unwrap_or(0);
        self.indices.push(index);
        self.labels.push(label);
        self.predicted.push(predicted as u32);
        self.losses.push(sum.ln() - (logits[label as usize] - largest));
        self.probabilities.extend(logits.iter().map(|logit| ((logit - largest).exp() / sum) as f32));
        Ok(())
    }

    /// Adds the predictions for a batch with `logits`, `[n, classes]`.
    pub(crate) fn push_batch(&mut self, logits: &Tensor, batch: &Batch) -> Result<()> {
        let classes = logits.shape().last().copied().unwrap_or(1).max(1);
        let values = logits.to_f64()?;
        for ((row, &label), &index) in values.chunks_exact(classes).zip(&batch.labels).zip(&batch.indices) {
            self.push(row, label, index)?;
        }
        Ok(())
    }

    /// Returns the predictions of several parts, in the order of the images.
    pub(crate) fn merged(mut parts: Vec<Predictions>) -> Self {
        if parts.len() == 1 {
            return parts.swap_remove(0);
        }
        let mut places: Vec<(u32, usize, usize)> = Vec::new();
        for (part, predictions) in parts.iter().enumerate() {
            places.extend(predictions.indices.iter().enumerate().map(|(i, &index)| (index, part, i)));
        }
        places.sort_unstable();
        let mut all = Predictions::default();
        for (index, part, i) in places {
            let from = &parts[part];
            all.classes = from.classes;
            all.indices.push(index);
            all.labels.push(from.labels[i]);
            all.predicted.push(from.predicted[i]);
            all.losses.push(from.losses[i]);
            all.probabilities.extend_from_slice(from.probabilities(i));
        }
        all
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the number of classes that the network tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the index of image `i` in its data set.
    pub fn index(&self, i: usize) -> usize {
        self.indices[i] as usize
    }

    /// Returns the class of image `i`.
    pub fn label(&self, i: usize) -> usize {
        self.labels[i] as usize
    }

    /// Returns the class of the largest output for image `i`, the first of equal ones.
    pub fn predicted(&self, i: usize) -> usize {
        self.predicted[i] as usize
    }

    /// Whether the prediction for image `i` is its class.
    pub fn is_correct(&self, i: usize) -> bool {
        self.labels[i] == self.predicted[i]
    }

    /// Returns the cross-entropy of image `i`.
    pub fn loss(&self, i: usize) -> f64 {
        self.losses[i]
    }

    /// Returns the probabilities of all classes for image `i`, `[classes]`.
    pub fn probabilities(&self, i: usize) -> &[f32] {
        &self.probabilities[i * self.classes..][..self.classes]
    }

    /// Returns the probability of `class` for image `i`.
    pub fn probability(&self, i: usize, class: usize) -> f64 {
        f64::from(self.probabilities(i)[class])
    }

    /// Returns the probability of the predicted class of image `i`.
    pub fn confidence(&self, i: usize) -> f64 {
        self.probability(i, self.predicted(i))
    }

    /// Returns the mean cross-entropy; NaN without images.
    pub fn mean_loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.len() as f64
    }

    /// Returns up to `count` images in descending order of their loss.
    pub fn worst(&self, count: usize) -> Vec<usize> {
        self.ranked(count, |_| true, |i| self.loss(i))
    }

    /// Returns up to `count` wrongly classified images in descending order of the probability of the predicted class.
    pub fn confident_mistakes(&self, count: usize) -> Vec<usize> {
        self.ranked(count, |i| !self.is_correct(i), |i| self.confidence(i))
    }

    /// The images for which `keep` is true with the largest values; of equal ones the first.
    fn ranked(&self, count: usize, keep: impl Fn(usize) -> bool, value: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut images: Vec<usize> = (0..self.len()).filter(|&i| keep(i)).collect();
        images.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(a.cmp(&b)));
        images.truncate(count);
        images
    }
}
