//! The program `neocog`; the commands are in `neocog-cli`.

use std::process::ExitCode;

use neocog_base::memory::ReserveAllocator;

#[global_allocator]
static ALLOCATOR: ReserveAllocator = ReserveAllocator::new();

fn main() -> ExitCode {
    // A failed allocation is reported with memory that was put aside.
    ALLOCATOR.fill();
    neocog_cli::main()
}
