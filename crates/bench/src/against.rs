//! The same network here and elsewhere, in turns.

use neocog_tensor::Result;
use serde::Serialize;

use crate::Record;
use crate::measure::median;

/// The comparison of one network in one mode.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The network.
    pub name: String,
    /// `train` or `predict`.
    pub mode: String,
    /// The device here.
    pub device: String,
    /// Who was the fastest of the others; the other columns are about that one.
    pub against: String,
    /// Threads on both sides.
    pub threads: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Images per second here, the median of the rounds.
    pub ours: f64,
    /// Images per second there, the median of the rounds.
    pub theirs: f64,
    /// The median of the rounds' ratios, ours to theirs.
    pub ratio: f64,
    /// The smallest ratio of a round.
    pub ratio_min: f64,
    /// The largest ratio of a round.
    pub ratio_max: f64,
    /// The most memory that the process has held here, in MiB.
    pub ours_rss_mib: Option<f64>,
    /// The same there.
    pub theirs_rss_mib: Option<f64>,
    /// The most that tensors and scratch have held here at once, in MiB.
    pub ours_tensors_mib: Option<f64>,
}

/// Somebody who can measure the network, in each round anew: a record for each mode.
pub type Side<'a> = Box<dyn FnMut() -> Result<Vec<Record>> + 'a>;

/// Lets `ours` and all of `theirs` measure in turns, `rounds` times, and compares each mode with the fastest of the others, by
/// their medians.
///
/// # Errors
/// The first error of a side.
pub fn compare(rounds: usize, mut ours: Side<'_>, mut theirs: Vec<Side<'_>>) -> Result<Vec<Comparison>> {
    let mut mine: Vec<Vec<Record>> = Vec::new();
    let mut others: Vec<Vec<Vec<Record>>> = vec![Vec::new(); theirs.len()];
    for _ in 0..rounds {
        mine.push(ours()?);
        for (side, records) in theirs.iter_mut().zip(&mut others) {
            records.push(side()?);
        }
    }
    let comparisons = ["train", "predict"].into_iter().filter_map(|mode| {
        let mine = of_mode(&mine, mode);
        let fastest = others
            .iter()
            .map(|rounds| of_mode(rounds, mode))
            .filter(|records| !records.is_empty())
            .min_by(|a, b| seconds(a).total_cmp(&seconds(b)))?;
        (!mine.is_empty()).then(|| comparison(&mine, &fastest))
    });
    Ok(comparisons.collect())
}

/// One record of each round.
fn of_mode<'a>(rounds: &'a [Vec<Record>], mode: &str) -> Vec<&'a Record> {
    rounds.iter().filter_map(|records| records.iter().find(|r| r.mode == mode)).collect()
}

fn seconds(records: &[&Record]) -> f64 {
    median(records.iter().map(|r| r.median_s))
}

fn comparison(mine: &[&Record], theirs: &[&Record]) -> Comparison {
    let speed = |r: &&Record| r.batch as f64 / r.median_s;
    let ratios: Vec<f64> = mine.iter().zip(theirs).map(|(m, t)| speed(m) / speed(t)).collect();
    let memory = |records: &[&Record], peak: fn(&Record) -> Option<f64>| {
        let known: Vec<f64> = records.iter().filter_map(|r| peak(r)).collect();
        (!known.is_empty()).then(|| median(known))
    };
    Comparison {
        name: mine[0].name.clone(),
        mode: mine[0].mode.clone(),
        device: mine[0].device.clone(),
        against: theirs[0].device.clone(),
        threads: mine[0].threads,
        batch: mine[0].batch,
        ours: median(mine.iter().map(speed)),
        theirs: median(theirs.iter().map(speed)),
        ratio: median(ratios.iter().copied()),
        ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_max: ratios.iter().copied().fold(0.0, f64::max),
        ours_rss_mib: memory(mine, |r| r.peak_rss_mib),
        theirs_rss_mib: memory(theirs, |r| r.peak_rss_mib),
        ours_tensors_mib: memory(mine, |r| r.peak_tensors_mib),
    }
}

/// The geometric mean of ratios; `None` of none.
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

    /// A side that answers with these times, one a round.
    fn side(device: &'static str, modes: &'static [&'static str], times: [f64; 3]) -> Side<'static> {
        let mut times = times.into_iter();
        Box::new(move || {
            let time = times.next().unwrap();
            Ok(modes.iter().map(|mode| record(device, mode, time)).collect())
        })
    }

    #[test]
    fn each_mode_is_compared_with_the_fastest_of_the_others() {
        let ours = side("cpu", &["predict", "train"], [1.0, 2.0, 1.0]);
        let slow = side("slow", &["predict", "train"], [3.0, 3.0, 30.0]);
        let fast = side("fast", &["predict"], [2.0, 1.0, 4.0]);
        let all = compare(3, ours, vec![slow, fast]).unwrap();
        assert_eq!(all.len(), 2);
        let (train, predict) = (&all[0], &all[1]);
        assert_eq!((train.mode.as_str(), train.against.as_str()), ("train", "slow"));
        assert_eq!((train.ours, train.ratio, train.ratio_min, train.ratio_max), (10.0, 3.0, 1.5, 30.0));
        assert_eq!((predict.mode.as_str(), predict.against.as_str()), ("predict", "fast"));
        assert_eq!((predict.theirs, predict.ratio, predict.ratio_min), (5.0, 2.0, 0.5));
        assert_eq!((predict.ours_rss_mib, predict.theirs_rss_mib), (Some(100.0), Some(200.0)));
        assert_eq!(predict.ours_tensors_mib, Some(50.0));
    }

    #[test]
    fn a_geometric_mean() {
        assert_eq!(geometric_mean([]), None);
        assert!((geometric_mean([2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
    }
}
