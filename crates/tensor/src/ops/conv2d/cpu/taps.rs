//! Transposition of filters between `[out, in, taps]` and a vector of output or input channels for each tap.

use super::layout::Filters;
use crate::cpu::simd::Simd;
use crate::cpu::simd::transpose::{lanes_to_rows, rows_to_lanes};

/// Maximum number of taps of a filter: 5 by 5, rounded up to whole vectors.
pub(super) const MAX_TAPS: usize = 32;

/// Reads the filters of up to `LANES` input channels for `lanes` output channels from `output` on. A filter
/// has `count` taps; tap `t` of the `i`-th channel becomes vector `i * count + t`, with a lane for each
/// output channel.
///
/// # Safety
/// The filters must exist, and `count` vectors for each channel be writable.
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
    let offset = |channel: usize| channel * filters.in_stride + output * filters.out_stride;
    if filters.in_stride == count {
        // The filters of all channels of an output are contiguous.
        // SAFETY: guaranteed by the caller.
        unsafe {
            rows_to_lanes::<S>(
                from.add(offset(channels.start)),
                filters.out_stride,
                lanes,
                channels.len() * count,
                to,
            )
        }
        return;
    }
    for (i, channel) in channels.enumerate() {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let from = from.add(offset(channel));
            let to = to.add(i * count * S::LANES);
            if count == 1 {
                S::from_short_slice(std::slice::from_raw_parts(from, lanes)).store(to);
            } else {
                rows_to_lanes::<S>(from, filters.out_stride, lanes, count, to);
            }
        }
    }
}

/// Writes the first `count` vectors of `from`, one for each tap, as rows of taps, one for each of `lanes`
/// channels.
///
/// # Safety
/// `lanes` rows of `count` floats, `stride` apart, must be writable.
#[inline(always)]
pub(super) unsafe fn write_taps<S: Simd>(
    from: &[S; MAX_TAPS],
    to: *mut f32,
    stride: usize,
    lanes: usize,
    count: usize,
) {
    debug_assert!(count <= MAX_TAPS);
    // SAFETY: guaranteed by the caller; a vector is an array of floats.
    unsafe { lanes_to_rows::<S>(from.as_ptr().cast(), to, stride, lanes, count) }
}
