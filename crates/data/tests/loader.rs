//! The batch loader: order, shapes, values, errors and threads.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use neocog_base::{Error, ErrorKind, Result};
use neocog_data::resize::{resize, unit};
use neocog_data::transform::{ColorJitter, Normalize, Pipeline, RandomAffine, RandomErasing, Step};
use neocog_data::{
    Augment, Batch, DatasetParts, Loader, LoaderOptions, MemoryDataset, SampleId, Transform, load,
};
use proptest::prelude::*;

/// `n` images `[c, h, w]`. The first two bytes of image `i` encode `i`, and its label is `i` modulo 7.
fn dataset(n: usize, [c, h, w]: [usize; 3]) -> MemoryDataset {
    let mut pixels: Vec<u8> = (0..n * c * h * w).map(|i| (i * 37 % 251) as u8).collect();
    for i in 0..n {
        pixels[i * c * h * w] = (i % 256) as u8;
        pixels[i * c * h * w + 1] = (i / 256) as u8;
    }
    let labels = (0..n).map(|i| (i % 7) as u32).collect();
    let class_names = ["a", "b", "c", "d", "e", "f", "g"].map(String::from).to_vec();
    MemoryDataset::new(DatasetParts::new("synthetic", [c, h, w], pixels, labels, class_names)).unwrap()
}

/// The index that [`dataset`] encoded in the image.
fn index_of(image: &[f32]) -> usize {
    (image[0] * 255.0).round() as usize + 256 * (image[1] * 255.0).round() as usize
}

fn batches(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
    loader.epoch_from(epoch, first).unwrap().map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_sample_is_loaded_exactly_once(
        n in 1usize..400, batch in 1usize..500, shuffle in proptest::option::of(any::<u64>()), epoch in any::<u64>()
    ) {
        let options = LoaderOptions::new().batch_size(batch).image_size((2, 3)).shuffle(shuffle);
        let loader = Loader::new(dataset(n, [1, 2, 3]), options).unwrap();
        let all = batches(&loader, epoch, 0);
        prop_assert_eq!(all.len(), loader.batches());
        let mut seen = Vec::new();
        for (k, b) in all.iter().enumerate() {
            let expected = if k + 1 < all.len() { batch } else { n - k * batch };
            prop_assert_eq!(b.shape(), [expected, 1, 2, 3]);
            prop_assert_eq!(b.pixels.len(), expected * 6);
            for (i, image) in b.pixels.chunks(6).enumerate() {
                let sample = index_of(image);
                prop_assert_eq!(b.labels[i] as usize, sample % 7);
                prop_assert_eq!(b.indices[i] as usize, sample);
                seen.push(sample);
            }
        }
        if shuffle.is_none() {
            prop_assert!(seen.is_sorted());
        }
        seen.sort_unstable();
        prop_assert!(seen.into_iter().eq(0..n));
    }

    #[test]
    fn an_epoch_can_resume_at_any_batch(n in 1usize..200, batch in 1usize..50, seed in any::<u64>(), at in 0.0f64..=1.0) {
        let options = LoaderOptions::new().batch_size(batch).image_size((3, 3)).shuffle(Some(seed));
        let whole = Loader::new(dataset(n, [1, 2, 3]), options.clone()).unwrap();
        let first = (whole.batches() as f64 * at) as usize;
        let resumed = Loader::new(dataset(n, [1, 2, 3]), options).unwrap();
        let (a, b) = (batches(&whole, 5, 0), batches(&resumed, 5, first));
        prop_assert_eq!(a.len() - first, b.len());
        for (a, b) in a[first..].iter().zip(&b) {
            prop_assert_eq!((&a.pixels, &a.labels), (&b.pixels, &b.labels));
        }
    }
}

#[test]
fn epochs_and_seeds_give_different_orders() {
    let order = |seed, epoch| {
        let options = LoaderOptions::new().batch_size(100).image_size((2, 2)).shuffle(Some(seed));
        batches(&Loader::new(dataset(100, [1, 2, 2]), options).unwrap(), epoch, 0)[0].indices.clone()
    };
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
}

/// Checkpoints depend on the order, so it must be the same in all versions.
#[test]
fn the_order_never_changes() {
    let options = LoaderOptions::new().batch_size(12).image_size((2, 2)).shuffle(Some(42));
    let loader = Loader::new(dataset(12, [1, 2, 2]), options).unwrap();
    assert_eq!(batches(&loader, 3, 0)[0].indices, ORDER_12_42_3);
}

/// Computed by an independent program from the formula in `shuffle`.
const ORDER_12_42_3: [u32; 12] = [0, 10, 2, 9, 6, 7, 3, 5, 8, 4, 1, 11];

