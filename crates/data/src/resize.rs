//! Bilinear resizing of 8-bit images, the same bytes as Pillow's `Image.resize(size, Image.BILINEAR)`.
//!
//! Each axis is resampled by itself, first the rows, then the columns, and rounded to 8 bits after each. With
//! `scale = from / to` and `filter = max(scale, 1)`, output `x` looks at the inputs around its centre
//! `c = (x + 1/2) * scale`, those from `c - filter` to `c + filter`, weighted by the triangle
//! `1 - |i + 1/2 - c| / filter`, normalised to a sum of 1 and rounded to 22 bits behind the point. So an image
//! that is enlarged is interpolated between two neighbours, and one that is reduced is averaged over all
//! that fall into a pixel. An axis that keeps its size is copied.
//!
//! The rows always come first here, as in Pillow 11. Newer versions begin with the columns for some shapes, which
//! rounds a few pixels otherwise: 12.3 for images many times taller than wide, 13 also where the height shrinks
//! clearly more than the width. Where an image keeps its proportions all agree.

use neocog_base::{Error, Result};

/// Bits behind the point of a weight: 32 less 8 for a pixel and 2 for sign and overshoot.
const PRECISION: u32 = 22;
const HALF: i32 = 1 << (PRECISION - 1);
/// Pixels that an image may have, on either side of a resize.
const LARGEST: usize = 1 << 28;
/// Length of a side; with more taps the rounding of the weights could overflow a sum.
const LONGEST: usize = 1 << 16;

/// Resizes images from one size to another; made once, used for many.
#[derive(Clone, Debug)]
pub struct Resizer {
    from: (usize, usize),
    to: (usize, usize),
    horizontal: Option<Axis>,
    vertical: Option<Axis>,
    /// `[from h, to w]`: what the horizontal pass hands to the vertical one.
    between: Vec<u8>,
    /// `[to w]`: a row of sums, for more than two taps.
    sums: Vec<i32>,
}

/// The weights along one axis.
#[derive(Clone, Debug)]
struct Axis {
    /// For each output its first input and its number of taps.
    bounds: Vec<(usize, usize)>,
    /// `[outputs, stride]`; unused ones are 0.
    weights: Vec<i32>,
    stride: usize,
}

impl Resizer {
    /// A resizer of one-channel images from `(h, w)` to `(h, w)`.
    ///
    /// # Errors
    /// `Argument` for a side of 0 or of more than 2^16, and for an image of more than 2^28 pixels.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Result<Self> {
        for (h, w) in [from, to] {
            if h == 0 || w == 0 || h.max(w) > LONGEST || h * w > LARGEST {
                return Err(Error::invalid_argument(format!(
                    "cannot resize an image of {h}x{w}: expected sides of 1 to {LONGEST} and at most {LARGEST} pixels"
                )));
            }
        }
        if from.0 * to.1 > LARGEST {
            return Err(Error::invalid_argument(format!(
                "cannot resize from {}x{} to {}x{}: {}x{} pixels between the passes, at most {LARGEST} are expected",
                from.0, from.1, to.0, to.1, from.0, to.1
            )));
        }
        let horizontal = (from.1 != to.1).then(|| Axis::new(from.1, to.1));
        let vertical = (from.0 != to.0).then(|| Axis::new(from.0, to.0));
        let both = horizontal.is_some() && vertical.is_some();
        let many = vertical.as_ref().is_some_and(|v| v.stride > 2);
        Ok(Resizer {
            from,
            to,
            between: vec![0; if both { from.0 * to.1 } else { 0 }],
            sums: vec![0; if many { to.1 } else { 0 }],
            horizontal,
            vertical,
        })
    }

    /// The size `(h, w)` that it makes.
    pub fn to(&self) -> (usize, usize) {
        self.to
    }

    /// Whether it only copies.
    pub fn is_identity(&self) -> bool {
        self.from == self.to
    }

    /// Resizes `source`, `[from h, from w]`, into `target`, `[to h, to w]`.
    ///
    /// # Panics
    /// Where a slice is not of its size.
    pub fn resize(&mut self, source: &[u8], target: &mut [u8]) {
        assert_eq!(source.len(), self.from.0 * self.from.1, "source of {:?}", self.from);
        assert_eq!(target.len(), self.to.0 * self.to.1, "target of {:?}", self.to);
        match (&self.horizontal, &self.vertical) {
            (None, None) => target.copy_from_slice(source),
            (Some(h), None) => h.along_rows(source, self.from.1, target),
            (None, Some(v)) => v.across_rows(source, self.to.1, target, &mut self.sums),
            (Some(h), Some(v)) => {
                h.along_rows(source, self.from.1, &mut self.between);
                v.across_rows(&self.between, self.to.1, target, &mut self.sums);
            }
        }
    }
}

