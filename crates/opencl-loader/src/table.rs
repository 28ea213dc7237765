//! All functions of OpenCL 1.2, and those of later versions that `cl-sys` declares. Arguments are declared as the calling convention sees
//! them: as pointers, or integers of some size.

#![allow(non_snake_case, reason = "the names are OpenCL's")]
#![allow(clippy::too_many_arguments, reason = "as above")]

use super::{CL_INVALID_OPERATION, CL_OUT_OF_RESOURCES, CL_PLATFORM_NOT_FOUND_KHR, CL_SUCCESS, P, find};

/// Defines a function that forwards its arguments. If the library does not define it, the result is `$missing`.
macro_rules! forward {
    ($name:ident($($arg:ident: $type:ty),*) -> $result:ty, $missing:expr $(, $map:ident)?) => {
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "system" fn $name($($arg: $type),*) -> $result {
            type Function = unsafe extern "system" fn($($type),*) -> $result;
            static FUNCTION: std::sync::OnceLock<Option<Function>> = std::sync::OnceLock::new();
            let name = const { c_name(concat!(stringify!($name), "\0")) };
            // SAFETY: this is the type of the OpenCL function of that name.
            match FUNCTION.get_or_init(|| unsafe { find(name) }) {
                #[allow(unused_parens, reason = "not every result is mapped")]
                // SAFETY: the caller fulfils the contract of the OpenCL function.
                Some(f) => $($map)?(unsafe { f($($arg),*) }),
                None => $missing,
            }
        }
    };
}

/// Maps vendor-specific status codes to a standard one: `ocl` panics for unknown codes.
fn known(status: i32) -> i32 {
    match status {
        -19..=0 | -70..=-30 | -1001..=-1000 | -9999 => status,
        _ => CL_OUT_OF_RESOURCES,
    }
}

const fn c_name(name: &'static str) -> &'static std::ffi::CStr {
    match std::ffi::CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("the name ends with its only zero byte"),
    }
}

/// Functions that return a status.
macro_rules! status {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(forward!($name($($arg: $type),*) -> i32, CL_INVALID_OPERATION, known);)*
    };
}

/// Functions that return a new object, and store the status to their last argument.
macro_rules! create {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(forward!($name($($arg: $type,)* status: P) -> P, {
            if !status.is_null() {
                // SAFETY: by the contract of the OpenCL function it is null or points to a status.
                unsafe { status.cast::<i32>().write(CL_INVALID_OPERATION) };
            }
            std::ptr::null_mut()
        });)*
    };
}

/// Lists the platforms. The list is empty without a library or drivers; `ocl` would retry for ten seconds after an error.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "system" fn clGetPlatformIDs(entries: u32, platforms: P, count: P) -> i32 {
    type Function = unsafe extern "system" fn(u32, P, P) -> i32;
    // SAFETY: this is the type of the OpenCL function of that name.
    let status = match unsafe { find::<Function>(c"clGetPlatformIDs") } {
        // SAFETY: the caller fulfils the contract of the OpenCL function.
        Some(f) => unsafe { f(entries, platforms, count) },
        None => CL_PLATFORM_NOT_FOUND_KHR,
    };
    if status != CL_PLATFORM_NOT_FOUND_KHR {
        return status;
    }
    if !count.is_null() {
        // SAFETY: by the contract of the OpenCL function it is null or points to a number.
        unsafe { count.cast::<u32>().write(0) };
    }
    CL_SUCCESS
}

forward!(clGetExtensionFunctionAddress(name: P) -> P, std::ptr::null_mut());
forward!(clGetExtensionFunctionAddressForPlatform(platform: P, name: P) -> P, std::ptr::null_mut());
forward!(clSVMAlloc(context: P, flags: u64, size: usize, alignment: u32) -> P, std::ptr::null_mut());
forward!(clSVMFree(context: P, pointer: P) -> (), ());

