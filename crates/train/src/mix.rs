//! Mixup and CutMix: batches whose images are mixed with those before them.
//!
//! What is drawn is a function of the seed and the step, so neither loader workers nor an interruption change it.

use neocog_base::random::{Random, philox};

use crate::options::TrainOptions;

/// A batch whose images were mixed: the image at position `i` has the share `share` of its own, and the rest of image `i - 1`; the
/// first one, of the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    pub share: f64,
}

impl Mix {
    /// The labels of the other images.
    pub(crate) fn others(labels: &[u32]) -> Vec<u32> {
        let mut others = labels.to_vec();
        others.rotate_right(1);
        others
    }
}

/// Mixes the images `[n, c, h, w]` of a batch or shard in place, if the options ask for it. What is drawn depends on the seed and
/// `counter`.
pub(crate) fn mix(
    options: &TrainOptions,
    seed: u64,
    counter: u128,
    pixels: &mut [f32],
    shape: [usize; 4],
) -> Option<Mix> {
    let mut random = stream(seed, counter);
    let use_cutmix = match (options.mixup, options.cutmix) {
        (None, None) => return None,
        (Some(_), Some(_)) => random.next_unit() < 0.5,
        (_, cutmix) => cutmix.is_some(),
    };
    let alpha = if use_cutmix { options.cutmix } else { options.mixup }?;
    let share = beta(&mut random, alpha);
    Some(if use_cutmix { cutmix(&mut random, share, pixels, shape) } else { mixup(share, pixels, shape) })
}

/// The random numbers of a step.
fn stream(seed: u64, counter: u128) -> Random {
    // The bit below that of the dropout seeds keeps the counter apart from theirs.
    let [a, b, ..] = philox(seed, 1 << 126 | counter);
    Random::new(u64::from(a) << 32 | u64::from(b))
}

fn mixup(share: f64, pixels: &mut [f32], [n, c, h, w]: [usize; 4]) -> Mix {
    let size = c * h * w;
    let last = pixels[(n - 1) * size..].to_vec();
    let (own, other) = (share as f32, (1.0 - share) as f32);
    // From the end: the image before is still as it was.
    for i in (0..n).rev() {
        let (before, from) = pixels.split_at_mut(i * size);
        let before = if i == 0 { &last[..] } else { &before[(i - 1) * size..] };
        from[..size].iter_mut().zip(before).for_each(|(x, y)| *x = own * *x + other * y);
    }
    Mix { share }
}

/// Replaces a rectangle of random position, of the share `1 - share` of the area, by that of the image before.
fn cutmix(random: &mut Random, share: f64, pixels: &mut [f32], [n, c, h, w]: [usize; 4]) -> Mix {
    let half = 0.5 * (1.0 - share).sqrt();
    let mut range = |extent: usize| {
        let center = (f64::from(random.next_unit()) * extent as f64) as usize;
        let half = (half * extent as f64) as usize;
        center.saturating_sub(half)..(center + half).min(extent)
    };
    let (columns, rows) = (range(w), range(h));
    let size = c * h * w;
    let last = pixels[(n - 1) * size..].to_vec();
    for i in (0..n).rev() {
        let (before, from) = pixels.split_at_mut(i * size);
        let before = if i == 0 { &last[..] } else { &before[(i - 1) * size..] };
        for plane in 0..c {
            for row in rows.clone() {
                let at = (plane * h + row) * w;
                let part = at + columns.start..at + columns.end;
                from[part.clone()].copy_from_slice(&before[part]);
            }
        }
    }
    Mix { share: 1.0 - (rows.len() * columns.len()) as f64 / (h * w) as f64 }
}

/// Draws from the Beta distribution with both parameters `alpha`.
fn beta(random: &mut Random, alpha: f64) -> f64 {
    let (a, b) = (log_gamma_variate(random, alpha), log_gamma_variate(random, alpha));
    // a / (a + b), of logarithms: for a small alpha both may be too small for a number.
    1.0 / (1.0 + (b - a).exp())
}

