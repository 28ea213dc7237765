//! `layers`: the registry.

use neocog_layers::registry;
use neocog_tensor::Result;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::output;
use crate::register_command;

/// Lists all kinds of layers that are linked in, sorted, with their fields and the crate that they come from.
///
/// The fields have the values of the layer's first example; they are those of a network's JSON.
#[derive(Debug, clap::Args)]
struct Args {
    /// One line of JSON for each kind instead, with kind, crate and fields.
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

register_command!("layers", 100, Args, run);

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
                entry.fields().into_iter().map(|(name, value)| shown(&name, &value)).collect();
            [entry.kind.to_string(), entry.crate_name.to_string(), fields.join(", ")]
        })
        .collect();
    output::line(output::table(["layer", "crate", "fields"], [false; 3], rows))
}

/// `name=value`; of the layers within a combinator, only that there are some.
fn shown(name: &str, value: &str) -> String {
    if value.contains("\"kind\"") { format!("{name}=[…]") } else { format!("{name}={value}") }
}
