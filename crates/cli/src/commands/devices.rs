//! `devices`: where networks can run.

use neocog_tensor::opencl::{self, DeviceInfo};
use neocog_tensor::{Device, Error, ErrorKind, Result, conformance, instruction_set};
use serde::Serialize;

use crate::help::examples;
use crate::output;
use crate::register_command;

/// Lists the devices that networks can run on: the processor, and those of OpenCL with their limits and extensions.
///
/// Where there is no OpenCL device, it says what is missing and what to install.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog devices
  neocog devices --kernels                    whether all kernels fit the devices
  neocog train lenet --device opencl          on the first graphics card, else the first device
  neocog train lenet --device opencl:0:1      on the second device of the first platform
  neocog train lenet --device opencl:nvidia   on the first whose name, or whose platform's, has this in it

NEOCOG_OPENCL_DEVICE, with 0:1 or a part of a name, says what `opencl` alone means."))]
struct Args {
    /// Also compiles all kernels of all operations on each OpenCL device, and runs them on their examples: whether they
    /// fit, and give what they should. It is an error if one does not.
    #[arg(long)]
    kernels: bool,
    /// One line of JSON for each device instead.
    #[arg(long)]
    json: bool,
}

/// What is shown of a device.
#[derive(Serialize)]
struct JsonRow {
    device: String,
    name: String,
    /// Names and values, in the order in which they are shown.
    facts: Vec<(&'static str, String)>,
    /// What does not fit; absent if that was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<Vec<String>>,
}

register_command!("devices", 120, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let (vectors, lanes) = instruction_set();
    let threads = rayon::current_num_threads();
    let facts = vec![("threads", threads.to_string()), ("vectors", format!("{vectors}, {lanes} floats"))];
    show(
        args,
        &JsonRow { device: Device::Cpu.to_string(), name: "this processor".into(), facts, wrong: None },
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
        let mut wrong = None;
        if args.kernels {
            output::note(format_args!("{}: compiling and running all kernels", info.id));
            let summary = conformance::check_ops(&Device::OpenCl(info.id), |_| true);
            failed += summary.failures.len();
            let verdict = match summary.failures.len() {
                0 => "all right".to_string(),
                n => format!("{n} are wrong"),
            };
            facts.push((
                "kernels",
                format!("{} operations, {} examples: {verdict}", summary.ops, summary.cases),
            ));
            wrong = Some(summary.failures);
        }
        let line = JsonRow { device: info.id.to_string(), name: info.name.clone(), facts, wrong };
        show(args, &line)?;
    }
    if failed > 0 {
        return Err(Error::new(ErrorKind::Device, format!("{failed} examples of kernels are wrong")));
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
        ("vectors", format!("{} floats", info.vector_width)),
        ("work-groups", format!("up to {} work-items", output::thousands(info.max_group as u64))),
        ("local memory", format!("{} KiB, {local}", output::thousands(info.local_memory as u64 >> 10))),
        ("global memory", mebibytes(info.global_memory)),
        ("largest buffer", mebibytes(info.max_allocation)),
        ("extensions", info.extensions.join(" ")),
    ]
}

fn show(args: &Args, line: &JsonRow) -> Result<()> {
    if args.json {
        return output::json(line);
    }
    output::line(format_args!("{}  {}", line.device, line.name))?;
    for (name, value) in &line.facts {
        output::line(format_args!("  {name:<15}{value}"))?;
    }
    line.wrong.iter().flatten().try_for_each(|text| output::line(format_args!("    {text}")))
}
