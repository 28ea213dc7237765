//! The definition: plain loops over every term, in double precision.

use super::Problem;

/// Calls `term(x, weight, y)` with the positions of every term of the convolution.
fn for_each_term(p: &Problem, mut term: impl FnMut(usize, usize, usize)) {
    for n in 0..p.n {
        for g in 0..p.groups {
            for o in 0..p.og {
                for r in 0..p.oh {
                    for c in 0..p.ow {
                        let y = (((n * p.groups + g) * p.og + o) * p.oh + r) * p.ow + c;
                        for i in 0..p.cg {
                            let plane = (n * p.groups + g) * p.cg + i;
                            let kernel = (g * p.og + o) * p.cg + i;
                            for kr in 0..p.kh {
                                for kc in 0..p.kw {
                                    if let Some((row, column)) = p.source(r, c, kr, kc) {
                                        let x = (plane * p.h + row) * p.w + column;
                                        term(x, kernel * p.kh * p.kw + p.tap(kr, kc), y);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn forward(p: &Problem, x: &[f64], weight: &[f64], y: &mut [f64]) {
    y.fill(0.0);
    for_each_term(p, |xi, wi, yi| y[yi] += x[xi] * weight[wi]);
}

pub(super) fn input_grad(p: &Problem, dy: &[f64], weight: &[f64], dx: &mut [f64]) {
    dx.fill(0.0);
    for_each_term(p, |xi, wi, yi| dx[xi] += dy[yi] * weight[wi]);
}

pub(super) fn weight_grad(p: &Problem, x: &[f64], dy: &[f64], dw: &mut [f64]) {
    dw.fill(0.0);
    for_each_term(p, |xi, wi, yi| dw[wi] += x[xi] * dy[yi]);
}
