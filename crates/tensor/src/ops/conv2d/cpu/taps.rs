//! Filters in memory, `[out, in, taps]`, as vectors for each tap whose lanes are channels.

use super::Filters;
use crate::simd::Simd;

/// The most taps of a filter: 5 by 5, rounded up to whole vectors.
pub(super) const TAPS: usize = 32;

/// Reads `count` numbers from each of `lanes` places, `stride` apart: number `i` of all lanes becomes vector `i`.
///
/// # Safety
/// They must be readable, and `count` vectors writable.
#[inline(always)]
unsafe fn read_taps<S: Simd>(from: *const f32, stride: usize, lanes: usize, count: usize, to: *mut f32) {
    let mut block = [S::splat(0.0); 16];
    for first in (0..count).step_by(S::LANES) {
        let wide = S::LANES.min(count - first);
        for (lane, v) in block[..S::LANES].iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *v = unsafe {
                let from = from.wrapping_add(lane * stride + first);
                if lane >= lanes {
                    S::splat(0.0)
                } else if wide == S::LANES {
                    S::load(from)
                } else {
                    S::load_partial(from, wide)
                }
            };
        }
        S::transpose(&mut block[..S::LANES]);
        for (i, v) in block[..wide].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { v.store(to.add((first + i) * S::LANES)) }
        }
    }
}

/// Reads the taps of up to `LANES` channels of filters, for `lanes` outputs from `output` on: tap `t` of channel `i` becomes the
/// vector `i * count + t`, where a filter has `count` taps.
///
/// # Safety
/// The filters must be there, and `to` have room for so many vectors.
#[inline(always)]
pub(super) unsafe fn read_filters<S: Simd>(
    filters: &Filters<'_>,
    channels: std::ops::Range<usize>,
    output: usize,
    lanes: usize,
    count: usize,
    to: *mut f32,
) {
    let from = filters.weight.as_ptr();
    let place = |channel: usize| channel * filters.depth_stride + output * filters.out_stride;
    if filters.depth_stride == count {
        // All channels of an output lie in a row.
        // SAFETY: the caller's promise.
        unsafe {
            read_taps::<S>(
                from.add(place(channels.start)),
                filters.out_stride,
                lanes,
                channels.len() * count,
                to,
            )
        }
        return;
    }
    for (i, channel) in channels.enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let from = from.add(place(channel));
            let to = to.add(i * count * S::LANES);
            if count == 1 {
                S::from_short_slice(std::slice::from_raw_parts(from, lanes)).store(to);
            } else {
                read_taps::<S>(from, filters.out_stride, lanes, count, to);
            }
        }
    }
}

/// The inverse of [`read_taps`].
///
/// # Safety
/// They must be writable.
#[inline(always)]
pub(super) unsafe fn write_taps<S: Simd>(
    from: &mut [S; TAPS],
    to: *mut f32,
    stride: usize,
    lanes: usize,
    count: usize,
) {
    for first in (0..count).step_by(S::LANES) {
        let wide = S::LANES.min(count - first);
        let block = &mut from[first..first + S::LANES];
        S::transpose(block);
        for (lane, v) in block[..lanes.min(S::LANES)].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.wrapping_add(lane * stride + first);
                if wide == S::LANES { v.store(to) } else { v.store_partial(to, wide) }
            }
        }
    }
}
