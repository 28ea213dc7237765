use proptest::prelude::*;

use super::affine::Affine;
use super::*;
use crate::resize::unit;
use crate::sample::{SampleId, Transform};
use crate::shuffle::SplitMix64;
use neocog_base::Result;

/// Random pixels, multiples of 1/255.
fn random_image(count: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed, 0);
    (0..count).map(|_| unit(random.below(256) as u8)).collect()
}

fn apply(step: Step, pixels: &[f32], shape: [usize; 3], sample: SampleId) -> Vec<f32> {
    let mut pixels = pixels.to_vec();
    Pipeline::from([step]).apply(&mut pixels, shape, sample).unwrap();
    pixels
}

fn sample(index: usize) -> SampleId {
    SampleId { seed: 1, epoch: 2, index }
}

fn shapes() -> impl Strategy<Value = [usize; 3]> {
    (prop::sample::select(vec![1usize, 3]), 1usize..9, 1usize..9).prop_map(|(c, h, w)| [c, h, w])
}

/// Random transforms with valid parameters, without `Normalize`.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0f32..=1.0).prop_map(|p| Step::RandomHorizontalFlip { p }),
        (0f32..=1.0).prop_map(|p| Step::RandomVerticalFlip { p }),
        (0usize..5).prop_map(|padding| Step::RandomCrop { padding }),
        (0f32..360.0, 0f32..0.5, 0f32..0.9).prop_map(|(degrees, translate, scale)| {
            Step::RandomAffine(RandomAffine { degrees, translate, scale })
        }),
        (0f32..3.0, 0f32..3.0, 0f32..3.0, 0f32..=0.5).prop_map(|(brightness, contrast, saturation, hue)| {
            Step::ColorJitter(ColorJitter { brightness, contrast, saturation, hue })
        }),
        (0f32..=1.0, 0f32..=1.0).prop_map(|(p, value)| {
            Step::RandomErasing(RandomErasing { p, value, ..RandomErasing::default() })
        }),
    ];
    prop::collection::vec(step, 0..5)
}

