//! Provides an empty library named OpenCL to the linker, as required by `cl-sys`; the functions are defined in this crate.

use std::path::Path;
use std::{env, fs};

/// An archive without members.
const EMPTY: &[u8] = b"!<arch>\n";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let Some(folder) = env::var_os("OUT_DIR") else {
        println!("cargo::error=cargo has not set OUT_DIR");
        return;
    };
    // The file name expected by the linker; the second one by Microsoft's tools.
    for name in ["libOpenCL.a", "OpenCL.lib"] {
        let path = Path::new(&folder).join(name);
        if let Err(e) = fs::write(&path, EMPTY) {
            println!("cargo::error=cannot write {}: {e}", path.display());
        }
    }
    println!("cargo::rustc-link-search=native={}", Path::new(&folder).display());
}
