//! Metrics of images with any number of labels each.

use neocog_tensor::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::metrics::{ClassMetrics, ratio};

/// Scores and labels of images with any number of labels each, such as of a network trained with
/// [`bce_with_logits`](crate::loss::bce_with_logits).
///
/// ```
/// use neocog_train::MultiLabelMeter;
///
/// let mut meter = MultiLabelMeter::new(2);
/// meter.add(&[0.9, 0.2], &[true, false])?;
/// meter.add(&[0.6, 0.7], &[false, true])?;
/// let metrics = meter.metrics(0.5);
/// assert_eq!((metrics.exact, metrics.hamming_loss), (0.5, 0.25));
/// # Ok::<(), neocog_tensor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiLabelMeter {
    classes: usize,
    /// `[images, classes]`.
    scores: Vec<f64>,
    /// `[images, classes]`.
    labels: Vec<bool>,
}

/// The metrics of a [`MultiLabelMeter`]. A quotient with the denominator 0 is 0, as with scikit-learn's `zero_division=0`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MultiLabelMetrics {
    /// Number of images.
    pub images: u64,
    /// The share of the images all of whose labels are right: scikit-learn's `accuracy_score`.
    pub exact: f64,
    /// The share of wrong labels, of all images and classes.
    pub hamming_loss: f64,
    /// The metrics of each class.
    pub per_class: Vec<ClassMetrics>,
    /// The metrics of all labels together: `average="micro"`.
    pub micro: ClassMetrics,
    /// The means of precision, recall and F1 score over the classes, `average="macro"`. Support and predicted are sums.
    pub macro_average: ClassMetrics,
    /// The area under the curve of precision over recall of each class, as a sum of steps: `average_precision_score`; 0 for a class
    /// without images.
    pub average_precision: Vec<f64>,
    /// Their mean.
    pub mean_average_precision: f64,
}

impl MultiLabelMeter {
    /// Creates a meter for a number of classes.
    pub fn new(classes: usize) -> Self {
        MultiLabelMeter { classes, scores: Vec::new(), labels: Vec::new() }
    }

    /// Adds images: a score for each image and class, such as a probability, and whether the image has that label; both
    /// `[images, classes]`.
    ///
    /// # Errors
    /// `Shape` when the lengths differ or are not a multiple of the classes; `Diverged` when a score is not finite.
    pub fn add(&mut self, scores: &[f64], labels: &[bool]) -> Result<()> {
        if scores.len() != labels.len() || self.classes == 0 || !scores.len().is_multiple_of(self.classes) {
            return Err(Error::shape(format!(
                "expected as many scores as labels, a multiple of the {} classes; found {} and {}",
                self.classes,
                scores.len(),
                labels.len()
            )));
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            let (image, class) = (at / self.classes, at % self.classes);
            let what = format!("the score of class {class} for image {image} is {}", scores[at]);
            return Err(Error::new(ErrorKind::Diverged, what));
        }
        self.scores.extend(scores);
        self.labels.extend(labels);
        Ok(())
    }

    /// Computes the metrics; a class is predicted where its score is at least `threshold`.
    pub fn metrics(&self, threshold: f64) -> MultiLabelMetrics {
        let rows = || {
            self.scores.chunks_exact(self.classes.max(1)).zip(self.labels.chunks_exact(self.classes.max(1)))
        };
        let is_wrong = |(score, label): (&f64, &bool)| (*score >= threshold) != *label;
        let wrong = |(scores, labels): (&[f64], &[bool])| {
            scores.iter().zip(labels).filter(|&pair| is_wrong(pair)).count()
        };
        let images = rows().count() as u64;
        let exact = rows().filter(|&row| wrong(row) == 0).count() as u64;
        let all_wrong: usize = rows().map(wrong).sum();
        let counts: Vec<Counts> = (0..self.classes)
            .map(|class| {
                rows().fold(Counts::default(), |counts, (scores, labels)| {
                    counts.with(scores[class] >= threshold, labels[class])
                })
            })
            .collect();
        let micro = counts.iter().fold(Counts::default(), |sum, counts| sum.plus(*counts)).metrics();
        let per_class: Vec<ClassMetrics> = counts.iter().map(Counts::metrics).collect();
        let mean = |value: fn(&ClassMetrics) -> f64| {
            per_class.iter().map(value).sum::<f64>() / self.classes.max(1) as f64
        };
        let macro_average = ClassMetrics {
            precision: mean(|class| class.precision),
            recall: mean(|class| class.recall),
            f1: mean(|class| class.f1),
            ..micro
        };
        let average_precision: Vec<f64> =
            (0..self.classes).map(|class| self.average_precision(class)).collect();
        MultiLabelMetrics {
            images,
            exact: ratio(exact, images),
            hamming_loss: ratio(all_wrong as u64, self.labels.len() as u64),
            per_class,
            micro,
            macro_average,
            mean_average_precision: average_precision.iter().sum::<f64>() / self.classes.max(1) as f64,
            average_precision,
        }
    }

