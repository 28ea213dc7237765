//! Memory of an OpenCL device. In a file of its own, because tests of one process share the memory pool.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::testing::require;
use neocog_tensor::Device;
use neocog_tests::training::Trainer;

#[test]
fn memory_does_not_grow_over_a_thousand_steps() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    for name in ["lenet", "lenet_bn"] {
        let model = neocog_models::find(name).unwrap();
        let mut trainer = Trainer::new(&model.spec().unwrap(), model.input_shape(2), &device, 1).unwrap();
        let mut steps = |count: usize| (0..count).all(|_| trainer.step().unwrap().is_finite());
        assert!(steps(3));
        let before = id.memory_report().unwrap();
        assert!(steps(1000));
        let after = id.memory_report().unwrap();
        println!("{name}: {after:?}");
        assert!(before.in_use > 0 && before.system_allocations > 0);
        assert_eq!(after, before, "{name}");
    }
}
