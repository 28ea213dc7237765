//! Metrics of a classifier: confusion matrix, precision, recall and F1 score of each class, top-k accuracy, and calibration.

use serde::Serialize;

use crate::predictions::Predictions;

/// Number of bins of the [`Calibration`] in reports.
pub const CALIBRATION_BINS: usize = 15;

/// The number of images of each class that are predicted as each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// `[classes, classes]`: rows are true classes, columns are predicted ones.
    counts: Vec<u64>,
}

/// The metrics of a class. A quotient with the denominator 0 is 0, as with scikit-learn's `zero_division=0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// Number of images of the class.
    pub support: u64,
    /// Number of images that are predicted as the class.
    pub predicted: u64,
    /// The share of the images predicted as the class that are of it.
    pub precision: f64,
    /// The share of the images of the class that are predicted as it.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
}

impl ClassMetrics {
    /// Computes the metrics of a class with `support` images, of `predicted` ones of which `correct` are of it.
    pub(crate) fn new(support: u64, predicted: u64, correct: u64) -> Self {
        ClassMetrics {
            support,
            predicted,
            precision: ratio(correct, predicted),
            recall: ratio(correct, support),
            f1: ratio(2 * correct, support + predicted),
        }
    }
}

impl ConfusionMatrix {
    /// Counts predictions.
    pub fn new(predictions: &Predictions) -> Self {
        let classes = predictions.classes();
        let mut counts = vec![0; classes * classes];
        for i in 0..predictions.len() {
            counts[predictions.label(i) * classes + predictions.predicted(i)] += 1;
        }
        ConfusionMatrix { classes, counts }
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the number of images of the class `truth` that are predicted as `predicted`.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * self.classes + predicted]
    }

    /// Returns the number of images of the class `truth`.
    pub fn support(&self, truth: usize) -> u64 {
        self.counts[truth * self.classes..][..self.classes].iter().sum()
    }

    /// Returns the number of images.
    pub fn images(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the share of correct predictions; 0 without images.
    pub fn accuracy(&self) -> f64 {
        ratio((0..self.classes).map(|class| self.count(class, class)).sum(), self.images())
    }

    /// Returns the metrics of each class.
    pub fn per_class(&self) -> Vec<ClassMetrics> {
        let of_class = |class| {
            let correct = self.count(class, class);
            let support = self.support(class);
            let predicted = (0..self.classes).map(|truth| self.count(truth, class)).sum();
            ClassMetrics::new(support, predicted, correct)
        };
        (0..self.classes).map(of_class).collect()
    }

    /// Returns the means of precision, recall and F1 score over the classes that occur as true or predicted ones: scikit-learn's
    /// `average="macro"`. Support and predicted are sums.
    pub fn macro_average(&self) -> ClassMetrics {
        let classes = self.per_class();
        let occurring =
            classes.iter().filter(|class| class.support + class.predicted > 0).count().max(1) as f64;
        let sum = classes.iter().fold(ClassMetrics::default(), |sum, class| ClassMetrics {
            support: sum.support + class.support,
            predicted: sum.predicted + class.predicted,
            precision: sum.precision + class.precision,
            recall: sum.recall + class.recall,
            f1: sum.f1 + class.f1,
        });
        ClassMetrics {
            precision: sum.precision / occurring,
            recall: sum.recall / occurring,
            f1: sum.f1 / occurring,
            ..sum
        }
    }

    /// Returns up to `count` pairs of a true class and another one that is predicted for it, with the number of images, in descending
    /// order of that; without pairs of 0 images.
    pub fn most_confused(&self, count: usize) -> Vec<(usize, usize, u64)> {
        let pairs = (0..self.classes).flat_map(|t| (0..self.classes).map(move |p| (t, p)));
        let mut pairs: Vec<_> = pairs
            .filter(|(t, p)| t != p)
            .map(|(t, p)| (t, p, self.count(t, p)))
            .filter(|(.., images)| *images > 0)
            .collect();
        pairs.sort_by_key(|&(t, p, images)| (std::cmp::Reverse(images), t, p));
        pairs.truncate(count);
        pairs
    }
}

/// Returns the share of images whose class is among the `k` most likely ones; 0 without images. Of classes with the same
/// probability, the first counts as more likely.
pub fn top_k_accuracy(predictions: &Predictions, k: usize) -> f64 {
    let is_within = |&i: &usize| {
        let (label, row) = (predictions.label(i), predictions.probabilities(i));
        let ahead = |(class, p): (usize, &f32)| *p > row[label] || (*p == row[label] && class < label);
        row.iter().enumerate().filter(|&(class, p)| ahead((class, p))).count() < k
    };
    ratio((0..predictions.len()).filter(is_within).count() as u64, predictions.len() as u64)
}

/// How well the probability of the predicted class agrees with the accuracy: images in bins of their confidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Bins of equal width, from confidence 0 to 1.
    pub bins: Vec<CalibrationBin>,
    /// Expected calibration error: the mean difference of accuracy and confidence, weighted by the images of the bins. C. Guo,
    /// G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 5.
    pub ece: f64,
}

/// The images whose confidence is within a bin. A bin does not contain its lower bound, except for 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Number of images.
    pub images: u64,
    /// Their mean confidence; 0 without images.
    pub confidence: f64,
    /// Their accuracy; 0 without images.
    pub accuracy: f64,
}