/// Draws the logarithm of a number of the Gamma distribution. G. Marsaglia, W. Tsang, "A simple method for generating gamma
/// variables", ACM TOMS 26, 2000.
fn log_gamma_variate(random: &mut Random, shape: f64) -> f64 {
    // Above 0 and below 1.
    let mut unit = || (f64::from(random.next_u32()) + 0.5) / 4_294_967_296.0;
    if shape < 1.0 {
        let power = unit().ln() / shape;
        return log_gamma_variate(random, shape + 1.0) + power;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let normal = (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos();
        let v = (1.0 + c * normal).powi(3);
        if v > 0.0 && unit().ln() < 0.5 * normal * normal + d - d * v + d * v.ln() {
            return d.ln() + v.ln();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn beta_has_the_right_moments() {
        for alpha in [0.1, 0.2, 1.0, 3.0] {
            let mut random = Random::new(7);
            let draws: Vec<f64> = (0..40_000).map(|_| beta(&mut random, alpha)).collect();
            assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!(
                (mean - 0.5).abs() < 0.01 && (variance - expected).abs() < 0.02 * expected + 0.001,
                "{alpha}: {mean} {variance}"
            );
        }
    }

    #[test]
    fn each_image_is_mixed_with_the_one_before() {
        let shape = [3, 1, 2, 2];
        let images: Vec<f32> = [[1.0; 4], [2.0; 4], [4.0; 4]].concat();
        let options = TrainOptions { mixup: Some(0.4), ..TrainOptions::default() };
        let mut pixels = images.clone();
        let Mix { share } = mix(&options, 1, 5, &mut pixels, shape).unwrap();
        for (i, (own, other)) in [(1.0, 4.0), (2.0, 1.0), (4.0, 2.0)].into_iter().enumerate() {
            let expected = (share * own + (1.0 - share) * other) as f32;
            assert!(pixels[4 * i..][..4].iter().all(|x| (x - expected).abs() < 1e-6), "{pixels:?}");
        }
        assert_eq!(Mix::others(&[7, 8, 9]), [9, 7, 8]);
        // The same step is mixed in the same way, another one is not.
        let mut again = images.clone();
        assert_eq!(mix(&options, 1, 5, &mut again, shape), Some(Mix { share }));
        assert_eq!(again, pixels);
        assert_ne!(mix(&options, 1, 6, &mut images.clone(), shape), Some(Mix { share }));
        assert_eq!(mix(&TrainOptions::default(), 1, 5, &mut again, shape), None);
    }

    #[test]
    fn cutmix_reports_the_area_that_is_left() {
        let options = TrainOptions { cutmix: Some(1.0), ..TrainOptions::default() };
        let shape = [2, 2, 9, 7];
        let mut seen = 0.0;
        for step in 0..200 {
            let mut pixels = [[0.0f32; 126], [1.0; 126]].concat();
            let Mix { share } = mix(&options, 3, step, &mut pixels, shape).unwrap();
            let own = pixels[..126].iter().filter(|x| **x == 0.0).count() as f64 / 126.0;
            assert!((own - share).abs() < 1e-9, "{own} {share}");
            assert_eq!(pixels[..126].iter().sum::<f32>(), 126.0 - pixels[126..].iter().sum::<f32>());
            seen += share / 200.0;
        }
        assert!((0.4..0.8).contains(&seen), "{seen}");
    }

    #[test]
    fn both_are_used_if_both_are_asked_for() {
        let options = TrainOptions { mixup: Some(1.0), cutmix: Some(1.0), ..TrainOptions::default() };
        let cut = (0..200).filter(|&step| {
            let mut pixels = [[0.0f32; 64], [1.0; 64]].concat();
            mix(&options, 3, step, &mut pixels, [2, 1, 8, 8]);
            pixels.iter().all(|x| *x == 0.0 || *x == 1.0)
        });
        assert!((70..130).contains(&cut.count()));
    }
}
