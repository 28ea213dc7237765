//! A cache of images that were read and resized, with a limit on its memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::image::ByteImage;

/// Bookkeeping of an image besides its pixels, in bytes.
const OVERHEAD: u64 = 64;

/// Images by sample, as many as fit. None is ever removed: an epoch uses each once, so which ones stay does not matter.
#[derive(Debug)]
pub(crate) struct ImageCache {
    limit: u64,
    used: AtomicU64,
    images: Vec<OnceLock<ByteImage>>,
}

impl ImageCache {
    /// Creates a cache for `count` samples that uses at most `limit` bytes.
    pub(crate) fn new(count: usize, limit: u64) -> Self {
        let count = if limit == 0 { 0 } else { count };
        ImageCache { limit, used: AtomicU64::new(0), images: (0..count).map(|_| OnceLock::new()).collect() }
    }

    pub(crate) fn get(&self, sample: usize) -> Option<&ByteImage> {
        self.images.get(sample)?.get()
    }

    /// Stores a copy of the image if it fits.
    pub(crate) fn put(&self, sample: usize, image: &ByteImage) {
        let Some(slot) = self.images.get(sample).filter(|slot| slot.get().is_none()) else { return };
        let size = image.pixels().len() as u64 + OVERHEAD;
        let fits = |used: u64| used.checked_add(size).filter(|&used| used <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return;
        }
        let mut copy = ByteImage::default();
        copy.copy_from(image);
        if slot.set(copy).is_err() {
            // Another thread was faster.
            self.used.fetch_sub(size, Ordering::Relaxed);
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_kept_while_they_fit() {
        let cache = ImageCache::new(3, 2 * (12 + OVERHEAD) + 1);
        let image = |value| ByteImage::new(2, 2, 3, vec![value; 12]).unwrap();
        cache.put(0, &image(7));
        cache.put(0, &image(8));
        cache.put(2, &image(9));
        cache.put(1, &image(1));
        assert_eq!(cache.get(0), Some(&image(7)));
        assert_eq!(cache.get(2), Some(&image(9)));
        assert_eq!((cache.get(1), cache.used()), (None, 2 * (12 + OVERHEAD)));
        let off = ImageCache::new(3, 0);
        off.put(0, &image(7));
        assert_eq!((off.get(0), off.used()), (None, 0));
    }
}
