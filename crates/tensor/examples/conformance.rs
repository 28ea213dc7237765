//! Runs the conformance checks of registered operations on a device:
//! `cargo run -p neocog-tensor --features opencl --example conformance -- opencl softmax log_softmax`.
//! Without names, all operations are checked.

use neocog_tensor::{Device, Error, Result, conformance};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let device: Device = args.next().as_deref().unwrap_or("cpu").parse()?;
    let names: Vec<String> = args.collect();
    let summary =
        conformance::check_ops(&device, |name| names.is_empty() || names.iter().any(|wanted| wanted == name));
    println!("{device}: {summary}");
    if summary.failures.is_empty() && summary.ops > 0 {
        Ok(())
    } else {
        Err(Error::invalid_argument(
            "some operations do not conform, or there are no operations of these names",
        ))
    }
}
