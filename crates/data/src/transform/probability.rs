//! The check of the parameter `p`.

use neocog_base::{Error, Result};

/// Checks that `p` is a probability.
pub(crate) fn check_probability(p: f32) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("p must be a probability from 0 to 1, not {p}")))
}
