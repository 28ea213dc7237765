//! Memory of the CPU. In a file of its own, because tests of one process share the memory pool.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_layers::{Builder, Predictor};
use neocog_tensor::{Device, Tensor, memory_report, release_cached_memory};
use neocog_tests::training::Trainer;

fn threads(count: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap()
}

#[test]
fn training_steps_allocate_no_system_memory() {
    let cases = [
        ("lenet", 16),
        ("lenet_bn", 16),
        ("lenet", 256),
        ("resnet", 2),
        ("googlenet", 2),
        ("densenet", 2),
        ("vgg_small", 8),
    ];
    for (name, batch) in cases {
        let model = neocog_models::find(name).unwrap();
        let mut trainer =
            Trainer::new(&model.spec().unwrap(), model.input_shape(batch), &Device::Cpu, 1).unwrap();
        let need = trainer.memory_need().unwrap();
        let mut steps = |count: usize| (0..count).all(|_| trainer.step().unwrap().is_finite());
        threads(1).install(|| {
            release_cached_memory();
            assert!(steps(2));
            let before = memory_report();
            assert!(steps(10));
            let after = memory_report();
            println!("{name}, batch {batch}: {after:?}");
            assert!(before.system_allocations > 0);
            assert_eq!(after, before, "{name}, batch {batch}");
            let ratio = (need.state + need.step) as f64 / after.peak_in_use as f64;
            println!("{name}, batch {batch}: estimated {ratio:.2} of the peak");
            assert!((0.6..1.6).contains(&ratio), "{name}, batch {batch}: {need}: {ratio} of {after:?}");
        });
        // The number of threads that need scratch memory at the same time varies.
        threads(2).install(|| {
            assert!(steps(30));
            let before = memory_report().system_allocations;
            assert!(steps(20));
            let more = memory_report().system_allocations - before;
            println!("{name}, batch {batch}, two threads: {more} more");
            assert!(more <= 10, "{name}, batch {batch}: {more} allocations in 20 steps");
        });
    }
    for name in ["lenet", "resnet", "densenet"] {
        let model = neocog_models::find(name).unwrap();
        let x = Tensor::zeros(model.input_shape(4), &Device::Cpu).unwrap();
        let network = Builder::new(&Device::Cpu, 1).build(&model.spec().unwrap(), x.shape()).unwrap();
        threads(1).install(|| {
            release_cached_memory();
            let predictor = Predictor::new(network);
            let predict = || drop(predictor.run(&x).unwrap());
            predict();
            let before = memory_report();
            (0..10).for_each(|_| predict());
            assert_eq!(memory_report(), before, "prediction of {name}");
        });
    }
}
