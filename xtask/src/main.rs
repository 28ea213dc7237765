//! `cargo xtask`: every command of `neocog`, and those of the project's maintainers.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    neocog_cli::Program::new("cargo xtask")
        .about("Trains, evaluates and inspects convolutional networks, and checks the project.")
        .main()
}
