//! `cargo bench --bench ops`: the timed cases of all operations on the CPU.

use std::time::Duration;

use neocog_base::Result;
use neocog_bench::ops::{Options, bench_ops, names};
use neocog_benches::{Arguments, run};
use neocog_tensor::Device;

/// The cases that are checked in test mode without a filter.
const TEST_FILTER: &str = "add";

fn main() -> Result<()> {
    let arguments = Arguments::from_env();
    let mut options = Options::new(Device::Cpu).budget(Duration::from_millis(300));
    options = options.filter(arguments.filter.clone());
    if arguments.test {
        let filter = arguments.filter.clone().unwrap_or_else(|| TEST_FILTER.to_string());
        options = options.filter(Some(filter)).budget(Duration::ZERO);
    }
    run(&arguments, names(&options), |peak, report| bench_ops(&options, peak, report))
}
