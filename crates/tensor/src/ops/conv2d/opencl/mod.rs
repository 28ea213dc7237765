//! Convolutions on OpenCL devices: products of the weight and of gathered pictures, or on
//! processors Winograd's way, or pictures abreast.

mod abreast;
mod winograd;

use super::Problem;
use super::winograd::Pass;
use crate::opencl::{Arg, Buffer, Call, Grid, Source, int};
use crate::ops::Activation;
use crate::ops::product::{Gather, LeftMatrix, PadAndSplit, Product, Target, transposed, weight_grad_sums};
use neocog_base::Result;

/// A work-item of `weights.cl` sees to so many rows.
const BLOCK: usize = 8;

fn weights() -> Source {
    Source::new("conv2d_weights", include_str!("../weights.cl")).define("BLOCK", BLOCK)
}

/// How a convolution, or the gradient of its input, is done.
enum Way {
    Abreast(abreast::Way),
    Winograd(winograd::Way),
    Product,
}

impl Way {
    fn of(call: &Call<'_>, p: &Problem, pass: Pass) -> Self {
        let abreast = abreast::choose(call, p, pass);
        if abreast.as_ref().is_none_or(|way| !way.is_better_than_winograd())
            && let Some(way) = winograd::choose(call, p, pass)
        {
            return Way::Winograd(way);
        }
        abreast.map_or(Way::Product, Way::Abreast)
    }
}

/// A weight in the order in which [`forward`] uses it.
pub(super) struct Packed {
    filters: Buffer,
    /// That of the vectors; a tuner may change it.
    width: usize,
}

/// The weight in the order in which [`forward`] uses it for such a convolution; `None` if that is as it lies.
pub(super) fn pack(call: &Call<'_>, p: &Problem, weight: &Buffer) -> Result<Option<Packed>> {
    match Way::of(call, p, Pass::Forward) {
        Way::Winograd(way) => Ok(Some(Packed { filters: way.pack(call, p, weight)?, width: way.width() })),
        Way::Abreast(_) | Way::Product => Ok(None),
    }
}

/// `packed` is what [`pack`] makes of the weight, if that was done before.
#[allow(clippy::too_many_arguments, reason = "all that a convolution has")]
pub(super) fn forward(
    call: &Call<'_>,
    p: &Problem,
    x: &Buffer,
    weight: &Buffer,
    packed: Option<&Packed>,
    bias: Option<&Buffer>,
    activation: Option<Activation>,
    y: &Buffer,
) -> Result<()> {
    match Way::of(call, p, Pass::Forward) {
        Way::Abreast(way) => return way.forward(call, p, x, weight, (bias, activation), y),
        Way::Winograd(way) => {
            let made;
            let filters = match packed {
                Some(packed) if packed.width == way.width() => &packed.filters,
                _ => {
                    made = way.pack(call, p, weight)?;
                    &made
                }
            };
            return way.forward(call, p, x, filters, (bias, activation), y);
        }
        Way::Product => {}
    }
    let (spread, depth) = (spread_windows(p), p.depth());
    let made = spread_if_needed(call, &spread, x)?;
    let mut b = windows(p, &spread, made.as_ref().unwrap_or(x));
    let mut a =
        LeftMatrix { buffer: weight, count: p.og, group: p.og * depth, row: depth, number: 1, first: 0 };
    if p.flip {
        // A flipped kernel is read backwards, and the channels with it.
        (a.number, a.first) = (-1, depth - 1);
        b.first += (p.cg - 1) * b.group / p.cg;
        b.channel = -b.channel;
    }
    let plane = p.pixels();
    let c = Target {
        buffer: y,
        group: p.og * plane,
        row: plane,
        image: p.groups * p.og * plane,
        line: p.ow,
        pixel: 1,
        first: 0,
    };
    Product { groups: p.groups, a, b, bias, activation, c }.run(call)
}