    /// The sum of the steps of recall times precision, over all thresholds in descending order.
    fn average_precision(&self, class: usize) -> f64 {
        let of_class = |i: usize| i * self.classes + class;
        let mut order: Vec<usize> = (0..self.labels.len() / self.classes).map(of_class).collect();
        order.sort_by(|&a, &b| self.scores[b].total_cmp(&self.scores[a]));
        let positives = order.iter().filter(|&&i| self.labels[i]).count() as u64;
        let (mut predicted, mut correct, mut sum) = (0, 0, 0.0);
        // Images with equal scores are predicted together.
        for equal in order.chunk_by(|&a, &b| self.scores[a] == self.scores[b]) {
            let more = equal.iter().filter(|&&i| self.labels[i]).count() as u64;
            predicted += equal.len() as u64;
            correct += more;
            sum += ratio(more, positives) * ratio(correct, predicted);
        }
        sum
    }
}

/// Numbers of images of a class.
#[derive(Clone, Copy, Default)]
struct Counts {
    predicted: u64,
    support: u64,
    correct: u64,
}

impl Counts {
    fn with(self, predicted: bool, label: bool) -> Self {
        let [predicted, support, correct] = [predicted, label, predicted && label].map(u64::from);
        self.plus(Counts { predicted, support, correct })
    }

    fn plus(self, other: Self) -> Self {
        Counts {
            predicted: self.predicted + other.predicted,
            support: self.support + other.support,
            correct: self.correct + other.correct,
        }
    }

    fn metrics(&self) -> ClassMetrics {
        ClassMetrics::new(self.support, self.predicted, self.correct)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Six images of three classes; the last class has no image.
    fn example() -> MultiLabelMeter {
        let mut meter = MultiLabelMeter::new(3);
        let scores = [
            0.9, 0.8, 0.1, // both
            0.7, 0.4, 0.6, // the first
            0.2, 0.8, 0.1, // the second
            0.7, 0.3, 0.2, // none
            0.1, 0.2, 0.3, // the first
            0.5, 0.5, 0.4, // both
        ];
        let labels = [1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0].map(|label| label == 1);
        meter.add(&scores[..6], &labels[..6]).unwrap();
        meter.add(&scores[6..], &labels[6..]).unwrap();
        meter
    }

    #[test]
    fn metrics_are_those_of_scikit_learn() {
        // accuracy_score, hamming_loss, precision_recall_fscore_support and average_precision_score of scikit-learn 1.9, with
        // zero_division=0 and the scores from 0.5 on as predictions.
        let metrics = example().metrics(0.5);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        assert_eq!(metrics.images, 6);
        close(metrics.exact, 0.5);
        close(metrics.hamming_loss, 3.0 / 18.0);
        let first = metrics.per_class[0];
        assert_eq!((first.support, first.predicted), (4, 4));
        close(first.precision, 0.75);
        close(first.recall, 0.75);
        close(metrics.per_class[1].f1, 1.0);
        assert_eq!(metrics.per_class[2].precision, 0.0);
        close(metrics.micro.precision, 0.75);
        close(metrics.micro.recall, 6.0 / 7.0);
        close(metrics.macro_average.f1, 1.75 / 3.0);
        // Steps of 1/4 at 1 of 1, 2 of 3 (two images with 0.7), 3 of 4, and 4 of 6.
        close(metrics.average_precision[0], 0.25 * (1.0 + 2.0 / 3.0 + 0.75 + 4.0 / 6.0));
        close(metrics.average_precision[1], 1.0);
        assert_eq!(metrics.average_precision[2], 0.0);
        close(metrics.mean_average_precision, (metrics.average_precision[0] + 1.0) / 3.0);
    }

    #[test]
    fn wrong_input_is_an_error_and_nothing_is_added() {
        let mut meter = example();
        let shape = meter.add(&[0.5; 4], &[true; 4]).unwrap_err();
        assert!(shape.to_string().contains("a multiple of the 3 classes; found 4 and 4"), "{shape}");
        assert!(meter.add(&[0.5; 3], &[true; 6]).is_err());
        let nan = meter.add(&[0.5, f64::NAN, 0.1], &[true; 3]).unwrap_err();
        assert_eq!(nan.kind(), ErrorKind::Diverged);
        assert!(nan.to_string().contains("class 1 for image 0"), "{nan}");
        assert_eq!(meter.metrics(0.5).images, 6);
        let none = MultiLabelMeter::new(2).metrics(0.5);
        assert_eq!((none.images, none.exact, none.mean_average_precision), (0, 0.0, 0.0));
    }
}
