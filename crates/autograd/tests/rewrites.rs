//! Gradients of graphs before and after each rewrite.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::{Tape, Var, check};
use neocog_graph::check::{before_and_after, compare};
use neocog_graph::{Graph, Target, registered_rewrites};
use neocog_tensor::{Device, Pass, Tensor};

/// Outputs, and gradients of the inputs.
fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let tape = Tape::new();
    let leaves: Vec<Var> = inputs.iter().map(|x| tape.leaf(x.clone())).collect();
    let outputs = tape.run_graph(graph, leaves.iter().cloned(), 0).unwrap();
    let mut all: Vec<Tensor> = outputs.iter().map(|y| y.tensor().clone()).collect();
    // An output of constants alone has no slot, and no gradient.
    let seeds: Vec<(&Var, Tensor)> =
        outputs.iter().filter(|y| y.slot().is_some()).map(|y| (y, check::direction(y).unwrap())).collect();
    let grads = tape.backward_from(&seeds).unwrap();
    all.extend(leaves.iter().map(|leaf| grads.get(leaf).unwrap().clone()));
    all
}

#[test]
fn graphs_before_and_after_a_rewrite_have_the_same_gradients() {
    let mut compared = 0;
    for (device, tolerance) in [(Device::Reference, 1e-12), (Device::Cpu, 1e-5)] {
        let target = Target { pass: Pass::Training, device: &device };
        for rewrite in registered_rewrites().into_iter().filter(|rewrite| (rewrite.applies)(&target)) {
            for case in (rewrite.cases)() {
                let ([before, after], inputs) = before_and_after(rewrite, &case, &target).unwrap();
                for (expected, actual) in run(&before, &inputs).iter().zip(run(&after, &inputs)) {
                    compare(expected, &actual, tolerance)
                        .unwrap_or_else(|e| panic!("{}: {} on {device}: {e}", rewrite.name, case.name));
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 30, "{compared}");
}
