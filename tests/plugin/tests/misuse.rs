//! Runs the example `misuse`, in a process of its own: the attempts panic on purpose.

#[path = "../examples/misuse.rs"]
mod misuse;

#[test]
fn misuse_ends_in_an_error() {
    misuse::main();
}
