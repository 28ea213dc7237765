//! Comparison of neocog with other implementations, in interleaved rounds.

use neocog_tensor::Result;
use serde::Serialize;

use crate::Record;
use crate::timing::median;

/// Comparison of one network in one mode with the fastest baseline.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Name of the network.
    pub name: String,
    /// `train` or `predict`.
    pub mode: String,
    /// Device of neocog.
    pub device: String,
    /// The fastest baseline, to which the other fields refer: a library or a device.
    #[serde(rename = "against")]
    pub baseline: String,
    /// Number of threads of both.
    pub threads: usize,
    /// Batch size.
    pub batch: usize,
    /// Images per second of neocog, the median of the rounds.
    #[serde(rename = "ours")]
    pub images_per_s: f64,
    /// Images per second of the baseline, the median of the rounds.
    #[serde(rename = "theirs")]
    pub baseline_images_per_s: f64,
    /// Speed of neocog relative to the baseline, the median of the rounds.
    pub ratio: f64,
    /// Minimum ratio of a round.
    pub ratio_min: f64,
    /// Maximum ratio of a round.
    pub ratio_max: f64,
    /// Peak resident set size of the neocog process in MiB.
    #[serde(rename = "ours_rss_mib")]
    pub peak_rss_mib: Option<f64>,
    /// Peak resident set size of the baseline's process in MiB.
    #[serde(rename = "theirs_rss_mib")]
    pub baseline_peak_rss_mib: Option<f64>,
    /// Peak memory of tensors and scratch buffers of neocog in MiB.
    #[serde(rename = "ours_tensors_mib")]
    pub peak_tensors_mib: Option<f64>,
}

/// Measures an implementation once per round: one record per mode.
pub type Runner<'a> = Box<dyn FnMut() -> Result<Vec<Record>> + 'a>;

/// Runs `subject` and all `baselines` in turn for a number of rounds, which cancels slow changes of the machine's speed, and
/// compares each mode with the baseline that has the smallest median time.
///
/// # Errors
/// The first error of a runner.
pub fn compare(
    rounds: usize,
    mut subject: Runner<'_>,
    mut baselines: Vec<Runner<'_>>,
) -> Result<Vec<Comparison>> {
    let mut subject_rounds: Vec<Vec<Record>> = Vec::new();
    let mut baseline_rounds: Vec<Vec<Vec<Record>>> = vec![Vec::new(); baselines.len()];
    for _ in 0..rounds {
        subject_rounds.push(subject()?);
        for (baseline, rounds) in baselines.iter_mut().zip(&mut baseline_rounds) {
            rounds.push(baseline()?);
        }
    }
    let comparisons = ["train", "predict"].into_iter().filter_map(|mode| {
        let subject = records_of(&subject_rounds, mode);
        let fastest = baseline_rounds
            .iter()
            .map(|rounds| records_of(rounds, mode))
            .filter(|records| !records.is_empty())
            .min_by(|a, b| median_seconds(a).total_cmp(&median_seconds(b)))?;
        (!subject.is_empty()).then(|| comparison(&subject, &fastest))
    });
    Ok(comparisons.collect())
}

/// Returns the record of a mode in each round.
fn records_of<'a>(rounds: &'a [Vec<Record>], mode: &str) -> Vec<&'a Record> {
    rounds.iter().filter_map(|records| records.iter().find(|r| r.mode == mode)).collect()
}

fn median_seconds(records: &[&Record]) -> f64 {
    median(records.iter().map(|r| r.median_s))
}

fn comparison(subject: &[&Record], baseline: &[&Record]) -> Comparison {
    let speed = |r: &&Record| r.batch as f64 / r.median_s;
    let ratios: Vec<f64> = subject.iter().zip(baseline).map(|(s, b)| speed(s) / speed(b)).collect();
    let memory = |records: &[&Record], peak: fn(&Record) -> Option<f64>| {
        let known: Vec<f64> = records.iter().filter_map(|r| peak(r)).collect();
        (!known.is_empty()).then(|| median(known))
    };
    Comparison {
        name: subject[0].name.clone(),
        mode: subject[0].mode.clone(),
        device: subject[0].device.clone(),
        baseline: baseline[0].device.clone(),
        threads: subject[0].threads,
        batch: subject[0].batch,
        images_per_s: median(subject.iter().map(speed)),
        baseline_images_per_s: median(baseline.iter().map(speed)),
        ratio: median(ratios.iter().copied()),
        ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_max: ratios.iter().copied().fold(0.0, f64::max),
        peak_rss_mib: memory(subject, |r| r.peak_rss_mib),
        baseline_peak_rss_mib: memory(baseline, |r| r.peak_rss_mib),
        peak_tensors_mib: memory(subject, |r| r.peak_tensors_mib),
    }
}

/// Returns the geometric mean, or `None` if there are no values.
pub fn geometric_mean(ratios: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = ratios.into_iter().fold((0.0, 0), |(sum, n), r| (sum + r.ln(), n + 1));
    (n > 0).then(|| (sum / f64::from(n)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(device: &str, mode: &str, median_s: f64) -> Record {
        Record {
            name: "net".into(),
            device: device.into(),
            mode: mode.into(),
            batch: 10,
            threads: 1,
            median_s,
            min_s: median_s,
            calls: 3,
            images_per_s: None,
            gflops: None,
            share_of_peak: None,
            peak_rss_mib: Some(100.0 * median_s),
            peak_tensors_mib: Some(50.0 * median_s),
        }
    }

    /// A runner that reports the given times, one per round.
    fn runner(device: &'static str, modes: &'static [&'static str], times: [f64; 3]) -> Runner<'static> {
        let mut times = times.into_iter();
        Box::new(move || {
            let time = times.next().unwrap();
            Ok(modes.iter().map(|mode| record(device, mode, time)).collect())
        })
    }

    #[test]
    fn each_mode_is_compared_with_the_fastest_baseline() {
        let subject = runner("cpu", &["predict", "train"], [1.0, 2.0, 1.0]);
        let slow = runner("slow", &["predict", "train"], [3.0, 3.0, 30.0]);
        let fast = runner("fast", &["predict"], [2.0, 1.0, 4.0]);
        let all = compare(3, subject, vec![slow, fast]).unwrap();
        assert_eq!(all.len(), 2);
        let (train, predict) = (&all[0], &all[1]);
        assert_eq!((train.mode.as_str(), train.baseline.as_str()), ("train", "slow"));
        assert_eq!(
            (train.images_per_s, train.ratio, train.ratio_min, train.ratio_max),
            (10.0, 3.0, 1.5, 30.0)
        );
        assert_eq!((predict.mode.as_str(), predict.baseline.as_str()), ("predict", "fast"));
        assert_eq!((predict.baseline_images_per_s, predict.ratio, predict.ratio_min), (5.0, 2.0, 0.5));
        assert_eq!((predict.peak_rss_mib, predict.baseline_peak_rss_mib), (Some(100.0), Some(200.0)));
        assert_eq!(predict.peak_tensors_mib, Some(50.0));
    }

    #[test]
    fn geometric_means() {
        assert_eq!(geometric_mean([]), None);
        assert!((geometric_mean([2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
    }
}
