//! `cargo xtask`: all commands of `neocog`, and those of the project's maintainers.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    neocog_cli::Program::new("cargo xtask")
        .about("Train, evaluate and inspect convolutional networks, and test this project")
        .main()
}
