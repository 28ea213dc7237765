//! Where the values of a plan lie on the CPU.
//!
//! All values between input and output share one buffer. A value needs its place from the step that makes it to the step that
//! uses it last; two that need theirs at the same time lie apart. The largest are placed first, each at the lowest place that
//! is free.

use smallvec::SmallVec;

use super::{Graph, Source, last_uses};
use crate::error::Result;
use crate::memory::{Buffer, Scratch};
use crate::profile;
use crate::shape::{Shape, Shapes};
use crate::tensor::{Storage, Tensor};
use crate::view::{View, ViewMut};

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
    pub(super) fn new(graph: &Graph, output: usize) -> Self {
        let roots = roots(graph);
        let last_uses = last_uses(&graph.steps, graph.shapes.len());
        let mut lives: Vec<Option<Life>> = vec![None; graph.shapes.len()];
        for (i, step) in graph.steps.iter().enumerate() {
            for value in step.outputs() {
                let last = last_uses[value].unwrap_or(i).max(i);
                let life = lives[roots[value]].get_or_insert(Life { first: i, last });
                life.last = life.last.max(last);
            }
        }
        let mut places = vec![Place { base: Base::Buffer, offset: 0 }; graph.shapes.len()];
        places[roots[output]].base = Base::Output;
        places[roots[0]].base = Base::Input;
        let mut in_buffer: Vec<usize> = (0..graph.shapes.len())
            .filter(|&v| roots[v] == v && places[v].base == Base::Buffer && lives[v].is_some())
            .collect();
        in_buffer.sort_by_key(|&v| (std::cmp::Reverse(graph.shapes[v].elements()), v));
        let size = |value: usize| graph.shapes[value].elements().next_multiple_of(ALIGN);
        let mut placed: Vec<usize> = Vec::with_capacity(in_buffer.len());
        let mut floats = 0;
        for value in in_buffer {
            let mut taken: Vec<(usize, usize)> = placed
                .iter()
                .filter(|&&other| lives[value].zip(lives[other]).is_some_and(|(a, b)| a.overlaps(&b)))
                .map(|&other| (places[other].offset, size(other)))
                .collect();
            taken.sort_unstable();
            let mut offset = 0;
            for (start, len) in taken {
                if offset + size(value) <= start {
                    break;
                }
                offset = offset.max(start + len);
            }
            places[value].offset = offset;
            floats = floats.max(offset + size(value));
            placed.push(value);
        }
        for value in 0..places.len() {
            places[value] = places[roots[value]];
        }
        Layout { places, floats }
    }

    /// Floats of the buffer.
    pub(super) fn floats(&self) -> usize {
        self.floats
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
                    Source::Constant(tensor) => View { shape: tensor.shape(), data: tensor.cpu() },
                    // SAFETY: no step writes a value while another one uses it, see `Layout::new`.
                    Source::Value(value) => unsafe {
                        memory.view(self.places[*value], &graph.shapes[*value])
                    },
                })
                .collect();
            let mut outputs: SmallVec<[ViewMut<'_, f32>; 4]> = step
                .outputs()
                // SAFETY: the outputs of a step lie apart from each other and from all that is still needed.
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

/// The value in whose place each value lies: what only has another shape lies where it was.
fn roots(graph: &Graph) -> Vec<usize> {
    let mut roots: Vec<usize> = (0..graph.shapes.len()).collect();
    for step in &graph.steps {
        if let Some(value) = step.reshapes() {
            roots[step.first_output] = roots[value];
        }
    }
    roots
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
        let len = shape.elements();
        let data = match place.base {
            Base::Input => &self.input[place.offset..place.offset + len],
            // SAFETY: the layout keeps all values within the memory; the caller's promise.
            Base::Output => unsafe { std::slice::from_raw_parts(self.output.add(place.offset), len) },
            // SAFETY: as above.
            Base::Buffer => unsafe { std::slice::from_raw_parts(self.buffer.add(place.offset), len) },
        };
        View { shape, data }
    }

    /// # Safety
    /// Nobody else may use the value while the view lives.
    unsafe fn view_mut<'s>(&self, place: Place, shape: &'s Shape) -> ViewMut<'s, f32> {
        let start = match place.base {
            Base::Input => unreachable!("no step makes the input"),
            Base::Output => self.output,
            Base::Buffer => self.buffer,
        };
        // SAFETY: the layout keeps all values within the memory; the caller's promise.
        let data = unsafe { std::slice::from_raw_parts_mut(start.add(place.offset), shape.elements()) };
        ViewMut { shape, data }
    }
}
