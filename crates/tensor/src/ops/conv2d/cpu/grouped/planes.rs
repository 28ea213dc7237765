//! The forward pass and the input gradient: planes of sums over taps.

use super::geometry::{BLOCK, Direction, Outputs};
use crate::cpu::parallel::{Shared, for_each_task, part};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::ops::Activation;

/// Number of multiply-adds of a task, about.
const TASK_MULTIPLY_ADDS: usize = 1 << 18;

/// What is applied to the sums before they are stored.
#[derive(Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    pub bias: Option<&'a [f32]>,
    pub activation: Option<Activation>,
}

/// Computes all planes of the result.
pub(super) fn planes(
    direction: &Direction<'_>,
    src: &[f32],
    weight: &[f32],
    epilogue: &Epilogue<'_>,
    dst: &mut [f32],
    scratch: &Scratch,
) {
    let conv = direction.conv;
    let all = conv.n * conv.groups;
    let each = conv.out_pixels() * conv.filter_len() * conv.out_per_group;
    let tasks = all.div_ceil((TASK_MULTIPLY_ADDS / each.max(1)).max(1));
    let dst = Shared::new(dst);
    for_each_task(tasks, |task| {
        dispatch(Planes { direction, groups: part(all, tasks, task), src, weight, epilogue, dst, scratch });
    });
}

/// The results of some groups of some images.
struct Planes<'a> {
    direction: &'a Direction<'a>,
    /// Indices of pairs of an image and a group.
    groups: std::ops::Range<usize>,
    src: &'a [f32],
    weight: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    dst: Shared<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Planes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Planes { direction, scratch, .. } = self;
        let conv = direction.conv;
        let mut buffer = scratch.take(direction.buffer_len(S::LANES));
        buffer.fill(0.0);
        // One for the even columns, one for the odd ones.
        let sums_len = direction.phase_len().max(direction.dst_plane()) + BLOCK * S::LANES;
        let mut sums = scratch.take(2 * sums_len);
        let mut taps: Vec<(usize, f32)> = Vec::new();
        let covers_all = direction.covers_all();
        for pair in self.groups.clone() {
            let (image, group) = (pair / conv.groups, pair % conv.groups);
            direction.fill::<S>(self.src, image, group, &mut buffer);
            for plane in 0..direction.dst_planes {
                let start = direction.dst_start(image, group, plane);
                // SAFETY: every plane of the result belongs to one task.
                let dst = unsafe { self.dst.slice(start, direction.dst_plane()) };
                if !covers_all {
                    dst.fill(0.0);
                }
                self.plane::<S>(group, plane, &buffer, sums.split_at_mut(sums_len), &mut taps, dst);
            }
        }
    }
}

impl Planes<'_> {
    /// Computes one plane of the result of a group. `sums` and `taps` are scratch memory.
    #[inline(always)]
    fn plane<S: Simd>(
        &self,
        group: usize,
        plane: usize,
        buffer: &[f32],
        (even, odd): (&mut [f32], &mut [f32]),
        taps: &mut Vec<(usize, f32)>,
        dst: &mut [f32],
    ) {
        let Planes { direction, epilogue, .. } = self;
        let (conv, pitch) = (direction.conv, direction.columns.len);
        let weight = group * conv.out_per_group * conv.filter_len() + plane * direction.dst_weights;
        let weight = &self.weight[weight..];
        let bias = epilogue.bias.map_or(0.0, |bias| bias[group * direction.dst_planes + plane]);
        let mut phases = direction.taps.iter();
        for rows in &direction.rows.outputs {
            let mut target = Target { dst, width: direction.dst[1], rows };
            for ((i, columns), phase) in direction.columns.outputs.iter().enumerate().zip(&mut phases) {
                if rows.count == 0 || columns.count == 0 {
                    continue;
                }
                taps.clear();
                taps.extend(phase.all.iter().map(|tap| (tap.offset, weight[tap.index])));
                let activation = epilogue.activation;
                let sum = Sum { taps, reach: phase.reach, buffer, pitch, bias, activation };
                if columns.step == 1 && columns.count >= S::LANES {
                    let (to, to_pitch) = target.rows();
                    sum.region::<S>(rows.count, columns.count, to, to_pitch);
                    continue;
                }
                if columns.step == 1 && target.has_whole_rows(columns.count) && 2 * columns.count > S::LANES {
                    let (to, to_pitch) = target.rows();
                    sum.short_rows::<S>(rows.count, to, to_pitch);
                    continue;
                }
                let sums: &mut [f32] = if i % 2 == 0 { even } else { odd };
                sum.joined_rows::<S>(rows.count, columns.count, sums);
                if columns.step == 1 {
                    target.store::<S>(sums, pitch, columns.count);
                } else if !direction.alternates() {
                    target.scatter(sums, pitch, columns);
                }
            }
            if direction.alternates() {
                target.interleave::<S>(even, odd, pitch);
            }
        }
    }
}

