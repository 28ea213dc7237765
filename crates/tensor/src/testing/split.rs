//! Checks that an operation that may be given parts of a batch computes parts of its outputs.

use crate::core::op::Op;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::testing::cases::Case;
use neocog_base::{Error, ErrorKind, Result};

/// Runs the parts of a case that [`Op::split_batch`] gives, for each choice of batched inputs, and compares the outputs with those of the
/// whole batch, in double precision. Returns the number of ways to split it.
///
/// # Errors
/// If a part has other outputs than the batch.
pub fn check_split_batch(case: &Case) -> Result<usize> {
    let shapes: Vec<Shape> = case.inputs.iter().map(|x| x.shape).collect();
    let values: Vec<Vec<f64>> =
        case.inputs.iter().zip(1..).map(|(x, i)| x.make(i).into_iter().map(f64::from).collect()).collect();
    let mut splits = 0;
    for choice in 1u32..1 << shapes.len().min(5) {
        let batched: Vec<bool> = (0..shapes.len()).map(|i| i < 5 && choice >> i & 1 == 1).collect();
        let mut extents =
            shapes.iter().zip(&batched).filter(|(_, batched)| **batched).map(|(shape, _)| shape.first());
        let Some(Some(&images)) = extents.next() else { continue };
        if images < 2 || extents.any(|extent| extent != Some(&images)) {
            continue;
        }
        for part in (1..images).filter(|part| images.is_multiple_of(*part)) {
            if let Some(op) = case.op.split_batch(&shapes, &batched, part) {
                check_parts(case, &*op, &shapes, &values, &batched, [images, part])?;
                splits += 1;
            }
        }
    }
    Ok(splits)
}

fn check_parts(
    case: &Case,
    op: &dyn Op,
    shapes: &[Shape],
    values: &[Vec<f64>],
    batched: &[bool],
    [images, part]: [usize; 2],
) -> Result<()> {
    let wrong = |what: String| {
        let which: Vec<usize> = (0..batched.len()).filter(|i| batched[*i]).collect();
        Error::new(ErrorKind::Mismatch, format!("{part} of {images} images of the inputs {which:?}: {what}"))
    };
    let whole_shapes = case.op.infer(shapes)?;
    let whole =
        run(&*case.op, &whole_shapes, shapes.iter().zip(values).map(|(shape, v)| View::new(shape, v)));
    let part_of = |shape: &Shape, is_batched: bool| {
        if is_batched { shape.with_extent(0, part) } else { Ok(*shape) }
    };
    let part_shapes: Vec<Shape> =
        shapes.iter().zip(batched).map(|(shape, batched)| part_of(shape, *batched)).collect::<Result<_>>()?;
    let outputs = op.infer(&part_shapes)?;
    let has_images = |shape: &Shape| shape.first() == Some(&images);
    let expected: Shapes =
        whole_shapes.iter().map(|shape| part_of(shape, has_images(shape))).collect::<Result<_>>()?;
    if outputs != expected || !whole_shapes.iter().all(has_images) {
        return Err(wrong(format!("its outputs are {outputs:?}, those of the batch {whole_shapes:?}")));
    }
    for i in 0..images / part {
        let views = part_shapes.iter().zip(values).zip(batched).map(|((shape, values), batched)| {
            let start = if *batched { i * shape.elements() } else { 0 };
            View::new(shape, &values[start..start + shape.elements()])
        });
        for (k, (got, whole)) in run(op, &outputs, views).iter().zip(&whole).enumerate() {
            let expected = &whole[i * got.len()..][..got.len()];
            if !got.iter().zip(expected).all(|(g, e)| g == e || g.is_nan() && e.is_nan()) {
                return Err(wrong(format!("output {k} of part {i} differs from that of the batch")));
            }
        }
    }
    Ok(())
}

fn run<'a>(op: &dyn Op, shapes: &[Shape], inputs: impl Iterator<Item = View<'a, f64>>) -> Vec<Vec<f64>> {
    let inputs: Vec<View<'_, f64>> = inputs.collect();
    let mut outputs: Vec<Vec<f64>> = shapes.iter().map(|shape| vec![f64::NAN; shape.elements()]).collect();
    let mut views: Vec<ViewMut<'_, f64>> =
        outputs.iter_mut().zip(shapes).map(|(values, shape)| ViewMut::new(shape, values)).collect();
    op.reference(&inputs, &mut views);
    outputs
}
