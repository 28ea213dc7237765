//! Generates OpenCL C from formulas on [`Real`] numbers: called with [`Symbol`]s, a formula records its operations. The
//! reference, the CPU kernels and the OpenCL kernels thus share one formula.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::cpu::simd::Real;

/// A value of the generated kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Symbol {
    /// The argument at a position.
    Argument(usize),
    /// The constant at a position.
    Constant(usize),
    /// The result of a generated line.
    Line(usize),
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Symbol::Argument(i) => write!(f, "x{i}"),
            Symbol::Constant(i) => write!(f, "c{i}"),
            Symbol::Line(i) => write!(f, "t{i}"),
        }
    }
}

/// The operations of a formula, as recorded so far.
#[derive(Default)]
struct Trace {
    text: String,
    lines: usize,
    constants: Vec<f32>,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

fn line(value: fmt::Arguments<'_>) -> Symbol {
    TRACE.with_borrow_mut(|trace| {
        let number = trace.lines;
        trace.lines += 1;
        let _ = writeln!(trace.text, "    const real t{number} = {value};");
        Symbol::Line(number)
    })
}

impl Add for Symbol {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        line(format_args!("{self} + {other}"))
    }
}

impl Sub for Symbol {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        line(format_args!("{self} - {other}"))
    }
}

impl Mul for Symbol {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        line(format_args!("{self} * {other}"))
    }
}

impl Div for Symbol {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        line(format_args!("{self} / {other}"))
    }
}

impl Neg for Symbol {
    type Output = Self;
    fn neg(self) -> Self {
        line(format_args!("-{self}"))
    }
}

impl Real for Symbol {
    fn constant(value: f64) -> Self {
        TRACE.with_borrow_mut(|trace| {
            trace.constants.push(value as f32);
            Symbol::Constant(trace.constants.len() - 1)
        })
    }
    fn fma(self, b: Self, c: Self) -> Self {
        line(format_args!("fma({self}, {b}, {c})"))
    }
    fn max(self, other: Self) -> Self {
        line(format_args!("larger({self}, {other})"))
    }
    fn sqrt(self) -> Self {
        line(format_args!("sqrt({self})"))
    }
    fn exp(self) -> Self {
        line(format_args!("exp({self})"))
    }
    fn ln(self) -> Self {
        line(format_args!("log({self})"))
    }
    fn pow(self, exponent: Self) -> Self {
        line(format_args!("pow({self}, {exponent})"))
    }
    fn tanh(self) -> Self {
        line(format_args!("tanh({self})"))
    }
    fn erf(self) -> Self {
        line(format_args!("erf({self})"))
    }
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self {
        line(format_args!("select_gt({a}, {b}, {x}, {y})"))
    }
}

/// Records `formula`, and returns the record and the results.
fn trace<T>(formula: impl FnOnce() -> T) -> (Trace, T) {
    TRACE.take();
    let results = formula();
    (TRACE.take(), results)
}

/// Generates the function `name` of `N` numbers: `real name(real x0, …)`.
pub(crate) fn function<const N: usize>(name: &str, formula: impl FnOnce([Symbol; N]) -> Symbol) -> String {
    let (trace, result) = trace(|| formula(std::array::from_fn(Symbol::Argument)));
    let parameters: Vec<String> = (0..N).map(|i| format!("const real x{i}")).collect();
    let constants = constants(&trace);
    format!("real {name}({}) {{\n{constants}{}    return {result};\n}}\n", parameters.join(", "), trace.text)
}

/// Generates the function `name` from the first `inputs` of `N` numbers to the first `outputs` of `N`:
/// `void name(const real *from, real *to)`.
pub(crate) fn map<const N: usize>(
    name: &str,
    [inputs, outputs]: [usize; 2],
    formula: impl FnOnce(&[Symbol; N]) -> [Symbol; N],
) -> String {
    let (trace, results) = trace(|| formula(&std::array::from_fn(Symbol::Argument)));
    let mut text = format!("void {name}(const real *from, real *to) {{\n");
    for i in 0..inputs {
        let _ = writeln!(text, "    const real x{i} = from[{i}];");
    }
    text += &constants(&trace);
    text += &trace.text;
    for (i, result) in results[..outputs].iter().enumerate() {
        let _ = writeln!(text, "    to[{i}] = {result};");
    }
    text + "}\n"
}

fn constants(trace: &Trace) -> String {
    let mut text = String::new();
    for (i, value) in trace.constants.iter().enumerate() {
        let _ = match value {
            value if value.is_finite() => writeln!(text, "    const real c{i} = (real)({value:?}f);"),
            value if value.is_nan() => writeln!(text, "    const real c{i} = (real)(NAN);"),
            value if *value > 0.0 => writeln!(text, "    const real c{i} = (real)(INFINITY);"),
            _ => writeln!(text, "    const real c{i} = (real)(-INFINITY);"),
        };
    }
    text
}

/// The text of an elementwise kernel: the new values of its `O` outputs from `I` inputs and the old values of the first `S`
/// outputs. Its parameters are the number of elements, the inputs, the outputs and the formula's constants.
pub(crate) fn elementwise_kernel<const I: usize, const S: usize, const O: usize>(
    kernel: &str,
    formula: impl FnOnce([Symbol; I], [Symbol; S]) -> [Symbol; O],
) -> (String, Vec<f32>) {
    let old = std::array::from_fn(|i| Symbol::Argument(I + i));
    let (trace, results) = trace(|| formula(std::array::from_fn(Symbol::Argument), old));

    let mut parameters = String::from("const int n");
    let (mut loads, mut stores) = (String::new(), String::new());
    for i in 0..I {
        let _ = write!(parameters, ", global const float *a{i}");
        let _ = writeln!(loads, "    const real x{i} = load(a{i} + at, n - at);");
    }
    for (i, result) in results.iter().enumerate() {
        let _ = write!(parameters, ", global float *b{i}");
        if i < S {
            let _ = writeln!(loads, "    const real x{} = load(b{i} + at, n - at);", I + i);
        }
        let _ = writeln!(stores, "    store({result}, b{i} + at, n - at);");
    }
    for i in 0..trace.constants.len() {
        let _ = write!(parameters, ", const float f{i}");
        let _ = writeln!(loads, "    const real c{i} = (real)(f{i});");
    }
    let code = format!(
        "kernel void {kernel}({parameters}) {{\n    const int at = get_global_id(0) * WIDTH;\n    \
         if (at >= n) {{\n        return;\n    }}\n{loads}{}{stores}}}\n",
        trace.text
    );
    (code, trace.constants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_recorded() {
        let text = function("f", |[a, b]: [Symbol; 2]| Symbol::constant(1.5) / (a + a.max(b).exp()));
        assert_eq!(
            text,
            "real f(const real x0, const real x1) {\n    const real c0 = (real)(1.5f);\n    \
             const real t0 = larger(x0, x1);\n    const real t1 = exp(t0);\n    const real t2 = x0 + t1;\n    \
             const real t3 = c0 / t2;\n    return t3;\n}\n"
        );
        // Each record starts empty.
        assert!(function("g", |[x]: [Symbol; 1]| -x).contains("t0 = -x0"));
    }
}
