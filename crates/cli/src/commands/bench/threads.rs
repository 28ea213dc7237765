//! `bench threads`: speed by number of threads.

use neocog_base::text::count;
use neocog_bench::{Record, default_batch};
use neocog_tensor::Result;

use super::display::{number, percent, time};
use super::job::Job;
use super::options::{RunArgs, ShapeArgs, networks_or};
use crate::help::examples;
use crate::output;

/// Benchmark networks by number of threads.
///
/// Runs on 1, 2, 4, ... threads, up to --threads.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog bench threads resnet
  neocog bench threads lenet resnet --threads 8 --json"))]
pub struct ThreadsArgs {
    /// Networks; `summary` lists them [default: lenet resnet].
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
pub fn run(args: &ThreadsArgs) -> Result<()> {
    let counts = thread_counts(rayon::current_num_threads());
    let mut rows = Vec::new();
    for model in &networks_or(&args.networks, &["lenet", "resnet"])? {
        let mut single: Vec<Record> = Vec::new();
        for &threads in &counts {
            output::note(format_args!("{}, {}", model.name, count(threads, "thread")));
            let job = Job::new(&args.run, model.name, default_batch(model)).shape(&args.shape);
            let job = Job { threads, ..job };
            let records = job.measure()?;
            if single.is_empty() {
                single.clone_from(&records);
            }
            for record in records {
                if args.run.json {
                    output::json(&record)?;
                }
                let base = single.iter().find(|r| r.mode == record.mode);
                rows.push([
                    record.name.clone(),
                    record.mode.clone(),
                    record.batch.to_string(),
                    threads.to_string(),
                    time(record.median_s),
                    number(record.images_per_s, 0),
                    number(base.map(|r| r.median_s / record.median_s), 2),
                    percent(record.share_of_peak),
                ]);
            }
        }
    }
    if args.run.json {
        return Ok(());
    }
    rows.sort_by(|a, b| (&a[0], &a[1]).cmp(&(&b[0], &b[1])));
    let head = ["network", "mode", "batch", "threads", "median", "images/s", "speedup", "of peak"];
    output::line(output::table(head, [false, false, true, true, true, true, true, true], rows))
}

/// The powers of two below `max`, and `max`.
fn thread_counts(max: usize) -> Vec<usize> {
    std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < max).chain([max]).collect()
}

#[cfg(test)]
mod tests {
    use super::thread_counts;

    #[test]
    fn thread_counts_double_up_to_the_maximum() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(4), [1, 2, 4]);
        assert_eq!(thread_counts(6), [1, 2, 4, 6]);
    }
}
