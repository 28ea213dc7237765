//! Where the taps of a sum lie in the buffer of a group.

use std::ops::Range;

use crate::cpu::simd::Simd;
use crate::ops::conv2d::shape::ConvShape;

/// Number of vectors that are computed together in a long row.
pub(super) const BLOCK: usize = 8;

/// A source pixel that an output pixel depends on, on one axis: pixel `i + offset` of phase `phase` is under tap `tap` of
/// pixel `i`.
#[derive(Clone, Copy)]
pub(super) struct AxisTap {
    tap: usize,
    phase: usize,
    offset: usize,
}

/// A tap of a pixel of the result.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    /// Distance in the buffer of a group.
    pub offset: usize,
    /// Index among the weights of the first plane of the result.
    pub index: usize,
}

/// The taps of the pixels of the result with the same ones.
pub(super) struct Taps {
    pub all: Vec<Tap>,
    /// The largest offset.
    pub reach: usize,
}

/// The pixels of an axis of the result with the same taps: `first`, `first + step`, …
pub(super) struct Outputs {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    taps: Vec<AxisTap>,
}

/// The pixels of the source that the buffer of a phase holds.
struct Phase {
    /// Their positions in the buffer; the others are padding.
    inside: Range<usize>,
    /// The first of them.
    first_pixel: usize,
}

impl Phase {
    /// The phase with pixel `first`, negative in the padding, at position 0 of its buffer of `len` positions; `size` is the number
    /// of pixels of the source.
    fn new(first: isize, stride: usize, len: usize, size: usize) -> Self {
        let start = (-first).max(0) as usize;
        let start = start.div_ceil(stride);
        let first_pixel = (first + (start * stride) as isize) as usize;
        let end = start + size.saturating_sub(first_pixel).div_ceil(stride);
        Phase { inside: start.min(len)..end.min(len), first_pixel }
    }
}

/// One axis of a sum over taps.
pub(super) struct Axis {
    /// Pixels of the source.
    size: usize,
    /// Every how many pixels of the source a phase has one.
    stride: usize,
    phases: Vec<Phase>,
    /// Length of a phase in the buffer.
    pub len: usize,
    pub outputs: Vec<Outputs>,
}

impl Axis {
    fn forward(conv: &ConvShape, axis: usize) -> Self {
        let ([stride, padding, dilation], [taps, size, outputs]) = sizes(conv, axis);
        let mut residues: Vec<usize> = (0..taps).map(|t| t * dilation % stride).collect();
        residues.sort_unstable();
        residues.dedup();
        let tap = |tap: usize| AxisTap {
            tap,
            phase: residues.iter().position(|&r| r == tap * dilation % stride).expect("it is one of them"),
            offset: tap * dilation / stride,
        };
        let len = outputs + (taps - 1) * dilation / stride;
        let phase = |&r: &usize| Phase::new(r as isize - padding as isize, stride, len, size);
        Axis {
            size,
            stride,
            len,
            outputs: vec![Outputs { first: 0, step: 1, count: outputs, taps: (0..taps).map(tap).collect() }],
            phases: residues.iter().map(phase).collect(),
        }
    }

    /// The input gradient: input pixel `first + stride * i` is under tap `t` of output pixel `i + shift(t)`.
    fn input_grad(conv: &ConvShape, axis: usize) -> Self {
        let ([stride, padding, dilation], [taps, size, outputs]) = sizes(conv, axis);
        let shift = |first: usize, tap: usize| {
            let distance = (first + padding) as isize - (tap * dilation) as isize;
            (distance.rem_euclid(stride as isize) == 0).then_some(distance.div_euclid(stride as isize))
        };
        let pairs: Vec<(usize, usize, isize)> = conv
            .phases(axis)
            .iter()
            .flat_map(|&first| (0..taps).filter_map(move |tap| Some((first, tap, shift(first, tap)?))))
            .collect();
        let before = pairs.iter().map(|(_, _, shift)| -shift).max().unwrap_or(0).max(0);
        let count = |first: usize| (size - first).div_ceil(stride);
        let len = pairs.iter().map(|&(first, _, shift)| (shift + before) as usize + count(first)).max();
        let len = len.unwrap_or(0);
        let outputs_of = |first: usize| Outputs {
            first,
            step: stride,
            count: count(first),
            taps: pairs
                .iter()
                .filter(|pair| pair.0 == first)
                .map(|&(_, tap, shift)| AxisTap { tap, phase: 0, offset: (shift + before) as usize })
                .collect(),
        };
        Axis {
            size: outputs,
            stride: 1,
            phases: vec![Phase::new(-before, 1, len, outputs)],
            len,
            outputs: conv.phases(axis).iter().map(|&first| outputs_of(first)).collect(),
        }
    }
}

