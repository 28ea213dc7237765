//! Numbers of benchmarks as text, and the peak performance that they are compared with.

use neocog_base::text::count;
use neocog_tensor::{Device, fma_peak_gflops, instruction_set};

use crate::output;

/// The peak performance of the CPU in GFLOP/s; `None` for other devices.
pub fn peak(device: &Device) -> Option<f64> {
    (*device == Device::Cpu).then(|| fma_peak_gflops(rayon::current_num_threads()))
}

/// Writes the peak performance to standard error.
pub fn print_peak(device: &Device, peak: Option<f64>) {
    if let Some(peak) = peak {
        let (name, lanes) = instruction_set();
        output::note(format_args!(
            "{device} with {}, {name} ({} per vector): peak {peak:.0} GFLOP/s",
            count(rayon::current_num_threads(), "thread"),
            count(lanes, "float")
        ));
    }
}

/// A duration with its unit.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A number with `digits` decimals, or `-`.
pub fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_string(), |v| format!("{v:.digits$}"))
}

/// A fraction in percent, or `-`.
pub fn percent(fraction: Option<f64>) -> String {
    fraction.map_or("-".to_string(), |s| format!("{:.0} %", s * 100.0))
}
