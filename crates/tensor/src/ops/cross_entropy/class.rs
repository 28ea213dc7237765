//! Class indices stored as floats.

/// Returns the position of the first NaN, else of the first largest value.
pub(super) fn first_largest<T: PartialOrd>(row: &[T]) -> usize {
    let not_a_number = |v: &T| v.partial_cmp(v).is_none();
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if not_a_number(v) {
            return i;
        }
        if *v > row[best] {
            best = i;
        }
    }
    best
}

/// Converts a target to a class index; `None` if it is not one.
pub(super) fn class_of(target: f64, classes: usize) -> Option<usize> {
    (target >= 0.0 && target < classes as f64 && target.fract() == 0.0).then_some(target as usize)
}
