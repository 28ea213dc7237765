//! Without an OpenCL library the program starts, computes on the processor, and reports what is missing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use neocog_tensor::ops::Relu;
use neocog_tensor::{Device, ErrorKind, Tensor, run_single};

/// Environment variable of the library to open; see the loader.
const LIBRARY: &str = "NEOCOG_OPENCL_LIBRARY";

#[test]
fn the_error_for_a_missing_library_says_what_to_install() {
    if std::env::var_os(LIBRARY).is_none() {
        // Run again, in a process without the library.
        let mut again = Command::new(std::env::current_exe().unwrap());
        assert!(again.env(LIBRARY, "no-such-library.so").status().unwrap().success());
        return;
    }
    let start = std::time::Instant::now();
    let error = "opencl".parse::<Device>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    let text = error.to_string();
    assert!(text.contains("no-such-library.so") && text.contains("pocl-opencl-icd"), "{text}");
    assert!(start.elapsed().as_secs() < 5, "no retries");
    let x = Tensor::full([3], -1.0, &Device::Cpu).unwrap();
    assert_eq!(run_single(&Relu, &[&x]).unwrap().to_f32().unwrap(), [0.0; 3]);
}
