//! The profile and the memory of an OpenCL device. In its own process, because these are shared by all tests of a process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::testing::require;
use neocog_tensor::ops::{Relu, Scale, SgdStep};
use neocog_tensor::{Device, Tensor, run_single, update};

#[test]
fn the_device_as_a_whole() {
    a_profile_times_every_kernel();
    memory_of_a_loop_without_reads_is_bounded();
    unshared_state_is_updated_in_place();
}

fn a_profile_times_every_kernel() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    assert!(id.take_profile().unwrap().kernels.is_empty());
    let x = Tensor::full([1 << 20], 3.0, &device).unwrap();
    run_single(&Relu, &[&x]).unwrap();
    id.start_profile().unwrap();
    for _ in 0..1500 {
        run_single(&Relu, &[&x]).unwrap();
    }
    let y = run_single(&Scale { factor: 2.0 }, &[&x]).unwrap();
    let profile = id.take_profile().unwrap();
    let [relu, scale] = profile.kernels.as_slice() else { panic!("{profile:?}") };
    assert_eq!((relu.op, relu.kernel, relu.launches), ("relu", "relu_elements", 1500));
    assert_eq!((scale.op, scale.launches), ("scale", 1));
    assert_eq!(relu.bytes, 1500 * 2 * (4 << 20));
    // A pass over four megabytes takes between a microsecond and a second on any device.
    assert!(relu.seconds > 1500e-6 && relu.seconds < 1500.0, "{relu:?}");
    assert_eq!(profile.ops[0].runs, 1500);
    // Tensors survive the replacement of the queue, and timing has stopped.
    assert_eq!(y.to_f32().unwrap(), vec![6.0; 1 << 20]);
    assert!(id.take_profile().unwrap().kernels.is_empty());
}

fn memory_of_a_loop_without_reads_is_bounded() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    let mut x = Tensor::full([1000], 1.0, &device).unwrap();
    let mut steps = |count: usize| {
        for _ in 0..count {
            x = run_single(&Relu, &[&x]).unwrap();
        }
    };
    steps(10);
    let before = id.memory_report().unwrap();
    steps(3000);
    assert_eq!(id.memory_report().unwrap().in_use, before.in_use);
    id.release_cached_memory().unwrap();
    assert_eq!(id.memory_report().unwrap().cached, 0);
}

fn unshared_state_is_updated_in_place() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    let grad = Tensor::full([3 << 16], 1.0, &device).unwrap();
    let mut param = Tensor::zeros([3 << 16], &device).unwrap();
    let shared = param.clone();
    update(&SgdStep::new(0.5), &[&grad], &mut [&mut param]).unwrap();
    assert_eq!(shared.to_f32().unwrap()[7], 0.0);
    let before = id.memory_report().unwrap();
    let launches = || id.launches().unwrap();
    let kernels = launches().len();
    update(&SgdStep::new(0.25), &[&grad], &mut [&mut param]).unwrap();
    assert_eq!(id.memory_report().unwrap(), before);
    // The learning rate is an argument: the kernel is not compiled again.
    assert_eq!((launches().len(), launches()["sgd_step"]), (kernels, 2));
    assert_eq!(param.to_f32().unwrap(), vec![-0.75; 3 << 16]);
}
