//! `bench --profile`: the time of each operation and layer.

use std::collections::BTreeMap;

use neocog_bench::networks::{self, OpProfile};
use neocog_tensor::{Device, Result};

use super::display::{number, percent, time};
use super::subject::Subject;
use crate::output;

/// Profiles a network and prints its time by operation, then by layer and operation. `peak` is in GFLOP/s.
///
/// # Errors
/// When the network cannot be run or the result cannot be written.
pub fn profile(subject: &Subject, options: &networks::Options, peak: Option<f64>, json: bool) -> Result<()> {
    let shares = subject.profile(options, peak)?;
    if json {
        return shares.iter().try_for_each(output::json);
    }
    let columns = |s: &OpProfile| {
        [
            time(s.seconds),
            percent(Some(s.share)),
            number(s.gflops, 1),
            percent(s.share_of_peak),
            number(Some(s.gb_per_s), 1),
        ]
    };
    for mode in ["predict", "train"] {
        let of_mode: Vec<&OpProfile> = shares.iter().filter(|s| s.mode == mode).collect();
        if of_mode.is_empty() {
            continue;
        }
        let total: f64 = of_mode.iter().map(|s| s.seconds).sum();
        output::line(format_args!("{}, {mode}: {} per call", subject.name(), time(total)))?;
        let rows = by_operation(&of_mode, peak).into_iter().map(|s| {
            let [time, share, gflops, peak, bandwidth] = columns(&s);
            let op = if s.op.is_empty() { "(outside operations)".to_string() } else { operation(&s) };
            [op, format!("{:.0}", s.calls), time, share, gflops, peak, bandwidth]
        });
        let head = ["operation", "calls", "time", "of total", "GFLOP/s", "of peak", "GB/s"];
        output::line(output::table(head, [false, true, true, true, true, true, true], rows.collect()))?;
        if matches!(options.device, Device::OpenCl(_)) {
            // OpenCL kernels are not attributed to layers.
            continue;
        }
        let rows = of_mode.iter().filter(|s| !s.op.is_empty()).map(|s| {
            let [time, share, gflops, peak, bandwidth] = columns(s);
            [s.layer.clone(), operation(s), format!("{:?}", s.output), time, share, gflops, peak, bandwidth]
        });
        let head = ["layer", "operation", "output", "time", "of total", "GFLOP/s", "of peak", "GB/s"];
        output::line(output::table(
            head,
            [false, false, false, true, true, true, true, true],
            rows.collect(),
        ))?;
    }
    Ok(())
}

/// Returns the name of an operation, and that of its algorithm if it has one: `conv2d [winograd]`.
fn operation(profile: &OpProfile) -> String {
    match &profile.algorithm {
        Some(algorithm) => format!("{} [{algorithm}]", profile.op),
        None => profile.op.clone(),
    }
}

/// Sums over the layers: one row per operation and algorithm, in order of decreasing time.
fn by_operation(shares: &[&OpProfile], peak: Option<f64>) -> Vec<OpProfile> {
    let mut sums: BTreeMap<(&str, Option<&str>), OpProfile> = BTreeMap::new();
    for s in shares {
        // Rates back to totals, which can be added.
        let (flops, bytes) = (s.gflops.unwrap_or(0.0) * s.seconds, s.gb_per_s * s.seconds);
        let sum = sums.entry((&s.op, s.algorithm.as_deref())).or_insert_with(|| OpProfile {
            seconds: 0.0,
            calls: 0.0,
            share: 0.0,
            gflops: None,
            gb_per_s: 0.0,
            ..(*s).clone()
        });
        sum.seconds += s.seconds;
        sum.calls += s.calls;
        sum.share += s.share;
        sum.gb_per_s += bytes;
        if s.gflops.is_some() {
            sum.gflops = Some(sum.gflops.unwrap_or(0.0) + flops);
        }
    }
    let mut rows: Vec<OpProfile> = sums
        .into_values()
        .map(|s| {
            let gflops = s.gflops.map(|total| total / s.seconds);
            let share_of_peak = gflops.zip(peak).map(|(g, p)| g / p);
            let gb_per_s = if s.seconds > 0.0 { s.gb_per_s / s.seconds } else { 0.0 };
            OpProfile { gflops, share_of_peak, gb_per_s, ..s }
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}