proptest! {
    #[test]
    fn values_stay_within_0_and_1(
        steps in steps(), shape in shapes(), seed in any::<u64>(), epoch in any::<u64>(), index in 0usize..1000
    ) {
        let pipeline = Pipeline::from(steps);
        pipeline.check().unwrap();
        let mut pixels = random_image(shape.iter().product(), seed);
        let sample = SampleId { seed, epoch, index };
        pipeline.apply(&mut pixels, shape, sample).unwrap();
        prop_assert!(pixels.iter().all(|p| (-1e-6..=1.0 + 1e-6).contains(p)), "{pixels:?}");

        // The result depends on the arguments only.
        let mut again = random_image(shape.iter().product(), seed);
        pipeline.apply(&mut again, shape, sample).unwrap();
        prop_assert_eq!(pixels, again);
        let text = serde_json::to_string(&pipeline).unwrap();
        prop_assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), pipeline);
    }

    #[test]
    fn flipping_twice_is_the_identity(shape in shapes(), seed in any::<u64>()) {
        let [_, h, w] = shape;
        let before = random_image(shape.iter().product(), seed);
        for step in [Step::RandomHorizontalFlip { p: 1.0 }, Step::RandomVerticalFlip { p: 1.0 }] {
            let once = apply(step.clone(), &before, shape, sample(0));
            prop_assert_eq!(&apply(step, &once, shape, sample(1)), &before);
            prop_assert!(once.iter().map(|p| p.to_bits()).max() == before.iter().map(|p| p.to_bits()).max());
        }
        // Both flips together are a rotation by 180 degrees.
        let both = apply(Step::RandomVerticalFlip { p: 1.0 }, &before, shape, sample(0));
        let both = apply(Step::RandomHorizontalFlip { p: 1.0 }, &both, shape, sample(0));
        let mut rotated = before.clone();
        Affine { degrees: 180.0, scale: 1.0, translation: [0.0, 0.0] }.apply(&mut rotated, [h, w]);
        prop_assert_eq!(both, rotated);
    }

    #[test]
    fn rotation_by_90_degrees_is_exact(n in 1usize..9, seed in any::<u64>()) {
        let before = random_image(n * n, seed);
        let mut pixels = before.clone();
        for quarter in 1..=4 {
            let last = pixels.clone();
            Affine { degrees: 90.0, scale: 1.0, translation: [0.0, 0.0] }.apply(&mut pixels, [n, n]);
            // Clockwise: the first row becomes the last column.
            let matches = (0..n * n).all(|i| pixels[i] == last[(n - 1 - i % n) * n + i / n]);
            prop_assert!(matches, "{quarter} quarter turns");
            let mut at_once = before.clone();
            Affine { degrees: 90.0 * quarter as f32, scale: 1.0, translation: [0.0, 0.0] }.apply(&mut at_once, [n, n]);
            prop_assert_eq!(&pixels, &at_once);
        }
        prop_assert_eq!(pixels, before);
    }

    /// Translations by whole pixels need no interpolation; `RandomCrop` and `RandomAffine` agree.
    #[test]
    fn integer_translations_are_exact(shape in shapes(), dy in -9isize..10, dx in -9isize..10, seed in any::<u64>()) {
        let [_, h, w] = shape;
        let before = random_image(shape.iter().product(), seed);
        let mut shifted = before.clone();
        spatial::translate(&mut shifted, h, w, dy, dx);
        let mut moved = before;
        Affine { degrees: 0.0, scale: 1.0, translation: [-dy as f32, -dx as f32] }.apply(&mut moved, [h, w]);
        prop_assert_eq!(shifted, moved);
    }

    #[test]
    fn saturation_and_hue_do_not_change_grayscale_images(seed in any::<u64>(), index in 0usize..99) {
        let strong = ColorJitter { saturation: 5.0, hue: 0.5, ..ColorJitter::default() };
        let before = random_image(12, seed);
        prop_assert_eq!(&apply(Step::ColorJitter(strong), &before, [1, 3, 4], sample(index)), &before);
        // Three equal channels.
        let gray: Vec<f32> = before.iter().chain(&before).chain(&before).copied().collect();
        let after = apply(Step::ColorJitter(strong), &gray, [3, 3, 4], sample(index));
        prop_assert!(after.iter().zip(&gray).all(|(a, b)| (a - b).abs() < 2e-3), "{after:?}");
    }

    #[test]
    fn the_erased_rectangle_has_the_requested_size(index in 0usize..10_000, value in -1f32..0.0) {
        let before = random_image(3 * 24 * 32, 5);
        let erasing = RandomErasing { p: 1.0, scale: [0.1, 0.2], ratio: [0.5, 2.0], value };
        let after = apply(Step::RandomErasing(erasing), &before, [3, 24, 32], sample(index));
        let erased: Vec<usize> = (0..before.len()).filter(|&i| after[i] != before[i]).collect();
        prop_assert!(erased.iter().all(|&i| after[i] == value));
        let (rows, columns): (Vec<_>, Vec<_>) = erased.iter().map(|i| (i / 32 % 24, i % 32)).unzip();
        let (height, width) = (rows.iter().max().unwrap() - rows.iter().min().unwrap() + 1,
            columns.iter().max().unwrap() - columns.iter().min().unwrap() + 1);
        // The whole rectangle, in each channel.
        prop_assert_eq!(erased.len(), 3 * height * width);
        // Sides are rounded to whole pixels: a tolerance of half a pixel each.
        let (height, width) = (height as f32, width as f32);
        prop_assert!((height + 0.5) * (width + 0.5) >= 76.8 && (height - 0.5) * (width - 0.5) <= 153.6);
        prop_assert!((height + 0.5) / (width - 0.5) >= 0.5 && (height - 0.5) / (width + 0.5) <= 2.0);
    }
}

/// A rectangle as wide or as high as the image is not erased, as in torchvision.
#[test]
fn the_erased_rectangle_is_smaller_than_the_image() {
    let before = random_image(16, 3);
    for ratio in [0.5, 2.0] {
        // 8 pixels: 2 x 4 or 4 x 2.
        let erasing = RandomErasing { p: 1.0, scale: [0.5; 2], ratio: [ratio; 2], value: 9.0 };
        for i in 0..20 {
            assert_eq!(apply(Step::RandomErasing(erasing), &before, [1, 4, 4], sample(i)), before);
        }
        let wide = apply(Step::RandomErasing(erasing), &[0.0; 40], [1, 5, 8], sample(0));
        let tall = apply(Step::RandomErasing(erasing), &[0.0; 40], [1, 8, 5], sample(0));
        assert!(wide.contains(&9.0) || tall.contains(&9.0), "{ratio}");
    }
}

