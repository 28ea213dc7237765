//! Resizing of 8-bit images, the same bytes as Pillow's `Image.resize(size, Image.BILINEAR)` and `BICUBIC`.
//!
//! The filter is separable: one axis is resampled first, then the other, with rounding to 8 bits after each pass. With
//! `scale = from / to` and `stretch = max(scale, 1)`, output `x` is the weighted mean of the inputs within `support *
//! stretch` of its center `c = (x + 1/2) * scale`, with the weights `filter((i + 1/2 - c) / stretch)`, normalized to a sum
//! of 1 and rounded to 22 fractional bits. The triangle has support 1, the cubic (a = -1/2) support 2. Upsampling therefore
//! interpolates between neighbors, and downsampling averages over all inputs of a pixel (antialiasing). An axis whose size
//! does not change is copied.
//!
//! Rows come first, as in Pillow, unless the height shrinks by more than twice as many pixels as the width: Pillow 13
//! resamples columns first then, which changes the rounding of a few pixels. Pillow 11 always takes rows first.

use neocog_base::memory::try_vec;
use neocog_base::text::count;
use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::image::ByteImage;

/// Fractional bits of a weight: 32 minus 8 for the pixel and 2 for sign and overshoot.
const FRACTION_BITS: u32 = 22;
/// One half in fixed point, for rounding.
const HALF: i32 = 1 << (FRACTION_BITS - 1);
/// Maximum number of pixels of source, target and intermediate image.
const MAX_PIXELS: usize = 1 << 28;
/// Maximum side length. With more taps, the rounding errors of the weights could overflow a sum.
const MAX_SIDE: usize = 1 << 16;

/// The interpolation between pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// The triangle filter, with antialiasing.
    #[default]
    Bilinear,
    /// The cubic filter with a = -1/2, with antialiasing.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Filter::Bicubic => 0.0,
        }
    }
}

/// Resizes images `[h, w, c]` from one size to another, with precomputed filter weights.
#[derive(Clone, Debug)]
pub struct Resizer {
    from: (usize, usize),
    to: (usize, usize),
    filter: Filter,
    channels: usize,
    horizontal: Option<Axis>,
    vertical: Option<Axis>,
    /// Whether the vertical pass is the first one.
    columns_first: bool,
    /// Output of the first pass.
    intermediate: Vec<u8>,
    /// Accumulators of one row of the output of the vertical pass, for more than two taps.
    sums: Vec<i32>,
}

/// Filter weights along one axis.
#[derive(Clone, Debug)]
struct Axis {
    /// First input and number of taps of each output.
    bounds: Vec<(usize, usize)>,
    /// Weights `[outputs, stride]`; unused ones are 0.
    weights: Vec<i32>,
    stride: usize,
}

impl Resizer {
    /// Creates a bilinear resizer of grayscale images `[h, w]` from size `(h, w)` to size `(h, w)`.
    ///
    /// # Errors
    /// As [`Resizer::with_filter`].
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Result<Self> {
        Self::with_filter(from, to, Filter::Bilinear, 1)
    }

    /// Creates a resizer of images `[h, w, channels]` from size `(h, w)` to size `(h, w)`.
    ///
    /// # Errors
    /// `InvalidArgument` for a side of 0 or more than 2^16, or an image of more than 2^28 pixels.
    pub fn with_filter(
        from: (usize, usize),
        to: (usize, usize),
        filter: Filter,
        channels: usize,
    ) -> Result<Self> {
        for (h, w) in [from, to] {
            if h == 0 || w == 0 || h.max(w) > MAX_SIDE || h * w > MAX_PIXELS {
                return Err(Error::invalid_argument(format!(
                    "cannot resize an image of {h}x{w}: expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels"
                )));
            }
        }
        let columns_first = from.0 > to.0 && from.0 - to.0 > 2 * from.1.saturating_sub(to.1);
        // Never larger than the larger of source and target.
        let between = if columns_first { (to.0, from.1) } else { (from.0, to.1) };
        let horizontal = (from.1 != to.1).then(|| Axis::new(from.1, to.1, filter));
        let vertical = (from.0 != to.0).then(|| Axis::new(from.0, to.0, filter));
        let both = horizontal.is_some() && vertical.is_some();
        Ok(Resizer {
            from,
            to,
            filter,
            channels,
            intermediate: try_vec(
                if both { between.0 * between.1 * channels } else { 0 },
                format_args!("the intermediate image of {}x{}", between.0, between.1),
            )?,
            sums: Vec::new(),
            horizontal,
            vertical,
            columns_first,
        })
    }

    /// Returns the target size `(h, w)`.
    pub fn to(&self) -> (usize, usize) {
        self.to
    }

    /// Returns whether source and target size are equal.
    pub fn is_identity(&self) -> bool {
        self.from == self.to
    }

