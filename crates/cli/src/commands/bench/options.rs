//! Arguments that several benchmarks share.

use neocog_models::{Model, find};
use neocog_tensor::Result;

use crate::arguments::{DeviceArg, pixels, positive};

/// How networks are run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Benchmark prediction only.
    #[arg(long)]
    pub predict_only: bool,
    /// Time budget per network, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0, value_parser = seconds)]
    pub budget: f64,
    #[command(flatten)]
    pub device: DeviceArg,
    /// Print one JSON object per result instead of a table.
    #[arg(long, display_order = 800)]
    pub json: bool,
}

/// The input of networks that run on one shape.
#[derive(Clone, Debug, clap::Args)]
pub struct ShapeArgs {
    /// Batch size [default: depends on the network].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    /// Height and width of the images [default: the network's input].
    #[arg(long, value_name = "PIXELS", value_parser = pixels)]
    pub size: Option<usize>,
}

/// Parses a time budget.
///
/// # Errors
/// When the text is not a number of seconds above 0 and up to an hour.
pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|e| e.to_string())?;
    if seconds > 0.0 && seconds <= 3600.0 {
        Ok(seconds)
    } else {
        Err("must be above 0 and at most 3600".into())
    }
}

/// The networks called `names`, or those of `default` if there are none.
///
/// # Errors
/// When a network is unknown.
pub fn networks_or(names: &[String], default: &[&str]) -> Result<Vec<Model>> {
    match names {
        [] => default.iter().map(|name| find(name)).collect(),
        _ => names.iter().map(|name| find(name)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn budgets_are_positive_and_finite() {
        assert_eq!(seconds("0.25"), Ok(0.25));
        for wrong in ["0", "-1", "inf", "NaN", "3601", "x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
