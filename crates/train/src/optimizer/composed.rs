//! Steps that need more than one pass over a parameter: they are composed of operations, on any device.

use neocog_models::OptimizerKind;
use neocog_tensor::ops::{
    Accumulate, AdamStep, Add, Div, Gt, MatMul, Maximum, Mul, Scale, Sqrt, Sub, Sum, Where,
};
use neocog_tensor::{Error, ErrorKind, Op, Result, Tensor, run_single, update};

/// The coefficients of an iteration `a X + b (X X^T) X + c (X X^T)^2 X`, which brings singular values near 1.
const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Number of iterations.
const ITERATIONS: usize = 5;
/// Added to the norm that the matrix is divided by.
const EPS: f64 = 1e-7;

/// Makes step number `step`, from 1, of a parameter.
pub(super) fn step(
    kind: &OptimizerKind,
    lr: f64,
    step: u64,
    param: &mut Tensor,
    grad: &Tensor,
    state: &mut [Tensor],
) -> Result<()> {
    match (*kind, state) {
        (OptimizerKind::Lamb { betas, eps, weight_decay }, [first, second]) => {
            // The step of Adam from 0 is the direction, with the other sign.
            let mut direction = Tensor::zeros(*param.shape(), &param.device())?;
            let adam = AdamStep { betas, eps, ..AdamStep::new(1.0, step) };
            update(&adam, &[grad], &mut [&mut direction, first, second])?;
            let mut change = direction;
            if weight_decay != 0.0 {
                change = run_single(&Sub, &[&change, &scaled(param, weight_decay)?])?;
            }
            let ratio = trust_ratio(&norm(param)?, &norm(&change)?)?;
            let change = run_single(&Mul, &[&change, &scaled(&ratio, lr)?])?;
            add(param, &change)
        }
        (OptimizerKind::Muon { momentum, nesterov, weight_decay }, [buffer]) => {
            // buffer + (1 - momentum) (grad - buffer)
            let change = scaled(&run_single(&Sub, &[grad, buffer])?, 1.0 - momentum)?;
            add(buffer, &change)?;
            let mut direction = buffer.clone();
            if nesterov {
                let ahead = scaled(&run_single(&Sub, &[buffer, grad])?, momentum)?;
                direction = run_single(&Add, &[grad, &ahead])?;
            }
            let orthogonal = orthogonalized(&direction)?;
            let rows = param.shape()[0];
            let columns = param.shape().elements() / rows.max(1);
            // The root mean square of a step of AdamW.
            let factor = -lr * 0.2 * (rows.max(columns) as f64).sqrt();
            if weight_decay != 0.0 {
                let decay = scaled(param, -lr * weight_decay)?;
                add(param, &decay)?;
            }
            add(param, &scaled(&orthogonal.reshape(*param.shape())?, factor)?)
        }
        _ => Err(Error::new(ErrorKind::Internal, format!("{} has other state", kind.name()))),
    }
}

fn scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    run_single(&Scale { factor }, &[x])
}

fn add(to: &mut Tensor, x: &Tensor) -> Result<()> {
    update(&Accumulate, &[x], &mut [to]).map(drop)
}

/// The Euclidean norm, a scalar.
fn norm(x: &Tensor) -> Result<Tensor> {
    run_single(&Sqrt, &[&run_single(&Sum, &[&run_single(&Mul, &[x, x])?])?])
}

/// The ratio of two norms; 1 if either is 0.
fn trust_ratio(param: &Tensor, change: &Tensor) -> Result<Tensor> {
    let [zero, one] = [0.0, 1.0].map(|value| Tensor::full([], value, &param.device()));
    let (zero, one) = (zero?, one?);
    let [a, b] = [param, change].map(|norm| run_single(&Gt, &[norm, &zero]));
    let both = run_single(&Mul, &[&a?, &b?])?;
    run_single(&Where, &[&both, &run_single(&Div, &[param, change])?, &one])
}

/// The orthogonal matrix next to a tensor, as a matrix with a row for each extent of its first axis.
fn orthogonalized(x: &Tensor) -> Result<Tensor> {
    let rows = x.shape()[0];
    let matrix = x.reshape([rows, x.shape().elements() / rows.max(1)])?;
    let [rows, columns] = [matrix.shape()[0], matrix.shape()[1]];
    // The smaller product.
    let is_tall = rows > columns;
    let least = Tensor::full([], EPS, &x.device())?;
    let mut x = run_single(&Div, &[&matrix, &run_single(&Maximum, &[&norm(&matrix)?, &least])?])?;
    let [a, b, c] = NEWTON_SCHULZ;
    let product = |transpose_a, transpose_b, left: &Tensor, right: &Tensor| {
        let op: &dyn Op = &MatMul { transpose_a, transpose_b };
        run_single(op, &[left, right])
    };
    for _ in 0..ITERATIONS {
        let square = product(is_tall, !is_tall, &x, &x)?;
        let polynomial = run_single(
            &Add,
            &[&scaled(&square, b)?, &scaled(&product(false, false, &square, &square)?, c)?],
        )?;
        let corrected = if is_tall {
            product(false, false, &x, &polynomial)
        } else {
            product(false, false, &polynomial, &x)
        };
        x = run_single(&Add, &[&scaled(&x, a)?, &corrected?])?;
    }
    Ok(x)
}
