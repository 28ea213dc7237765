//! Histograms.

use super::messages::HistogramProto;

/// Number of buckets.
const BUCKETS: usize = 30;

/// The distribution of some values, in buckets of equal width from the least to the largest. Values that are not finite are left
/// out.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram(pub(super) HistogramProto);

impl Histogram {
    /// Counts `values`; `None` if none is finite.
    pub fn new(values: &[f64]) -> Option<Self> {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (min, max) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if min > max {
            return None;
        }
        let buckets = if max > min { BUCKETS } else { 1 };
        let width = (max - min) / buckets as f64;
        let mut counts = vec![0.0; buckets];
        let (mut num, mut sum, mut sum_squares) = (0.0, 0.0, 0.0);
        for value in finite() {
            let bucket = if width > 0.0 { ((value - min) / width) as usize } else { 0 };
            counts[bucket.min(buckets - 1)] += 1.0;
            num += 1.0;
            sum += value;
            sum_squares += value * value;
        }
        let limit = |i: usize| if i + 1 == buckets { max } else { min + (i + 1) as f64 * width };
        // The lower limit of the first bucket is that of an empty one before it.
        let bucket_limit = [min].into_iter().chain((0..buckets).map(limit)).collect();
        let bucket = [0.0].into_iter().chain(counts).collect();
        Some(Histogram(HistogramProto { min, max, num, sum, sum_squares, bucket_limit, bucket }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_counted_once() {
        let values: Vec<f64> = (0..=60).map(f64::from).chain([f64::NAN, f64::INFINITY]).collect();
        let Histogram(found) = Histogram::new(&values).unwrap();
        assert_eq!((found.min, found.max, found.num, found.sum), (0.0, 60.0, 61.0, 1830.0));
        assert_eq!(found.bucket.iter().sum::<f64>(), 61.0);
        assert_eq!(found.bucket_limit.len(), found.bucket.len());
        assert_eq!((found.bucket[0], found.bucket[1], found.bucket[30]), (0.0, 2.0, 3.0));
        assert_eq!((found.bucket_limit[1], found.bucket_limit[30]), (2.0, 60.0));
        let Histogram(same) = Histogram::new(&[5.0; 4]).unwrap();
        assert_eq!((same.bucket, same.bucket_limit), (vec![0.0, 4.0], vec![5.0, 5.0]));
        assert_eq!(Histogram::new(&[f64::NAN]), None);
    }
}
