//! A program of this crate's own: all commands of neocog, which know the layers and the network that this crate registers.

use std::process::ExitCode;

// A crate that nothing names is not linked, and then registers nothing.
use neocog_plugin_example as _;

fn main() -> ExitCode {
    neocog_cli::main()
}