#[test]
fn pixels_are_resized_and_divided_by_255() {
    let data = dataset(3, [2, 5, 4]);
    let expected: Vec<f32> =
        data.pixels().chunks(20).flat_map(|c| resize(c, (5, 4), (9, 7)).unwrap()).map(unit).collect();
    let loader = Loader::new(data, LoaderOptions::new().image_size((9, 7))).unwrap();
    assert_eq!(loader.sample_shape(), [2, 9, 7]);
    let all = batches(&loader, 0, 0);
    assert_eq!(all[0].shape(), [3, 2, 9, 7]);
    assert_eq!(all[0].pixels, expected);
}

#[test]
fn digits_are_scaled_to_255_before_resizing() {
    let digits = load("digits", Path::new("data")).unwrap().test.unwrap();
    let stored: &MemoryDataset = (&*digits as &dyn std::any::Any).downcast_ref().unwrap();
    let bytes: Vec<u8> = stored.image(7).iter().map(|&p| (f32::from(p) * 255.0 / 16.0 + 0.5) as u8).collect();
    let expected: Vec<f32> = resize(&bytes, (8, 8), (28, 28)).unwrap().into_iter().map(unit).collect();
    let loader = Loader::new(digits, LoaderOptions::new().batch_size(100)).unwrap();
    let all = batches(&loader, 0, 0);
    assert_eq!(all.iter().map(Batch::len).collect::<Vec<_>>(), [100, 100, 100, 60]);
    assert_eq!(all[0].pixels[7 * 784..8 * 784], expected);
}

#[test]
fn buffers_are_reused() {
    let loader =
        Loader::new(dataset(1000, [1, 8, 8]), LoaderOptions::new().batch_size(10).image_size((8, 8)));
    let loader = loader.unwrap();
    let mut addresses = std::collections::HashSet::new();
    for epoch in 0..3 {
        for batch in loader.epoch(epoch).unwrap() {
            addresses.insert(batch.unwrap().pixels.as_ptr() as usize);
        }
    }
    assert!(addresses.len() <= 3, "{} buffers for 300 batches", addresses.len());
}

#[test]
fn invalid_options_are_errors() {
    let error_message = |batch, size| {
        let e = Loader::new(dataset(3, [1, 2, 2]), LoaderOptions::new().batch_size(batch).image_size(size));
        let e = e.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        e.to_string()
    };
    assert_eq!(error_message(0, (2, 2)), "batch size 0: expected at least 1");
    assert!(error_message(1, (0, 2)).contains("0x2"));
    assert!(error_message(1, (usize::MAX, usize::MAX)).contains("cannot resize"));
    for workers in [0, 257] {
        let options = LoaderOptions::new().workers(workers).image_size((2, 2));
        let e = Loader::new(dataset(3, [1, 2, 2]), options).unwrap_err().to_string();
        assert_eq!(e, format!("{workers} loader workers: expected 1 to 256"));
    }

    let drawn = |weights: Vec<f64>| {
        let options = LoaderOptions::new().image_size((2, 2)).class_weights(Some(weights.into()));
        Loader::new(dataset(30, [1, 2, 2]), options)
    };
    let classes = 7;
    let weights = |first: f64, others: f64| {
        let mut weights = vec![others; classes];
        weights[0] = first;
        weights
    };
    for valid in [weights(0.0, 1.0), weights(2.5, 0.5)] {
        drawn(valid).unwrap();
    }
    let invalid = [
        weights(-1.0, 1.0),
        weights(f64::NAN, 1.0),
        weights(f64::INFINITY, 1.0),
        weights(0.0, 0.0),
        vec![1.0; classes + 1],
    ];
    for weights in invalid {
        let e = drawn(weights).unwrap_err();
        assert!(e.to_string().starts_with("class weights ["), "{e}");
    }

    // A batch size larger than the data set is allowed and needs no extra memory.
    let options = LoaderOptions::new().batch_size(usize::MAX).image_size((2, 2));
    let loader = Loader::new(dataset(3, [1, 2, 2]), options).unwrap();
    assert_eq!(batches(&loader, 0, 0)[0].shape(), [3, 1, 2, 2]);
    assert!(loader.epoch_from(0, 1).unwrap().next().is_none());
    let e = loader.epoch_from(0, 2).unwrap_err().to_string();
    assert!(e.contains("cannot start at batch 2: an epoch of synthetic has 1 batch of size"), "{e}");
}

/// Counts its calls, and fails or panics at sample `at`.
struct FailingTransform {
    calls: AtomicUsize,
    at: usize,
    panics: bool,
}

impl Transform for FailingTransform {
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], sample: SampleId) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert_eq!(shape.iter().product::<usize>(), pixels.len());
        pixels[0] = sample.index as f32 + 1000.0 * sample.epoch as f32 + 1e5 * sample.seed as f32;
        match (sample.index == self.at, self.panics) {
            (true, true) => panic!("cannot transform sample {}", sample.index),
            (true, false) => Err(Error::invalid_argument("invalid sample")),
            _ => Ok(()),
        }
    }
}

