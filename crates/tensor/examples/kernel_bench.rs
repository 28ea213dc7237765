//! Benchmarks the timed cases of convolutions and matrix products, relative to the peak of the machine:
//! `cargo run --release -p neocog-tensor --example kernel_bench -- [filter ..]`. `RAYON_NUM_THREADS` sets the threads.
//! With `CPU_TIME=1` (Linux) it measures the processor time of all threads instead of wall time, for a single thread on a shared
//! machine. A filter is a part of "operation: case"; all filters must match.

use std::time::Instant;

use neocog_tensor::cases::registered_ops;
use neocog_tensor::{Device, Result, Shape, Tensor, fma_peak_gflops, instruction_set, run};

fn main() -> Result<()> {
    let filters: Vec<String> = std::env::args().skip(1).collect();
    let threads = rayon::current_num_threads();
    let peak = fma_peak_gflops(threads);
    let (name, lanes) = instruction_set();
    println!("{threads} threads, {name} ({lanes} lanes), peak {peak:.1} GFLOP/s");
    for entry in registered_ops() {
        for case in (entry.cases)().iter().filter(|c| c.bench) {
            let title = format!("{}: {}", entry.name, case.name);
            if !filters.iter().all(|f| title.contains(f.as_str())) {
                continue;
            }
            let shapes: Vec<Shape> = case.inputs.iter().map(|x| x.shape).collect();
            let work = case.op.multiply_adds(&shapes, &case.op.infer(&shapes)?);
            if work == 0 && entry.name != "channel_sum" {
                continue;
            }
            let inputs = (case.inputs.iter().enumerate())
                .map(|(i, x)| Tensor::from_f32(x.shape, &x.make(i as u64), &Device::Cpu))
                .collect::<Result<Vec<_>>>()?;
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let (mut best, mut runs, start) = (f64::INFINITY, 0u32, Instant::now());
            let used = processor_seconds();
            while runs < 5 || (start.elapsed().as_secs_f64() < 0.4 && runs < 1000) {
                let run_start = Instant::now();
                run(&*case.op, &inputs)?;
                best = best.min(run_start.elapsed().as_secs_f64());
                runs += 1;
            }
            if let (Some(before), Some(after)) = (used, processor_seconds()) {
                best = (after - before) / f64::from(runs);
            }
            let speed = 2.0 * work as f64 / best / 1e9;
            println!("{:9.3} ms {speed:7.1} GFLOP/s {:5.1} %  {title}", best * 1e3, 100.0 * speed / peak);
        }
    }
    Ok(())
}

/// Returns the processor time of all threads so far, if `CPU_TIME` is set.
fn processor_seconds() -> Option<f64> {
    std::env::var_os("CPU_TIME")?;
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    Some(nanoseconds.sum::<f64>() / 1e9)
}
