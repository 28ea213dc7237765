//! Cases of matrix products.

use super::MatMul;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

register_op!("matmul", || {
    let case = |name: &str, transpose_a, transpose_b, [m, k, n]: [usize; 3]| {
        let a = if transpose_a { [k, m] } else { [m, k] };
        let b = if transpose_b { [n, k] } else { [k, n] };
        let name = match (transpose_a, transpose_b) {
            (false, false) => format!("{name} {m}x{k}x{n}"),
            (true, false) => format!("{name} {m}x{k}x{n}, a transposed"),
            (false, true) => format!("{name} {m}x{k}x{n}, b transposed"),
            (true, true) => format!("{name} {m}x{k}x{n}, both transposed"),
        };
        Case::new(name, MatMul { transpose_a, transpose_b }, [CaseInput::uniform(a), CaseInput::uniform(b)])
    };
    let mut cases = Vec::new();
    for transposed in [[false, false], [true, false], [false, true], [true, true]] {
        let [a, b] = transposed;
        for sizes in [[1, 1, 1], [3, 5, 7], [17, 4, 33], [1, 20, 9]] {
            cases.push(case("small", a, b, sizes));
        }
        for sizes in [[0, 3, 2], [2, 3, 0], [2, 0, 3]] {
            cases.push(case("empty", a, b, sizes).without_gradient());
        }
        for sizes in [[65, 300, 130], [14, 513, 65], [129, 33, 17]] {
            cases.push(case("odd", a, b, sizes).without_gradient());
        }
        for sizes in [[256, 2304, 196], [512, 4608, 49]] {
            cases.push(case("image", a, b, sizes).timed());
        }
        cases.push(case("square", a, b, [1024; 3]).timed());
    }
    cases
});
