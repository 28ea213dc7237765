//! Which part of the picture a number of a network can depend on.

use std::collections::HashMap;

use neocog_autograd::Tape;
use neocog_tensor::Window;

/// The receptive field of the elements of a map: the pixels of the input that they can depend on. Each pair is
/// `[rows, columns]`, in pixels of the input. A. Araujo, W. Norris, J. Sim, "Computing receptive fields of convolutional
/// neural networks", Distill 2019.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReceptiveField {
    /// Its extent, padding included.
    pub size: [usize; 2],
    /// How far those of neighbours are apart.
    pub stride: [usize; 2],
    /// The middle of the first element's; 0 is the middle of the first pixel. Padding can move it outside of the picture.
    pub centre: [f64; 2],
}

/// The same on one axis, as the first element sees it: from the pixel `low` to the pixel `high`.
#[derive(Clone, Copy)]
struct Span {
    low: i64,
    high: i64,
    stride: usize,
}

/// A value of the network: its spans.
#[derive(Clone, Copy)]
pub(crate) struct Field([Span; 2]);

impl Field {
    /// That of the input itself.
    fn of_input() -> Self {
        Field([Span { low: 0, high: 0, stride: 1 }; 2])
    }

    /// Of what is seen through a window.
    fn through(self, window: &Window) -> Self {
        let mut field = self;
        for (axis, span) in field.0.iter_mut().enumerate() {
            let stride = span.stride as i64;
            let reach = (window.kernel_size[axis].max(1) - 1) * window.dilation[axis];
            span.low -= window.padding[axis] as i64 * stride;
            span.high += (reach as i64 - window.padding[axis] as i64) * stride;
            span.stride *= window.stride[axis].max(1);
        }
        field
    }

    /// Of what depends on both.
    fn and(self, other: Field) -> Self {
        let mut field = self;
        for (span, other) in field.0.iter_mut().zip(other.0) {
            span.low = span.low.min(other.low);
            span.high = span.high.max(other.high);
            span.stride = span.stride.max(other.stride);
        }
        field
    }

    pub(crate) fn receptive_field(self) -> ReceptiveField {
        let Field(spans) = self;
        ReceptiveField {
            size: spans.map(|s| (s.high - s.low + 1) as usize),
            stride: spans.map(|s| s.stride),
            centre: spans.map(|s| (s.low + s.high) as f64 / 2.0),
        }
    }
}

/// The fields of all values on a tape that depend on `input`, by slot.
pub(crate) fn fields(tape: &Tape, input: Option<usize>) -> HashMap<usize, Field> {
    let mut fields: HashMap<usize, Field> = input.map(|slot| (slot, Field::of_input())).into_iter().collect();
    tape.for_each_step(|step| {
        let inputs = step.inputs.iter().filter_map(|slot| fields.get(slot.as_ref()?).copied());
        let Some(field) = inputs.reduce(Field::and) else { return };
        let field = step.op.window(step.input_shapes).map_or(field, |window| field.through(&window));
        fields.extend((0..step.output_shapes.len()).map(|i| (step.first_output + i, field)));
    });
    fields
}
