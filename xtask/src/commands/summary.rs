//! `summary`: what a network consists of.

use neocog_layers::summary::summarize;
use neocog_tensor::{Device, Result, Shape};
use serde::Serialize;

use super::network::Which;
use crate::output::{self, thousands};

/// Shows a network: its layers, the shapes of their outputs, parameters and multiply-adds, for one image.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask summary lenet
  cargo xtask summary lenet_bn --style pytorch
  cargo xtask summary resnet --input 3x64x64 --classes 100
  cargo xtask summary --spec my.json
  cargo xtask summary lenet --json")]
pub struct Args {
    /// The network; all that are registered, in one table, if absent.
    network: Option<String>,
    #[command(flatten)]
    which: Which,
    /// A table, or the structure as PyTorch prints it.
    #[arg(long, value_enum, default_value = "table")]
    style: Style,
    /// One line of JSON with name, parameters and macs instead.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Style {
    Table,
    Pytorch,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    parameters: u64,
    macs: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let one = args.network.is_some() || args.which.spec.is_some();
    let networks = if one {
        vec![args.which.choose(args.network.as_deref())?]
    } else {
        let models = neocog_models::models()?;
        models.iter().map(|model| args.which.choose(Some(model.name))).collect::<Result<_>>()?
    };
    let mut all = Vec::new();
    for chosen in networks {
        let network = chosen.build(&args.which, &Device::Meta)?;
        let [c, h, w] = chosen.input()?;
        let input = Shape::from([1, c, h, w]);
        let summary = summarize(&*network, &input)?;
        let (parameters, macs) = (summary.parameters as u64, summary.multiply_adds);
        if args.json {
            output::json(&Line { name: chosen.name(), parameters, macs })?;
            continue;
        }
        if let Style::Pytorch = args.style {
            output::line(neocog_layers::print::pytorch(&*network))?;
            continue;
        }
        if !one {
            let numbers = [input.to_string(), thousands(parameters), thousands(macs)];
            let [input, parameters, macs] = numbers;
            all.push([chosen.name().to_string(), input, parameters, macs, chosen.about().to_string()]);
            continue;
        }
        let mut rows: Vec<[String; 5]> = summary
            .rows
            .iter()
            .map(|row| {
                let name = if row.path.is_empty() { "-" } else { &row.path };
                let numbers = [row.parameters as u64, row.multiply_adds].map(thousands);
                let [parameters, macs] = numbers;
                [name.to_string(), row.label.clone(), row.output.to_string(), parameters, macs]
            })
            .collect();
        rows.push(["total".into(), String::new(), String::new(), thousands(parameters), thousands(macs)]);
        let about = if chosen.about().is_empty() { "" } else { &format!(": {}", chosen.about()) };
        output::line(format_args!("{}{about}; input {input}", chosen.name()))?;
        let head = ["name", "layer", "output", "parameters", "multiply-adds"];
        output::line(output::table(head, [false, false, false, true, true], rows))?;
    }
    if !all.is_empty() {
        let head = ["network", "input", "parameters", "multiply-adds", "what it is"];
        output::line(output::table(head, [false, false, true, true, false], all))?;
    }
    Ok(())
}