status! {
    clGetPlatformInfo(a: P, b: u32, c: usize, d: P, e: P);
    clGetDeviceIDs(a: P, b: u64, c: u32, d: P, e: P);
    clGetDeviceInfo(a: P, b: u32, c: usize, d: P, e: P);
    clCreateSubDevices(a: P, b: P, c: u32, d: P, e: P);
    clRetainDevice(a: P);
    clReleaseDevice(a: P);
    clSetDefaultDeviceCommandQueue(a: P, b: P, c: P);
    clGetDeviceAndHostTimer(a: P, b: P, c: P);
    clGetHostTimer(a: P, b: P);
    clRetainContext(a: P);
    clReleaseContext(a: P);
    clGetContextInfo(a: P, b: u32, c: usize, d: P, e: P);
    clRetainCommandQueue(a: P);
    clReleaseCommandQueue(a: P);
    clGetCommandQueueInfo(a: P, b: u32, c: usize, d: P, e: P);
    clRetainMemObject(a: P);
    clReleaseMemObject(a: P);
    clGetSupportedImageFormats(a: P, b: u64, c: u32, d: u32, e: P, f: P);
    clGetMemObjectInfo(a: P, b: u32, c: usize, d: P, e: P);
    clGetImageInfo(a: P, b: u32, c: usize, d: P, e: P);
    clGetPipeInfo(a: P, b: u32, c: usize, d: P, e: P);
    clSetMemObjectDestructorCallback(a: P, b: P, c: P);
    clRetainSampler(a: P);
    clReleaseSampler(a: P);
    clGetSamplerInfo(a: P, b: u32, c: usize, d: P, e: P);
    clRetainProgram(a: P);
    clReleaseProgram(a: P);
    clBuildProgram(a: P, b: u32, c: P, d: P, e: P, f: P);
    clUnloadCompiler();
    clCompileProgram(a: P, b: u32, c: P, d: P, e: u32, f: P, g: P, h: P, i: P);
    clUnloadPlatformCompiler(a: P);
    clGetProgramInfo(a: P, b: u32, c: usize, d: P, e: P);
    clGetProgramBuildInfo(a: P, b: P, c: u32, d: usize, e: P, f: P);
    clCreateKernelsInProgram(a: P, b: u32, c: P, d: P);
    clRetainKernel(a: P);
    clReleaseKernel(a: P);
    clSetKernelArg(a: P, b: u32, c: usize, d: P);
    clSetKernelArgSVMPointer(a: P, b: u32, c: P);
    clSetKernelExecInfo(a: P, b: u32, c: usize, d: P);
    clGetKernelInfo(a: P, b: u32, c: usize, d: P, e: P);
    clGetKernelArgInfo(a: P, b: u32, c: u32, d: usize, e: P, f: P);
    clGetKernelWorkGroupInfo(a: P, b: P, c: u32, d: usize, e: P, f: P);
    clGetKernelSubGroupInfo(a: P, b: P, c: u32, d: usize, e: P, f: usize, g: P, h: P);
    clWaitForEvents(a: u32, b: P);
    clGetEventInfo(a: P, b: u32, c: usize, d: P, e: P);
    clRetainEvent(a: P);
    clReleaseEvent(a: P);
    clSetUserEventStatus(a: P, b: i32);
    clSetEventCallback(a: P, b: i32, c: P, d: P);
    clGetEventProfilingInfo(a: P, b: u32, c: usize, d: P, e: P);
    clFlush(a: P);
    clFinish(a: P);
    clEnqueueReadBuffer(a: P, b: P, c: u32, d: usize, e: usize, f: P, g: u32, h: P, i: P);
    clEnqueueReadBufferRect(a: P, b: P, c: u32, d: P, e: P, f: P, g: usize, h: usize, i: usize, j: usize, k: P, l: u32, m: P, n: P);
    clEnqueueWriteBuffer(a: P, b: P, c: u32, d: usize, e: usize, f: P, g: u32, h: P, i: P);
    clEnqueueWriteBufferRect(a: P, b: P, c: u32, d: P, e: P, f: P, g: usize, h: usize, i: usize, j: usize, k: P, l: u32, m: P, n: P);
    clEnqueueFillBuffer(a: P, b: P, c: P, d: usize, e: usize, f: usize, g: u32, h: P, i: P);
    clEnqueueCopyBuffer(a: P, b: P, c: P, d: usize, e: usize, f: usize, g: u32, h: P, i: P);
    clEnqueueCopyBufferRect(a: P, b: P, c: P, d: P, e: P, f: P, g: usize, h: usize, i: usize, j: usize, k: u32, l: P, m: P);
    clEnqueueReadImage(a: P, b: P, c: u32, d: P, e: P, f: usize, g: usize, h: P, i: u32, j: P, k: P);
    clEnqueueWriteImage(a: P, b: P, c: u32, d: P, e: P, f: usize, g: usize, h: P, i: u32, j: P, k: P);
    clEnqueueFillImage(a: P, b: P, c: P, d: P, e: P, f: u32, g: P, h: P);
    clEnqueueCopyImage(a: P, b: P, c: P, d: P, e: P, f: P, g: u32, h: P, i: P);
    clEnqueueCopyImageToBuffer(a: P, b: P, c: P, d: P, e: P, f: usize, g: u32, h: P, i: P);
    clEnqueueCopyBufferToImage(a: P, b: P, c: P, d: usize, e: P, f: P, g: u32, h: P, i: P);
    clEnqueueUnmapMemObject(a: P, b: P, c: P, d: u32, e: P, f: P);
    clEnqueueMigrateMemObjects(a: P, b: u32, c: P, d: u64, e: u32, f: P, g: P);
    clEnqueueNDRangeKernel(a: P, b: P, c: u32, d: P, e: P, f: P, g: u32, h: P, i: P);
    clEnqueueTask(a: P, b: P, c: u32, d: P, e: P);
    clEnqueueNativeKernel(a: P, b: P, c: P, d: usize, e: u32, f: P, g: P, h: u32, i: P, j: P);
    clEnqueueMarker(a: P, b: P);
    clEnqueueMarkerWithWaitList(a: P, b: u32, c: P, d: P);
    clEnqueueWaitForEvents(a: P, b: u32, c: P);
    clEnqueueBarrierWithWaitList(a: P, b: u32, c: P, d: P);
    clEnqueueSVMFree(a: P, b: u32, c: P, d: P, e: P, f: u32, g: P, h: P);
    clEnqueueSVMMemcpy(a: P, b: u32, c: P, d: P, e: usize, f: u32, g: P, h: P);
    clEnqueueSVMMemFill(a: P, b: P, c: P, d: usize, e: usize, f: u32, g: P, h: P);
    clEnqueueSVMMap(a: P, b: u32, c: u64, d: P, e: usize, f: u32, g: P, h: P);
    clEnqueueSVMUnmap(a: P, b: P, c: u32, d: P, e: P);
    clEnqueueSVMMigrateMem(a: P, b: u32, c: P, d: P, e: u64, f: u32, g: P, h: P);
    clEnqueueBarrier(a: P);
    clGetGLObjectInfo(a: P, b: P, c: P);
    clGetGLTextureInfo(a: P, b: u32, c: usize, d: P, e: P);
    clEnqueueAcquireGLObjects(a: P, b: u32, c: P, d: u32, e: P, f: P);
    clEnqueueReleaseGLObjects(a: P, b: u32, c: P, d: u32, e: P, f: P);
    clGetGLContextInfoKHR(a: P, b: u32, c: usize, d: P, e: P);
}

