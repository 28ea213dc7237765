//! Counter-based random numbers: each number is a pure function of a key and a position, so the results do not depend on the device or
//! the number of threads.
//!
//! The generator is Philox 4x32 with ten rounds: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random
//! numbers: as easy as 1, 2, 3", SC 2011. It uses only 32-bit integers.

/// Returns the four random words of block `counter` of the stream `key`.
pub fn philox(key: u64, counter: u128) -> [u32; 4] {
    philox_block::<1>(key, counter).map(|[word]| word)
}

/// Returns the words `[word][block]` of `N` consecutive blocks from `counter` on. The low 64 bits of the counter must not overflow
/// within them.
#[inline(always)]
pub fn philox_block<const N: usize>(key: u64, counter: u128) -> [[u32; N]; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let low = counter as u64;
    let mut x = [
        std::array::from_fn(|i| low.wrapping_add(i as u64) as u32),
        std::array::from_fn(|i| (low.wrapping_add(i as u64) >> 32) as u32),
        [(counter >> 64) as u32; N],
        [(counter >> 96) as u32; N],
    ];
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..10 {
        #[allow(clippy::needless_range_loop, reason = "four arrays are indexed")]
        for i in 0..N {
            let a = u64::from(MULTIPLIERS[0]) * u64::from(x[0][i]);
            let b = u64::from(MULTIPLIERS[1]) * u64::from(x[2][i]);
            x[0][i] = (b >> 32) as u32 ^ x[1][i] ^ k[0];
            x[1][i] = b as u32;
            x[2][i] = (a >> 32) as u32 ^ x[3][i] ^ k[1];
            x[3][i] = a as u32;
        }
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    x
}

/// A serializable stream of random numbers, identified by `key`; `position` is the number of words drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Random {
    key: u64,
    position: u64,
}

impl Random {
    /// Creates the stream of `seed`.
    pub const fn new(seed: u64) -> Self {
        Random { key: seed, position: 0 }
    }

    /// Draws 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let word = philox(self.key, u128::from(self.position / 4))[(self.position % 4) as usize];
        self.position += 1;
        word
    }

    /// Draws 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// Draws a uniform number in `[0, 1)`, a multiple of 2^-24.
    pub fn next_unit(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Draws a uniform number in `[low, high)`.
    pub fn next_uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.next_unit()
    }

    /// Creates an independent stream of the same seed, for the purpose `name`.
    #[must_use]
    pub fn stream(seed: u64, name: &str) -> Self {
        // FNV-1a hash of the name, so that streams do not depend on the order of creation.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let mixed = philox(seed, u128::from(hash) << 64);
        Random::new(u64::from(mixed[0]) << 32 | u64::from(mixed[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors published by the authors.
    #[test]
    fn philox_matches_the_published_test_vectors() {
        assert_eq!(philox(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox(u64::MAX, u128::MAX), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = 0x0370_7344_1319_8a2e_85a3_08d3_243f_6a88;
        assert_eq!(
            philox(0x299f_31d0_a409_3822, counter),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn blocks_match_single_calls() {
        let key = 0x1234_5678_9abc_def0;
        for counter in [0, 5 << 64 | 12, u128::from(u64::MAX) << 64 | u128::from(u32::MAX - 3)] {
            let block = philox_block::<8>(key, counter);
            #[allow(clippy::needless_range_loop, reason = "all words of a block are indexed")]
            for k in 0..8 {
                assert_eq!(philox(key, counter + k as u128), std::array::from_fn(|i| block[i][k]));
            }
        }
    }

    #[test]
    fn copied_streams_continue() {
        let mut a = Random::new(5);
        a.next_u32();
        let mut b = a;
        assert_eq!(a.next_u64(), b.next_u64());
        assert_ne!(Random::stream(1, "a").next_u32(), Random::stream(1, "b").next_u32());
        let mean: f32 = (0..10_000).map(|_| a.next_unit()).sum::<f32>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
