//! neocog's command line with this crate's layers and networks: `cargo run --release --example cli -- train unshuffle_net`.

use std::process::ExitCode;

// A crate that nothing names is not linked, and then registers nothing.
use neocog_plugin_example as _;

fn main() -> ExitCode {
    xtask::main()
}