    /// Resizes `source`, `[from h, from w, c]`, into `target`, `[to h, to w, c]`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn resize(&mut self, source: &[u8], target: &mut [u8]) {
        let c = self.channels;
        assert_eq!(source.len(), self.from.0 * self.from.1 * c, "source of {:?}", self.from);
        assert_eq!(target.len(), self.to.0 * self.to.1 * c, "target of {:?}", self.to);
        match (&self.horizontal, &self.vertical) {
            (None, None) => target.copy_from_slice(source),
            (Some(h), None) => h.resample_rows(source, self.from.1, c, target),
            (None, Some(v)) => v.resample_columns(source, self.to.1 * c, target, &mut self.sums),
            (Some(h), Some(v)) if self.columns_first => {
                v.resample_columns(source, self.from.1 * c, &mut self.intermediate, &mut self.sums);
                h.resample_rows(&self.intermediate, self.from.1, c, target);
            }
            (Some(h), Some(v)) => {
                h.resample_rows(source, self.from.1, c, &mut self.intermediate);
                v.resample_columns(&self.intermediate, self.to.1 * c, target, &mut self.sums);
            }
        }
    }

    fn fits(&self, image: &ByteImage, to: (usize, usize), filter: Filter) -> bool {
        (self.from, self.to, self.filter, self.channels) == (image.size(), to, filter, image.channels())
    }
}

/// Resizes one image `[h, w]` bilinearly from size `(h, w)` to size `(h, w)`. For many images, [`Resizer`] is faster.
///
/// # Errors
/// As [`Resizer::new`], and `InvalidArgument` if `source` is not `[from h, from w]`.
pub fn resize(source: &[u8], from: (usize, usize), to: (usize, usize)) -> Result<Vec<u8>> {
    let mut resizer = Resizer::new(from, to)?;
    if source.len() != from.0 * from.1 {
        return Err(Error::invalid_argument(format!(
            "an image of {}x{} does not have {}",
            from.0,
            from.1,
            count(source.len(), "pixel")
        )));
    }
    let mut target = try_vec(to.0 * to.1, format_args!("an image of {}x{}", to.0, to.1))?;
    resizer.resize(source, &mut target);
    Ok(target)
}

/// Resizes images of any size, and keeps the weights and buffers of the last size.
#[derive(Clone, Debug, Default)]
pub struct ResizeCache {
    last: Option<Resizer>,
    target: ByteImage,
}

impl ResizeCache {
    /// Resizes `image` to the size `(h, w)`.
    ///
    /// # Errors
    /// As [`Resizer::with_filter`].
    pub fn resize(&mut self, image: &mut ByteImage, to: (usize, usize), filter: Filter) -> Result<()> {
        if image.size() == to {
            return Ok(());
        }
        if !self.last.as_ref().is_some_and(|resizer| resizer.fits(image, to, filter)) {
            self.last = Some(Resizer::with_filter(image.size(), to, filter, image.channels())?);
        }
        if let Some(resizer) = &mut self.last {
            resizer.resize(image.pixels(), self.target.try_reset(to.0, to.1, image.channels())?);
            std::mem::swap(image, &mut self.target);
        }
        Ok(())
    }
}

/// Converts a pixel value to the network's input range: `pixel / 255`, correctly rounded.
#[inline]
pub fn unit(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

impl Axis {
    fn new(from: usize, to: usize, filter: Filter) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let mut bounds = Vec::with_capacity(to);
        let mut exact_weights = Vec::with_capacity(to);
        for x in 0..to {
            let center = (x as f64 + 0.5) * scale;
            // The cast truncates toward zero and saturates negative values to 0.
            let first = (center - support + 0.5) as usize;
            let last = ((center + support + 0.5) as usize).min(from);
            let mut taps: Vec<f64> =
                (first..last).map(|i| filter.weight((i as f64 - center + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = taps.iter().sum();
            taps.iter_mut().for_each(|w| *w /= sum);
            bounds.push((first, taps.len()));
            exact_weights.push(taps);
        }
        let stride = exact_weights.iter().map(Vec::len).max().unwrap_or(0).max(2);
        let mut weights = vec![0; to * stride];
        for (row, taps) in weights.chunks_exact_mut(stride).zip(&exact_weights) {
            for (weight, tap) in row.iter_mut().zip(taps) {
                // Rounds halves away from zero.
                *weight = (0.5f64.copysign(*tap) + tap * f64::from(1 << FRACTION_BITS)) as i32;
            }
        }
        Axis { bounds, weights, stride }
    }

    /// Returns the first input and the weights of each output.
    fn taps(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.stride);
        self.bounds.iter().zip(weights).map(|(&(first, count), weights)| (first, &weights[..count]))
    }

    /// Resamples each row of `source`, `[rows, width, channels]`, to a row of `target`.
    fn resample_rows(&self, source: &[u8], width: usize, channels: usize, target: &mut [u8]) {
        match channels {
            1 => self.resample_rows_of::<1>(source, width, target),
            3 => self.resample_rows_of::<3>(source, width, target),
            c => {
                let (from, to) = (width * c, self.bounds.len() * c);
                for (row, out) in source.chunks_exact(from).zip(target.chunks_exact_mut(to)) {
                    for ((first, weights), out) in self.taps().zip(out.chunks_exact_mut(c)) {
                        for (channel, out) in out.iter_mut().enumerate() {
                            let pixels = row[first * c + channel..].iter().step_by(c);
                            let sum: i32 =
                                pixels.zip(weights).map(|(&p, weight)| i32::from(p) * weight).sum();
                            *out = to_pixel(HALF + sum);
                        }
                    }
                }
            }
        }
    }

    fn resample_rows_of<const C: usize>(&self, source: &[u8], width: usize, target: &mut [u8]) {
        let (rows, _) = source.as_chunks::<C>();
        let (out, _) = target.as_chunks_mut::<C>();
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(self.bounds.len())) {
            for ((first, weights), out) in self.taps().zip(out) {
                let mut sums = [HALF; C];
                for (pixel, weight) in row[first..first + weights.len()].iter().zip(weights) {
                    for (sum, &p) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(p) * weight;
                    }
                }
                *out = sums.map(to_pixel);
            }
        }
    }

    /// Computes each row of `target` as a weighted sum of rows of `source`, `[rows, width]`.
    fn resample_columns(&self, source: &[u8], width: usize, target: &mut [u8], sums: &mut Vec<i32>) {
        let row = |y: usize| &source[y * width..][..width];
        sums.resize(width, 0);
        for ((first, weights), out) in self.taps().zip(target.chunks_exact_mut(width)) {
            match *weights {
                [a] => {
                    for (out, &p) in out.iter_mut().zip(row(first)) {
                        *out = to_pixel(HALF + i32::from(p) * a);
                    }
                }
                [a, b] => {
                    for ((out, &p), &q) in out.iter_mut().zip(row(first)).zip(row(first + 1)) {
                        *out = to_pixel(HALF + i32::from(p) * a + i32::from(q) * b);
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
                        *out = to_pixel(sum);
                    }
                }
            }
        }
    }
}

