//! Memory: this test has its process for itself, as it looks at the pool that all share.

use neocog_tensor::{Device, memory_report};
use neocog_tests::training::Training;

#[test]
fn a_steady_step_asks_the_system_for_no_memory() {
    for name in ["lenet", "lenet_bn"] {
        let model = neocog_models::find(name).unwrap();
        let mut training = Training::new(&model.spec(), model.input_shape(16), &Device::Cpu, 1).unwrap();
        for _ in 0..5 {
            training.step().unwrap();
        }
        let before = memory_report();
        for _ in 0..10 {
            training.step().unwrap();
        }
        let after = memory_report();
        println!("{name}: {after:?}");
        assert!(before.system_allocations > 0);
        assert_eq!(after.system_allocations, before.system_allocations, "{name}");
        assert_eq!((after.in_use, after.peak_in_use), (before.in_use, before.peak_in_use), "{name}");
    }
}
