//! Every registered operation against its definition, and that none is missing.

use neocog_tensor::cases::registered_ops;
use neocog_tensor::{Device, conformance};

/// All operations, kept by hand: one that is no longer linked in or registered must not go unseen.
const OPS: [&str; 0] = [];

#[test]
fn the_registered_operations_are_these() {
    let ours: Vec<&str> = registered_ops().iter().map(|e| e.name).collect();
    assert_eq!(ours, OPS);
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
}

#[test]
fn operations_conform_on_the_cpu() {
    conforms(&Device::Cpu);
}

#[test]
fn operations_conform_in_double_precision() {
    conforms(&Device::Reference);
}
