//! `cargo bench --bench networks`: prediction and training steps of networks on the CPU.

use std::time::Duration;

use neocog_base::Result;
use neocog_bench::networks::{Options, bench_network};
use neocog_benches::{Arguments, run};
use neocog_models::{Family, models_of};
use neocog_tensor::Device;

/// The networks that are measured without a filter.
const DEFAULT: [&str; 4] = ["lenet", "lenet_bn", "nin", "resnet"];

fn main() -> Result<()> {
    let arguments = Arguments::from_env();
    let default: &[&str] = if arguments.test { &DEFAULT[..1] } else { &DEFAULT };
    let mut selected = models_of(Family::Notes)?;
    selected.retain(|model| arguments.selects(model.name, default.contains(&model.name)));

    let mut options = Options::new(Device::Cpu).budget(Duration::from_secs(3));
    if arguments.test {
        options = options.batch(Some(2)).budget(Duration::ZERO);
    }
    let names = selected.iter().map(|model| model.name.to_string()).collect();
    run(&arguments, names, |peak, report| {
        for model in &selected {
            bench_network(model, &options, peak)?.into_iter().for_each(&mut *report);
        }
        Ok(())
    })
}
