//! The random numbers of golden files: a hash of seed, stream and position, which can be computed in any language.
//!
//! It is the SplitMix64 generator, with a state that is a hash of seed and stream. All integers are unsigned, modulo 2^64:
//!
//! ```text
//! mix(z)       z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9;  z ^= z >> 27;  z *= 0x94D049BB133111EB;  z ^= z >> 31
//! sm(x)        mix(x + G),                        G = 0x9E3779B97F4A7C15
//! key          sm(sm(seed) ^ stream)
//! bits(i)      mix(key + (i + 1) * G)
//! unit(i)      ((bits(i) >> 40) - 2^23) / 2^23    in [-1, 1), a multiple of 2^-23
//! value(i)     offset + scale * unit(i), product and sum rounded to double, then to single precision
//! integer(i)   (bits(i) >> 40) mod m
//! ```

const G: u64 = 0x9E37_79B9_7F4A_7C15;

/// Seed of the random numbers for `dot`.
pub const DOT_SEED: u64 = 7;

const fn mix(z: u64) -> u64 {
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

const fn sm(x: u64) -> u64 {
    mix(x.wrapping_add(G))
}

/// The random numbers of a seed and a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: u64,
}

impl Stream {
    /// Returns the random numbers of `seed` and `stream`.
    pub const fn new(seed: u64, stream: u64) -> Self {
        Stream { key: sm(sm(seed) ^ stream) }
    }

    /// Returns 64 random bits at position `i`.
    pub const fn bits(self, i: u64) -> u64 {
        mix(self.key.wrapping_add(i.wrapping_add(1).wrapping_mul(G)))
    }

    /// Returns a number in `[-1, 1)`, a multiple of 2^-23.
    pub fn unit(self, i: u64) -> f64 {
        ((self.bits(i) >> 40) as f64 - 8_388_608.0) / 8_388_608.0
    }

    /// Returns `offset + scale * unit(i)`, rounded to single precision.
    pub fn value(self, i: u64, scale: f64, offset: f64) -> f32 {
        (offset + scale * self.unit(i)) as f32
    }

    /// Returns an integer below `modulus`.
    pub const fn integer(self, i: u64, modulus: u64) -> u64 {
        (self.bits(i) >> 40) % modulus
    }
}

/// Returns a batch of images `[n, c, h, w]`: the mean of noise and of squares of `cell` by `cell` pixels with constant values.
///
/// # Panics
/// When `cell` is 0.
pub fn images(shape: [usize; 4], fine: Stream, coarse: Stream, cell: usize) -> Vec<f32> {
    let [n, c, h, w] = shape;
    let (rows, columns) = (h.div_ceil(cell), w.div_ceil(cell));
    (0..n * c * h * w)
        .map(|flat| {
            let (plane, y, x) = (flat / (h * w), flat / w % h, flat % w);
            let square = (plane * rows + y / cell) * columns + x / cell;
            (0.5 * fine.unit(flat as u64) + 0.5 * coarse.unit(square as u64)) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the Python script that created the files; the first is also the published first output of SplitMix64.
    #[test]
    fn known_values() {
        assert_eq!(sm(0), 0xE220_A839_7B1D_CDAF);
        let rows = [
            (0, 0, 0, 0xa706_dd2f_4d19_7e6f, 0x2382_75bc_38fc_be91, -0.144_516_259_431_839, 7),
            (0, 0, 1, 0xa706_dd2f_4d19_7e6f, 0xf89a_2566_b582_2c54, 0.188_440_829_515_457_15, 9),
            (1, 0, 0, 0x5e41_ab08_7439_611e, 0xb18a_02f4_6d8d_86c3, 0.077_404_834_330_081_94, 2),
            (1, 2, 3, 0xbcd9_dbb4_9673_066b, 0x2a38_bbe9_87fd_f051, -0.134_028_747_677_803_04, 5),
            (42, 7, 1000, 0x1606_2d6c_1339_e500, 0x6e0f_9fb7_e952_71a5, -0.028_029_656_037_688_255, 9),
            (
                123_456_789,
                1_000_001,
                4_294_967_296,
                0xe6d2_c7e1_fd14_8460,
                0x68db_540b_8671_48e0,
                -0.036_161_325_871_944_43,
                2,
            ),
        ];
        for (seed, stream, i, key, bits, value, integer) in rows {
            let s = Stream::new(seed, stream);
            assert_eq!(s.key, key);
            assert_eq!(s.bits(i), bits);
            assert_eq!(f64::from(s.value(i, 1.0 / 25f64.sqrt(), 0.0)), value);
            assert_eq!(s.integer(i, 10), integer);
        }
        assert_eq!(Stream::new(0, 0).unit(0), -0.722_581_267_356_872_6);
    }

    #[test]
    fn squares_can_extend_beyond_the_edge() {
        let (fine, coarse) = (Stream::new(3, 1), Stream::new(3, 2));
        let p = images([2, 1, 3, 5], fine, coarse, 2);
        assert_eq!(p.len(), 30);
        // Plane 1, row 2, column 4: square 1 of 2 rows, 2 of 3 columns.
        let expected = 0.5 * fine.unit(29) + 0.5 * coarse.unit((2 + 1) * 3 + 2);
        assert_eq!(p[29], expected as f32);
    }
}
