//! The number of threads, and the error if they cannot be started.

use std::error;

use clap::ArgMatches;
use neocog_base::{Error, Result};

/// Returns the value of `--threads`, or the number of processors.
pub fn number(matches: &ArgMatches) -> usize {
    match matches.get_one::<u32>("threads") {
        Some(&n) => n as usize,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The error for threads that the system does not start.
pub fn cannot_start(cause: impl error::Error + Send + Sync + 'static) -> Error {
    Error::out_of_memory(
        "cannot start the threads: too little memory or too many processes (ulimit -v, ulimit -u)",
    )
    .with_source(cause)
}

/// Checks that memory is left once the threads run: a program that lacks it for its small allocations, which are not checked one by
/// one, aborts.
///
/// # Errors
/// When there is too little.
pub fn check_memory() -> Result<()> {
    const RESERVE: usize = 4 << 20;
    let mut reserve: Vec<u8> = Vec::new();
    let reserved = reserve.try_reserve_exact(RESERVE);
    // The compiler could leave out an allocation without a use.
    std::hint::black_box(&reserve);
    reserved.map_err(cannot_start)
}
