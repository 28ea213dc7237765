//! Large buffers of the CPU device: regions of a few slabs of memory. A free region joins its free neighbors, so that the memory of
//! many small buffers serves for a large one, and the other way round: the activations that backpropagation frees become its
//! gradients, whatever their sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;

use super::line::{LINE, Line};

/// Regions are multiples of this number of lines: 4 KiB.
const GRAIN: usize = 64;
/// Smallest size of a slab in lines, 32 MiB. Memory that was never used takes no place: the system gives pages when they are touched.
pub(super) const MIN_SLAB: usize = 1 << 19;

/// A part of a slab that one owner has. It stays valid until it is returned to the arena.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<Line>,
    lines: usize,
    place: Place,
}

// SAFETY: a region owns its memory, as a box does.
unsafe impl Send for Region {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Region {}

impl Region {
    /// Returns its size in lines.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Returns its memory.
    pub fn as_slice(&self) -> &[Line] {
        // SAFETY: the slab lives until all its regions have returned, its memory was initialized with zeros, and no other region has
        // these lines.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.lines) }
    }

    /// Returns its memory.
    pub fn as_mut_slice(&mut self) -> &mut [Line] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.lines) }
    }
}

/// The number of a slab and a position in it, in lines.
type Place = (u32, usize);

/// The slabs, and which parts of them are free.
pub(super) struct Arena {
    slabs: BTreeMap<u32, Slab>,
    next_slab: u32,
    /// Sizes of the free parts.
    free: BTreeMap<Place, usize>,
    /// The free parts, sorted by size.
    by_size: BTreeSet<(usize, Place)>,
    /// Size of all slabs in lines.
    lines: usize,
    /// Size of all free parts in lines.
    free_lines: usize,
}

/// Memory from the system. Regions point into it, so it is held by a pointer, too.
pub(super) struct Slab {
    memory: NonNull<[Chunk]>,
    lines: usize,
}

// SAFETY: a slab owns its memory, as a box does.
unsafe impl Send for Slab {}

/// A quarter of a line: aligned so weakly that the system's zeroed memory is taken as it is, without writing to it.
#[repr(C, align(16))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Chunk([f32; CHUNK]);

const CHUNK: usize = 4;

impl Slab {
    fn new(lines: usize) -> Option<Self> {
        // One line more, to align the first one.
        let chunks = lines.checked_add(1)?.checked_mul(LINE / CHUNK)?;
        let memory: Box<[Chunk]> = bytemuck::allocation::try_zeroed_slice_box(chunks).ok()?;
        Some(Slab { memory: NonNull::from(Box::leak(memory)), lines })
    }

    fn start(&self) -> NonNull<Line> {
        let start = self.memory.cast::<Chunk>();
        // SAFETY: the first line that is aligned is at most one line from the start, which the memory has in excess.
        unsafe { start.add(start.align_offset(align_of::<Line>())).cast() }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of a box, and all regions have returned.
        drop(unsafe { Box::from_raw(self.memory.as_ptr()) });
    }
}

impl Arena {
    pub const fn new() -> Self {
        Arena {
            slabs: BTreeMap::new(),
            next_slab: 0,
            free: BTreeMap::new(),
            by_size: BTreeSet::new(),
            lines: 0,
            free_lines: 0,
        }
    }

    /// Returns the size of a region for `lines`.
    pub fn rounded(lines: usize) -> usize {
        lines.checked_next_multiple_of(GRAIN).unwrap_or(lines)
    }

    /// Returns the sizes of all slabs and of all their free parts, in lines.
    pub fn sizes(&self) -> (usize, usize) {
        (self.lines, self.free_lines)
    }

    /// Takes the smallest free part that is large enough, of several the first. If there is none, the caller calls
    /// [`grow`](Arena::grow).
    pub fn take(&mut self, lines: usize) -> Option<Region> {
        let lines = Self::rounded(lines);
        let &(size, place) = self.by_size.range((lines, (0, 0))..).next()?;
        self.remove_free(place, size);
        if size > lines {
            self.add_free((place.0, place.1 + lines), size - lines);
        }
        let slab = self.slabs.get(&place.0).expect("free parts belong to slabs");
        // SAFETY: the part ends within the slab.
        let start = unsafe { slab.start().add(place.1) };
        Some(Region { start, lines, place })
    }

    /// Adds a slab that has room for `lines`. The slabs grow with the memory that is held, so that they are few.
    pub fn grow(&mut self, lines: usize) -> Option<()> {
        let lines = Self::rounded(lines);
        let slab =
            Slab::new(lines.max(Self::rounded(self.lines / 2)).max(MIN_SLAB)).or_else(|| Slab::new(lines))?;
        let number = self.next_slab;
        self.next_slab += 1;
        self.lines += slab.lines;
        self.add_free((number, 0), slab.lines);
        self.slabs.insert(number, slab);
        Some(())
    }

