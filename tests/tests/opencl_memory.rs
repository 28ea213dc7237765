//! Memory of an OpenCL device: this test has its process for itself, as it looks at the pool that all share.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_tensor::Device;
use neocog_tests::training::Trainer;

#[test]
fn a_thousand_steps_need_no_more_memory_than_a_few() {
    let device: Device = "opencl".parse().unwrap();
    let Device::OpenCl(id) = device else { panic!("{device}") };
    for name in ["lenet", "lenet_bn"] {
        let model = neocog_models::find(name).unwrap();
        let mut training = Trainer::new(&model.spec().unwrap(), model.input_shape(2), &device, 1).unwrap();
        let mut steps = |count: usize| (0..count).all(|_| training.step().unwrap().is_finite());
        assert!(steps(3));
        let before = id.memory_report().unwrap();
        assert!(steps(1000));
        let after = id.memory_report().unwrap();
        println!("{name}: {after:?}");
        assert!(before.in_use > 0 && before.system_allocations > 0);
        assert_eq!(after, before, "{name}");
    }
}