/// Stride, padding and dilation of an axis, and its numbers of taps, input and output pixels.
fn sizes(conv: &ConvShape, axis: usize) -> ([usize; 3], [usize; 3]) {
    let counts = [[conv.kh, conv.h, conv.oh], [conv.kw, conv.w, conv.ow]][axis];
    ([conv.stride, conv.padding, conv.dilation].map(|pair| pair[axis]), counts)
}

/// A sum over taps from the planes of a group of the source to those of the result: the forward pass or the input
/// gradient.
pub(super) struct Direction<'a> {
    pub conv: &'a ConvShape,
    pub rows: Axis,
    pub columns: Axis,
    /// The taps of each pair of `rows.outputs` and `columns.outputs`, in this order.
    pub taps: Vec<Taps>,
    /// Planes of the source in a group.
    pub src_planes: usize,
    /// Planes of the result in a group.
    pub dst_planes: usize,
    /// Weights from one plane of the source to the next.
    src_weights: usize,
    /// Weights from one plane of the result to the next.
    pub dst_weights: usize,
    /// Height and width of the result.
    pub dst: [usize; 2],
    src_batch_stride: usize,
    dst_batch_stride: usize,
}

impl<'a> Direction<'a> {
    pub fn forward(conv: &'a ConvShape) -> Self {
        Direction {
            conv,
            rows: Axis::forward(conv, 0),
            columns: Axis::forward(conv, 1),
            taps: Vec::new(),
            src_planes: conv.in_per_group,
            dst_planes: conv.out_per_group,
            src_weights: conv.kh * conv.kw,
            dst_weights: conv.filter_len(),
            dst: [conv.oh, conv.ow],
            src_batch_stride: conv.x_batch_stride,
            dst_batch_stride: conv.y_batch_stride,
        }
        .with_taps()
    }

    pub fn input_grad(conv: &'a ConvShape) -> Self {
        Direction {
            conv,
            rows: Axis::input_grad(conv, 0),
            columns: Axis::input_grad(conv, 1),
            taps: Vec::new(),
            src_planes: conv.out_per_group,
            dst_planes: conv.in_per_group,
            src_weights: conv.filter_len(),
            dst_weights: conv.kh * conv.kw,
            dst: [conv.h, conv.w],
            src_batch_stride: conv.y_batch_stride,
            dst_batch_stride: conv.x_batch_stride,
        }
        .with_taps()
    }

    /// Lists the taps of all pairs of outputs of rows and columns.
    fn with_taps(mut self) -> Self {
        let (phase_len, plane_len, pitch) = (self.phase_len(), self.plane_len(), self.columns.len);
        for rows in &self.rows.outputs {
            for columns in &self.columns.outputs {
                let mut all = Vec::new();
                for plane in 0..self.src_planes {
                    for r in &rows.taps {
                        for c in &columns.taps {
                            let phase = r.phase * self.columns.phases.len() + c.phase;
                            all.push(Tap {
                                offset: plane * plane_len + phase * phase_len + r.offset * pitch + c.offset,
                                index: plane * self.src_weights + self.conv.tap(r.tap, c.tap),
                            });
                        }
                    }
                }
                let reach = all.iter().map(|tap| tap.offset).max().unwrap_or(0);
                self.taps.push(Taps { all, reach });
            }
        }
        self
    }

