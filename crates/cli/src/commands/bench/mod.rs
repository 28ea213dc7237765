//! `bench`: benchmarks of networks, operations, convolutions and the loading of images.

mod compare;
mod convolutions;
mod display;
mod job;
mod loader;
mod networks;
pub mod old_spelling;
mod onnx;
mod ops;
mod options;
mod peer;
mod profile;
mod sizes;
mod subject;
mod threads;

use neocog_tensor::Result;

use crate::help::examples;
use crate::register_command;

/// Benchmark networks and operations.
///
/// Without a subcommand, benchmarks networks: `bench [NETWORK]...` is `bench networks [NETWORK]...`.
///
/// Times are medians of single calls after a warm-up. A training step is the forward pass, mean cross-entropy, the backward
/// pass and an SGD step. GFLOP/s count two operations per multiply-add of the forward pass, and three times as many for
/// training.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_value_name = "BENCHMARK", after_help = examples("Examples:
  neocog bench                                     all networks
  neocog bench lenet lenet_bn                      two networks
  neocog bench lenet --against torch               lenet, interleaved with PyTorch
  neocog bench net.onnx --against onnxruntime      an ONNX model, interleaved with ONNX Runtime
  neocog bench lenet --profile                     time per operation and layer of lenet
  neocog bench ops --filter conv2d                 operations by name
  neocog bench convolutions resnet --against torch
  neocog bench loader ./flowers --against torch
  neocog bench sizes resnet --plot .
  neocog bench threads resnet"))]
struct Args {
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
    #[command(flatten)]
    networks: networks::NetworksArgs,
}

#[derive(Debug, clap::Subcommand)]
#[command(subcommand_help_heading = "Benchmarks")]
enum Benchmark {
    Networks(networks::NetworksArgs),
    Ops(ops::OpsArgs),
    Convolutions(convolutions::ConvolutionsArgs),
    Loader(loader::LoaderArgs),
    Sizes(sizes::SizesArgs),
    Threads(threads::ThreadsArgs),
}

register_command!("bench", 140, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    match args.benchmark.as_ref() {
        None => networks::run(&args.networks),
        Some(Benchmark::Networks(args)) => networks::run(args),
        Some(Benchmark::Ops(args)) => ops::run(args),
        Some(Benchmark::Convolutions(args)) => convolutions::run(args),
        Some(Benchmark::Loader(args)) => loader::run(args),
        Some(Benchmark::Sizes(args)) => sizes::run(args),
        Some(Benchmark::Threads(args)) => threads::run(args),
    }
}
