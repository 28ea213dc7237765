//! What a process loads of each batch, where several processes train together.

use std::ops::Range;

/// Returns the images of each shard of a batch: of `images`, the first `images % shards` shards have one more than the others.
///
/// ```
/// assert_eq!(neocog_data::shard_ranges(10, 4), [0..3, 3..6, 6..8, 8..10]);
/// ```
pub fn shard_ranges(images: usize, shards: usize) -> Vec<Range<usize>> {
    let (size, larger) = (images / shards, images % shards);
    let start = |shard: usize| shard * size + shard.min(larger);
    (0..shards).map(|shard| start(shard)..start(shard + 1)).collect()
}

/// What a [`Loader`](crate::Loader) loads of an epoch. The others load the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Share {
    /// All batches.
    #[default]
    All,
    /// Of each batch, some of its [shards](shard_ranges).
    Shards {
        /// Number of shards of a batch.
        of: usize,
        /// The shards that are loaded.
        own: Range<usize>,
    },
    /// Each `of`-th batch from number `first` on.
    Batches {
        /// Distance between two batches.
        of: usize,
        /// Number of the first batch.
        first: usize,
    },
}

impl Share {
    /// Returns which of the `images` of a batch are loaded.
    pub(crate) fn of_batch(&self, images: usize) -> Range<usize> {
        match self {
            Share::Shards { of, own } if !own.is_empty() => {
                let ranges = shard_ranges(images, *of);
                ranges[own.start].start..ranges[own.end - 1].end
            }
            _ => 0..images,
        }
    }

    /// Returns the number of batches that are loaded, and of batch `i` of them the number in the epoch.
    pub(crate) fn batches(&self, all: usize) -> usize {
        match self {
            Share::Batches { of, first } => all.saturating_sub(*first).div_ceil(*of),
            _ => all,
        }
    }

    /// Returns the number in the epoch of the `i`-th batch that is loaded.
    pub(crate) fn number(&self, i: usize) -> usize {
        match self {
            Share::Batches { of, first } => first + i * of,
            _ => i,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_all_images_in_order() {
        assert_eq!(shard_ranges(10, 4), [0..3, 3..6, 6..8, 8..10]);
        assert_eq!(shard_ranges(2, 4), [0..1, 1..2, 2..2, 2..2]);
        assert_eq!(shard_ranges(7, 1).as_slice(), std::slice::from_ref(&(0..7)));
    }

    #[test]
    fn shares_are_disjoint_and_complete() {
        let share = |own| Share::Shards { of: 4, own };
        assert_eq!((share(0..2).of_batch(10), share(2..4).of_batch(10)), (0..6, 6..10));
        assert_eq!((share(0..2).of_batch(1), share(2..4).of_batch(1)), (0..1, 1..1));
        let batches = |first, all| {
            let share = Share::Batches { of: 2, first };
            (0..share.batches(all)).map(|i| share.number(i)).collect::<Vec<_>>()
        };
        assert_eq!((batches(0, 5), batches(1, 5)), (vec![0, 2, 4], vec![1, 3]));
        assert!(batches(1, 1).is_empty());
    }
}
