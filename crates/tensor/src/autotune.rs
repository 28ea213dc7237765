//! Auto-tunes the tile sizes of matrix products on an OpenCL device. The best sizes are stored on disk, beside the compiled
//! kernels.

use std::time::Instant;

use crate::core::device::Device;
use crate::core::run::run;
use crate::core::tensor::Tensor;
use crate::opencl::{DeviceId, TileConfig, open};
use crate::testing::cases::{Case, registered_ops};
use crate::testing::conformance::{check_device, is_too_large};
use neocog_base::{Error, Result};

/// The operations computed as matrix products.
const OPS: [&str; 5] = ["matmul", "linear", "conv2d", "conv2d_input_grad", "conv2d_weight_grad"];

/// Parts of the names of the timed cases that are measured.
const MEASURED: [&str; 4] = [
    "square 1024x1024x1024",
    "batch 32: 64 to 128 channels, 24x24, 3x3",
    "batch 32: 128 to 128 channels, 12x12",
    "batch 32: 256 to 512 channels, 6x6, 3x3",
];

/// Result of trying one configuration.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trial {
    /// Description of the tile sizes.
    pub config: String,
    /// Geometric mean of the GFLOP/s of the measured cases; `None` if a check failed.
    pub gflops: Option<f64>,
    /// The failed check.
    pub error: Option<String>,
}

impl DeviceId {
    /// Tries tile sizes for this device, and uses and stores the best. Each configuration must pass the conformance cases
    /// of all operations that use it before it is timed; `report` is called after each.
    ///
    /// # Errors
    /// If there is no such device, it fails, no configuration passes the checks, or the best cannot be stored.
    pub fn autotune(self, mut report: impl FnMut(&Trial)) -> Result<Trial> {
        let runtime = open(self)?;
        let device = Device::OpenCl(self);
        let previous = runtime.tile_config();
        let (checked, measured) = cases();
        let mut try_config = |tiles: TileConfig| {
            runtime.set_tile_config(tiles);
            let wrong = checked.iter().find_map(|case| check_device(case, &device).err());
            let trial = match wrong.map_or_else(|| measure(&measured, self), Err) {
                Ok(gflops) => Trial { config: tiles.to_string(), gflops: Some(gflops), error: None },
                Err(e) => Trial { config: tiles.to_string(), gflops: None, error: Some(e.to_string()) },
            };
            report(&trial);
            trial
        };
        let mut best: Option<(TileConfig, Trial)> = None;
        // Coordinate descent: each step varies one size of the best configuration so far.
        for step in 0..TileConfig::TUNED_SIZES {
            let start =
                best.as_ref().map_or_else(|| TileConfig::untuned(runtime.info()), |(tiles, _)| *tiles);
            for tiles in start.variants(step, runtime.info()) {
                let known = best.as_ref().and_then(|(_, trial)| trial.gflops).unwrap_or(0.0);
                if best.as_ref().is_some_and(|(tried, _)| *tried == tiles) {
                    continue;
                }
                let trial = try_config(tiles);
                if trial.gflops.is_some_and(|gflops| gflops > known) {
                    best = Some((tiles, trial));
                }
            }
        }
        let Some((tiles, trial)) = best else {
            runtime.set_tile_config(previous);
            return Err(Error::device(format!("no tile sizes pass the checks on {self}")));
        };
        runtime.set_tile_config(tiles);
        runtime.save_tile_config()?;
        Ok(trial)
    }
}

/// Returns the checked and the measured cases.
fn cases() -> (Vec<Case>, Vec<Case>) {
    let all = registered_ops().into_iter().filter(|entry| OPS.contains(&entry.name));
    let (timed, small): (Vec<Case>, Vec<Case>) =
        all.flat_map(|entry| (entry.cases)()).partition(|case| case.bench);
    let (large, fits): (Vec<Case>, Vec<Case>) = timed.into_iter().partition(is_too_large);
    let measured = large.into_iter().filter(|case| MEASURED.iter().any(|part| case.name.contains(part)));
    (small.into_iter().chain(fits).collect(), measured.collect())
}

fn measure(cases: &[Case], id: DeviceId) -> Result<f64> {
    const RUNS: usize = 7;
    let device = Device::OpenCl(id);
    let mut logs = 0.0;
    for case in cases {
        let shapes: Vec<_> = case.inputs.iter().map(|x| x.shape).collect();
        let work = case.op.multiply_adds(&shapes, &case.op.infer(&shapes)?);
        let inputs = (case.inputs.iter().enumerate())
            .map(|(i, x)| Tensor::from_f32(x.shape, &x.make(i as u64), &device))
            .collect::<Result<Vec<_>>>()?;
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            id.finish()?;
            let start = Instant::now();
            run(&*case.op, &inputs)?;
            id.finish()?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        logs += (2.0 * work as f64 / best / 1e9).ln();
    }
    Ok((logs / cases.len() as f64).exp())
}
