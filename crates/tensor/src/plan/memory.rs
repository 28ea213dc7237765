//! RunMemory layout of the values of a plan on the CPU.
//!
//! All intermediate values share one buffer. A value is live from the step that computes it to the last step that uses it;
//! values that are live at the same time do not overlap. The largest values are placed first, each at the lowest free offset.
//! Inputs of concatenations are stored within the concatenated value.

use smallvec::SmallVec;

use super::concat::{self, Slot};
use super::graph::{Graph, Source, last_uses};
use crate::core::profile;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::{Storage, Tensor};
use crate::core::view::{View, ViewMut};
use crate::memory::{Buffer, Scratch};
use neocog_base::Result;

/// Alignment of values in floats: a cache line.
const ALIGN: usize = 16;

/// The memory that stores a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// The plan's input.
    Input,
    /// The output tensor.
    Output,
    /// The shared buffer.
    Buffer,
}

/// Location of a value.
#[derive(Clone, Copy, Debug)]
struct Location {
    base: Base,
    /// Position of the first element.
    offset: usize,
    /// Distance between positions of the first axis.
    batch_stride: usize,
}

impl Location {
    /// Returns the number of floats from the first element to the last.
    fn span(&self, shape: &Shape) -> usize {
        match shape.elements() {
            0 => 0,
            _ => (shape.first().copied().unwrap_or(1) - 1) * self.batch_stride + shape.row(),
        }
    }
}

/// Locations of all values.
#[derive(Debug)]
pub(super) struct Layout {
    locations: Vec<Location>,
    floats: usize,
}

/// Live range of a value: from the step that computes it to the last step that uses it.
#[derive(Clone, Copy, Debug)]
struct LiveRange {
    first: usize,
    last: usize,
}