fn failing_loader(at: usize, panics: bool) -> (Loader, Arc<FailingTransform>) {
    let transform = Arc::new(FailingTransform { calls: AtomicUsize::new(0), at, panics });
    let augment = Some(Augment::new(3, transform.clone()));
    let options = LoaderOptions::new().batch_size(10).image_size((4, 4)).augment(augment);
    (Loader::new(dataset(1000, [1, 2, 2]), options).unwrap(), transform)
}

#[test]
fn the_transform_is_applied_to_each_sample() {
    let (loader, transform) = failing_loader(usize::MAX, false);
    for batch in loader.epoch(2).unwrap() {
        let batch = batch.unwrap();
        for (image, index) in batch.pixels.chunks(16).zip(&batch.indices) {
            assert_eq!(image[0], *index as f32 + 302_000.0);
        }
    }
    assert_eq!(transform.calls.load(Ordering::Relaxed), 1000);
}

#[test]
fn errors_and_panics_of_workers_reach_the_caller() {
    for panics in [false, true] {
        let (loader, _) = failing_loader(25, panics);
        let mut epoch = loader.epoch(0).unwrap();
        assert!(epoch.next().unwrap().is_ok());
        assert!(epoch.next().unwrap().is_ok());
        let e = epoch.next().unwrap().unwrap_err().to_string();
        if panics {
            assert!(e.contains("failed: it panicked in batch 2: cannot transform sample 25"), "{e}");
        } else {
            assert_eq!(e, "batch 2 of epoch 0: invalid sample");
        }
        assert!(epoch.next().is_none());
    }
}

/// Transforms depend on the sample, not on the worker.
#[test]
fn batches_are_bit_identical_for_any_number_of_workers() {
    let pipeline = Pipeline::from([
        Step::RandomHorizontalFlip { p: 0.5 },
        Step::RandomVerticalFlip { p: 0.5 },
        Step::RandomCrop { padding: 2 },
        Step::RandomAffine(RandomAffine::HANDWRITING),
        Step::ColorJitter(ColorJitter { brightness: 0.3, contrast: 0.3, saturation: 0.3, hue: 0.2 }),
        Step::Normalize(Normalize { mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.3, 0.4] }),
        Step::RandomErasing(RandomErasing::default()),
    ]);
    let seen = |workers, first| {
        let augment = pipeline.clone().into_augment(7);
        let options = LoaderOptions::new()
            .batch_size(7)
            .image_size((9, 8))
            .shuffle(Some(7))
            .augment(augment)
            .workers(workers);
        let loader = Loader::new(dataset(100, [3, 6, 5]), options).unwrap();
        let all = batches(&loader, 3, first);
        all.iter().map(|b| (b.indices.clone(), b.pixels.clone())).collect::<Vec<_>>()
    };
    let one = seen(1, 0);
    assert_eq!(one.len(), 15);
    for workers in [2, 4, 40] {
        assert!(seen(workers, 0) == one, "{workers} workers");
        // Also if the epoch is resumed.
        assert!(seen(workers, 6) == one[6..], "{workers} workers from batch 6 on");
    }
}

#[test]
fn an_error_stops_all_workers() {
    let transform = Arc::new(FailingTransform { calls: AtomicUsize::new(0), at: 25, panics: false });
    let augment = Some(Augment::new(3, transform.clone()));
    let options = LoaderOptions::new().batch_size(10).image_size((4, 4)).augment(augment).workers(4);
    let mut epoch = Loader::new(dataset(1000, [1, 2, 2]), options).unwrap().epoch(0).unwrap();
    assert!(epoch.next().unwrap().is_ok() && epoch.next().unwrap().is_ok());
    assert_eq!(epoch.next().unwrap().unwrap_err().to_string(), "batch 2 of epoch 0: invalid sample");
    assert!(epoch.next().is_none());
    assert_eq!(Arc::strong_count(&transform), 1, "a worker is still running");
}

#[test]
fn dropping_an_epoch_stops_its_worker() {
    let (loader, transform) = failing_loader(usize::MAX, false);
    for taken in 0..4 {
        let mut epoch = loader.epoch(0).unwrap();
        for _ in 0..taken {
            epoch.next().unwrap().unwrap();
        }
        drop(epoch);
        // Besides the worker, the loader's options and this function hold the transform.
        assert_eq!(Arc::strong_count(&transform), 2, "the worker is still running");
    }
    // The worker prefetches at most two batches, and at most three were received.
    assert!(transform.calls.load(Ordering::Relaxed) <= (2 + 3 + 4 + 5) * 10);
    // The loader may be dropped before its epoch.
    let epoch = loader.epoch(0).unwrap();
    drop(loader);
    assert_eq!(epoch.map(|b| b.unwrap().len()).sum::<usize>(), 1000);
}

#[test]
fn a_worker_prefetches_at_most_two_batches() {
    let (loader, transform) = failing_loader(usize::MAX, false);
    let mut epoch = loader.epoch(0).unwrap();
    let _first = epoch.next().unwrap().unwrap();
    while transform.calls.load(Ordering::Relaxed) < 30 {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(transform.calls.load(Ordering::Relaxed), 30);
}