    /// Floats of the buffer of one phase of one plane.
    pub fn phase_len(&self) -> usize {
        self.rows.len * self.columns.len
    }

    /// Floats of the buffer of all phases of one plane.
    fn plane_len(&self) -> usize {
        self.phase_len() * self.rows.phases.len() * self.columns.phases.len()
    }

    /// Floats of the buffer of a group; vectors may be read and written behind the end of the last plane.
    pub fn buffer_len(&self, lanes: usize) -> usize {
        self.src_planes * self.plane_len() + BLOCK * lanes
    }

    fn src_plane(&self) -> usize {
        self.rows.size * self.columns.size
    }

    /// Floats of a plane of the result.
    pub fn dst_plane(&self) -> usize {
        self.dst[0] * self.dst[1]
    }

    /// Returns where a plane of the result of a group of an image begins.
    pub fn dst_start(&self, image: usize, group: usize, plane: usize) -> usize {
        image * self.dst_batch_stride + (group * self.dst_planes + plane) * self.dst_plane()
    }

    /// Copies the planes of a group of an image into the buffer, whose other floats are 0 and stay so.
    #[inline(always)]
    pub fn fill<S: Simd>(&self, src: &[f32], image: usize, group: usize, buffer: &mut [f32]) {
        let plane = self.src_plane();
        let planes = &src[image * self.src_batch_stride + group * self.src_planes * plane..];
        for i in 0..self.src_planes {
            self.fill_plane::<S>(&planes[i * plane..][..plane], &mut buffer[i * self.plane_len()..]);
        }
    }

    #[inline(always)]
    fn fill_plane<S: Simd>(&self, plane: &[f32], buffer: &mut [f32]) {
        let mut start = 0;
        for row_phase in &self.rows.phases {
            for column_phase in &self.columns.phases {
                let (rows, columns) = (&row_phase.inside, &column_phase.inside);
                let to = &mut buffer[start..];
                start += self.phase_len();
                if columns.is_empty() {
                    continue;
                }
                let len = (columns.len() - 1) * self.columns.stride + 1;
                for (i, row) in rows.clone().enumerate() {
                    let from = (row_phase.first_pixel + i * self.rows.stride) * self.columns.size;
                    let from = &plane[from + column_phase.first_pixel..][..len];
                    copy_row::<S>(
                        from,
                        self.columns.stride,
                        &mut to[row * self.columns.len + columns.start..],
                    );
                }
            }
        }
    }

    /// Whether the columns of the result are the even and the odd ones.
    pub fn alternates(&self) -> bool {
        let columns: &[Outputs] = &self.columns.outputs;
        columns.len() == 2 && columns.iter().enumerate().all(|(i, c)| (c.first, c.step) == (i, 2))
    }

    /// Whether every pixel of the result is under a tap, so that it is written.
    pub fn covers_all(&self) -> bool {
        let all = |axis: &Axis, size: usize| axis.outputs.iter().map(|o| o.count).sum::<usize>() == size;
        all(&self.rows, self.dst[0]) && all(&self.columns, self.dst[1])
    }
}

/// Copies every `stride`-th float. Behind the last one, up to the next whole vector, may be zeros: what lies there is copied later,
/// or 0.
#[inline(always)]
pub(super) fn copy_row<S: Simd>(from: &[f32], stride: usize, to: &mut [f32]) {
    match stride {
        1 if from.len() < S::LANES => S::from_short_slice(from).to_short_slice(to),
        1 => {
            let to = &mut to[..from.len()];
            for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
                S::from_slice(from).to_slice(to);
            }
            // The last vector overlaps the one before.
            let last = from.len() - S::LANES;
            S::from_slice(&from[last..]).to_slice(&mut to[last..]);
        }
        2 => {
            for (from, to) in from.chunks(2 * S::LANES).zip(to.chunks_mut(S::LANES)) {
                let (first, second) = from.split_at(from.len().min(S::LANES));
                let (even, _) = S::from_short_slice(first).deinterleave(S::from_short_slice(second));
                even.to_short_slice(to);
            }
        }
        _ => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
    }
}