/// Converts a fixed-point sum to a pixel.
#[inline]
fn to_pixel(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
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

    /// The image that `tests/golden/resize.py` generates for the same seed.
    fn random_image(seed: u32, (h, w): (usize, usize)) -> Vec<u8> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        (0..h * w).map(|_| next()).collect()
    }

    #[test]
    fn bytes_match_pillow() {
        let golden: Value = serde_json::from_str(include_str!("../tests/golden/resize.json")).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 20);
        let mut listed = 0;
        for case in cases {
            let (from, to) = (size(&case["from"]), size(&case["to"]));
            let source = random_image(case["seed"].as_u64().unwrap() as u32, from);
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
        fn the_same_size_is_copied(h in 1usize..9, w in 1usize..9, seed in any::<u32>()) {
            let source = random_image(seed, (h, w));
            prop_assert!(Resizer::new((h, w), (h, w)).unwrap().is_identity());
            prop_assert_eq!(resize(&source, (h, w), (h, w)).unwrap(), source);
        }

        #[test]
        fn a_constant_image_stays_constant(
            from in (1usize..40, 1usize..40), to in (1usize..40, 1usize..40), value in any::<u8>()
        ) {
            let source = vec![value; from.0 * from.1];
            prop_assert!(resize(&source, from, to).unwrap().iter().all(|&p| p == value));
        }

        #[test]
        fn resizing_commutes_with_transposition(
            from in (1usize..20, 1usize..20), to in (1usize..20, 1usize..20), seed in any::<u32>()
        ) {
            // Up to the rounding between the passes.
            let transpose = |image: &[u8], (h, w): (usize, usize)| -> Vec<u8> {
                (0..w).flat_map(|x| (0..h).map(move |y| image[y * w + x])).collect()
            };
            let source = random_image(seed, from);
            let after = transpose(&resize(&source, from, to).unwrap(), to);
            let before = resize(&transpose(&source, from), (from.1, from.0), (to.1, to.0)).unwrap();
            prop_assert!(after.iter().zip(&before).all(|(a, b)| a.abs_diff(*b) <= 1));
        }
    }

    #[test]
    fn invalid_sizes_are_errors() {
        for (from, to) in [
            ((0, 3), (3, 3)),
            ((3, 3), (3, 0)),
            ((3, 3), (usize::MAX, 2)),
            ((3, 3), (1 << 15, 1 << 15)),
            ((3, 3), (1, 70_000)),
        ] {
            let e = Resizer::new(from, to).unwrap_err();
            assert_eq!(e.kind(), neocog_base::ErrorKind::InvalidArgument);
        }
        // The image between the passes is never larger than source and target.
        assert!(Resizer::new((1 << 16, 1), (1, 1 << 16)).is_ok());
        assert!(resize(&[1, 2, 3], (2, 2), (4, 4)).unwrap_err().to_string().contains("3 pixels"));
    }

    #[test]
    fn unit_divides_by_255() {
        assert_eq!((unit(0), unit(255), unit(51)), (0.0, 1.0, 0.2));
    }
}
