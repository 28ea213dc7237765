//! All cases of all operations have the same bits for any number of threads.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_tensor::cases::{Case, CaseInput, registered_ops};
use neocog_tensor::conformance::is_too_large;
use neocog_tensor::{Device, Result, Tensor, update};

/// Inputs and state of a case.
struct Tensors {
    inputs: Vec<Tensor>,
    state: Vec<Tensor>,
}

impl Tensors {
    fn of(case: &Case) -> Result<Self> {
        let make = |specs: &[CaseInput], stream: u64| {
            let tensor = |(i, x): (usize, &CaseInput)| {
                Tensor::from_f32(x.shape, &x.make(stream + i as u64), &Device::Cpu)
            };
            specs.iter().enumerate().map(tensor).collect::<Result<_>>()
        };
        Ok(Tensors { inputs: make(&case.inputs, 1)?, state: make(&case.state, 1001)? })
    }

    /// Returns the bits of all outputs, including state.
    fn run(&self, case: &Case, threads: usize) -> Result<Vec<Vec<u32>>> {
        let inputs: Vec<&Tensor> = self.inputs.iter().collect();
        let mut state = self.state.clone();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let fresh = pool.install(|| update(&*case.op, &inputs, &mut state.iter_mut().collect::<Vec<_>>()))?;
        let bits = |t: &Tensor| Ok(t.to_f32()?.into_iter().map(f32::to_bits).collect());
        state.iter().chain(&fresh).map(bits).collect()
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut seen = 0;
    for entry in registered_ops() {
        for case in (entry.cases)() {
            if is_too_large(&case) {
                continue;
            }
            let tensors = Tensors::of(&case).unwrap();
            let one = tensors.run(&case, 1).unwrap_or_else(|e| panic!("{}: {}: {e}", entry.name, case.name));
            for threads in [2, 3] {
                assert!(
                    one == tensors.run(&case, threads).unwrap(),
                    "{}: {}: {threads} threads",
                    entry.name,
                    case.name
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 300, "{seen} cases");
}
