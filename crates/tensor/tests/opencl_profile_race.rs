//! A profile that starts and stops on one thread while another computes. The test requires an OpenCL device.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neocog_base::testing::require;
use neocog_tensor::ops::{Add, Scale, Sum};
use neocog_tensor::{Device, Tensor, run_single};

/// Computes sums for a while, and returns how many are wrong, and of how many.
fn wrong_sums(device: &Device, length: Duration) -> (usize, usize) {
    const COUNT: usize = 20_000;
    let (start, mut wrong, mut all) = (Instant::now(), 0, 0);
    while start.elapsed() < length {
        let value = (all % 7 + 1) as f32;
        let x = Tensor::from_f32([COUNT], &vec![value; COUNT], device).unwrap();
        let doubled = run_single(&Scale { factor: 2.0 }, &[&x]).unwrap();
        let triple = run_single(&Add, &[&doubled, &x]).unwrap();
        let sum = run_single(&Sum, &[&triple]).unwrap().item().unwrap();
        wrong += usize::from(sum != f64::from(3.0 * value) * COUNT as f64);
        all += 1;
    }
    (wrong, all)
}

#[test]
fn a_profile_on_another_thread_does_not_change_results() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    let length = Duration::from_secs(2);
    let (wrong, all) = wrong_sums(&device, length);
    println!("without a profile: {wrong} of {all} sums are wrong");
    assert_eq!(wrong, 0);
    let done = AtomicBool::new(false);
    let (wrong, all, profiles) = std::thread::scope(|threads| {
        let profiler = threads.spawn(|| {
            let mut profiles = 0;
            while !done.load(Ordering::Relaxed) {
                id.start_profile().unwrap();
                id.take_profile().unwrap();
                profiles += 1;
            }
            profiles
        });
        let (wrong, all) = wrong_sums(&device, length);
        done.store(true, Ordering::Relaxed);
        (wrong, all, profiler.join().unwrap())
    });
    println!("with {profiles} profiles: {wrong} of {all} sums are wrong");
    assert!(wrong == 0 && profiles > 0, "with {profiles} profiles, {wrong} of {all} sums are wrong");
}