/// Resizes one image; [`Resizer`] is faster for many.
///
/// # Errors
/// `Argument` as [`Resizer::new`], and where `source` is not `[from h, from w]`.
pub fn resize(source: &[u8], from: (usize, usize), to: (usize, usize)) -> Result<Vec<u8>> {
    let mut resizer = Resizer::new(from, to)?;
    if source.len() != from.0 * from.1 {
        return Err(Error::invalid_argument(format!(
            "{} pixels are no image of {}x{}",
            source.len(),
            from.0,
            from.1
        )));
    }
    let mut target = vec![0; to.0 * to.1];
    resizer.resize(source, &mut target);
    Ok(target)
}

/// What a network sees of the byte `pixel`: `pixel / 255`, correctly rounded.
#[inline]
pub fn unit(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let filter = scale.max(1.0);
        let mut bounds = Vec::with_capacity(to);
        let mut exact = Vec::with_capacity(to);
        for x in 0..to {
            let centre = (x as f64 + 0.5) * scale;
            // A cast cuts towards zero and saturates at it.
            let first = (centre - filter + 0.5) as usize;
            let last = ((centre + filter + 0.5) as usize).min(from);
            let mut taps: Vec<f64> = (first..last)
                .map(|i| (1.0 - ((i as f64 - centre + 0.5) * (1.0 / filter)).abs()).max(0.0))
                .collect();
            let sum: f64 = taps.iter().sum();
            taps.iter_mut().for_each(|w| *w /= sum);
            bounds.push((first, taps.len()));
            exact.push(taps);
        }
        let stride = exact.iter().map(Vec::len).max().unwrap_or(0).max(2);
        let mut weights = vec![0; to * stride];
        for (row, taps) in weights.chunks_exact_mut(stride).zip(&exact) {
            for (weight, tap) in row.iter_mut().zip(taps) {
                *weight = (0.5 + tap * f64::from(1 << PRECISION)) as i32;
            }
        }
        Axis { bounds, weights, stride }
    }

    /// For each output its first input and the weights from there on.
    fn taps(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.stride);
        self.bounds.iter().zip(weights).map(|(&(first, count), weights)| (first, &weights[..count]))
    }

    /// Resamples each row of `source` (of `width`) to a row of `target`.
    fn along_rows(&self, source: &[u8], width: usize, target: &mut [u8]) {
        for (row, out) in source.chunks_exact(width).zip(target.chunks_exact_mut(self.bounds.len())) {
            for ((first, weights), out) in self.taps().zip(out) {
                let mut sum = HALF;
                for (&pixel, weight) in row[first..first + weights.len()].iter().zip(weights) {
                    sum += i32::from(pixel) * weight;
                }
                *out = round(sum);
            }
        }
    }

    /// Resamples the rows of `source` (of `width`) to the rows of `target`: each a weighted sum of rows.
    fn across_rows(&self, source: &[u8], width: usize, target: &mut [u8], sums: &mut [i32]) {
        let row = |y: usize| &source[y * width..][..width];
        for ((first, weights), out) in self.taps().zip(target.chunks_exact_mut(width)) {
            match *weights {
                [a] => {
                    for (out, &p) in out.iter_mut().zip(row(first)) {
                        *out = round(HALF + i32::from(p) * a);
                    }
                }
                [a, b] => {
                    for ((out, &p), &q) in out.iter_mut().zip(row(first)).zip(row(first + 1)) {
                        *out = round(HALF + i32::from(p) * a + i32::from(q) * b);
                    }
                }
                _ => {
                    sums.fill(HALF);
                    for (y, weight) in weights.iter().enumerate() {
                        for (sum, &p) in sums.iter_mut().zip(row(first + y)) {
                            *sum += i32::from(p) * weight;
                        }
                    }
                    for (out, &sum) in out.iter_mut().zip(&*sums) {
                        *out = round(sum);
                    }
                }
            }
        }
    }
}

