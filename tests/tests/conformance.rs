//! Conformance of every registered operation with its reference, and completeness of the registry.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use neocog_base::testing::require;
use neocog_tensor::cases::registered_ops;
use neocog_tensor::opencl::Kind;
use neocog_tensor::{Device, conformance};

/// All operations, listed explicitly to detect one that is no longer linked or registered.
const OPS: [&str; 110] = [
    "abs",
    "accumulate",
    "adam_step",
    "adamw_step",
    "add",
    "add_relu",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_matmul",
    "batch_norm_eval",
    "batch_norm_eval_grad",
    "batch_norm_train",
    "batch_norm_train_grad",
    "bias_activation_grad",
    "ceil",
    "channel_sum",
    "clamp",
    "clamp_grad",
    "concat",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "count_correct",
    "cross_entropy",
    "cross_entropy_grad",
    "div",
    "dropout",
    "elu",
    "elu_grad",
    "eq",
    "erf",
    "exp",
    "expand",
    "flatten",
    "floor",
    "from_channel_blocks",
    "gather",
    "gather_grad",
    "ge",
    "gelu",
    "gelu_grad",
    "gelu_tanh",
    "gelu_tanh_grad",
    "global_avg_pool2d",
    "global_avg_pool2d_grad",
    "gt",
    "hardsigmoid",
    "hardsigmoid_grad",
    "hardswish",
    "hardswish_grad",
    "in_channel_blocks",
    "index_select",
    "leaky_relu",
    "leaky_relu_grad",
    "lerp",
    "linear",
    "lion_step",
    "log",
    "log_softmax",
    "log_softmax_grad",
    "matmul",
    "max_pool2d",
    "max_pool2d_grad",
    "maximum",
    "maximum_share",
    "mean",
    "minimum",
    "mish",
    "mul",
    "narrow",
    "narrow_grad",
    "optimizer_steps",
    "packed_conv2d",
    "permute",
    "pow",
    "pow_grad",
    "pow_tensor",
    "prelu",
    "prelu_slope",
    "reciprocal",
    "relu",
    "relu6",
    "relu6_grad",
    "relu_grad",
    "resample",
    "reshape",
    "rms_prop_step",
    "round",
    "row_reduce",
    "scale",
    "sgd_step",
    "sigmoid",
    "sigmoid_grad",
    "sign",
    "silu",
    "silu_grad",
    "softmax",
    "softmax_grad",
    "softplus",
    "sqrt",
    "stochastic_depth",
    "sub",
    "sum",
    "sum_to",
    "tanh",
    "tanh_grad",
    "to_channel_blocks",
    "trunc",
    "update_running_stats",
    "where",
];

/// The operations that a plan runs for the whole batch: those of training, sums over the batch, and those that come after a graph
/// has been split.
const WHOLE: &[&str] = &[
    "accumulate",
    "adam_step",
    "adamw_step",
    "avg_pool2d_grad",
    "batch_norm_eval_grad",
    "batch_norm_train",
    "batch_norm_train_grad",
    "bias_activation_grad",
    "channel_sum",
    "conv2d_weight_grad",
    "count_correct",
    "cross_entropy",
    "cross_entropy_grad",
    "dropout",
    "from_channel_blocks",
    "gather",
    "gather_grad",
    "global_avg_pool2d_grad",
    "in_channel_blocks",
    "lerp",
    "lion_step",
    "log_softmax_grad",
    "max_pool2d_grad",
    "mean",
    "narrow_grad",
    "optimizer_steps",
    "packed_conv2d",
    "rms_prop_step",
    "sgd_step",
    "softmax_grad",
    "stochastic_depth",
    "sum",
    "to_channel_blocks",
    "update_running_stats",
];

#[test]
fn the_registry_is_complete() {
    let names: Vec<&str> = registered_ops().iter().map(|e| e.name).collect();
    assert_eq!(names, OPS);
    assert!(registered_ops().iter().all(|e| e.crate_name == "neocog-tensor"));
    for entry in registered_ops() {
        assert!(!(entry.cases)().is_empty(), "{} has no case", entry.name);
    }
}

fn conforms(device: &Device) {
    let summary = conformance::check_all(device);
    println!("{device}: {summary}");
    assert!(summary.failures.is_empty(), "{device}: {summary}");
    assert_eq!(summary.ops, OPS.len());
    assert!(summary.cases >= summary.ops && summary.gradients > 0);
    let whole: Vec<&str> = OPS.iter().copied().filter(|name| !summary.splits.contains_key(name)).collect();
    assert_eq!(whole, WHOLE, "operations without `split_batch`, or without a case that it splits");
}

#[test]
fn operations_conform_on_the_cpu() {
    conforms(&Device::Cpu);
}

/// On the device that `NEOCOG_OPENCL_DEVICE` selects. The test fails without one.
#[test]
fn operations_conform_on_opencl() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    conforms(&device);
    let Device::OpenCl(id) = device else { panic!("{device}") };
    assert!(id.launches().unwrap().values().sum::<u64>() >= OPS.len() as u64);
}

/// The kernels for GPUs, on any device, in a process that treats it as a GPU.
#[test]
fn operations_conform_with_gpu_kernels() {
    const VARIABLE: &str = "NEOCOG_OPENCL_AS_GPU";
    if std::env::var_os(VARIABLE).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.env(VARIABLE, "1");
        child.args(["--exact", "operations_conform_with_gpu_kernels", "--nocapture"]);
        assert!(child.status().unwrap().success());
        return;
    }
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    assert_eq!(id.info().unwrap().kind, Kind::Gpu);
    conforms(&device);
}

#[test]
fn operations_conform_in_double_precision() {
    conforms(&Device::Reference);
}
