//! `layers`: the registered layers.

use std::collections::BTreeMap;

use neocog_layers::registry;
use neocog_tensor::Result;
use serde::Serialize;

use crate::help::examples;
use crate::output;
use crate::register_command;

/// List layers.
///
/// Lists every registered layer with its fields in a network's JSON file, and the crate that registers it. Values are those
/// of the layer's first example.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog layers
  neocog layers --json"))]
struct Args {
    /// Print one JSON object per layer: kind, crate, fields.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    kind: &'a str,
    #[serde(rename = "crate")]
    crate_name: &'a str,
    fields: BTreeMap<String, String>,
}

register_command!("layers", 70, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let registry = registry()?;
    if args.json {
        for entry in registry.iter() {
            let fields = entry.fields().into_iter().collect();
            output::json(&JsonRow { kind: entry.kind, crate_name: entry.crate_name, fields })?;
        }
        return Ok(());
    }
    let rows = registry
        .iter()
        .map(|entry| {
            let fields: Vec<String> =
                entry.fields().into_iter().map(|(name, value)| assignment(&name, &value)).collect();
            [entry.kind.to_string(), entry.crate_name.to_string(), fields.join(", ")]
        })
        .collect();
    output::line(output::table(["layer", "crate", "fields"], [false; 3], rows))
}

/// `name=value`, with nested layers abbreviated.
fn assignment(name: &str, value: &str) -> String {
    if value.contains("\"kind\"") { format!("{name}=[…]") } else { format!("{name}={value}") }
}