/// The rows of a plane of the result that are computed together.
struct Target<'a> {
    dst: &'a mut [f32],
    width: usize,
    rows: &'a Outputs,
}

impl Target<'_> {
    /// Returns the plane from the first row on, and the distance of two rows.
    fn rows(&mut self) -> (&mut [f32], usize) {
        (&mut self.dst[self.rows.first * self.width..], self.rows.step * self.width)
    }

    /// Whether `count` columns are whole rows that follow each other.
    fn has_whole_rows(&self, count: usize) -> bool {
        self.rows.step == 1 && count == self.width
    }

    /// Stores `count` columns, fewer than a vector has lanes, of each row.
    #[inline(always)]
    fn store<S: Simd>(&mut self, sums: &[f32], sums_pitch: usize, count: usize) {
        let rows = self.rows.count;
        // The lanes behind the end of a row are overwritten by the next one.
        let joined = self.has_whole_rows(count);
        let (to, pitch) = self.rows();
        for row in 0..rows {
            let start = row * pitch;
            let end = if joined { rows * pitch } else { start + count };
            S::from_slice(&sums[row * sums_pitch..]).to_short_slice(&mut to[start..end]);
        }
    }

    /// Stores two sums to the even and the odd columns.
    #[inline(always)]
    fn interleave<S: Simd>(&mut self, even: &[f32], odd: &[f32], sums_pitch: usize) {
        let (rows, width) = (self.rows.count, self.width);
        let (to, pitch) = self.rows();
        for row in 0..rows {
            let to = &mut to[row * pitch..][..width];
            for (i, to) in to.chunks_mut(2 * S::LANES).enumerate() {
                let from = row * sums_pitch + i * S::LANES;
                let (first, second) = S::from_slice(&even[from..]).interleave(S::from_slice(&odd[from..]));
                let (low, high) = to.split_at_mut(to.len().min(S::LANES));
                first.to_short_slice(low);
                second.to_short_slice(high);
            }
        }
    }

    /// Stores each pixel to its column.
    fn scatter(&mut self, sums: &[f32], sums_pitch: usize, columns: &Outputs) {
        let rows = self.rows.count;
        let (to, pitch) = self.rows();
        for row in 0..rows {
            let to = to[row * pitch + columns.first..].iter_mut().step_by(columns.step);
            to.zip(&sums[row * sums_pitch..][..columns.count]).for_each(|(to, from)| *to = *from);
        }
    }
}

/// The pixels of a plane of the result with the same taps.
struct Sum<'a> {
    /// Offsets in the buffer, and weights.
    taps: &'a [(usize, f32)],
    /// The largest offset.
    reach: usize,
    buffer: &'a [f32],
    /// Floats from one row of the buffer to the next.
    pitch: usize,
    bias: f32,
    activation: Option<Activation>,
}

