//! Elementwise operations and activations.

use neocog_base::{Error, Result};
use neocog_tensor::ops::{self, Activation};

use crate::export::form::{Attribute, Form};
use crate::register_onnx_form;

register_onnx_form!("add", ops::Add, |_, form| binary(form, "Add"));
register_onnx_form!("sub", ops::Sub, |_, form| binary(form, "Sub"));
register_onnx_form!("mul", ops::Mul, |_, form| binary(form, "Mul"));

register_onnx_form!("add_relu", ops::AddRelu, |_, form| {
    let sum = form.node("Add", [form.input(0), form.input(1)], []);
    form.finish("Relu", [sum], []);
    Ok(())
});

register_onnx_form!("scale", ops::Scale, |op, form| {
    let factor = form.scalar("factor", op.factor)?;
    form.finish("Mul", [form.input(0), factor], []);
    Ok(())
});

register_onnx_form!("prelu", ops::PRelu, |_, form| {
    // ONNX broadcasts the slope to the input, not the other way round.
    if form.dims(0) != form.output_dims(0) {
        return Err(Error::shape("the slope of an ONNX PRelu must not have more extents than the input"));
    }
    binary(form, "PRelu")
});

register_onnx_form!("leaky_relu", ops::LeakyRelu, |op, form| {
    let alpha = Attribute::Float(op.negative_slope as f32);
    form.finish("LeakyRelu", [form.input(0)], [("alpha", alpha)]);
    Ok(())
});

register_onnx_form!("elu", ops::Elu, |op, form| {
    form.finish("Elu", [form.input(0)], [("alpha", Attribute::Float(op.alpha as f32))]);
    Ok(())
});

macro_rules! activations {
    ($($op:ident $name:literal,)*) => {$(
        register_onnx_form!($name, ops::$op, |_, form| activate(form, Activation::$op, &form.input(0)));
    )*};
}

activations! {
    Relu "relu", Sigmoid "sigmoid", Tanh "tanh", Relu6 "relu6", Hardswish "hardswish", Hardsigmoid "hardsigmoid",
    Silu "silu", Gelu "gelu", GeluTanh "gelu_tanh",
}

fn binary(form: &mut Form<'_>, op_type: &str) -> Result<()> {
    form.finish(op_type, [form.input(0), form.input(1)], []);
    Ok(())
}

/// Adds the node of an operation and of the activation that is fused into it, which compute the first output.
pub(super) fn finish_activated(
    form: &mut Form<'_>,
    activation: Option<Activation>,
    op_type: &str,
    inputs: Vec<String>,
    attributes: Vec<(&str, Attribute)>,
) -> Result<()> {
    match activation {
        None => {
            form.finish_of(op_type, inputs, attributes);
            Ok(())
        }
        Some(activation) => {
            let value = form.node_of(op_type, inputs, attributes);
            activate(form, activation, &value)
        }
    }
}

/// Adds the nodes of an activation of `x`, which compute the first output.
pub(super) fn activate(form: &mut Form<'_>, activation: Activation, x: &str) -> Result<()> {
    match activation {
        Activation::Relu => form.finish("Relu", [x], []),
        Activation::Sigmoid => form.finish("Sigmoid", [x], []),
        Activation::Tanh => form.finish("Tanh", [x], []),
        Activation::Relu6 => {
            let (low, high) = (form.scalar("low", 0.0)?, form.scalar("high", 6.0)?);
            form.finish("Clip", [x, &low, &high], []);
        }
        Activation::Hardswish => form.finish("HardSwish", [x], []),
        Activation::Hardsigmoid => {
            let (alpha, beta) = (Attribute::Float(1.0 / 6.0), Attribute::Float(0.5));
            form.finish("HardSigmoid", [x], [("alpha", alpha), ("beta", beta)]);
        }
        Activation::Silu => {
            let sigmoid = form.node("Sigmoid", [x], []);
            form.finish("Mul", [x, &sigmoid], []);
        }
        Activation::Gelu | Activation::GeluTanh if form.opset() >= 20 => {
            let approximate = if activation == Activation::Gelu { "none" } else { "tanh" };
            form.finish("Gelu", [x], [("approximate", Attribute::Text(approximate))]);
        }
        Activation::Gelu => {
            let factor = form.scalar("inverse_root_of_two", std::f64::consts::FRAC_1_SQRT_2)?;
            let scaled = form.node("Mul", [x, &factor], []);
            let erf = form.node("Erf", [&scaled], []);
            half_of_one_and(form, x, &erf)?;
        }
        Activation::GeluTanh => {
            // sqrt(2 / pi) (x + 0.044715 x³)
            let (root, cubic) =
                (form.scalar("root", 0.797_884_560_802_865_4)?, form.scalar("cubic", 0.044_715)?);
            let one = form.scalar("one", 1.0)?;
            let square = form.node("Mul", [x, x], []);
            let scaled = form.node("Mul", [&square, &cubic], []);
            let factor = form.node("Add", [&scaled, &one], []);
            let product = form.node("Mul", [x, &factor], []);
            let inner = form.node("Mul", [&product, &root], []);
            let tanh = form.node("Tanh", [&inner], []);
            half_of_one_and(form, x, &tanh)?;
        }
    }
    Ok(())
}

/// Computes `x (1 + y) / 2`.
fn half_of_one_and(form: &mut Form<'_>, x: &str, y: &str) -> Result<()> {
    let (one, half) = (form.scalar("one", 1.0)?, form.scalar("half", 0.5)?);
    let sum = form.node("Add", [y, &one], []);
    let product = form.node("Mul", [x, &sum], []);
    form.finish("Mul", [&product, &half], []);
    Ok(())
}
