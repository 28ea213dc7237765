//! CPU kernels: transpositions of one block of channels at a time.

use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, Shared, for_each_in_tasks, part};
use crate::cpu::simd::transpose::{lanes_to_rows, rows_to_lanes};
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// A feature map `[n, c, h, w]`, and where it is in blocks.
#[derive(Clone, Copy)]
struct Map {
    channels: usize,
    pixels: usize,
    lanes: usize,
    /// Floats from one image to the next, in both.
    plain: usize,
    blocks: usize,
}

/// Brings `x` into blocks.
pub(super) fn to_blocks(x: &View<'_, f32>, lanes: usize, y: &mut ViewMut<'_, f32>) {
    let map = Map {
        channels: x.shape[1],
        pixels: x.shape[2] * x.shape[3],
        lanes,
        plain: x.batch_stride,
        blocks: y.batch_stride,
    };
    let (n, x, to) = (x.shape[0], x.data, Shared::new(y.data));
    map.for_each(n, |task| dispatch(ToBlocks { map, task, x, to }));
}

/// Brings `x` out of blocks.
pub(super) fn from_blocks(x: &View<'_, f32>, y: &mut ViewMut<'_, f32>) {
    let map = Map {
        channels: y.shape[1],
        pixels: y.shape[2] * y.shape[3],
        lanes: x.shape[4],
        plain: y.batch_stride,
        blocks: x.batch_stride,
    };
    let (n, x, to) = (y.shape[0], x.data, Shared::new(y.data));
    map.for_each(n, |task| dispatch(FromBlocks { map, task, x, to }));
}

/// Some pixels of one block of one image.
struct Task {
    image: usize,
    block: usize,
    pixels: std::ops::Range<usize>,
}

impl Map {
    fn for_each(&self, n: usize, work: impl Fn(Task) + Sync) {
        let blocks = self.channels.div_ceil(self.lanes);
        if n * blocks * self.pixels * self.lanes == 0 {
            return;
        }
        // Tasks of a chunk, about: some pixels of one block, or several small blocks.
        let parts = (self.pixels * self.lanes).div_ceil(CHUNK);
        let each = (CHUNK / (self.pixels * self.lanes)).max(1);
        let count = n * blocks * parts;
        let run = |i: usize| {
            let pixels = part(self.pixels, parts, i % parts);
            work(Task { image: i / parts / blocks, block: i / parts % blocks, pixels });
        };
        for_each_in_tasks(count, each, run);
    }

    /// Returns the position of the first element of a task in `[n, c, h, w]` and in blocks, and its number of channels.
    fn start(&self, task: &Task) -> ([usize; 2], usize) {
        let channel = task.block * self.lanes;
        let plain = task.image * self.plain + channel * self.pixels + task.pixels.start;
        let blocks = task.image * self.blocks + (task.block * self.pixels + task.pixels.start) * self.lanes;
        ([plain, blocks], self.lanes.min(self.channels - channel))
    }
}

struct ToBlocks<'a> {
    map: Map,
    task: Task,
    x: &'a [f32],
    to: Shared<'a>,
}

impl Kernel for ToBlocks<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let ToBlocks { map, task, x, to } = self;
        let ([plain, blocks], channels) = map.start(&task);
        // SAFETY: the tasks have disjoint vectors.
        let to = unsafe { to.slice(blocks, task.pixels.len() * map.lanes) };
        let x = &x[plain..][..(channels - 1) * map.pixels + task.pixels.len()];
        if map.lanes == S::LANES {
            // SAFETY: `x` has these pixels of each channel, `to` a vector for each.
            unsafe {
                rows_to_lanes::<S>(x.as_ptr(), map.pixels, channels, task.pixels.len(), to.as_mut_ptr())
            }
            return;
        }
        for (pixel, to) in to.chunks_exact_mut(map.lanes).enumerate() {
            to.fill(0.0);
            to[..channels].iter_mut().enumerate().for_each(|(c, to)| *to = x[c * map.pixels + pixel]);
        }
    }
}

struct FromBlocks<'a> {
    map: Map,
    task: Task,
    x: &'a [f32],
    to: Shared<'a>,
}

impl Kernel for FromBlocks<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let FromBlocks { map, task, x, to } = self;
        let ([plain, blocks], channels) = map.start(&task);
        let x = &x[blocks..][..task.pixels.len() * map.lanes];
        for c in (0..channels).filter(|_| map.lanes != S::LANES) {
            // SAFETY: the tasks have disjoint pixels and channels.
            let to = unsafe { to.slice(plain + c * map.pixels, task.pixels.len()) };
            to.iter_mut().zip(x.chunks_exact(map.lanes)).for_each(|(to, x)| *to = x[c]);
        }
        if map.lanes == S::LANES {
            // SAFETY: as above; `x` has a vector for each pixel.
            unsafe {
                let to = to.get().add(plain);
                lanes_to_rows::<S>(x.as_ptr(), to, map.pixels, channels, task.pixels.len());
            }
        }
    }
}