pub(super) fn weight_grad(call: &Call<'_>, p: &Problem, x: &Buffer, dy: &Buffer, dw: &Buffer) -> Result<()> {
    if p.n == 0 {
        return call.fill(dw, 0.0);
    }
    if let Some(way) = winograd::choose(call, p, Pass::WeightGrad) {
        return way.weight_grad(call, p, x, dy, dw);
    }
    let (sums, parts) = match abreast::choose(call, p, Pass::WeightGrad) {
        Some(way) => way.weight_grad_sums(call, p, x, dy)?,
        None => {
            let spread = spread_windows(p);
            let made = spread_if_needed(call, &spread, x)?;
            let b = windows(p, &spread, made.as_ref().unwrap_or(x));
            let dy_by_pixels = transposed(call, dy, p.n, [p.groups * p.og, p.pixels()])?;
            weight_grad_sums(call, p.groups, p.og, &b, dy_by_pixels.as_ref().unwrap_or(dy))?
        }
    };
    let args = [
        (&sums).into(),
        dw.into(),
        parts.into(),
        p.groups.into(),
        p.og.into(),
        p.depth().into(),
        (p.kh * p.kw).into(),
        usize::from(p.flip).into(),
    ];
    call.launch(&weights(), "collect", &args, Grid::line(p.groups * p.og * p.depth().div_ceil(BLOCK)))
}

/// With a stride, the picture's pixels of each phase modulo the stride are a convolution of their own, of those taps that
/// reach them.
pub(super) fn input_grad(
    call: &Call<'_>,
    p: &Problem,
    dy: &Buffer,
    weight: &Buffer,
    dx: &Buffer,
) -> Result<()> {
    match Way::of(call, p, Pass::InputGrad) {
        Way::Abreast(way) => return way.input_grad(call, p, dy, weight, dx),
        Way::Winograd(way) => return way.input_grad(call, p, dy, weight, dx),
        Way::Product => {}
    }
    let [rows, columns] = [0, 1].map(|axis| {
        let (size, taps) = ([p.h, p.w][axis], [p.kh, p.kw][axis]);
        (0..p.stride[axis].min(size)).map(|first| Phase::new(p, axis, first, size, taps)).collect::<Vec<_>>()
    });
    // All phases gather from the same pictures, with zeros around for those that reach over their edges.
    let extents = [&rows, &columns].map(|phases| {
        let padding = phases.iter().map(Phase::reach_before).max().unwrap_or(0);
        let end = phases.iter().map(Phase::end).max().unwrap_or(0);
        (padding as usize, (end + padding) as usize)
    });
    let spread = PadAndSplit {
        planes: p.n * p.groups * p.og,
        size: [p.oh, p.ow],
        padded: [extents[0].1, extents[1].1],
        phases: 1,
        stride: [1, 1],
        padding: [extents[0].0, extents[1].0],
    };
    let made = spread_if_needed(call, &spread, dy)?;
    let (pitch, plane) = match made {
        Some(_) => (spread.padded[1], spread.plane_len()),
        None => (p.ow, p.pixels()),
    };
    let source = weights();
    for row in &rows {
        for column in &columns {
            let taps = row.taps * column.taps;
            let arranged = call.scratch(p.groups * p.cg * p.og * taps)?;
            let sizes = [p.groups, p.og, p.cg, p.kh, p.kw, usize::from(p.flip), 0, 0];
            let of_taps =
                [row.taps, column.taps, row.first_tap, row.tap_step, column.first_tap, column.tap_step, 0, 0];
            let args =
                [weight.into(), (&arranged).into(), Arg::Int8(sizes.map(int)), Arg::Int8(of_taps.map(int))];
            if taps > 0 {
                let items = p.groups * p.og * p.cg.div_ceil(BLOCK);
                call.launch(&source, "arrange", &args, Grid::line(items))?;
            }
            let depth = p.og * taps;
            let first = (row.first_source + extents[0].0 as i32) * int(pitch)
                + column.first_source
                + extents[1].0 as i32;
            let line = p.stride[0] * p.w;
            let size = [row.count, column.count];
            // Results with a stride lie apart.
            let size = if p.stride == [1, 1] { merged(size, [pitch, line]) } else { size };
            let b = Gather {
                buffer: made.as_ref().unwrap_or(dy),
                images: p.n,
                size,
                channels: p.og,
                taps: [row.taps, column.taps],
                group: p.og * plane,
                image: p.groups * p.og * plane,
                row: pitch,
                channel: int(plane),
                tap: [-row.source_step * int(pitch), -column.source_step],
                phases: [1, 0],
                first: if taps > 0 { first as usize } else { 0 },
            };
            let c = Target {
                buffer: dx,
                group: p.cg * p.h * p.w,
                row: p.h * p.w,
                image: p.groups * p.cg * p.h * p.w,
                line,
                pixel: p.stride[1],
                first: row.first * p.w + column.first,
            };
            let a = LeftMatrix {
                buffer: &arranged,
                count: p.cg,
                group: p.cg * depth,
                row: depth,
                number: 1,
                first: 0,
            };
            Product { groups: p.groups, a, b, bias: None, activation: None, c }.run(call)?;
        }
    }
    Ok(())
}