impl Sum<'_> {
    /// Computes a region of at least `LANES` columns. The last vector of a row overlaps the one before, so that it is full.
    #[inline(always)]
    fn region<S: Simd>(&self, rows: usize, columns: usize, to: &mut [f32], to_pitch: usize) {
        let mut from = 0;
        while from < columns {
            let left = (columns - from).div_ceil(S::LANES);
            from += match left {
                1 => self.band::<S, 8, 1>(from, rows, columns, to, to_pitch),
                2 => self.band::<S, 4, 2>(from, rows, columns, to, to_pitch),
                3 => self.band::<S, 2, 3>(from, rows, columns, to, to_pitch),
                _ if rows == 1 && left >= BLOCK => {
                    self.band::<S, 1, BLOCK>(from, rows, columns, to, to_pitch)
                }
                _ => self.band::<S, 2, 4>(from, rows, columns, to, to_pitch),
            };
        }
    }

    /// Computes rows of fewer than `LANES` columns that follow each other, a vector for each.
    #[inline(always)]
    fn short_rows<S: Simd>(&self, rows: usize, to: &mut [f32], to_pitch: usize) {
        if rows >= 7 {
            self.band::<S, 7, 1>(0, rows, S::LANES, to, to_pitch);
        } else {
            self.band::<S, 4, 1>(0, rows, S::LANES, to, to_pitch);
        }
    }

    /// Computes all rows as one, with the pixels of the buffer between them.
    #[inline(always)]
    fn joined_rows<S: Simd>(&self, rows: usize, columns: usize, to: &mut [f32]) {
        let len = ((rows - 1) * self.pitch + columns).next_multiple_of(S::LANES);
        self.region::<S>(1, len, to, 0);
    }

    /// Computes `V` vectors of each row, `R` rows at a time, from column `from` on, and returns the number of columns.
    #[inline(always)]
    fn band<S: Simd, const R: usize, const V: usize>(
        &self,
        from: usize,
        rows: usize,
        columns: usize,
        to: &mut [f32],
        to_pitch: usize,
    ) -> usize {
        let mut at = [0; V];
        for (i, at) in at.iter_mut().enumerate() {
            *at = (from + i * S::LANES).min(columns - S::LANES);
        }
        let mut row = 0;
        while row < rows {
            if rows >= R {
                // The last rows overlap those before.
                let first = row.min(rows - R);
                self.tile::<S, R, V>(first * self.pitch, at, &mut to[first * to_pitch..], to_pitch);
                row += R;
            } else {
                self.tile::<S, 1, V>(row * self.pitch, at, &mut to[row * to_pitch..], to_pitch);
                row += 1;
            }
        }
        V * S::LANES
    }

    /// Computes `V` vectors of each of `R` rows.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &self,
        start: usize,
        at: [usize; V],
        to: &mut [f32],
        to_pitch: usize,
    ) {
        let last = at[V - 1].max(at[0]);
        assert!(start + self.reach + (R - 1) * self.pitch + last + S::LANES <= self.buffer.len());
        let mut sums = [[S::splat(0.0); V]; R];
        for &(offset, weight) in self.taps {
            assert!(offset <= self.reach);
            let weight = S::splat(weight);
            for (row, sums) in sums.iter_mut().enumerate() {
                for (sum, &at) in sums.iter_mut().zip(&at) {
                    // SAFETY: `at` ascends and `offset` is at most `reach`, so the vector ends within the length asserted above.
                    let x =
                        unsafe { S::load(self.buffer.as_ptr().add(start + offset + row * self.pitch + at)) };
                    *sum = weight.mul_add(x, *sum);
                }
            }
        }
        let bias = S::splat(self.bias);
        for sums in &mut sums {
            for sum in sums {
                *sum = *sum + bias;
            }
        }
        if let Some(activation) = self.activation {
            for sums in &mut sums {
                activation.apply_each(sums);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (&sum, &at) in sums.iter().zip(&at) {
                // A row that is shorter than a vector is followed by the next one, which overwrites the excess lanes.
                sum.to_short_slice(&mut to[row * to_pitch + at..]);
            }
        }
    }
}
