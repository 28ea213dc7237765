//! The running maximum of a vector of windows.

use crate::cpu::simd::Simd;

/// The largest values so far of a vector of outputs, and their positions, relative to each lane.
pub(super) struct Best<V> {
    pub value: V,
    pub at: V,
}

impl<V: Simd> Best<V> {
    #[inline(always)]
    /// Compares with another element of the windows.
    pub fn see<const INDICES: bool>(&mut self, value: V, at: V) {
        if INDICES {
            self.at = V::select_gt_or_nan(value, self.value, at, self.at);
        }
        self.value = V::select_gt_or_nan(value, self.value, value, self.value);
    }
}
