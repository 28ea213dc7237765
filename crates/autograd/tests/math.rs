//! Operators and methods on values: NumPy's broadcasting, gradients, and what is an error.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::check::{Check, check_function};
use neocog_autograd::{Param, Tape, Var};
use neocog_tensor::{Device, Result, Shape, Tensor};

/// Different numbers above 0.
fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| 0.3 + ((i as u64 * 37 + seed * 11) % 97) as f64 / 60.0;
    let values: Vec<f64> = (0..count).map(value).collect();
    Tensor::from_f64(Shape::new(shape).unwrap(), &values, &Device::Reference).unwrap()
}

fn values(var: &Var) -> Vec<f64> {
    var.tensor().to_f64().unwrap()
}

type Function = fn(&[Var]) -> Result<Var>;

/// Compares the gradients of `f` with central differences.
fn check(name: &str, shapes: &[&[usize]], f: Function) {
    let inputs: Vec<(&str, Tensor)> = shapes
        .iter()
        .zip(1..)
        .zip(["a", "b", "c"])
        .map(|((shape, seed), name)| (name, tensor(shape, seed)))
        .collect();
    let report = check_function(&inputs, &Check::default(), |_, vars| f(vars)).unwrap();
    report.into_result().unwrap_or_else(|e| panic!("{name}: {e}"));
}

#[test]
fn gradients_are_those_of_central_differences() {
    check("arithmetic", &[&[2, 3], &[3]], |x| &(&(&x[0] + &x[1])? * &(&x[0] - 2.0)?)? / &x[1]);
    check("numbers on the left", &[&[4]], |x| &(1.0 - &x[0])? * &(2.0 / &x[0])?);
    check("negative", &[&[4]], |x| -&x[0]);
    check("functions", &[&[2, 3]], |x| &x[0].exp()?.log()?.sqrt()? + &x[0].pow(1.5)?.abs()?);
    check("clamp", &[&[9]], |x| x[0].clamp(0.5, 1.2));
    check("larger and smaller", &[&[3, 4], &[4]], |x| &x[0].maximum(&x[1])? * &x[0].minimum(&x[1])?);
    check("where", &[&[2, 1], &[3]], |x| {
        let above = x[0].detach().gt(&x[1].detach())?;
        above.where_else(&x[0], &(&x[1] * 3.0)?)
    });
    check("sums", &[&[2, 3, 4]], |x| &x[0].sum_over(&[0, 2], true)? * &x[0].mean_over(&[1], true)?);
    check("transposed", &[&[2, 3, 4]], |x| x[0].transpose(0, 2)?.reshape([4, 6])?.softmax(1));
    check("gather", &[&[3, 4]], |x| {
        let index = Tensor::from_f64([3, 2], &[0.0, 3.0, 1.0, 1.0, 2.0, 0.0], &Device::Reference)?;
        x[0].gather(1, &Var::constant(index))
    });
    check("a product", &[&[3, 2], &[2, 4]], |x| x[0].matmul(&x[1]));
    check("products", &[&[2, 1, 3, 2], &[4, 2, 3]], |x| x[0].matmul(&x[1]));
    check("a layer norm", &[&[3, 5], &[5]], |x| {
        let centered = (&x[0] - &x[0].mean_over(&[1], true)?)?;
        let variance = centered.square()?.mean_over(&[1], true)?;
        &(&centered / &(&variance + 1e-5)?.sqrt()?)? * &x[1]
    });
    check("attention", &[&[2, 3, 4], &[2, 5, 4], &[2, 5, 4]], |x| {
        let scores = (&x[0].matmul(&x[1].transpose(1, 2)?)? / 2.0)?;
        scores.softmax(-1)?.matmul(&x[2])
    });
}

