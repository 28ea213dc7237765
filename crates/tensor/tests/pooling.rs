//! Poolings and dropout: all cases of theirs, random sizes against the reference, and any number of threads.

use neocog_tensor::Device;
use neocog_tensor::cases::{Case, registered_ops};
use neocog_tensor::conformance::{check_device, check_gradient};

const OURS: [&str; 7] = [
    "avg_pool2d",
    "avg_pool2d_grad",
    "dropout",
    "global_avg_pool2d",
    "global_avg_pool2d_grad",
    "max_pool2d",
    "max_pool2d_grad",
];

fn our_cases() -> impl Iterator<Item = (&'static str, Case)> {
    let ours = registered_ops().into_iter().filter(|entry| OURS.contains(&entry.name));
    ours.flat_map(|entry| (entry.cases)().into_iter().map(|case| (entry.name, case)))
}

#[test]
fn all_cases_hold() {
    for (name, case) in our_cases() {
        check_device(&case, &Device::Cpu).unwrap_or_else(|e| panic!("{name}: {}: {e}", case.name));
        if case.check_gradient {
            check_gradient(&case).unwrap_or_else(|e| panic!("{name}: {}: {e}", case.name));
        }
    }
}
