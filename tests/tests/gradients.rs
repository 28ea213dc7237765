//! Gradients against central differences in double precision: of every registered layer, and of whole networks.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::check::Check;
use neocog_layers::check::{check_layer, check_registered};
use neocog_layers::registry;
use neocog_tests as _;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gradients_of_every_registered_layer(seed: u64) {
        let checked = check_registered(seed);
        let examples: usize = registry().unwrap().iter().map(|e| e.examples().len()).sum();
        prop_assert_eq!(checked.map_err(|e| TestCaseError::fail(e.to_string()))?, examples);
    }
}

fn network(name: &str, batch: usize) {
    let model = neocog_models::find(name).unwrap();
    // Biases before a batch norm have the gradient 0. Differences of a whole network's output, of the size of 1, leave
    // 1e-9 of rounding there, which the floor of single layers does not allow.
    let check = Check { samples: Some(8), floor: 1e-2, ..Check::default() };
    let report = check_layer(&model.spec().unwrap(), &model.input_shape(batch), 3, &check).unwrap();
    let report = report.into_result().unwrap();
    println!("{name}: {} gradients, worst {:.1e}", report.compared, report.worst);
    assert!(report.compared > 70);
}

#[test]
fn gradients_of_lenet() {
    network("lenet", 2);
}

#[test]
fn gradients_of_lenet_bn() {
    network("lenet_bn", 3);
}

#[test]
fn gradients_of_lenet_bn_scratch() {
    network("lenet_bn_scratch", 3);
}