#[test]
fn values_are_those_of_plain_loops() {
    let a = Var::constant(tensor(&[2, 1, 3], 1));
    let b = Var::constant(tensor(&[4, 1], 2));
    let (x, y, sum) = (values(&a), values(&b), (&a + &b).unwrap());
    assert_eq!(sum.shape().extents(), [2, 4, 3]);
    for (i, v) in values(&sum).into_iter().enumerate() {
        assert_eq!(v, x[i / 12 * 3 + i % 3] + y[i / 3 % 4]);
    }
    let (a, b) = (Var::constant(tensor(&[2, 1, 3, 2], 1)), Var::constant(tensor(&[4, 2, 3], 2)));
    let (x, y, product) = (values(&a), values(&b), a.matmul(&b).unwrap());
    assert_eq!(product.shape().extents(), [2, 4, 3, 3]);
    for (i, v) in values(&product).into_iter().enumerate() {
        let (m, k, row, column) = (i / 36, i / 9 % 4, i / 3 % 3, i % 3);
        let expected: f64 = (0..2).map(|t| x[m * 6 + row * 2 + t] * y[k * 6 + t * 3 + column]).sum();
        assert!((v - expected).abs() < 1e-14);
    }
    let x = Var::constant(tensor(&[2, 3, 2], 5));
    let mean = x.mean_over(&[0, 2], false).unwrap();
    assert_eq!(mean.shape().extents(), [3]);
    let v = values(&x);
    assert!((values(&mean)[1] - (v[2] + v[3] + v[8] + v[9]) / 4.0).abs() < 1e-15);
    let order = [(x.lt(&x), 0.0), (x.le(&x), 1.0), (x.ge(&x), 1.0), (x.eq_to(&x), 1.0)];
    order.into_iter().for_each(|(got, expected)| assert_eq!(values(&got.unwrap()), [expected; 12]));
}

#[test]
fn misuse_is_an_error() {
    let tape = Tape::new();
    let x = tape.leaf(tensor(&[2, 3], 1));
    let other = Var::constant(tensor(&[4], 1));
    for (result, expected) in [
        (&x + &other, "do not broadcast"),
        (x.matmul(&x), "the inner extents differ"),
        (other.matmul(&x), "matmul expects matrices"),
        (x.sum_over(&[2], true), "[2] are not different axes of [2, 3]"),
        (x.sum_over(&[1, 1], true), "[1, 1] are not different axes"),
        (x.transpose(0, 2), "0 and 2 are not axes of [2, 3]"),
        (x.reshape([7]), "elements"),
        (x.clamp(1.0, 0.0), "minimum that is at most the maximum"),
        (&x + &Tape::new().leaf(tensor(&[2, 3], 1)), "another tape"),
    ] {
        let e = result.unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
    }
    tape.backward(&x.sum().unwrap()).unwrap();
    let e = (&x + 1.0).unwrap_err().to_string();
    assert!(e.contains("a backward pass has used up"), "{e}");
    assert!((&x.detach() + 1.0).is_ok());
}

#[test]
fn gradients_are_scaled_clipped_and_added() {
    let (a, b) = (Param::new(tensor(&[3], 1)), Param::new(tensor(&[2], 2)));
    let grads = |both: bool| {
        let tape = Tape::new();
        let mut loss = (&tape.param(&a) * 3.0).unwrap().sum().unwrap();
        if both {
            loss = (&loss + &(&tape.param(&b) * -4.0).unwrap().sum().unwrap()).unwrap();
        }
        tape.backward(&loss).unwrap()
    };
    let of =
        |grads: &neocog_autograd::Grads, param: &Param| grads.param(param).map(|grad| grad.to_f64().unwrap());
    let mut both = grads(true);
    let norm = both.clip_norm(1.0).unwrap().unwrap().item().unwrap();
    assert!((norm - 59f64.sqrt()).abs() < 1e-12);
    assert!((both.norm().unwrap().unwrap().item().unwrap() - 1.0).abs() < 1e-6);
    let mut both = grads(true);
    both.clip_norm(100.0).unwrap();
    both.clip_value(3.5).unwrap();
    assert_eq!((of(&both, &a).unwrap(), of(&both, &b).unwrap()), (vec![3.0; 3], vec![-3.5; 2]));
    both.scale(2.0).unwrap();
    let mut one = grads(false);
    assert_eq!(of(&one, &b), None);
    one.add(&both).unwrap();
    assert_eq!((of(&one, &a).unwrap(), of(&one, &b).unwrap()), (vec![9.0; 3], vec![-7.0; 2]));
    assert!(one.clip_norm(-1.0).unwrap_err().to_string().contains("at least 0, not -1"));
    assert!(one.clip_value(f64::NAN).is_err());
}

#[test]
fn methods_count_their_multiply_adds() {
    let tape = Tape::new();
    let a = tape.leaf(Tensor::zeros([4, 5], &Device::Cpu).unwrap());
    let b = Var::constant(Tensor::zeros([5, 6], &Device::Cpu).unwrap());
    a.matmul(&b).unwrap();
    assert_eq!(tape.multiply_adds(), 120);
    // Of constants that know the tape as well.
    tape.constant(a.tensor().clone()).matmul(&b).unwrap();
    assert_eq!((tape.multiply_adds(), tape.len()), (240, 1));
}
