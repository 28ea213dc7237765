//! Where the values of a plan lie on the CPU.
//!
//! All values between input and output share one buffer. A value needs its place from the step that makes it to the step that
//! uses it last; two that need theirs at the same time lie apart. The largest are placed first, each at the lowest place that
//! is free. What is joined into a larger value lies in its place there.

use smallvec::SmallVec;

use super::graph::{Graph, Source, last_uses};
use super::parts::{self, Spot};
use crate::core::profile;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::{Storage, Tensor};
use crate::core::view::{View, ViewMut};
use crate::memory::{Buffer, Scratch};
use neocog_base::Result;

/// Values start at multiples of this many floats: of a line of the cache.
const ALIGN: usize = 16;

/// In which memory a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// That of the plan's input.
    Input,
    /// That of the output's tensor.
    Output,
    /// The buffer.
    Buffer,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: Base,
    /// Of its first element.
    offset: usize,
    /// From a position along the first axis to the next.
    step: usize,
}

impl Place {
    /// Floats from the first element to the last.
    fn span(&self, shape: &Shape) -> usize {
        match shape.elements() {
            0 => 0,
            _ => (shape.first().copied().unwrap_or(1) - 1) * self.step + shape.row(),
        }
    }
}

/// Where all values lie.
#[derive(Debug)]
pub(super) struct Layout {
    places: Vec<Place>,
    floats: usize,
}

/// From the step that makes a value to the one that uses it last.
#[derive(Clone, Copy, Debug)]
struct Life {
    first: usize,
    last: usize,
}

impl Life {
    fn overlaps(&self, other: &Life) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Layout {
    pub(super) fn new(graph: &mut Graph, output: usize) -> Self {
        let spots = parts::join(graph, output);
        let lives = lives(graph, &spots);
        let is_root = |value: usize| spots[value].root == value && lives[value].is_some();
        let (input, output) = (spots[0].root, spots[output].root);
        let mut in_buffer: Vec<usize> =
            (0..spots.len()).filter(|&v| is_root(v) && v != input && v != output).collect();
        in_buffer.sort_by_key(|&v| (std::cmp::Reverse(graph.shapes[v].elements()), v));
        let size = |value: usize| graph.shapes[value].elements().next_multiple_of(ALIGN);
        let mut offsets = vec![0; spots.len()];
        let mut placed: Vec<usize> = Vec::with_capacity(in_buffer.len());
        let mut floats = 0;
        for value in in_buffer {
            let mut taken: Vec<(usize, usize)> = placed
                .iter()
                .filter(|&&other| lives[value].zip(lives[other]).is_some_and(|(a, b)| a.overlaps(&b)))
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
        let place = |&Spot { root, offset, step }: &Spot| {
            let base = match root {
                root if root == input => Base::Input,
                root if root == output => Base::Output,
                _ => Base::Buffer,
            };
            Place { base, offset: offsets[root] + offset, step }
        };
        Layout { places: spots.iter().map(place).collect(), floats }
    }

    /// Floats of the buffer.
    pub(super) fn floats(&self) -> usize {
        self.floats
    }

    /// From a position along a value's first axis to the next.
    #[cfg(test)]
    pub(super) fn step(&self, value: usize) -> usize {
        self.places[value].step
    }

    /// Runs all steps.
    pub(super) fn run(&self, graph: &Graph, output: usize, input: &Tensor) -> Result<Tensor> {
        let shape = graph.shapes[output];
        if self.places[output].base == Base::Input {
            return input.reshape(shape);
        }
        let mut buffer = Buffer::new(self.floats);
        let mut made = Buffer::new(shape.elements());
        let memory = Memory { input: input.cpu(), output: made.as_mut_ptr(), buffer: buffer.as_mut_ptr() };
        let scratch = Scratch::new();
        for step in graph.steps.iter().filter(|step| step.reshapes().is_none()) {
            let _scope = step.scope.enter();
            let inputs: SmallVec<[View<'_, f32>; 6]> = step
                .inputs
                .iter()
                .map(|source| match source {
                    Source::Constant(tensor) => View::new(tensor.shape(), tensor.cpu()),
                    // SAFETY: no step writes a value while another one uses it, see `Layout::new`.
                    Source::Value(value) => unsafe {
                        memory.view(self.places[*value], &graph.shapes[*value])
                    },
                })
                .collect();
            let mut outputs: SmallVec<[ViewMut<'_, f32>; 4]> = step
                .outputs()
                // SAFETY: the outputs of a step lie apart from each other and from all that it uses, see `Layout::new`
                // and `parts::join`; what lies between the rows of one is not used by this step.
                .map(|value| unsafe { memory.view_mut(self.places[value], &graph.shapes[value]) })
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

/// From when to when each root is needed: as long as any of the values that lie in it.
fn lives(graph: &Graph, spots: &[Spot]) -> Vec<Option<Life>> {
    let last_uses = last_uses(&graph.steps, graph.shapes.len());
    let mut lives: Vec<Option<Life>> = vec![None; graph.shapes.len()];
    for (i, step) in graph.steps.iter().enumerate() {
        step.outputs().for_each(|value| live(&mut lives[spots[value].root], i));
    }
    for (value, last) in last_uses.into_iter().enumerate() {
        last.into_iter().for_each(|last| live(&mut lives[spots[value].root], last));
    }
    lives
}

fn live(life: &mut Option<Life>, step: usize) {
    let life = life.get_or_insert(Life { first: step, last: step });
    *life = Life { first: life.first.min(step), last: life.last.max(step) };
}

/// The memory of one run.
struct Memory<'a> {
    input: &'a [f32],
    output: *mut f32,
    buffer: *mut f32,
}

impl<'a> Memory<'a> {
    /// # Safety
    /// Nobody may write the value while the view lives.
    unsafe fn view<'s>(&self, place: Place, shape: &'s Shape) -> View<'s, f32>
    where
        'a: 's,
    {
        let len = place.span(shape);
        let data = match place.base {
            Base::Input => &self.input[place.offset..place.offset + len],
            // SAFETY: the layout keeps all values within the memory; the caller's promise.
            Base::Output => unsafe { std::slice::from_raw_parts(self.output.add(place.offset), len) },
            // SAFETY: as above.
            Base::Buffer => unsafe { std::slice::from_raw_parts(self.buffer.add(place.offset), len) },
        };
        View { shape, data, step: place.step }
    }

    /// # Safety
    /// Nobody else may use the value, nor what lies between its rows, while the view lives.
    unsafe fn view_mut<'s>(&self, place: Place, shape: &'s Shape) -> ViewMut<'s, f32> {
        let start = match place.base {
            Base::Input => unreachable!("no step makes the input"),
            Base::Output => self.output,
            Base::Buffer => self.buffer,
        };
        // SAFETY: the layout keeps all values within the memory; the caller's promise.
        let data = unsafe { std::slice::from_raw_parts_mut(start.add(place.offset), place.span(shape)) };
        ViewMut { shape, data, step: place.step }
    }
}
