//! Gives the linker an empty library where `cl-sys` asks for OpenCL: the functions are in this crate.

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
    // The name that the linker looks for: the second one with Microsoft's tools.
    for name in ["libOpenCL.a", "OpenCL.lib"] {
        let path = Path::new(&folder).join(name);
        if let Err(e) = fs::write(&path, EMPTY) {
            println!("cargo::error=cannot write {}: {e}", path.display());
        }
    }
    println!("cargo::rustc-link-search=native={}", Path::new(&folder).display());
}