impl LiveRange {
    fn overlaps(&self, other: &LiveRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Layout {
    pub(super) fn new(graph: &mut Graph, output: usize) -> Self {
        let slots = concat::place_in_output(graph, output);
        let ranges = ranges(graph, &slots);
        let is_root = |value: usize| slots[value].root == value && ranges[value].is_some();
        let (input, output) = (slots[0].root, slots[output].root);
        let mut in_buffer: Vec<usize> =
            (0..slots.len()).filter(|&v| is_root(v) && v != input && v != output).collect();
        in_buffer.sort_by_key(|&v| (std::cmp::Reverse(graph.shapes[v].elements()), v));
        let size = |value: usize| graph.shapes[value].elements().next_multiple_of(ALIGN);
        let mut offsets = vec![0; slots.len()];
        let mut placed: Vec<usize> = Vec::with_capacity(in_buffer.len());
        let mut floats = 0;
        for value in in_buffer {
            let mut taken: Vec<(usize, usize)> = placed
                .iter()
                .filter(|&&other| ranges[value].zip(ranges[other]).is_some_and(|(a, b)| a.overlaps(&b)))
                .map(|&other| (offsets[other], size(other)))
                .collect();
            taken.sort_unstable();
            let mut offset = 0;
            for (start, len) in taken {
                if offset + size(value) <= start {
                    break;
                }
                offset = offset.max(start + len);
            }
            offsets[value] = offset;
            floats = floats.max(offset + size(value));
            placed.push(value);
        }
        let location = |&Slot { root, offset, batch_stride }: &Slot| {
            let base = match root {
                root if root == input => Base::Input,
                root if root == output => Base::Output,
                _ => Base::Buffer,
            };
            Location { base, offset: offsets[root] + offset, batch_stride }
        };
        Layout { locations: slots.iter().map(location).collect(), floats }
    }

    /// Returns the size of the buffer in floats.
    pub(super) fn floats(&self) -> usize {
        self.floats
    }

    /// Returns the batch stride of a value.
    #[cfg(test)]
    pub(super) fn batch_stride(&self, value: usize) -> usize {
        self.locations[value].batch_stride
    }

    /// Runs all steps.
    pub(super) fn run(&self, graph: &Graph, output: usize, input: &Tensor) -> Result<Tensor> {
        let shape = graph.shapes[output];
        if self.locations[output].base == Base::Input {
            return input.reshape(shape);
        }
        let mut buffer = Buffer::new(self.floats);
        let mut made = Buffer::new(shape.elements());
        let memory = RunMemory { input: input.cpu(), output: made.as_mut_ptr(), buffer: buffer.as_mut_ptr() };
        let scratch = Scratch::new();
        for step in graph.steps.iter().filter(|step| step.reshapes().is_none()) {
            let _scope = step.scope.enter();
            let inputs: SmallVec<[View<'_, f32>; 6]> = step
                .inputs
                .iter()
                .map(|source| match source {
                    Source::Constant(tensor) => View::new(tensor.shape(), tensor.cpu()),
                    // SAFETY: no step writes to a value that is live, see `Layout::new`.
                    Source::Value(value) => unsafe {
                        memory.view(self.locations[*value], &graph.shapes[*value])
                    },
                })
                .collect();
            let mut outputs: SmallVec<[ViewMut<'_, f32>; 4]> = step
                .outputs()
                // SAFETY: the outputs of a step overlap neither each other nor its inputs, see `Layout::new` and
                // `concat::place_in_output`; the step does not access the memory between the images of an output.
                .map(|value| unsafe { memory.view_mut(self.locations[value], &graph.shapes[value]) })
                .collect();
            let start = profile::start();
            step.op.cpu(&inputs, &mut outputs, &scratch);
            if start.is_some() {
                let shapes: Shapes = step.outputs().map(|value| graph.shapes[value]).collect();
                profile::end(start, &*step.op, inputs.iter().map(|view| *view.shape), &shapes);
            }
        }
        Ok(Tensor::new(shape, Storage::Cpu(std::sync::Arc::new(made))))
    }
}

/// Returns the live range of each root value: that of all values stored in it.
fn ranges(graph: &Graph, slots: &[Slot]) -> Vec<Option<LiveRange>> {
    let last_uses = last_uses(&graph.steps, graph.shapes.len());
    let mut ranges: Vec<Option<LiveRange>> = vec![None; graph.shapes.len()];
    for (i, step) in graph.steps.iter().enumerate() {
        step.outputs().for_each(|value| extend(&mut ranges[slots[value].root], i));
    }
    for (value, last) in last_uses.into_iter().enumerate() {
        last.into_iter().for_each(|last| extend(&mut ranges[slots[value].root], last));
    }
    ranges
}

fn extend(range: &mut Option<LiveRange>, step: usize) {
    let range = range.get_or_insert(LiveRange { first: step, last: step });
    *range = LiveRange { first: range.first.min(step), last: range.last.max(step) };
}

/// The memory of one run.
struct RunMemory<'a> {
    input: &'a [f32],
    output: *mut f32,
    buffer: *mut f32,
}

impl<'a> RunMemory<'a> {
    /// # Safety
    /// The value must not be written while the view exists.
    unsafe fn view<'s>(&self, location: Location, shape: &'s Shape) -> View<'s, f32>
    where
        'a: 's,
    {
        let len = location.span(shape);
        let data = match location.base {
            Base::Input => &self.input[location.offset..location.offset + len],
            // SAFETY: the layout places all values within the memory; the caller excludes aliasing.
            Base::Output => unsafe { std::slice::from_raw_parts(self.output.add(location.offset), len) },
            // SAFETY: as above.
            Base::Buffer => unsafe { std::slice::from_raw_parts(self.buffer.add(location.offset), len) },
        };
        View { shape, data, batch_stride: location.batch_stride }
    }

    /// # Safety
    /// The value, and the memory between its images, must not be accessed otherwise while the view exists.
    unsafe fn view_mut<'s>(&self, location: Location, shape: &'s Shape) -> ViewMut<'s, f32> {
        let start = match location.base {
            Base::Input => unreachable!("no step computes the input"),
            Base::Output => self.output,
            Base::Buffer => self.buffer,
        };
        // SAFETY: the layout places all values within the memory; the caller excludes aliasing.
        let data =
            unsafe { std::slice::from_raw_parts_mut(start.add(location.offset), location.span(shape)) };
        ViewMut { shape, data, batch_stride: location.batch_stride }
    }
}
