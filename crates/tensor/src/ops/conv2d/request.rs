//! The algorithm that the user requests with `NEOCOG_CONV`.

use std::sync::OnceLock;

use super::algorithm::{ALGORITHM_VARIABLE, computed, requested};
use super::{cpu, opencl};
use neocog_base::{Context as _, Error, Result};

/// The convolution algorithm that the environment variable `NEOCOG_CONV` requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestedAlgorithm {
    /// Name of the algorithm.
    pub name: &'static str,
    /// How many convolutions and gradients of convolutions it has computed in this process. The others were computed by
    /// the cheapest algorithm that can.
    pub computed: u64,
}

/// Returns the convolution algorithm that `NEOCOG_CONV` requests, or `None` if the variable is not set. It is read once.
///
/// # Errors
/// If there is no algorithm of this name on any device; every convolution then returns this error.
pub fn requested_algorithm() -> Result<Option<RequestedAlgorithm>> {
    static IS_KNOWN: OnceLock<bool> = OnceLock::new();
    let Some(name) = requested() else { return Ok(None) };
    if *IS_KNOWN.get_or_init(|| names().contains(&name)) {
        return Ok(Some(RequestedAlgorithm { name, computed: computed() }));
    }
    Err(Error::not_found("convolution algorithm", name, names())).context(|| ALGORITHM_VARIABLE)
}

/// Returns the names of the algorithms of all devices.
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = cpu::names().chain(opencl::names()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
