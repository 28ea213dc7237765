//! `cargo xtask`: all commands of `neocog`, and those of the project's maintainers.

mod commands;

use std::process::ExitCode;

use neocog_base::memory::ReserveAllocator;

#[global_allocator]
static ALLOCATOR: ReserveAllocator = ReserveAllocator::new();

fn main() -> ExitCode {
    // A failed allocation is reported with memory that was put aside.
    ALLOCATOR.fill();
    neocog_cli::Program::new("cargo xtask")
        .about("Train, evaluate and inspect convolutional networks, and test this project")
        .main()
}
