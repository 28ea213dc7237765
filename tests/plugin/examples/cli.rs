//! The command line of neocog with the layers and the network of this crate.

use std::process::ExitCode;

// A crate that is not referenced is not linked, and registers nothing.
use neocog_plugin_example as _;

fn main() -> ExitCode {
    neocog_cli::main()
}
