#![doc = include_str!("../README.md")]

mod table;

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use libloading::Library;

/// Environment variable of the library to open instead of the system's.
pub const LIBRARY_VARIABLE: &str = "NEOCOG_OPENCL_LIBRARY";

/// Names of the system's library; the first that opens is used.
#[cfg(target_os = "windows")]
const NAMES: &[&str] = &["OpenCL.dll"];
#[cfg(target_os = "macos")]
const NAMES: &[&str] = &["/System/Library/Frameworks/OpenCL.framework/OpenCL"];
#[cfg(not(any(target_os = "windows", target_os = "macos")))]
const NAMES: &[&str] = &["libOpenCL.so.1", "libOpenCL.so"];

/// Opens the OpenCL library if necessary, and returns whether it is open.
///
/// # Errors
/// If it cannot be opened, with the system's error for each name that was tried.
pub fn status() -> Result<(), &'static str> {
    match library() {
        Ok(_) => Ok(()),
        Err(why) => Err(why),
    }
}

/// Returns the library, which is opened at the first call and never closed: drivers do not support that.
fn library() -> Result<&'static Library, &'static str> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    LIBRARY.get_or_init(open).as_ref().map_err(String::as_str)
}

fn open() -> Result<Library, String> {
    let requested = std::env::var_os(LIBRARY_VARIABLE).filter(|name| !name.is_empty());
    let names = match requested {
        Some(name) => vec![name],
        None => NAMES.iter().map(Into::into).collect(),
    };
    let mut reasons = Vec::new();
    for name in names {
        // SAFETY: the library that the system or the user names is trusted to be OpenCL; its initializers run here.
        match unsafe { Library::new(&name) } {
            Ok(library) => return Ok(library),
            Err(e) => {
                // The system's message usually contains the file name.
                let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
                reasons.push(if why.contains(&*name.to_string_lossy()) {
                    why
                } else {
                    format!("{}: {why}", name.display())
                });
            }
        }
    }
    Err(reasons.join("; "))
}

/// Returns the function `name` of the library, if there is a library and it defines the function.
///
/// # Safety
/// `F` must be the type of a pointer to that function.
unsafe fn find<F: Copy>(name: &CStr) -> Option<F> {
    let library = library().ok()?;
    // SAFETY: the caller guarantees the type, and the library is never closed.
    unsafe { library.get::<F>(name.to_bytes_with_nul()) }.ok().map(|f| *f)
}

/// Any pointer: the type does not matter to the calling convention.
type P = *mut c_void;

/// Status of a function that the library does not define.
const CL_INVALID_OPERATION: i32 = -59;
const CL_OUT_OF_RESOURCES: i32 = -5;
const CL_SUCCESS: i32 = 0;
/// Status returned by the ICD loader if no driver is installed.
const CL_PLATFORM_NOT_FOUND_KHR: i32 = -1001;

#[cfg(test)]
mod tests {
    use super::*;

    /// A single test, because the library is opened once in a process.
    #[test]
    fn listing_platforms_never_fails() {
        let mut count = u32::MAX;
        // SAFETY: the list is null, and the count points to a variable.
        let status_of_call = unsafe {
            table::clGetPlatformIDs(0, std::ptr::null_mut(), std::ptr::from_mut(&mut count).cast())
        };
        assert_eq!(status_of_call, CL_SUCCESS);
        assert_ne!(count, u32::MAX);
        if let Err(why) = status() {
            assert_eq!(count, 0);
            assert!(why.contains(NAMES[0]) || std::env::var_os(LIBRARY_VARIABLE).is_some(), "{why}");
        }
    }
}
