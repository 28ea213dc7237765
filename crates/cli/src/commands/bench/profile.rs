//! `bench --profile`: where the time goes.

use std::collections::BTreeMap;

use neocog_bench::networks::{self, OpProfile};
use neocog_models::Model;
use neocog_tensor::{Device, Result};

use super::{Args, network_options, number, peak, percent, say_peak, time};
use crate::output;

/// Shows where the time of a network goes: first by operation, then by layer and operation.
pub fn profile(args: &Args, model: &Model) -> Result<()> {
    let peak = peak(&args.device);
    say_peak(args, peak);
    let shares = networks::profile_network(model, &network_options(args), peak)?;
    if args.json {
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
        let whole: f64 = of_mode.iter().map(|s| s.seconds).sum();
        output::line(format_args!("{}, {mode}: {} a call", model.name, time(whole)))?;
        let rows = by_operation(&of_mode, peak).into_iter().map(|s| {
            let [time, share, gflops, peak, bandwidth] = columns(&s);
            let op = if s.op.is_empty() { "(between operations)".to_string() } else { s.op.clone() };
            [op, format!("{:.0}", s.calls), time, share, gflops, peak, bandwidth]
        });
        let head = ["operation", "runs", "time", "of all", "GFLOP/s", "of peak", "GB/s"];
        output::line(output::table(head, [false, true, true, true, true, true, true], rows.collect()))?;
        if matches!(args.device, Device::OpenCl(_)) {
            // Kernels know no layers.
            continue;
        }
        let rows = of_mode.iter().filter(|s| !s.op.is_empty()).map(|s| {
            let [time, share, gflops, peak, bandwidth] = columns(s);
            [s.layer.clone(), s.op.clone(), format!("{:?}", s.output), time, share, gflops, peak, bandwidth]
        });
        let head = ["layer", "operation", "output", "time", "of all", "GFLOP/s", "of peak", "GB/s"];
        output::line(output::table(
            head,
            [false, false, false, true, true, true, true, true],
            rows.collect(),
        ))?;
    }
    Ok(())
}

/// One row for each kind of operation, the longest first.
fn by_operation(shares: &[&OpProfile], peak: Option<f64>) -> Vec<OpProfile> {
    let mut all: BTreeMap<&str, OpProfile> = BTreeMap::new();
    for s in shares {
        // Back to amounts of work, which can be added.
        let (flops, bytes) = (s.gflops.unwrap_or(0.0) * s.seconds, s.gb_per_s * s.seconds);
        let sum = all.entry(&s.op).or_insert_with(|| OpProfile {
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
    let mut rows: Vec<OpProfile> = all
        .into_values()
        .map(|s| {
            let gflops = s.gflops.map(|work| work / s.seconds);
            let share_of_peak = gflops.zip(peak).map(|(g, p)| g / p);
            let gb_per_s = if s.seconds > 0.0 { s.gb_per_s / s.seconds } else { 0.0 };
            OpProfile { gflops, share_of_peak, gb_per_s, ..s }
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}
