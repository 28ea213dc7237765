//! `bench sizes` and `bench threads`: how speed changes with the work and with the threads.

use neocog_autograd::{Tape, Var};
use neocog_bench::Record;
use neocog_layers::{Builder, Context};
use neocog_models::Model;
use neocog_tensor::{Device, Error, Result, Shape, Tensor};
use neocog_viz::{Chart, Scale};

use super::{Args, Job, number, peak, percent, say_peak, time};
use crate::output;

/// Measures each network with each batch and size of images.
pub fn sizes(args: &Args, chosen: &[Model]) -> Result<()> {
    if args.batch.is_some() || args.size.is_some() {
        return Err(Error::invalid_argument("`bench sizes` takes --batches and --sizes, each a list"));
    }
    say_peak(args, peak(&args.device));
    let mut rows = Vec::new();
    for model in chosen {
        let mut found: Vec<(usize, Record)> = Vec::new();
        for &size in &args.sizes {
            for &batch in &args.batches {
                output::note(format_args!("{}, {size} pixels, batch {batch}", model.name));
                let mut job = Job { batch, size: Some(size), ..Job::new(args, model) };
                if let Err(e) = try_shapes(model, batch, size, false) {
                    output::note(format_args!("left out: {e}"));
                    continue;
                }
                if let Err(e) = try_shapes(model, batch, size, true)
                    && !job.predict_only
                {
                    output::note(format_args!("without training: {e}"));
                    job.predict_only = true;
                }
                found.extend(job.measure()?.into_iter().map(|record| (size, record)));
            }
        }
        for (size, record) in &found {
            if args.json {
                output::json(&serde_json::json!({ "size": size, "record": record }))?;
            }
            rows.push([
                record.name.clone(),
                size.to_string(),
                record.mode.clone(),
                record.batch.to_string(),
                time(record.median_s),
                number(record.images_per_s, 0),
                number(record.gflops, 0),
                percent(record.share_of_peak),
                number(record.peak_rss_mib, 0),
            ]);
        }
        if let Some(folder) = &args.plot {
            let file = folder.join(format!("sizes-{}.png", model.name));
            neocog_viz::save(&chart(model, &args.sizes, &found).draw(), &file)?;
            output::note(format_args!("{}", file.display()));
        }
    }
    if args.json {
        return Ok(());
    }
    // Each mode of a size together, by the batch.
    rows.sort_by(|a, b| (&a[0], a[1].len(), &a[1], &a[2]).cmp(&(&b[0], b[1].len(), &b[1], &b[2])));
    let head = ["network", "pixels", "mode", "batch", "median", "images/s", "GFLOP/s", "of peak", "peak MiB"];
    output::line(output::table(head, [false, true, false, true, true, true, true, true, true], rows))
}

/// Whether the network can predict, or train on, such a batch; the error says why not.
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

/// Images per second over the batch, a line for each size and mode.
fn chart(model: &Model, sizes: &[usize], found: &[(usize, Record)]) -> Chart {
    let mut chart = Chart::new(
        format!("{}: images per second", model.name),
        "batch, as a power of two",
        "images per second",
        Scale::Log,
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

/// Measures each network on 1, 2, 4 … threads, up to as many as there are.
pub fn threads(args: &Args, chosen: &[Model]) -> Result<()> {
    let most = super::threads();
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < most).collect();
    counts.push(most);
    let mut rows = Vec::new();
    for model in chosen {
        let mut first: Vec<Record> = Vec::new();
        for &threads in &counts {
            output::note(format_args!("{}, {threads} threads", model.name));
            let records = Job { threads, ..Job::new(args, model) }.measure()?;
            if first.is_empty() {
                first.clone_from(&records);
            }
            for record in records {
                if args.json {
                    output::json(&record)?;
                }
                let alone = first.iter().find(|r| r.mode == record.mode);
                rows.push([
                    record.name.clone(),
                    record.mode.clone(),
                    record.batch.to_string(),
                    threads.to_string(),
                    time(record.median_s),
                    number(record.images_per_s, 0),
                    number(alone.map(|r| r.median_s / record.median_s), 2),
                    percent(record.share_of_peak),
                ]);
            }
        }
    }
    if args.json {
        return Ok(());
    }
    rows.sort_by(|a, b| (&a[0], &a[1]).cmp(&(&b[0], &b[1])));
    let head = ["network", "mode", "batch", "threads", "median", "images/s", "times one", "of peak"];
    output::line(output::table(head, [false, false, true, true, true, true, true, true], rows))
}
