//! OpenCL kernels: sums over each channel, the constants computed from them, and a pass that writes the result.

use smallvec::SmallVec;

use super::sizes::Sizes;
use crate::core::call::{Call, View};
use crate::core::shape::Shape;
use crate::opencl::formula::{self, Symbol};
use crate::opencl::{Arg, Buffer, Grid, Source};
use crate::ops::{Activation, reduce};
use neocog_base::Result;

/// On processors, channel planes of at least this many pixels are processed one by one.
const PLANE: usize = 32;

/// A batch, and the work distribution on a device.
#[derive(Clone, Copy, Debug)]
struct Launcher<'a> {
    call: &'a Call<'a>,
    sizes: Sizes,
    activation: Option<Activation>,
    eps: f64,
    /// Whether the batch is processed as a matrix of `n` rows, because channel planes are too small for vectors.
    columns: bool,
    /// Vector width: 1 on GPUs, where neighboring work-items read neighboring floats.
    width: usize,
}

impl<'a> Launcher<'a> {
    fn new(call: &'a Call<'a>, x: View<'_>, activation: Option<Activation>, eps: f64) -> Self {
        let sizes = Sizes::of(x.shape);
        let (smallest, width) = if call.on_cpu() { (PLANE, 8) } else { (2, 1) };
        Launcher { call, sizes, activation, eps, columns: sizes.pixels < smallest, width }
    }

    /// Returns the number of columns of each channel.
    fn times(&self) -> usize {
        if self.columns { self.sizes.pixels } else { 1 }
    }

    /// Returns the grid of kernels with a work-item for each vector of `width` columns.
    fn vectors(&self, width: usize) -> Grid {
        Grid::line(width.div_ceil(self.width))
    }

    /// Returns a program that sums rows of `len` numbers, and its grid.
    fn rows(&self, name: &'static str, text: &'static str, rows: usize, len: usize) -> (Source, Grid) {
        let team = if self.call.on_cpu() || len <= 64 { 1 } else { 64 };
        let group = if self.call.on_cpu() { 4 } else { 64 };
        let source = Source::new(name, text).define("WIDTH", self.width).define("TEAM", team);
        let source = source.define("GROUP", group).insert(include_str!("sums.cl"));
        (source, Grid::new([rows * team], [group]))
    }

    /// Computes the mean and the variance of each channel of `x`.
    fn moments(&self, x: &Buffer, mean: &Buffer, var: &Buffer) -> Result<()> {
        let Sizes { n, c, pixels } = self.sizes;
        let result = Moments { mean, var, rest: None };
        if pixels == 1 {
            return self.moments_of_columns(&Numbers::Values(x), &result, n, c);
        }
        let count = c * if self.columns { pixels } else { n };
        let parts = [self.call.scratch(count)?, self.call.scratch(count)?, self.call.scratch(count)?];
        // The rounding of a part's mean is as large as that of the input, which may be far from 0.
        let parts = Moments { mean: &parts[0], var: &parts[1], rest: Some(&parts[2]) };
        if self.columns {
            self.moments_of_columns(&Numbers::Values(x), &parts, n, c * pixels)?;
            self.moments_of_rows(&Numbers::Parts(&parts), &result, c, pixels)
        } else {
            self.moments_of_rows(&Numbers::Values(x), &parts, n * c, pixels)?;
            self.moments_of_columns(&Numbers::Parts(&parts), &result, n, c)
        }
    }

    fn moments_of_rows(&self, x: &Numbers<'_>, out: &Moments<'_>, rows: usize, len: usize) -> Result<()> {
        let (source, grid) = self.rows("batch_norm", include_str!("moments.cl"), rows, len);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { self.call.launch(&source, "moments_of_rows", &moments_arguments(x, out, rows, len), grid) }
    }

    fn moments_of_columns(
        &self,
        x: &Numbers<'_>,
        out: &Moments<'_>,
        rows: usize,
        width: usize,
    ) -> Result<()> {
        let (source, _) = self.rows("batch_norm", include_str!("moments.cl"), 0, 0);
        let args = moments_arguments(x, out, rows, width);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { self.call.launch(&source, "moments_of_columns", &args, self.vectors(width)) }
    }

