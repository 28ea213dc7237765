//! `bench sizes`: speed by batch size and image size.

use std::path::PathBuf;

use neocog_autograd::{Tape, Var};
use neocog_base::file::check_output_dir;
use neocog_base::text::count;
use neocog_bench::Record;
use neocog_layers::{Builder, Context};
use neocog_models::Model;
use neocog_tensor::{Device, Result, Shape, Tensor};
use neocog_viz::{AxisScale, Chart};

use super::display::{number, peak, percent, print_peak, time};
use super::job::Job;
use super::options::{RunArgs, networks_or};
use crate::arguments::{pixels, positive};
use crate::help::examples;
use crate::output;

/// Benchmark networks by batch size and image size.
///
/// Combinations that a network does not support are skipped, with a message.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog bench sizes resnet
  neocog bench sizes resnet --batches 1,16 --sizes 96,224 --predict-only
  neocog bench sizes lenet resnet --plot charts"))]
pub struct SizesArgs {
    /// Networks; `summary` lists them [default: lenet resnet].
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    /// Batch sizes.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,8,32,128", value_parser = positive)]
    batches: Vec<usize>,
    /// Heights and widths of the images.
    #[arg(long, value_name = "PIXELS", value_delimiter = ',', default_value = "28,96,224", value_parser = pixels)]
    sizes: Vec<usize>,
    #[command(flatten)]
    run: RunArgs,
    /// Write a chart per network to DIR/sizes-NETWORK.png.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &SizesArgs) -> Result<()> {
    args.plot.as_deref().map_or(Ok(()), check_output_dir)?;
    let device = &args.run.device.device;
    print_peak(device, peak(device));
    let mut rows = Vec::new();
    for model in &networks_or(&args.networks, &["lenet", "resnet"])? {
        let found = measure(args, model)?;
        for (size, record) in &found {
            if args.run.json {
                output::json(&serde_json::json!({ "size": size, "record": record }))?;
            }
            rows.push(row(*size, record));
        }
        if let Some(folder) = &args.plot {
            let file = folder.join(format!("sizes-{}.png", model.name));
            neocog_viz::save(&chart(model, &args.sizes, &found).draw(), &file)?;
            output::note(format_args!("{}", file.display()));
        }
    }
    if args.run.json {
        return Ok(());
    }
    // By network, size and mode; batches stay in order.
    rows.sort_by(|a, b| (&a[0], a[1].len(), &a[1], &a[2]).cmp(&(&b[0], b[1].len(), &b[1], &b[2])));
    let head = ["network", "pixels", "mode", "batch", "median", "images/s", "GFLOP/s", "of peak", "peak MiB"];
    output::line(output::table(head, [false, true, false, true, true, true, true, true, true], rows))
}

/// Benchmarks a network at each size and batch size; returns the records with their sizes.
fn measure(args: &SizesArgs, model: &Model) -> Result<Vec<(usize, Record)>> {
    let mut found = Vec::new();
    for &size in &args.sizes {
        for &batch in &args.batches {
            output::note(format_args!("{}, {}, batch {batch}", model.name, count(size, "pixel")));
            let mut job = Job { size: Some(size), ..Job::new(&args.run, model.name, batch) };
            if let Err(e) = try_shapes(model, batch, size, false) {
                output::note(format_args!("skipped: {e}"));
                continue;
            }
            if let Err(e) = try_shapes(model, batch, size, true)
                && !job.predict_only
            {
                output::note(format_args!("prediction only: {e}"));
                job.predict_only = true;
            }
            found.extend(job.measure()?.into_iter().map(|record| (size, record)));
        }
    }
    Ok(found)
}

/// Checks that the network can predict, or be trained on, a batch of this shape.
fn try_shapes(model: &Model, batch: usize, size: usize, train: bool) -> Result<()> {
    let [channels, ..] = model.input;
    let spec = model.spec_for([channels, size, size], model.classes)?;
    let input = Shape::new(&[batch, channels, size, size])?;
    let network = Builder::new(&Device::Meta, 0).build(&spec, &input)?;
    let tape = Tape::new();
    let x = Var::constant(Tensor::zeros(input, &Device::Meta)?);
    let context = if train { Context::train(&tape, 0) } else { Context::eval(&tape) };
    network.forward(&context, &x).map(drop)
}

fn row(size: usize, record: &Record) -> [String; 9] {
    [
        record.name.clone(),
        size.to_string(),
        record.mode.clone(),
        record.batch.to_string(),
        time(record.median_s),
        number(record.images_per_s, 0),
        number(record.gflops, 0),
        percent(record.share_of_peak),
        number(record.peak_rss_mib, 0),
    ]
}

/// Images per second over the batch size, a line per size and mode.
fn chart(model: &Model, sizes: &[usize], found: &[(usize, Record)]) -> Chart {
    let mut chart = Chart::new(
        format!("{}: images per second", model.name),
        "log2 of the batch size",
        "images per second",
        AxisScale::Log,
    );
    for mode in ["predict", "train"] {
        for &size in sizes {
            let points: Vec<(f64, f64)> = found
                .iter()
                .filter(|(s, r)| *s == size && r.mode == mode)
                .filter_map(|(_, r)| Some(((r.batch as f64).log2(), r.images_per_s?)))
                .collect();
            if !points.is_empty() {
                chart = chart.line(format!("{mode}, {size} pixels"), points);
            }
        }
    }
    chart
}
