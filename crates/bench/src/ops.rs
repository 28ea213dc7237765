//! Measures operations: the timed cases that they submit themselves.

use std::time::Duration;

use neocog_tensor::cases::{Case, registered_ops};
use neocog_tensor::{Context as _, Device, Result, Shape, Tensor, update};

use crate::Record;
use crate::measure::{measure, peak_rss_mib};

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The device.
    pub device: Device,
    /// Threads; only noted, the caller provides them.
    pub threads: usize,
    /// Time for each case.
    pub budget: Duration,
    /// Only operations and cases whose name contains this.
    pub filter: Option<String>,
}

/// Measures all timed cases, and shows each record as it is made.
///
/// # Errors
/// When an operation cannot be run.
pub fn bench_ops(options: &Options, peak_gflops: Option<f64>, mut show: impl FnMut(Record)) -> Result<()> {
    for entry in registered_ops() {
        for case in (entry.cases)().into_iter().filter(|c| c.bench) {
            let name = format!("{} {}", entry.name, case.name);
            if options.filter.as_ref().is_none_or(|f| name.contains(f.as_str())) {
                show(bench_case(&name, &case, options, peak_gflops).context(|| name.clone())?);
            }
        }
    }
    Ok(())
}

fn bench_case(name: &str, case: &Case, options: &Options, peak_gflops: Option<f64>) -> Result<Record> {
    let tensors = |inputs: &[neocog_tensor::cases::CaseInput]| -> Result<Vec<Tensor>> {
        inputs
            .iter()
            .enumerate()
            .map(|(i, x)| Tensor::from_f32(x.shape, &x.make(i as u64), &options.device))
            .collect()
    };
    let inputs = tensors(&case.inputs)?;
    let mut state = tensors(&case.state)?;
    let references: Vec<&Tensor> = inputs.iter().collect();
    let times = measure(options.budget, || {
        update(&*case.op, &references, &mut state.iter_mut().collect::<Vec<_>>())?;
        // Kernels there are only queued.
        if let Device::OpenCl(id) = options.device { id.finish() } else { Ok(()) }
    })?;
    let shapes: Vec<Shape> = case.inputs.iter().map(|x| x.shape).collect();
    let multiply_adds = case.op.multiply_adds(&shapes, &case.op.infer(&shapes)?);
    let gflops = (multiply_adds > 0).then(|| 2.0 * multiply_adds as f64 / times.median() / 1e9);
    Ok(Record {
        name: name.to_string(),
        device: options.device.to_string(),
        mode: "op".into(),
        batch: 0,
        threads: options.threads,
        median_s: times.median(),
        min_s: times.min(),
        calls: times.calls(),
        images_per_s: None,
        gflops,
        share_of_peak: gflops.zip(peak_gflops).map(|(g, p)| g / p),
        peak_rss_mib: peak_rss_mib(),
        peak_tensors_mib: None,
    })
}
