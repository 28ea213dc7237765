//! Operations on 8-bit images with the bytes of Pillow's `ImageOps`, `ImageEnhance` and `Image.transform`.

use crate::image::{ByteImage, luma};

/// Applies `table` to every value; one table of 256 for each channel, or one for all.
fn lookup(image: &mut ByteImage, table: impl Fn(usize, u8) -> u8) {
    let channels = image.channels();
    for pixel in image.pixels_mut().chunks_exact_mut(channels) {
        pixel.iter_mut().enumerate().for_each(|(channel, value)| *value = table(channel, *value));
    }
}

/// Number of pixels of each value, for each channel.
fn histograms(image: &ByteImage) -> Vec<[u32; 256]> {
    let mut counts = vec![[0; 256]; image.channels()];
    for pixel in image.pixels().chunks_exact(image.channels()) {
        pixel.iter().zip(&mut counts).for_each(|(&value, counts)| counts[usize::from(value)] += 1);
    }
    counts
}

/// Keeps the `bits` highest bits of each value.
pub(crate) fn posterize(image: &mut ByteImage, bits: u32) {
    let mask = !((1u32 << (8 - bits.min(8))) - 1) as u8;
    lookup(image, |_, value| value & mask);
}

/// Inverts values of at least `threshold`.
pub(crate) fn solarize(image: &mut ByteImage, threshold: f64) {
    lookup(image, |_, value| if f64::from(value) < threshold { value } else { 255 - value });
}

pub(crate) fn invert(image: &mut ByteImage) {
    lookup(image, |_, value| 255 - value);
}

/// Stretches each channel to the range from 0 to 255.
pub(crate) fn auto_contrast(image: &mut ByteImage) {
    let tables: Vec<[u8; 256]> = histograms(image)
        .iter()
        .map(|counts| {
            let low = counts.iter().position(|&n| n > 0).unwrap_or(0);
            let high = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
            std::array::from_fn(|i| {
                if high <= low {
                    return i as u8;
                }
                let scale = 255.0 / (high - low) as f64;
                let offset = -(low as f64) * scale;
                (i as f64 * scale + offset).clamp(0.0, 255.0) as u8
            })
        })
        .collect();
    lookup(image, |channel, value| tables[channel][usize::from(value)]);
}

/// Equalizes the histogram of each channel.
pub(crate) fn equalize(image: &mut ByteImage) {
    let tables: Vec<[u8; 256]> = histograms(image)
        .iter()
        .map(|counts| {
            let identity = std::array::from_fn(|i| i as u8);
            let Some(last) = counts.iter().rposition(|&n| n > 0) else { return identity };
            let total: u32 = counts.iter().sum();
            let step = (total - counts[last]) / 255;
            if counts.iter().filter(|&&n| n > 0).count() <= 1 || step == 0 {
                return identity;
            }
            let mut n = step / 2;
            counts.map(|count| {
                let level = (n / step).min(255) as u8;
                n += count;
                level
            })
        })
        .collect();
    lookup(image, |channel, value| tables[channel][usize::from(value)]);
}

/// `other + factor * (value - other)`, in single precision; clamped where it extrapolates.
fn blend(value: u8, other: u8, factor: f32) -> u8 {
    let result = f32::from(other) + factor * (f32::from(value) - f32::from(other));
    // The cast truncates and saturates.
    result as u8
}

/// Blends with black.
pub(crate) fn brightness(image: &mut ByteImage, factor: f64) {
    lookup(image, |_, value| blend(value, 0, factor as f32));
}

/// Blends with the gray image.
pub(crate) fn color(image: &mut ByteImage, factor: f64) {
    if image.channels() != 3 {
        return;
    }
    for pixel in image.pixels_mut().chunks_exact_mut(3) {
        let gray = luma(pixel[0], pixel[1], pixel[2]);
        pixel.iter_mut().for_each(|value| *value = blend(*value, gray, factor as f32));
    }
}

/// Blends with the mean of the gray image.
pub(crate) fn contrast(image: &mut ByteImage, factor: f64) {
    let count = (image.height() * image.width()) as f64;
    let sum: u64 = match image.channels() {
        3 => image.pixels().chunks_exact(3).map(|p| u64::from(luma(p[0], p[1], p[2]))).sum(),
        _ => image.pixels().iter().map(|&p| u64::from(p)).sum(),
    };
    let mean = (sum as f64 / count + 0.5) as u8;
    lookup(image, |_, value| blend(value, mean, factor as f32));
}

/// Blends with the image that is smoothed by a 3x3 window with the weights 1 and, in the center, 5. The border stays.
pub(crate) fn sharpness(image: &mut ByteImage, factor: f64) {
    let source = image.clone();
    let (h, w, c) = (source.height(), source.width(), source.channels());
    let pixels = source.pixels();
    for y in 1..h.saturating_sub(1) {
        for x in c..(w * c).saturating_sub(c) {
            let row = |y: usize| {
                let at = y * w * c + x;
                u32::from(pixels[at - c]) + u32::from(pixels[at]) + u32::from(pixels[at + c])
            };
            let at = y * w * c + x;
            let sum = row(y - 1) + row(y) + row(y + 1) + 4 * u32::from(pixels[at]);
            let smooth = ((2 * sum + 13) / 26) as u8;
            image.pixels_mut()[at] = blend(pixels[at], smooth, factor as f32);
        }
    }
}

/// Takes each pixel from the nearest one at `[a x + b y + c, d x + e y + f]`, black outside.
pub(crate) fn affine(image: &mut ByteImage, [a, b, c, d, e, f]: [f64; 6]) {
    // 16.16 fixed point, from the centers of pixels.
    let fix = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (step_x, step_y) = ([fix(a), fix(d)], [fix(b), fix(e)]);
    let mut start = [fix(c + a * 0.5 + b * 0.5), fix(f + d * 0.5 + e * 0.5)];
    let source = image.clone();
    let (h, w, channels) = (source.height() as i64, source.width() as i64, source.channels());
    for row in image.pixels_mut().chunks_exact_mut(w as usize * channels) {
        let [mut x, mut y] = start;
        for pixel in row.chunks_exact_mut(channels) {
            let (from_x, from_y) = (x >> 16, y >> 16);
            if (0..w).contains(&from_x) && (0..h).contains(&from_y) {
                let at = (from_y * w + from_x) as usize * channels;
                pixel.copy_from_slice(&source.pixels()[at..at + channels]);
            } else {
                pixel.fill(0);
            }
            x += step_x[0];
            y += step_x[1];
        }
        start[0] += step_y[0];
        start[1] += step_y[1];
    }
}

/// Rotates counter-clockwise about the center by `degrees`, and keeps the size.
pub(crate) fn rotate(image: &mut ByteImage, degrees: f64) {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return;
    }
    if degrees == 180.0 {
        image.flip_horizontally();
        image.flip_vertically();
        return;
    }
    let radians = -degrees.to_radians();
    let rounded = |v: f64| (v * 1e15).round() / 1e15;
    let (cos, sin) = (rounded(radians.cos()), rounded(radians.sin()));
    let minus_sin = rounded(-radians.sin());
    let (x, y) = (image.width() as f64 / 2.0, image.height() as f64 / 2.0);
    affine(image, [cos, sin, cos * -x + sin * -y + x, minus_sin, cos, minus_sin * -x + cos * -y + y]);
}