fn spread_if_needed(call: &Call<'_>, spread: &PadAndSplit, x: &Buffer) -> Result<Option<Buffer>> {
    if spread.is_identity() { Ok(None) } else { spread.run(call, x).map(Some) }
}

/// Rows of pixels that lie one behind the other, where they come from and where their results go, are one row. The steps
/// from one row to the next are counted in pixels.
fn merged([rows, pixels]: [usize; 2], steps: [usize; 2]) -> [usize; 2] {
    if steps == [pixels; 2] { [1, rows * pixels] } else { [rows, pixels] }
}

/// What the pictures become so that windows over them can be gathered.
fn spread_windows(p: &Problem) -> PadAndSplit {
    let reach = [(p.kh - 1) * p.dilation[0], (p.kw - 1) * p.dilation[1]];
    // Where windows are one row high, only the rows under them are kept, if any are moved at all.
    let line_step = if p.kh == 1 && p.stride[1] > 1 { p.stride[0] } else { 1 };
    PadAndSplit {
        planes: p.n * p.groups * p.cg,
        size: [p.h, p.w],
        padded: [(p.oh - 1) * p.stride[0] / line_step + reach[0] + 1, p.ow + reach[1] / p.stride[1]],
        phases: p.stride[1].min(reach[1] + 1),
        stride: [line_step, p.stride[1]],
        padding: p.padding,
    }
}

/// The convolution's windows over pictures that are as `spread` says, or needed no change.
fn windows<'a>(p: &Problem, spread: &PadAndSplit, buffer: &'a Buffer) -> Gather<'a> {
    let (pitch, plane) = match spread.is_identity() {
        true => (p.w, p.h * p.w),
        false => (spread.padded[1], spread.plane_len()),
    };
    let row = p.stride[0] / spread.stride[0] * pitch;
    Gather {
        buffer,
        images: p.n,
        size: merged([p.oh, p.ow], [row, p.ow]),
        channels: p.cg,
        taps: [p.kh, p.kw],
        group: p.cg * plane,
        image: p.groups * p.cg * plane,
        row,
        channel: int(plane),
        tap: [int(p.dilation[0] * pitch), int(p.dilation[1])],
        phases: [p.stride[1], spread.padded[0] * spread.padded[1]],
        first: 0,
    }
}

/// Along one axis, the pixels of the picture that are `first` modulo the stride, and the taps that reach them.
struct Phase {
    first: usize,
    /// How many pixels.
    count: usize,
    /// The first tap, the step to the next, and how many there are.
    first_tap: usize,
    tap_step: usize,
    taps: usize,
    /// Which output the first tap takes to the first pixel, and how much before it is that of the next tap.
    first_source: i32,
    source_step: i32,
}

impl Phase {
    fn new(p: &Problem, axis: usize, first: usize, size: usize, taps: usize) -> Self {
        let [stride, padding, dilation] = [p.stride, p.padding, p.dilation].map(|pair| pair[axis]);
        let count = (size - first).div_ceil(stride);
        // Tap `t` takes output `o` to pixel `o * stride + t * dilation - padding`.
        let reaches = |t: &usize| (first + padding) % stride == t * dilation % stride;
        let mut reaching = (0..taps).filter(reaches);
        let first_tap = reaching.next().unwrap_or(0);
        let tap_step = reaching.next().map_or(1, |next| next - first_tap);
        Phase {
            first,
            count,
            first_tap,
            tap_step,
            taps: (0..taps).filter(reaches).count(),
            first_source: (int(first + padding) - int(first_tap * dilation)) / int(stride),
            source_step: int(tap_step * dilation / stride),
        }
    }

    /// How far the first pixel's last source is before the first output.
    fn reach_before(&self) -> i32 {
        if self.taps == 0 { 0 } else { (self.source_step * int(self.taps - 1) - self.first_source).max(0) }
    }

    /// Behind the last pixel's first source.
    fn end(&self) -> i32 {
        if self.taps == 0 { 0 } else { (self.first_source + int(self.count)).max(0) }
    }
}
