//! Normalizations and softmax.

use neocog_tensor::ops;

use super::elementwise::{activate, finish_activated};
use crate::export::form::{Attribute, Form};
use crate::register_onnx_form;

register_onnx_form!("softmax", ops::Softmax, |op, form| {
    form.finish("Softmax", [form.input(0)], [("axis", Attribute::Int(op.dim as i64))]);
    Ok(())
});

register_onnx_form!("log_softmax", ops::LogSoftmax, |op, form| {
    form.finish("LogSoftmax", [form.input(0)], [("axis", Attribute::Int(op.dim as i64))]);
    Ok(())
});

register_onnx_form!("batch_norm_eval", ops::BatchNormEval, |op, form| {
    let [x, mean, var] = [0, 1, 2].map(|i| form.input(i));
    let (weight, bias) = if form.input_count() == 5 {
        (form.input(3), form.input(4))
    } else {
        let channels = form.fixed(form.dims(1), 0)?;
        let weight = form.floats("weight", &[channels], &vec![1.0; channels])?;
        (weight, form.floats("bias", &[channels], &vec![0.0; channels])?)
    };
    let attributes = vec![("epsilon", Attribute::Float(op.eps as f32))];
    let inputs = vec![x, weight, bias, mean, var];
    finish_activated(form, op.activation, "BatchNormalization", inputs, attributes)
});

// By the statistics of the input: layer norm and group norm, and batch norm without running statistics.
register_onnx_form!("batch_norm_train", ops::BatchNormTrain, |op, form| {
    let x = form.input(0);
    let rank = form.dims(0).len();
    let axes: Vec<i64> = (0..rank as i64).filter(|axis| *axis != 1).collect();
    let mean = reduce_mean(form, &x, &axes);
    let centered = form.node("Sub", [&x, &mean], []);
    let square = form.node("Mul", [&centered, &centered], []);
    let variance = reduce_mean(form, &square, &axes);
    let eps = form.scalar("eps", op.eps)?;
    let sum = form.node("Add", [&variance, &eps], []);
    let deviation = form.node("Sqrt", [&sum], []);
    let mut steps = vec![("Div", centered, deviation)];
    if form.input_count() == 3 {
        let mut shape = vec![1i64; rank];
        shape[1] = form.fixed(form.dims(1), 0)? as i64;
        let shape = form.ints("shape", &shape);
        for (position, op_type) in [(1, "Mul"), (2, "Add")] {
            let reshaped = form.node("Reshape", [&form.input(position), &shape], []);
            steps.push((op_type, String::new(), reshaped));
        }
    }
    let (last, value) = chain(form, steps);
    match op.activation {
        Some(activation) => {
            let value = form.node_of(last, value, Vec::new());
            activate(form, activation, &value)
        }
        None => {
            form.finish_of(last, value, Vec::new());
            Ok(())
        }
    }
});

/// Adds the nodes of a chain of binary operations but the last one, which is returned with its inputs. The first input of all but
/// the first is the result of the one before.
fn chain(form: &mut Form<'_>, steps: Vec<(&'static str, String, String)>) -> (&'static str, Vec<String>) {
    let mut pending: Option<(&'static str, Vec<String>)> = None;
    for (op_type, left, right) in steps {
        let left = match pending.take() {
            Some((before, inputs)) => form.node_of(before, inputs, Vec::new()),
            None => left,
        };
        pending = Some((op_type, vec![left, right]));
    }
    pending.unwrap_or(("Identity", Vec::new()))
}

/// Computes the mean along axes, which remain with an extent of 1.
fn reduce_mean(form: &mut Form<'_>, x: &str, axes: &[i64]) -> String {
    if form.opset() >= 18 {
        let axes = form.ints("axes", axes);
        return form.node("ReduceMean", [x, &axes], [("keepdims", Attribute::Int(1))]);
    }
    let attributes = [("axes", Attribute::Ints(axes.to_vec())), ("keepdims", Attribute::Int(1))];
    form.node("ReduceMean", [x], attributes)
}