/// The logarithm of the aspect ratio is uniform: as many rectangles are higher than wide as wider than high.
#[test]
fn the_logarithm_of_the_aspect_ratio_is_uniform() {
    let erasing = RandomErasing { p: 1.0, scale: [0.04; 2], ratio: [0.1, 10.0], value: 1.0 };
    let mut higher = 0;
    for i in 0..2000 {
        let after = apply(Step::RandomErasing(erasing), &[0.0; 10_000], [1, 100, 100], sample(i));
        let height = after.chunks(100).filter(|row| row.contains(&1.0)).count();
        let width = after.iter().filter(|p| **p == 1.0).count() / height;
        higher += usize::from(height > width);
    }
    // Half, less the squares; five standard deviations are 112. Ratios uniform from 0.1 to 10 would give 1800.
    assert!(higher.abs_diff(1000) < 150, "{higher}");
}

#[test]
fn flips_of_a_small_image() {
    let before = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let once = apply(Step::RandomHorizontalFlip { p: 1.0 }, &before, [1, 2, 3], sample(0));
    assert_eq!(once, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    let once = apply(Step::RandomVerticalFlip { p: 1.0 }, &before, [1, 2, 3], sample(0));
    assert_eq!(once, [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    let once = apply(Step::RandomVerticalFlip { p: 1.0 }, &before, [2, 3, 1], sample(0));
    assert_eq!(once, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    assert_eq!(apply(Step::RandomHorizontalFlip { p: 0.0 }, &before, [1, 2, 3], sample(0)), before);
}

#[test]
fn half_of_all_images_are_flipped() {
    let flipped = (0..10_000)
        .filter(|&i| {
            apply(Step::RandomHorizontalFlip { p: 0.5 }, &[0.0, 1.0], [1, 1, 2], sample(i)) == [1.0, 0.0]
        })
        .count();
    // Five standard deviations are 250.
    assert!(flipped.abs_diff(5000) < 250, "{flipped}");
}

/// Padding 2 gives 25 crop positions.
#[test]
fn crop_positions_are_uniform() {
    let mut before = vec![0.0; 49];
    before[24] = 1.0;
    let mut seen = std::collections::BTreeMap::new();
    for i in 0..25_000 {
        let after = apply(Step::RandomCrop { padding: 2 }, &before, [1, 7, 7], sample(i));
        assert_eq!(after.iter().sum::<f32>(), 1.0);
        *seen.entry(after.iter().position(|&p| p == 1.0).unwrap()).or_insert(0u32) += 1;
    }
    let expected = (1..6).flat_map(|y| (1..6).map(move |x| 7 * y + x));
    assert!(seen.keys().copied().eq(expected), "{seen:?}");
    // 1000 expected; five standard deviations are 155.
    assert!(seen.values().all(|n| n.abs_diff(1000) < 155), "{seen:?}");
}

#[test]
fn results_depend_on_seed_epoch_and_index() {
    let before = random_image(72, 1);
    let transform = |seed, epoch, index| {
        let sample = SampleId { seed, epoch, index };
        apply(Step::RandomAffine(RandomAffine::HANDWRITING), &before, [2, 6, 6], sample)
    };
    assert_eq!(transform(1, 2, 3), transform(1, 2, 3));
    let others = [transform(1, 2, 4), transform(1, 3, 3), transform(2, 2, 3)];
    assert!(others.iter().all(|other| *other != transform(1, 2, 3)));
    assert_eq!(apply(Step::RandomAffine(RandomAffine::default()), &before, [2, 6, 6], sample(3)), before);
}

/// Checkpoints depend on the random numbers of transforms, so resumed runs must see the same images in all versions.
#[test]
fn random_choices_never_change() {
    let before: Vec<f32> = (0..36).map(|i| ((i * 37) % 64) as f32 / 64.0).collect();
    let after = apply(Step::RandomAffine(RandomAffine::HANDWRITING), &before, [1, 6, 6], sample(3));
    let expected = [0.38261324, 0.20317294, 0.46895772, 0.4453197, 0.5491921, 0.60662425];
    assert_near(&after[6..12], &expected);
}

/// RGB colors and the same with their hue shifted by 0.1, 0.25 and -0.4: computed with Python's `colorsys`, which uses
/// the formulas of torchvision.
const HUE_SHIFTED: [[[f32; 3]; 4]; 5] = [
    [[0.9, 0.2, 0.4], [0.9, 0.42, 0.2], [0.75, 0.9, 0.2], [0.2, 0.68, 0.9]],
    [[0.1, 0.6, 0.3], [0.1, 0.6, 0.6], [0.1, 0.15, 0.6], [0.6, 0.1, 0.1]],
    [[0.2, 0.3, 0.8], [0.46, 0.2, 0.8], [0.8, 0.2, 0.6], [0.54, 0.8, 0.2]],
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
    [[0.7, 0.7, 0.1], [0.34, 0.7, 0.1], [0.1, 0.7, 0.4], [0.46, 0.1, 0.7]],
];

fn assert_near(found: &[f32], expected: &[f32]) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(found.len() == expected.len() && near, "{found:?}, expected {expected:?}");
}

#[test]
fn hue_shifts_match_the_definition() {
    for [before, shifted @ ..] in HUE_SHIFTED {
        for (shift, expected) in [0.1, 0.25, -0.4].into_iter().zip(shifted) {
            let mut color = before;
            adjust_hue(&mut color, [3, 1, 1], shift).unwrap();
            assert_near(&color, &expected);
        }
    }
    // Red, green and blue are a third of a turn apart.
    let mut color = [1.0, 0.0, 0.0];
    for expected in [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]] {
        adjust_hue(&mut color, [3, 1, 1], 1.0 / 3.0).unwrap();
        assert_near(&color, &expected);
    }
}

#[test]
fn brightness_contrast_and_saturation_match_the_definition() {
    let mut pixels = [0.2, 0.4, 0.8];
    adjust_brightness(&mut pixels, 1.5);
    assert_near(&pixels, &[0.3, 0.6, 1.0]);

    // Grayscale: the mean is 0.5.
    let mut pixels = [0.1, 0.5, 0.5, 0.9];
    adjust_contrast(&mut pixels, [1, 2, 2], 0.5).unwrap();
    assert_near(&pixels, &[0.3, 0.5, 0.5, 0.7]);

    // Two colors with luma 0.43201 and 0; half of their mean, 0.108, is added to half of each value.
    let mut pixels = [0.9, 0.0, 0.2, 0.0, 0.4, 0.0];
    adjust_contrast(&mut pixels, [3, 1, 2], 0.5).unwrap();
    assert_near(&pixels, &[0.558_002_5, 0.108_002_5, 0.208_002_5, 0.108_002_5, 0.308_002_5, 0.108_002_5]);

    let mut color = [0.9, 0.2, 0.4];
    adjust_saturation(&mut color, [3, 1, 1], 0.5).unwrap();
    assert_near(&color, &[0.666_005, 0.316_005, 0.416_005]);
    let mut color = [0.9, 0.2, 0.4];
    adjust_saturation(&mut color, [3, 1, 1], 1.5).unwrap();
    assert_near(&color, &[1.0, 0.083_995, 0.383_995]);
    adjust_saturation(&mut color, [3, 1, 1], 0.0).unwrap();
    assert!(color.iter().all(|c| *c == color[0]));
    let mut color = [0.9, 0.2, 0.4];
    adjust_saturation(&mut color, [3, 1, 1], 1.0).unwrap();
    assert_eq!(color, [0.9, 0.2, 0.4]);
}

/// Factors cover the whole range.
#[test]
fn brightness_factors_cover_their_range() {
    let jitter = Step::ColorJitter(ColorJitter { brightness: 0.4, ..ColorJitter::default() });
    let factors: Vec<f32> =
        (0..5000).map(|i| apply(jitter.clone(), &[0.5], [1, 1, 1], sample(i))[0] / 0.5).collect();
    assert!(factors.iter().all(|f| (0.6..=1.4 + 1e-6).contains(f)));
    assert!(factors.iter().any(|f| *f < 0.61) && factors.iter().any(|f| *f > 1.39));
}

#[test]
fn normalize_per_channel_and_for_all_channels() {
    let per_channel = Normalize { mean: vec![0.5, 0.25], std: vec![0.5, 0.25] };
    let mut pixels = [0.0, 1.0, 0.25, 0.5];
    Pipeline::from([Step::Normalize(per_channel.clone())]).apply(&mut pixels, [2, 1, 2], sample(0)).unwrap();
    assert_eq!(pixels, [-1.0, 1.0, 0.0, 1.0]);
    let all = Normalize { mean: vec![0.5], std: vec![0.25] };
    let after = apply(Step::Normalize(all), &[0.0, 0.5, 1.0], [3, 1, 1], sample(0));
    assert_eq!(after, [-2.0, 0.0, 2.0]);

    let e = Pipeline::from([Step::Normalize(per_channel)]).apply(&mut [0.0; 3], [3, 1, 1], sample(0));
    assert_eq!(e.unwrap_err().to_string(), "Normalize: means for 2 channels, but the image has 3");
}

#[test]
fn fixed_keeps_the_deterministic_steps() {
    let normalize = Step::Normalize(Normalize { mean: vec![0.1], std: vec![0.3] });
    let pipeline = Pipeline::from([Step::RandomHorizontalFlip { p: 1.0 }, normalize.clone()]);
    assert_eq!(pipeline.fixed(), Pipeline::from([normalize]));
    let [first, second] =
        [1, 2].map(|index| apply(pipeline.fixed().steps[0].clone(), &[0.4, 0.7], [1, 1, 2], sample(index)));
    assert_eq!(first, second);
    assert!(Pipeline::from([Step::RandomCrop { padding: 1 }]).fixed().into_augment(0).is_none());
}

#[test]
fn invalid_parameters_are_errors() {
    let affine = RandomAffine::HANDWRITING;
    let erasing = RandomErasing::default();
    let jitter = ColorJitter::default();
    let normalize =
        |mean: &[f32], std: &[f32]| Step::Normalize(Normalize { mean: mean.to_vec(), std: std.to_vec() });
    for (step, expected) in [
        (
            Step::RandomHorizontalFlip { p: 1.1 },
            "RandomHorizontalFlip: p must be a probability from 0 to 1, not 1.1",
        ),
        (Step::RandomVerticalFlip { p: f32::NAN }, "RandomVerticalFlip: p must be a probability"),
        (Step::RandomCrop { padding: usize::MAX }, "RandomCrop: padding must be at most"),
        (Step::RandomAffine(RandomAffine { degrees: f32::NAN, ..affine }), "must not be negative"),
        (Step::RandomAffine(RandomAffine { translate: -0.1, ..affine }), "must not be negative"),
        (Step::RandomAffine(RandomAffine { scale: 1.0, ..affine }), "scale must be below 1"),
        (
            Step::ColorJitter(ColorJitter { contrast: -1.0, ..jitter }),
            "contrast must be finite and not negative, not -1",
        ),
        (Step::ColorJitter(ColorJitter { hue: 0.6, ..jitter }), "from 0 to 0.5, not 0.6"),
        (Step::RandomErasing(RandomErasing { p: 2.0, ..erasing }), "p must be a probability"),
        (Step::RandomErasing(RandomErasing { scale: [0.5, 0.2], ..erasing }), "scale must be the minimum"),
        (Step::RandomErasing(RandomErasing { ratio: [0.0, 0.2], ..erasing }), "ratio must be the minimum"),
        (Step::RandomErasing(RandomErasing { value: f32::INFINITY, ..erasing }), "value must be finite"),
        (normalize(&[], &[]), "per channel, found 0 and 0"),
        (normalize(&[0.5], &[0.0]), "standard deviations above 0"),
        (normalize(&[0.5, 0.5], &[0.5]), "found 2 and 1"),
    ] {
        let e = Pipeline::from([step.clone()]).check().unwrap_err().to_string();
        assert!(e.starts_with(step.name()) && e.contains(expected), "{step:?}: {e}");
    }
    let e = apply_to_two_channels(ColorJitter { contrast: 0.5, ..jitter }).unwrap_err().to_string();
    assert_eq!(e, "ColorJitter: contrast, saturation and hue need an image of 1 or 3 channels, not 2");
    apply_to_two_channels(ColorJitter { brightness: 0.5, ..jitter }).unwrap();
}

fn apply_to_two_channels(jitter: ColorJitter) -> Result<()> {
    Pipeline::from([Step::ColorJitter(jitter)]).apply(&mut [0.5, 0.5], [2, 1, 1], sample(0))
}

#[test]
fn pipelines_are_displayed_as_in_torchvision() {
    let pipeline = Pipeline::from([
        Step::RandomHorizontalFlip { p: 0.5 },
        Step::RandomCrop { padding: 2 },
        Step::Normalize(Normalize { mean: vec![0.5], std: vec![0.25] }),
    ]);
    assert_eq!(
        pipeline.to_string(),
        "RandomHorizontalFlip(p=0.5), RandomCrop(padding=2), Normalize(mean=[0.5], std=[0.25])"
    );
}
