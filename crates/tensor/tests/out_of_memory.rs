//! Failed allocations are errors, and are not counted as memory in use.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(unix)]

use std::process::Command;

use neocog_tensor::ops::{Conv2dGeometry, Conv2dInputGrad, Expand, Relu};
use neocog_tensor::{Device, Error, ErrorKind, Shape, Tensor, memory_report, run_single};

/// Environment variable of the process whose memory is limited.
const LIMITED: &str = "NEOCOG_TEST_LIMITED_MEMORY";

#[test]
fn a_failed_allocation_is_an_error() {
    if std::env::var_os(LIMITED).is_some() {
        return allocate_too_much();
    }
    // Again in a process with 1 GiB of address space; the variables bound what threads reserve.
    let status = Command::new("sh")
        .args(["-c", "ulimit -v 1048576 && exec \"$0\" a_failed_allocation_is_an_error --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .envs([(LIMITED, "1"), ("RAYON_NUM_THREADS", "2"), ("MALLOC_ARENA_MAX", "1")])
        .status();
    assert!(status.unwrap().success());
}

fn allocate_too_much() {
    const COUNT: usize = 1 << 29;
    for (device, bytes) in [(Device::Cpu, COUNT * 4), (Device::Reference, COUNT * 8)] {
        let before = memory_report().in_use;
        let check = |error: Error, expected: &str| {
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(memory_report().in_use, before, "{error}");
        };
        let expected = format!("cannot allocate a tensor of shape [{COUNT}] ({bytes} bytes)");
        check(Tensor::zeros([COUNT], &device).unwrap_err(), &expected);
        let one = Tensor::zeros([1], &Device::Reference).unwrap().to_device(&device).unwrap();
        let expand = Expand { shape: Shape::from([COUNT]) };
        let before_run = memory_report().in_use;
        let error = run_single(&expand, &[&one]).unwrap_err();
        assert_eq!(memory_report().in_use, before_run);
        assert!(error.to_string().contains(&expected), "{error}");
        drop(one);
        assert_eq!(memory_report().in_use, before);
    }

    // The columns of col2im: 225 for each of 2048 x 2048 pixels.
    let zeros = |shape: [usize; 4]| Tensor::zeros(shape, &Device::Cpu).unwrap();
    let (dy, weight) = (zeros([1, 1, 2048, 2048]), zeros([1, 1, 15, 15]));
    let geometry = Conv2dGeometry { padding: [7, 7], ..Conv2dGeometry::default() };
    let before = memory_report().in_use;
    let op = Conv2dInputGrad { geometry, input_size: [2048, 2048] };
    let error = run_single(&op, &[&dy, &weight]).unwrap_err().to_string();
    assert!(error.contains("conv2d_input_grad / scratch memory: cannot allocate"), "{error}");
    assert_eq!(memory_report().in_use, before);

    let x = Tensor::full([1000], -1.0, &Device::Cpu).unwrap();
    assert_eq!(run_single(&Relu, &[&x]).unwrap().to_f32().unwrap(), [0.0; 1000]);
}
