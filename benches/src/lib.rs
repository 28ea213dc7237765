//! Benchmark targets for `cargo bench`, thin over the library `neocog-bench`.
//!
//! ```text
//! cargo bench -p neocog-benches                             all targets, about two minutes
//! cargo bench -p neocog-benches --bench networks -- lenet   networks whose name contains "lenet"
//! cargo bench -p neocog-benches --bench ops -- conv2d       operations and cases whose name contains "conv2d"
//! ```
//!
//! Each target prints a table. Measuring times are short; `neocog bench` has options for longer measurements, other devices,
//! JSON output and comparisons with PyTorch.
//!
//! Without `--bench`, which `cargo bench` passes, or with `--test`, a target runs in test mode: it executes few benchmarks
//! once to check that they work. `cargo test --benches` and `cargo bench -- --test` do so.

use comfy_table::{CellAlignment, Table, presets};
use neocog_base::Result;
use neocog_bench::Record;
use neocog_tensor::{fma_peak_gflops, instruction_set};

/// Command line of a benchmark target, in the conventions of `cargo bench` and `cargo test`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Whether benchmarks are only checked, not measured.
    pub test: bool,
    /// Whether the names of the benchmarks are listed instead.
    pub list: bool,
    /// Text that the names of benchmarks must contain; `None` selects the default benchmarks.
    pub filter: Option<String>,
}

impl Arguments {
    /// Parses the arguments of the program.
    pub fn from_env() -> Self {
        Self::parse(std::env::args().skip(1))
    }

    /// Parses arguments. Other flags of the test harness, such as `--nocapture`, are ignored.
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Arguments { test: true, ..Arguments::default() };
        let mut test_flag = false;
        for argument in arguments {
            match argument.as_str() {
                "--bench" => parsed.test = false,
                "--test" => test_flag = true,
                "--list" => parsed.list = true,
                flag if flag.starts_with('-') => {}
                _ => parsed.filter = Some(argument),
            }
        }
        parsed.test |= test_flag;
        parsed
    }

    /// Returns whether the filter selects the benchmark `name`, or `default` without a filter.
    pub fn selects(&self, name: &str, default: bool) -> bool {
        self.filter.as_ref().map_or(default, |filter| name.contains(filter.as_str()))
    }
}

/// Runs a benchmark target and prints its records. `names` returns the selected benchmarks; `measure` measures them, given
/// the peak performance in GFLOP/s, and passes each record to the function that it receives.
///
/// # Errors
/// If a benchmark fails.
pub fn run(
    arguments: &Arguments,
    names: Vec<String>,
    measure: impl FnOnce(Option<f64>, &mut dyn FnMut(Record)) -> Result<()>,
) -> Result<()> {
    if arguments.list {
        names.iter().for_each(|name| println!("{name}: benchmark"));
        return Ok(());
    }
    if names.is_empty() {
        // Not an error: the filter may be meant for another target, as in the standard test harness.
        println!("no benchmark matches the filter");
        return Ok(());
    }
    let mut records = Vec::new();
    if arguments.test {
        measure(None, &mut |record| records.push(record))?;
        println!("{} benchmarks checked", records.len());
        return Ok(());
    }
    let threads = rayon::current_num_threads();
    let peak = fma_peak_gflops(threads);
    let (instructions, lanes) = instruction_set();
    println!("{threads} threads, {instructions} ({lanes} floats), peak {peak:.0} GFLOP/s\n");
    measure(Some(peak), &mut |record| {
        eprintln!("{} {}", record.name, record.mode);
        records.push(record);
    })?;
    println!("{}", table(&records));
    Ok(())
}

fn table(records: &[Record]) -> String {
    let number = |value: Option<f64>, scale: f64, decimals: usize| {
        value.map_or("-".to_string(), |value| format!("{:.decimals$}", value * scale))
    };
    let rows = records.iter().map(|r| {
        [
            r.name.clone(),
            r.mode.clone(),
            if r.batch == 0 { "-".to_string() } else { r.batch.to_string() },
            format!("{:.3}", r.median_s * 1e3),
            number(r.images_per_s, 1.0, 0),
            number(r.gflops, 1.0, 1),
            number(r.share_of_peak, 100.0, 0),
            r.calls.to_string(),
        ]
    });
    let header = ["benchmark", "mode", "batch", "median ms", "images/s", "GFLOP/s", "% of peak", "calls"];
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_mode_is_the_default_without_bench() {
        let parse = |line: &str| Arguments::parse(line.split_whitespace().map(String::from));
        assert!(parse("").test && parse("--nocapture").test && parse("--bench --test").test);
        let arguments = parse("lenet --bench");
        assert_eq!(arguments, Arguments { filter: Some("lenet".into()), ..Arguments::default() });
        assert!(arguments.selects("lenet_bn", false) && !arguments.selects("vgg", true));
        assert!(parse("--bench").selects("vgg", true) && parse("--list").list);
    }
}