    /// Computes `Σ dz (x - mean)` and `Σ dz` for each channel, `[2][c]`.
    fn grad_sums(&self, [x, dy, y]: [&Buffer; 3], mean: &Buffer) -> Result<Buffer> {
        let Sizes { n, c, pixels } = self.sizes;
        let text = include_str!("grad_sums.cl");
        let functions = functions(self.activation);
        // Partial sums, and their shapes before and after summation.
        let (parts, from, to) = if self.columns {
            let repeated = match pixels {
                1 => None,
                _ => Some(self.repeat(mean)?),
            };
            let parts = self.call.scratch(2 * c * pixels)?;
            let (source, _) = self.rows("batch_norm", text, 0, 0);
            let mean = repeated.as_ref().unwrap_or(mean);
            let args =
                [x.into(), dy.into(), y.into(), mean.into(), (&parts).into(), n.into(), (c * pixels).into()];
            let grid = self.vectors(c * pixels);
            // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
            unsafe { self.call.launch(&source.insert(&functions), "grad_sums_of_columns", &args, grid) }?;
            (parts, Shape::from([2 * c, pixels]), Shape::from([2 * c, 1]))
        } else {
            let parts = self.call.scratch(2 * n * c)?;
            let (source, grid) = self.rows("batch_norm", text, n * c, pixels);
            let args = [
                x.into(),
                dy.into(),
                y.into(),
                mean.into(),
                (&parts).into(),
                (n * c).into(),
                c.into(),
                pixels.into(),
            ];
            // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
            unsafe { self.call.launch(&source.insert(&functions), "grad_sums_of_planes", &args, grid) }?;
            (parts, Shape::from([2, n, c]), Shape::from([2, 1, c]))
        };
        if from == to {
            return Ok(parts);
        }
        let totals = self.call.scratch(2 * c)?;
        let views = [View { shape: &from, buffer: &parts }, View { shape: &to, buffer: &totals }];
        reduce::opencl::sum(self.call, views[0], views[1], 1.0)?;
        Ok(totals)
    }

    /// Repeats the number of each channel for its columns.
    fn repeat(&self, values: &Buffer) -> Result<Buffer> {
        let (c, times) = (self.sizes.c, self.times());
        let out = self.call.scratch(c * times)?;
        let args = [values.into(), (&out).into(), c.into(), times.into()];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { self.call.launch(&self.program(false), "repeat", &args, Grid::line(c * times)) }?;
        Ok(out)
    }

    fn program(&self, gradient: bool) -> Source {
        Source::new("batch_norm", include_str!("apply.cl"))
            .define("WIDTH", self.width)
            .define("COLUMNS", u8::from(self.columns))
            .define("GRADIENT", u8::from(gradient))
            .insert(&functions(self.activation))
    }

    /// Computes `out = activate((x - mean) / sqrt(var + eps) · weight + bias)`.
    fn normalize(
        &self,
        x: &Buffer,
        mean: &Buffer,
        var: &Buffer,
        affine: Option<[&Buffer; 2]>,
        out: &Buffer,
    ) -> Result<()> {
        let (c, times) = (self.sizes.c, self.times());
        let constants = self.call.scratch(3 * c * times)?;
        let [weight, bias] = affine.unwrap_or([mean, mean]);
        let args = [
            mean.into(),
            var.into(),
            weight.into(),
            bias.into(),
            usize::from(affine.is_some()).into(),
            (&constants).into(),
            c.into(),
            times.into(),
            Arg::Float(self.eps as f32),
        ];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { self.call.launch(&self.program(false), "constants", &args, Grid::line(c * times)) }?;
        self.apply(false, &[x], &constants, out)
    }

    /// Computes the gradients. `count` is the number of elements of a channel, infinite for given statistics.
    fn grads(
        &self,
        inputs: [&Buffer; 3],
        [mean, var]: [&Buffer; 2],
        weight: Option<&Buffer>,
        [dx, dweight, dbias]: [&Buffer; 3],
        count: f32,
    ) -> Result<()> {
        let sums = self.grad_sums(inputs, mean)?;
        let (c, times) = (self.sizes.c, self.times());
        let constants = self.call.scratch(4 * c * times)?;
        let args = [
            mean.into(),
            var.into(),
            weight.unwrap_or(mean).into(),
            usize::from(weight.is_some()).into(),
            (&sums).into(),
            (&constants).into(),
            dweight.into(),
            dbias.into(),
            c.into(),
            times.into(),
            Arg::Float(self.eps as f32),
            Arg::Float(count),
        ];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { self.call.launch(&self.program(true), "grad_constants", &args, Grid::line(c * times)) }?;
        self.apply(true, &inputs, &constants, dx)
    }

