//! A program of this crate: all commands of neocog, with the layers and the network that this crate registers, and a command
//! of its own.

use std::process::ExitCode;

use neocog_base::Result;
use neocog_cli::{clap, examples, output, register_command};

// The crate must be linked to register its layers and network.
use neocog_plugin_example as _;

/// Count the registered networks.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:\n  neocog count-networks --json"))]
struct CountNetworks {
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

fn count_networks(args: &CountNetworks) -> Result<()> {
    let networks = neocog_models::models()?.len();
    if args.json {
        output::json(&std::collections::BTreeMap::from([("networks", networks)]))
    } else {
        output::line(networks)
    }
}

register_command!("count-networks", 1000, CountNetworks, count_networks);

fn main() -> ExitCode {
    neocog_cli::main()
}
