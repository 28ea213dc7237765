//! The order of the samples in an epoch, a pure function of seed and epoch that is the same on every machine.
//!
//! A Fisher-Yates shuffle, from the last position down, draws from the generator SplitMix64 (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014): number `i` is `mix(start + (i + 1) * GOLDEN)`, with
//! `start = mix(mix(seed) + epoch)`. Bounded integers are drawn without bias (Lemire, "Fast random integer generation in
//! an interval", 2019). Checkpoints depend on the order: it must never change.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the samples `0..count` in the order in which `epoch` visits them.
pub fn permutation(count: u32, seed: u64, epoch: u64) -> Vec<u32> {
    let mut numbers = SplitMix64::new(seed, epoch);
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        let other = numbers.below(last + 1);
        order.swap(last as usize, other as usize);
    }
    order
}

/// Draws as many samples as there are `weights`, with replacement: each with the probability of its weight. Weights must not
/// be negative, and at least one must be above 0.
pub fn weighted_order(weights: impl Iterator<Item = f64>, seed: u64, epoch: u64) -> Vec<u32> {
    let mut sum = 0.0;
    let sums: Vec<f64> = weights
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    let mut numbers = SplitMix64::new(seed, epoch);
    let last = sums.partition_point(|&before| before < sum);
    (0..sums.len())
        .map(|_| {
            // 53 random bits: from 0 to below 1.
            let at = (numbers.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * sum;
            sums.partition_point(|&sum| sum <= at).min(last) as u32
        })
        .collect()
}

/// SplitMix64 random number generator, seeded with `(seed, stream)`.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Creates the generator of stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        SplitMix64(mix(mix(seed).wrapping_add(stream)))
    }

    /// Returns the next number, uniform over all 64-bit values.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Returns a uniform number below `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "the bound must be at least 1");
        let rejected = bound.wrapping_neg() % bound; // 2^32 modulo bound
        loop {
            let product = (self.next_u64() >> 32) * u64::from(bound);
            if product as u32 >= rejected {
                return (product >> 32) as u32;
            }
        }
    }
}

/// The distributions of the transforms. Checkpoints depend on these numbers, too.
impl SplitMix64 {
    /// Returns a uniform number from `low` to below `high`, a multiple of `(high - low) / 2^24` above `low`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + self.unit() * (high - low)
    }

    /// Returns true with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Returns a uniform number from 0 to below 1.
    fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1 << 24) as f32
    }
}

/// The output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_permutation_contains_every_sample_once(count in 0u32..300, seed in any::<u64>(), epoch in any::<u64>()) {
            let mut order = permutation(count, seed, epoch);
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..count));
        }
    }

    /// The first outputs of SplitMix64 with state 0, from the authors' reference code.
    #[test]
    fn outputs_match_the_reference_code() {
        let mut numbers = SplitMix64(0);
        let first = [numbers.next_u64(), numbers.next_u64(), numbers.next_u64()];
        assert_eq!(first, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn seeds_and_epochs_give_different_orders() {
        let orders = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(seed, epoch)| permutation(50, seed, epoch));
        for (i, a) in orders.iter().enumerate() {
            assert!(orders[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(orders[3], permutation(50, 1, 1));
    }

    #[test]
    fn uniform_and_chance_have_the_right_distribution() {
        let mut numbers = SplitMix64::new(3, 4);
        let drawn: Vec<f32> = (0..10_000).map(|_| numbers.uniform(-1.0, 3.0)).collect();
        assert!(drawn.iter().all(|v| (-1.0..3.0).contains(v)));
        let mean: f32 = drawn.iter().sum::<f32>() / 10_000.0;
        // Five standard deviations are 0.058.
        assert!((mean - 1.0).abs() < 0.058, "{mean}");
        let count = (0..10_000).filter(|_| numbers.chance(0.3)).count();
        assert!(count.abs_diff(3000) < 230, "{count}");
        assert!((0..1000).all(|_| numbers.chance(1.0) && !numbers.chance(0.0)));
    }

    #[test]
    fn permutations_are_uniform() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..24_000 {
            *counts.entry(permutation(4, 7, epoch)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        // 1000 expected; five standard deviations are 155.
        assert!(counts.values().all(|n| n.abs_diff(1000) < 155), "{counts:?}");
    }
}