    fn apply(&self, gradient: bool, inputs: &[&Buffer], constants: &Buffer, out: &Buffer) -> Result<()> {
        let Sizes { n, c, pixels } = self.sizes;
        let (width, rows, len) = if self.columns { (c * pixels, n, c * pixels) } else { (c, n * c, pixels) };
        let block = if self.call.on_cpu() { 4096 } else { self.width };
        let mut args: SmallVec<[Arg<'_>; 10]> = inputs.iter().map(|&input| input.into()).collect();
        args.extend([constants.into(), out.into(), width.into(), rows.into(), len.into(), block.into()]);
        let items = rows * len.div_ceil(block);
        let grid = if self.call.on_cpu() { Grid::new([items], [4]) } else { Grid::line(items) };
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { self.call.launch(&self.program(gradient), "apply", &args, grid) }
    }
}

/// Means and variances, and what the rounding of the means has lost, if it is kept.
struct Moments<'a> {
    mean: &'a Buffer,
    var: &'a Buffer,
    rest: Option<&'a Buffer>,
}

/// Numbers whose moments are computed.
enum Numbers<'a> {
    Values(&'a Buffer),
    /// The moments of parts of equal size.
    Parts(&'a Moments<'a>),
}

fn moments_arguments<'a>(x: &Numbers<'a>, out: &Moments<'a>, rows: usize, len: usize) -> [Arg<'a>; 10] {
    let (x, variances, rests, are_means) = match *x {
        Numbers::Values(x) => (x, x, x, 0usize),
        Numbers::Parts(parts) => (parts.mean, parts.var, parts.rest.unwrap_or(parts.var), 1),
    };
    [
        x.into(),
        variances.into(),
        rests.into(),
        are_means.into(),
        usize::from(out.rest.is_some()).into(),
        out.mean.into(),
        out.var.into(),
        out.rest.unwrap_or(out.var).into(),
        rows.into(),
        len.into(),
    ]
}

/// Generates the activation and its gradient.
fn functions(activation: Option<Activation>) -> String {
    let activate = formula::function("activate", |[z]: [Symbol; 1]| activation.map_or(z, |a| a.apply(z)));
    let before =
        formula::function("before", |[y, dy]: [Symbol; 2]| activation.map_or(dy, |a| a.grad_value(y, dy)));
    activate + &before
}

pub(super) fn train(eps: f64, activation: Option<Activation>, call: &Call<'_>) -> Result<()> {
    let (x, [y, mean, var]) = (call.input(0), [0, 1, 2].map(|i| call.output(i).buffer));
    let launcher = Launcher::new(call, x, activation, eps);
    if launcher.sizes.count() == 0 {
        // The mean of no elements is NaN.
        call.fill(mean, f32::NAN)?;
        return call.fill(var, f32::NAN);
    }
    launcher.moments(x.buffer, mean, var)?;
    let affine = (call.inputs().len() == 3).then(|| [1, 2].map(|i| call.input(i).buffer));
    launcher.normalize(x.buffer, mean, var, affine, y)
}

pub(super) fn eval(eps: f64, activation: Option<Activation>, call: &Call<'_>) -> Result<()> {
    let [mean, var] = [1, 2].map(|i| call.input(i).buffer);
    let affine = (call.inputs().len() == 5).then(|| [3, 4].map(|i| call.input(i).buffer));
    let launcher = Launcher::new(call, call.input(0), activation, eps);
    launcher.normalize(call.input(0).buffer, mean, var, affine, call.output(0).buffer)
}

pub(super) fn train_grad(
    eps: f64,
    activation: Option<Activation>,
    affine: bool,
    call: &Call<'_>,
) -> Result<()> {
    let [x, mean, var, dy] = [0, 1, 2, 3].map(|i| call.input(i).buffer);
    let outputs = [0, 1, 2].map(|i| call.output(i).buffer);
    let launcher = Launcher::new(call, call.input(0), activation, eps);
    if launcher.sizes.count() == 0 {
        call.fill(outputs[1], 0.0)?;
        return call.fill(outputs[2], 0.0);
    }
    let y = activation.map_or(x, |_| call.input(call.inputs().len() - 1).buffer);
    let weight = affine.then(|| call.input(4).buffer);
    launcher.grads([x, dy, y], [mean, var], weight, outputs, launcher.sizes.count() as f32)
}

pub(super) fn eval_grad(eps: f64, affine: bool, call: &Call<'_>) -> Result<()> {
    let [x, mean, var, dz] = [0, 1, 2, 3].map(|i| call.input(i).buffer);
    let [dx, dweight] = [0, 1].map(|i| call.output(i).buffer);
    let launcher = Launcher::new(call, call.input(0), None, eps);
    if launcher.sizes.count() == 0 {
        return call.fill(dweight, 0.0);
    }
    let weight = affine.then(|| call.input(4).buffer);
    let dbias = call.scratch(launcher.sizes.c)?;
    launcher.grads([x, dz, x], [mean, var], weight, [dx, dweight, &dbias], f32::INFINITY)
}
