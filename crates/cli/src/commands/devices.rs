//! `devices`: the CPU and the OpenCL devices.

use neocog_base::text::count;
use neocog_tensor::opencl::{self, DeviceInfo};
use neocog_tensor::{Device, Error, Result, conformance, instruction_set};
use serde::Serialize;

use crate::help::examples;
use crate::output;
use crate::register_command;

/// List devices.
///
/// Lists the CPU and the OpenCL devices with their limits and extensions. If there is no OpenCL device, prints what is
/// missing and what to install. With --kernels, the exit code is 1 if a case fails.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog devices
  neocog devices --kernels                    test all kernels on the OpenCL devices
  neocog train lenet --device opencl          the first GPU, or else the first device
  neocog train lenet --device opencl:0:1      the second device of the first platform
  neocog train lenet --device opencl:nvidia   the first device whose name or platform contains `nvidia`

The environment variable NEOCOG_OPENCL_DEVICE, set to 0:1 or a part of a name, selects the device of `opencl`."))]
struct Args {
    /// Compile all kernels on each OpenCL device and test them on the cases of their operations.
    #[arg(long)]
    kernels: bool,
    /// Print one JSON object per device.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow {
    device: String,
    name: String,
    /// Names and values, in order.
    facts: Vec<(&'static str, String)>,
    /// Failed kernel cases, if kernels were tested.
    #[serde(rename = "wrong", skip_serializing_if = "Option::is_none")]
    failures: Option<Vec<String>>,
}

register_command!("devices", 120, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let (vectors, lanes) = instruction_set();
    let threads = rayon::current_num_threads();
    let facts =
        vec![("threads", threads.to_string()), ("vectors", format!("{vectors}, {}", count(lanes, "float")))];
    show(
        args,
        &JsonRow { device: Device::Cpu.to_string(), name: "this processor".into(), facts, failures: None },
    )?;

    let found = match opencl::devices() {
        Ok(found) => found,
        Err(e) => {
            output::note(format_args!("{e}"));
            return Ok(());
        }
    };
    let mut failed = 0;
    for info in found {
        let mut facts = facts_of(info);
        let mut failures = None;
        if args.kernels {
            output::note(format_args!("{}: compiling and testing all kernels", info.id));
            let summary = conformance::check_ops(&Device::OpenCl(info.id), |_| true);
            failed += summary.failures.len();
            let verdict = match summary.failures.len() {
                0 => "all right".to_string(),
                1 => "1 is wrong".to_string(),
                n => format!("{n} are wrong"),
            };
            facts.push((
                "kernels",
                format!("{} operations, {} examples: {verdict}", summary.ops, summary.cases),
            ));
            failures = Some(summary.failures);
        }
        let row = JsonRow { device: info.id.to_string(), name: info.name.clone(), facts, failures };
        show(args, &row)?;
    }
    if failed > 0 {
        return Err(Error::device(format!("{} failed", count(failed, "kernel case"))));
    }
    Ok(())
}

fn facts_of(info: &DeviceInfo) -> Vec<(&'static str, String)> {
    let mebibytes = |bytes: u64| format!("{} MiB", output::thousands(bytes >> 20));
    let local = if info.has_local_memory { "of its own" } else { "a part of global memory" };
    vec![
        ("kind", info.kind.to_string()),
        ("vendor", info.vendor.clone()),
        ("platform", info.platform.clone()),
        ("version", info.version.clone()),
        ("driver", info.driver.clone()),
        ("compute units", info.compute_units.to_string()),
        ("vectors", count(info.vector_width, "float")),
        ("work-groups", format!("up to {} work-items", output::thousands(info.max_group as u64))),
        ("local memory", format!("{} KiB, {local}", output::thousands(info.local_memory as u64 >> 10))),
        ("global memory", mebibytes(info.global_memory)),
        ("largest buffer", mebibytes(info.max_allocation)),
        ("extensions", info.extensions.join(" ")),
    ]
}

fn show(args: &Args, row: &JsonRow) -> Result<()> {
    if args.json {
        return output::json(row);
    }
    output::line(format_args!("{}  {}", row.device, row.name))?;
    for (name, value) in &row.facts {
        output::line(format_args!("  {name:<15}{value}"))?;
    }
    row.failures.iter().flatten().try_for_each(|text| output::line(format_args!("    {text}")))
}
