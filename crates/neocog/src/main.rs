//! The program `neocog`; the commands are in `neocog-cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    neocog_cli::main()
}
