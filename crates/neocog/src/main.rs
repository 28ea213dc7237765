//! The program `neocog`. All of it is in `neocog-cli`; the commands of that crate register themselves.

use std::process::ExitCode;

fn main() -> ExitCode {
    neocog_cli::main()
}
