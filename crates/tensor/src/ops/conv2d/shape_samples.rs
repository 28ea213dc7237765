//! Shapes for tests of the choice of algorithms: the convolutions of all networks, and random ones.

use super::Conv2dGeometry;
use super::shape::ConvShape;
use crate::core::shape::Shape;
use neocog_base::random::philox;

/// The distinct convolutions of all networks at their default image sizes, a line each: channels, height, width, output
/// channels, kernel height and width, stride, padding, dilation (two numbers each), groups.
const NETWORKS: &str = include_str!("networks.txt");

/// Calls `test` with each shape: those of networks at several batch sizes, and random ones.
pub fn for_each_shape(mut test: impl FnMut(&ConvShape)) {
    for line in NETWORKS.lines() {
        let v: Vec<usize> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let geometry = Conv2dGeometry {
            stride: [v[6], v[7]],
            padding: [v[8], v[9]],
            dilation: [v[10], v[11]],
            groups: v[12],
            flip: false,
        };
        for n in [1, 2, 5, 8, 32, 256] {
            test(&shape(geometry, [n, v[0], v[1], v[2]], v[3], [v[4], v[5]]).unwrap());
        }
    }
    for sample in 0..40_000 {
        let mut next = 0;
        let mut one_of = |choices: &[usize]| {
            next += 1;
            choices[philox(sample, next)[0] as usize % choices.len()]
        };
        let channels = [1, 2, 3, 4, 6, 7, 8, 9, 12, 16, 17, 32, 40, 64, 100, 256];
        let groups = one_of(&[1, 1, 1, 1, 1, 2, 3]);
        let (c, out) = (one_of(&channels) * groups, one_of(&channels) * groups);
        let sizes = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 24, 28, 56];
        let kernels = [1, 1, 1, 2, 3, 3, 3, 5, 5, 7, 9];
        let kh = one_of(&kernels);
        let kw = if one_of(&[0, 1, 2, 3]) == 0 { one_of(&kernels) } else { kh };
        let axis = |stride: usize, padding: usize, dilation: usize| (stride, padding, dilation);
        let rows = axis(one_of(&[1, 1, 1, 2, 3]), one_of(&[0, 1, 1, 2, 3, 6]), one_of(&[1, 1, 1, 1, 2]));
        let columns = if one_of(&[0, 1, 2, 3]) > 0 {
            rows
        } else {
            axis(one_of(&[1, 1, 2, 4]), one_of(&[0, 1, 2, 5]), one_of(&[1, 1, 1, 3]))
        };
        let geometry = Conv2dGeometry {
            stride: [rows.0, columns.0],
            padding: [rows.1, columns.1],
            dilation: [rows.2, columns.2],
            groups,
            flip: one_of(&[0, 1]) == 1,
        };
        let n = one_of(&[0, 1, 1, 2, 3, 5, 6, 7, 8, 12, 13, 16, 31, 32, 64, 256]);
        if let Some(conv) = shape(geometry, [n, c, one_of(&sizes), one_of(&sizes)], out, [kh, kw]) {
            test(&conv);
        }
    }
}

/// Returns the sizes of a convolution, or `None` if the kernel does not fit.
pub fn shape(geometry: Conv2dGeometry, x: [usize; 4], out: usize, kernel: [usize; 2]) -> Option<ConvShape> {
    let [oh, ow] = geometry.output_size([x[2], x[3]], kernel).ok()?;
    let weight = [out, x[1] / geometry.groups, kernel[0], kernel[1]];
    Some(geometry.conv_shape(&x, &weight, &Shape::from([x[0], out, oh, ow])))
}
