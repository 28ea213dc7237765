//! Results are bitwise reproducible and do not depend on the number of threads.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::testing::require;
use neocog_tensor::Device;
use neocog_tests::training::Trainer;

/// Bits of losses and state after some steps.
fn train(
    name: &str,
    batch: usize,
    device: &Device,
    threads: usize,
    seed: u64,
) -> (Vec<u64>, Vec<(String, Vec<u32>)>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let model = neocog_models::find(name).unwrap();
        let mut trainer =
            Trainer::new(&model.spec().unwrap(), model.input_shape(batch), device, seed).unwrap();
        let losses = (0..4).map(|_| trainer.step().unwrap().to_bits()).collect();
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect();
        (losses, trainer.state().unwrap().into_iter().map(|(n, v)| (n, bits(v))).collect())
    })
}

#[test]
fn the_number_of_threads_does_not_change_results() {
    for name in ["lenet", "lenet_bn"] {
        let one = train(name, 37, &Device::Cpu, 1, 5);
        for threads in [2, 3] {
            let more = train(name, 37, &Device::Cpu, threads, 5);
            assert_eq!(one.0, more.0, "{name}: losses on {threads} threads");
            for ((tensor, a), (_, b)) in one.1.iter().zip(&more.1) {
                assert!(a == b, "{name}: {tensor} on {threads} threads");
            }
        }
        assert_ne!(one, train(name, 37, &Device::Cpu, 1, 6), "{name}: another seed");
    }
}

#[test]
fn opencl_is_bitwise_reproducible() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    for (name, batch) in [("lenet", 37), ("lenet_bn", 37), ("alexnet", 2)] {
        let one = train(name, batch, &device, 1, 5);
        assert!(one == train(name, batch, &device, 2, 5), "{name}");
        assert!(one != train(name, batch, &device, 1, 6), "{name}: another seed");
    }
}