/// Weights are not negative, so only the upper bound can be passed, by their rounding.
#[inline]
fn round(sum: i32) -> u8 {
    (sum >> PRECISION).min(255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use sha2::{Digest, Sha256};

    fn size(value: &Value) -> (usize, usize) {
        (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize)
    }

    /// The same picture as `tests/golden/resize.py` makes.
    fn picture(seed: u32, (h, w): (usize, usize)) -> Vec<u8> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        (0..h * w).map(|_| next()).collect()
    }

    #[test]
    fn the_bytes_are_those_of_pillow() {
        let golden: Value = serde_json::from_str(include_str!("../tests/golden/resize.json")).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 20);
        let mut listed = 0;
        for case in cases {
            let (from, to) = (size(&case["from"]), size(&case["to"]));
            let source = picture(case["seed"].as_u64().unwrap() as u32, from);
            let found = resize(&source, from, to).unwrap();
            if let Some(bytes) = case["bytes"].as_array() {
                let expected: Vec<u8> = bytes.iter().map(|b| b.as_u64().unwrap() as u8).collect();
                assert_eq!(found, expected, "{from:?} to {to:?}");
                listed += 1;
            }
            let sum: String = Sha256::digest(&found).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(sum, case["sha256"].as_str().unwrap(), "{from:?} to {to:?}");
        }
        assert!(listed >= 6);
    }

    proptest! {
        #[test]
        fn the_same_size_is_the_identity(h in 1usize..9, w in 1usize..9, seed in any::<u32>()) {
            let source = picture(seed, (h, w));
            prop_assert!(Resizer::new((h, w), (h, w)).unwrap().is_identity());
            prop_assert_eq!(resize(&source, (h, w), (h, w)).unwrap(), source);
        }

        #[test]
        fn a_grey_stays_that_grey(
            from in (1usize..40, 1usize..40), to in (1usize..40, 1usize..40), grey in any::<u8>()
        ) {
            let source = vec![grey; from.0 * from.1];
            prop_assert!(resize(&source, from, to).unwrap().iter().all(|&p| p == grey));
        }

        #[test]
        fn rows_and_columns_are_alike(
            from in (1usize..20, 1usize..20), to in (1usize..20, 1usize..20), seed in any::<u32>()
        ) {
            // Turned before or after only differs by the rounding between the passes.
            let turn = |image: &[u8], (h, w): (usize, usize)| -> Vec<u8> {
                (0..w).flat_map(|x| (0..h).map(move |y| image[y * w + x])).collect()
            };
            let source = picture(seed, from);
            let straight = turn(&resize(&source, from, to).unwrap(), to);
            let turned = resize(&turn(&source, from), (from.1, from.0), (to.1, to.0)).unwrap();
            prop_assert!(straight.iter().zip(&turned).all(|(a, b)| a.abs_diff(*b) <= 1));
        }
    }

    #[test]
    fn sizes_that_cannot_be() {
        for (from, to) in [
            ((0, 3), (3, 3)),
            ((3, 3), (3, 0)),
            ((3, 3), (usize::MAX, 2)),
            ((3, 3), (1 << 15, 1 << 15)),
            ((3, 3), (1, 70_000)),
            ((1 << 16, 1), (1, 1 << 16)),
        ] {
            let e = Resizer::new(from, to).unwrap_err();
            assert_eq!(e.kind(), neocog_base::ErrorKind::InvalidArgument);
        }
        assert!(resize(&[1, 2, 3], (2, 2), (4, 4)).unwrap_err().to_string().contains("3 pixels"));
    }

    #[test]
    fn unit_is_a_division() {
        assert_eq!((unit(0), unit(255), unit(51)), (0.0, 1.0, 0.2));
    }
}
