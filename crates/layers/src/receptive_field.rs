//! Receptive fields.

use std::collections::HashMap;

use neocog_autograd::Tape;
use neocog_tensor::Window;

/// The receptive field of the elements of a feature map: the pixels of the input that an element can depend on. Each pair is
/// `[height, width]`, in pixels of the input. A. Araujo, W. Norris, J. Sim, "Computing receptive fields of convolutional neural
/// networks", Distill 2019.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReceptiveField {
    /// Size, including padding. Larger ones than 64 bits can hold are `usize::MAX`, as are strides.
    pub size: [usize; 2],
    /// Distance between the receptive fields of neighboring elements.
    pub stride: [usize; 2],
    /// Center of the receptive field of the first element, relative to the center of the first pixel. It can lie in the padding.
    pub center: [f64; 2],
}

/// The receptive field of the first element on one axis, from pixel `low` to pixel `high`.
#[derive(Clone, Copy)]
struct Span {
    low: i128,
    high: i128,
    stride: i128,
}

/// The receptive field of a value, by axis.
#[derive(Clone, Copy)]
pub(crate) struct Field([Span; 2]);

impl Field {
    /// The receptive field of the input: one pixel.
    fn of_input() -> Self {
        Field([Span { low: 0, high: 0, stride: 1 }; 2])
    }

    /// The receptive field of the output of a sliding window.
    fn windowed(self, window: &Window) -> Self {
        let mut field = self;
        for (axis, span) in field.0.iter_mut().enumerate() {
            let stride = span.stride;
            let reach = (window.kernel_size[axis].max(1) as i128 - 1) * window.dilation[axis] as i128;
            let padding = window.padding[axis] as i128;
            span.low = span.low.saturating_sub(padding.saturating_mul(stride));
            span.high = span.high.saturating_add((reach - padding).saturating_mul(stride));
            span.stride = stride.saturating_mul(window.stride[axis].max(1) as i128);
        }
        field
    }

    /// The union with the receptive field of another input.
    fn union(self, other: Field) -> Self {
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
            size: spans.map(|s| within_usize(s.high.saturating_sub(s.low).saturating_add(1))),
            stride: spans.map(|s| within_usize(s.stride)),
            center: spans.map(|s| s.low.saturating_add(s.high) as f64 / 2.0),
        }
    }
}

fn within_usize(number: i128) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Returns the receptive fields of all values on a tape that depend on `input`, by slot.
pub(crate) fn fields(tape: &Tape, input: Option<usize>) -> HashMap<usize, Field> {
    let mut fields: HashMap<usize, Field> = input.map(|slot| (slot, Field::of_input())).into_iter().collect();
    tape.for_each_entry(|entry| {
        let inputs = entry.inputs.iter().filter_map(|slot| fields.get(slot.as_ref()?).copied());
        let Some(field) = inputs.reduce(Field::union) else { return };
        let field = entry.op.window(entry.input_shapes).map_or(field, |window| field.windowed(&window));
        fields.extend((0..entry.output_shapes.len()).map(|i| (entry.first_output + i, field)));
    });
    fields
}
