//! Reports how many convolutions the algorithm that `NEOCOG_CONV` requests has computed.

use std::sync::atomic::{AtomicBool, Ordering};

use neocog_base::{Error, Result};
use neocog_tensor::ops::requested_algorithm;

use crate::output;

/// The commands that compute convolutions whatever their arguments: if the requested algorithm has computed none, that is an error.
const COMMANDS: [&str; 10] =
    ["bench", "embed", "eval", "explain", "features", "golden", "lr-find", "predict", "run", "train"];

/// Whether another process of this program computed convolutions for this one, and reported them.
static ELSEWHERE: AtomicBool = AtomicBool::new(false);

/// Checks the requested name before the command starts.
///
/// # Errors
/// If there is no algorithm of that name.
pub fn check() -> Result<()> {
    requested_algorithm().map(drop)
}

/// Notes that another process of this program computed convolutions, and reported them on its standard error.
pub fn note_other_process() {
    ELSEWHERE.store(true, Ordering::Relaxed);
}

/// Prints, at the end of a command, how many convolutions the requested algorithm has computed; nothing
/// if none is requested.
///
/// # Errors
/// If there is no algorithm of the requested name, or it has computed none.
pub fn report(command: &str) -> Result<()> {
    let Some(requested) = requested_algorithm()? else { return Ok(()) };
    match requested.computed {
        0 if ELSEWHERE.load(Ordering::Relaxed) || !COMMANDS.contains(&command) => Ok(()),
        0 => Err(Error::invalid_argument(format!(
            "NEOCOG_CONV={name} is set, but {name} computed no convolution here: it can compute none of these shapes, or \
             not on this device",
            name = requested.name
        ))),
        computed => {
            let what = if computed == 1 { "convolution or gradient" } else { "convolutions and gradients" };
            output::note(format_args!("{} computed {computed} {what}", requested.name));
            Ok(())
        }
    }
}
