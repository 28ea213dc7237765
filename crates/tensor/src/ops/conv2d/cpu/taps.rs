//! Filters in memory, `[out, in, taps]`, as vectors for each tap whose lanes are channels.

use super::Filters;
use crate::cpu::simd::Simd;
use crate::cpu::simd::turn::{from_lanes, to_lanes};

/// The most taps of a filter: 5 by 5, rounded up to whole vectors.
pub(super) const TAPS: usize = 32;

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
            to_lanes::<S>(
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
                to_lanes::<S>(from, filters.out_stride, lanes, count, to);
            }
        }
    }
}

/// Writes the first `count` vectors of `from` as rows of numbers, one for each of `lanes` channels.
///
/// # Safety
/// They must be writable.
#[inline(always)]
pub(super) unsafe fn write_taps<S: Simd>(
    from: &[S; TAPS],
    to: *mut f32,
    stride: usize,
    lanes: usize,
    count: usize,
) {
    debug_assert!(count <= TAPS);
    // SAFETY: the caller's promise; vectors are floats.
    unsafe { from_lanes::<S>(from.as_ptr().cast(), to, stride, lanes, count) }
}