impl Calibration {
    /// Computes the calibration with `bins` bins, at least one.
    pub fn new(predictions: &Predictions, bins: usize) -> Self {
        let bins = bins.max(1);
        let mut sums = vec![(0u64, 0.0, 0u64); bins];
        for i in 0..predictions.len() {
            let confidence = predictions.confidence(i);
            let bin = (confidence * bins as f64).ceil() as usize;
            let (images, sum, correct) = &mut sums[bin.saturating_sub(1).min(bins - 1)];
            *images += 1;
            *sum += confidence;
            *correct += u64::from(predictions.is_correct(i));
        }
        let bins: Vec<CalibrationBin> = sums
            .into_iter()
            .map(|(images, confidence, correct)| CalibrationBin {
                images,
                confidence: confidence / images.max(1) as f64,
                accuracy: ratio(correct, images),
            })
            .collect();
        let weighted = |bin: &CalibrationBin| bin.images as f64 * (bin.accuracy - bin.confidence).abs();
        let ece = bins.iter().map(weighted).sum::<f64>() / predictions.len().max(1) as f64;
        Calibration { bins, ece }
    }
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Predictions with the given probabilities and labels.
    fn predictions(rows: &[(&[f64], u32)]) -> Predictions {
        let mut all = Predictions::default();
        for (i, (row, label)) in rows.iter().enumerate() {
            let logits: Vec<f64> = row.iter().map(|p: &f64| p.ln()).collect();
            all.push(&logits, *label, i as u32).unwrap();
        }
        all
    }

    fn example() -> Predictions {
        predictions(&[
            (&[0.7, 0.2, 0.1], 0),
            (&[0.6, 0.3, 0.1], 0),
            (&[0.1, 0.8, 0.1], 0),
            (&[0.2, 0.5, 0.3], 1),
            (&[0.9, 0.06, 0.04], 1),
        ])
    }

    #[test]
    fn a_confusion_matrix_by_hand() {
        let matrix = ConfusionMatrix::new(&example());
        let counts: Vec<u64> = (0..9).map(|i| matrix.count(i / 3, i % 3)).collect();
        assert_eq!(counts, [2, 1, 0, 1, 1, 0, 0, 0, 0]);
        assert_eq!((matrix.images(), matrix.support(0), matrix.accuracy()), (5, 3, 0.6));
        let [a, b, c] = matrix.per_class()[..] else { panic!() };
        assert_eq!((a.precision, a.recall, a.f1, a.predicted), (2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 3));
        assert_eq!((b.precision, b.recall, b.f1), (0.5, 0.5, 0.5));
        assert_eq!(c, ClassMetrics::default());
        let mean = matrix.macro_average();
        assert!((mean.f1 - 7.0 / 12.0).abs() < 1e-12, "{mean:?}");
        assert_eq!(matrix.most_confused(5), [(0, 1, 1), (1, 0, 1)]);
        assert_eq!(matrix.most_confused(1), [(0, 1, 1)]);
    }

    #[test]
    fn top_k_accuracy_by_hand() {
        let all = example();
        assert_eq!([1, 2, 3, 9].map(|k| top_k_accuracy(&all, k)), [0.6, 1.0, 1.0, 1.0]);
        // The class of equal probability that comes first is ahead.
        let equal = predictions(&[(&[0.5, 0.5], 0), (&[0.5, 0.5], 1)]);
        assert_eq!([1, 2].map(|k| top_k_accuracy(&equal, k)), [0.5, 1.0]);
        assert_eq!(top_k_accuracy(&Predictions::default(), 1), 0.0);
    }

    #[test]
    fn calibration_by_hand() {
        // Two images of confidence .75, one correct; two of 1, both correct: |.5 - .75| * 2 / 4.
        let sure: &[f64] = &[1.0, f64::MIN_POSITIVE];
        let all = predictions(&[(&[0.75, 0.25], 0), (&[0.75, 0.25], 1), (sure, 0), (sure, 0)]);
        let calibration = Calibration::new(&all, 4);
        assert!((calibration.ece - 0.125).abs() < 1e-7, "{calibration:?}");
        let images: Vec<u64> = calibration.bins.iter().map(|bin| bin.images).collect();
        assert_eq!(images, [0, 0, 2, 2], "a bin contains its upper bound");
        assert_eq!((calibration.bins[2].accuracy, calibration.bins[3].accuracy), (0.5, 1.0));
        assert_eq!(Calibration::new(&Predictions::default(), 15).ece, 0.0);
    }

    #[test]
    fn images_are_ranked() {
        let all = example();
        assert_eq!(all.worst(3), [4, 2, 3]);
        assert_eq!(all.confident_mistakes(25), [4, 2]);
        assert!((all.loss(0) + 0.7f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn outputs_that_are_not_finite_are_errors() {
        let mut all = example();
        for (logits, what) in
            [(&[0.0, f64::NAN, 0.0][..], "NaN for class 1"), (&[0.0, 1.0], "2 outputs, expected 3")]
        {
            let e = all.push(logits, 0, 9).unwrap_err().to_string();
            assert!(e.contains(what) && e.contains("image 9"), "{e}");
        }
        assert!(all.push(&[0.0; 3], 3, 9).is_err());
        assert_eq!(all.len(), 5);
    }
}
