//! The timed cases of all registered operations.

use std::time::Duration;

use neocog_tensor::cases::{Case, CaseInput, registered_ops};
use neocog_tensor::{Context as _, Device, Result, Shape, Tensor, update};

use crate::Record;
use crate::timing::{measure, peak_rss_mib};

/// Options of [`bench_ops`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Device to run on.
    pub device: Device,
    /// Number of threads to report: the size of the caller's rayon pool. Default: the size of the current pool.
    pub threads: usize,
    /// Measuring time per case. Default: 0.6 s.
    pub budget: Duration,
    /// Measure only operations and cases whose name contains this text; `None` measures all. Default: `None`.
    pub filter: Option<String>,
}

impl Options {
    /// Creates the default options for a device.
    pub fn new(device: Device) -> Self {
        let threads = rayon::current_num_threads();
        Options { device, threads, budget: Duration::from_millis(600), filter: None }
    }

    /// Sets the number of threads to report.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the measuring time per case.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the text that names of operations and cases must contain; `None` measures all.
    #[must_use]
    pub fn filter(mut self, filter: Option<String>) -> Self {
        self.filter = filter;
        self
    }
}

/// Measures all timed cases, and passes each record to `report`. `peak_gflops` is the peak of the device, used for
/// [`Record::share_of_peak`].
///
/// # Errors
/// If an operation fails.
pub fn bench_ops(options: &Options, peak_gflops: Option<f64>, mut report: impl FnMut(Record)) -> Result<()> {
    for (name, case) in selected_cases(options) {
        report(bench_case(&name, &case, options, peak_gflops).context(|| name.clone())?);
    }
    Ok(())
}

/// Returns the names of the cases that [`bench_ops`] measures: the operation, a space, and the case.
pub fn names(options: &Options) -> Vec<String> {
    selected_cases(options).map(|(name, _)| name).collect()
}

/// Returns name and case of all timed cases that the filter selects.
fn selected_cases(options: &Options) -> impl Iterator<Item = (String, Case)> {
    let cases = registered_ops().into_iter().flat_map(|entry| {
        let timed = (entry.cases)().into_iter().filter(|case| case.bench);
        timed.map(move |case| (format!("{} {}", entry.name, case.name), case))
    });
    cases.filter(|(name, _)| options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())))
}

fn bench_case(name: &str, case: &Case, options: &Options, peak_gflops: Option<f64>) -> Result<Record> {
    let tensors = |inputs: &[CaseInput]| -> Result<Vec<Tensor>> {
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
        // OpenCL kernels are only enqueued.
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