create! {
    clCreateContext(a: P, b: u32, c: P, d: P, e: P);
    clCreateContextFromType(a: P, b: u64, c: P, d: P);
    clCreateCommandQueue(a: P, b: P, c: u64);
    clCreateCommandQueueWithProperties(a: P, b: P, c: P);
    clCreateBuffer(a: P, b: u64, c: usize, d: P);
    clCreateSubBuffer(a: P, b: u64, c: u32, d: P);
    clCreateImage2D(a: P, b: u64, c: P, d: usize, e: usize, f: usize, g: P);
    clCreateImage3D(a: P, b: u64, c: P, d: usize, e: usize, f: usize, g: usize, h: usize, i: P);
    clCreateImage(a: P, b: u64, c: P, d: P, e: P);
    clCreatePipe(a: P, b: u64, c: u32, d: u32, e: P);
    clCreateSampler(a: P, b: u32, c: u32, d: u32);
    clCreateSamplerWithProperties(a: P, b: P);
    clCreateProgramWithSource(a: P, b: u32, c: P, d: P);
    clCreateProgramWithBinary(a: P, b: u32, c: P, d: P, e: P, f: P);
    clCreateProgramWithBuiltInKernels(a: P, b: u32, c: P, d: P);
    clCreateProgramWithIL(a: P, b: P, c: usize);
    clLinkProgram(a: P, b: u32, c: P, d: P, e: u32, f: P, g: P, h: P);
    clCreateKernel(a: P, b: P);
    clCloneKernel(a: P);
    clCreateUserEvent(a: P);
    clEnqueueMapBuffer(a: P, b: P, c: u32, d: u64, e: usize, f: usize, g: u32, h: P, i: P);
    clEnqueueMapImage(a: P, b: P, c: u32, d: u64, e: P, f: P, g: P, h: P, i: u32, j: P, k: P);
    clCreateFromGLBuffer(a: P, b: u64, c: u32);
    clCreateFromGLTexture(a: P, b: u64, c: u32, d: i32, e: u32);
    clCreateFromGLRenderbuffer(a: P, b: u64, c: u32);
    clCreateFromGLTexture2D(a: P, b: u64, c: u32, d: i32, e: u32);
    clCreateFromGLTexture3D(a: P, b: u64, c: u32, d: i32, e: u32);
}