    /// Returns a region, whose memory joins that of its free neighbors. If its slab is free now and `may_release` says so, returns
    /// the slab, which the caller frees.
    pub fn put_back(&mut self, region: Region, may_release: impl FnOnce(&Self) -> bool) -> Option<Slab> {
        let Region { lines, place: (number, start), .. } = region;
        let (mut first, mut end) = (start, start + lines);
        if let Some((&(slab, before), &size)) = self.free.range(..(number, start)).next_back()
            && (slab, before + size) == (number, start)
        {
            self.remove_free((number, before), size);
            first = before;
        }
        if let Some(&size) = self.free.get(&(number, end)) {
            self.remove_free((number, end), size);
            end += size;
        }
        self.add_free((number, first), end - first);
        (self.is_free(number) && may_release(self)).then(|| self.remove(number))
    }

    /// Removes the slabs of which no region is in use, which the caller frees.
    pub fn release(&mut self) -> Vec<Slab> {
        let free: Vec<u32> = self.slabs.keys().copied().filter(|&number| self.is_free(number)).collect();
        free.into_iter().map(|number| self.remove(number)).collect()
    }

    fn is_free(&self, number: u32) -> bool {
        self.free.get(&(number, 0)) == Some(&self.slabs[&number].lines)
    }

    fn remove(&mut self, number: u32) -> Slab {
        let slab = self.slabs.remove(&number).expect("a slab of this arena");
        self.remove_free((number, 0), slab.lines);
        self.lines -= slab.lines;
        slab
    }

    fn add_free(&mut self, place: Place, size: usize) {
        self.free.insert(place, size);
        self.by_size.insert((size, place));
        self.free_lines += size;
    }

    fn remove_free(&mut self, place: Place, size: usize) {
        self.free.remove(&place);
        self.by_size.remove(&(size, place));
        self.free_lines -= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(arena: &mut Arena, lines: usize) -> Region {
        arena.take(lines).or_else(|| arena.grow(lines).and_then(|()| arena.take(lines))).unwrap()
    }

    #[test]
    fn free_neighbors_are_joined() {
        let mut arena = Arena::new();
        let third = MIN_SLAB / 4;
        let [a, b, c] = [0, 1, 2].map(|_| take(&mut arena, third));
        assert_eq!([a.place, b.place, c.place], [(0, 0), (0, third), (0, 2 * third)]);
        let d = take(&mut arena, third);
        assert_eq!(arena.sizes(), (MIN_SLAB, 0));
        assert!(arena.put_back(b, |_| true).is_none());
        assert!(arena.put_back(d, |_| true).is_none());
        assert!(arena.put_back(c, |_| true).is_none());
        let large = arena.take(3 * third).unwrap();
        assert_eq!(large.place, (0, third));
        assert!(arena.put_back(large, |_| true).is_none());
        assert!(arena.put_back(a, |_| true).is_some());
        assert_eq!((arena.sizes(), arena.free.len(), arena.by_size.len()), ((0, 0), 0, 0));
    }

    #[test]
    fn the_smallest_part_that_fits_is_taken() {
        let mut arena = Arena::new();
        let sizes = [3 * GRAIN, GRAIN, 2 * GRAIN, GRAIN, GRAIN];
        let mut regions: Vec<Region> = sizes.iter().map(|&size| take(&mut arena, size)).collect();
        // Free: 3 and 2 grains, between others.
        let two = regions.remove(2);
        let three = regions.remove(0);
        let places = [two.place, three.place];
        for region in [two, three] {
            assert!(arena.put_back(region, |_| true).is_none());
        }
        let two = arena.take(GRAIN + 1).unwrap();
        assert_eq!((two.place, two.lines()), (places[0], 2 * GRAIN));
        let one = arena.take(1).unwrap();
        assert_eq!((one.place, one.lines()), (places[1], GRAIN));
    }

    #[test]
    fn pieces_do_not_overlap_and_lie_within_their_slab() {
        let mut arena = Arena::new();
        let mut regions: Vec<Region> = Vec::new();
        for i in 0..4000u32 {
            let random = neocog_base::random::philox(u64::from(i), 7);
            if random[0] % 5 < 2 && !regions.is_empty() {
                let mut region = regions.swap_remove(random[1] as usize % regions.len());
                let value = region.as_slice()[0].0[0];
                assert!(region.as_mut_slice().iter().all(|line| line.0 == [value; LINE]), "region {value}");
                drop(arena.put_back(region, |_| random[2].is_multiple_of(2)));
            } else {
                let mut region = take(&mut arena, random[1] as usize % 3000 + 1);
                assert_eq!(region.as_slice().as_ptr() as usize % 64, 0);
                region.as_mut_slice().fill(Line([i as f32; LINE]));
                regions.push(region);
            }
        }
        let used: usize = regions.iter().map(Region::lines).sum();
        let (all, free) = arena.sizes();
        assert_eq!(used + free, all);
        for region in regions {
            drop(arena.put_back(region, |_| false));
        }
        assert_eq!(arena.free.len(), arena.slabs.len());
        let slabs = arena.slabs.len();
        assert_eq!(arena.release().len(), slabs);
        assert_eq!(arena.sizes(), (0, 0));
    }

    #[test]
    fn what_cannot_be_allocated_changes_nothing() {
        let mut arena = Arena::new();
        for lines in [usize::MAX, usize::MAX / 64, usize::MAX / 128] {
            assert!(arena.take(lines).is_none() && arena.grow(lines).is_none());
        }
        assert_eq!(arena.sizes(), (0, 0));
    }
}
