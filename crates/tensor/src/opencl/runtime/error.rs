//! Errors of the OpenCL library.

use ocl::core::{self, Status};

use neocog_base::{Error, ErrorKind};

/// Whether memory that is returned to the driver may help.
pub(super) fn is_out_of_memory(e: &core::Error) -> bool {
    use Status::{CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_RESOURCES};
    matches!(e.api_status(), Some(CL_MEM_OBJECT_ALLOCATION_FAILURE | CL_OUT_OF_RESOURCES))
}

/// Converts an error: what failed, OpenCL's name of the status, and advice.
#[cold]
pub(super) fn fault(doing: impl Into<String>, e: core::Error) -> Error {
    let doing = doing.into();
    let Some(status) = e.api_status() else { return Error::device(format!("{doing}: {e}")) };
    let advice = match status {
        Status::CL_MEM_OBJECT_ALLOCATION_FAILURE
        | Status::CL_OUT_OF_RESOURCES
        | Status::CL_OUT_OF_HOST_MEMORY => {
            ": the device is out of memory or of other resources; a smaller batch needs less"
        }
        Status::CL_DEVICE_NOT_AVAILABLE => ": the device is no longer available",
        Status::CL_INVALID_WORK_GROUP_SIZE | Status::CL_INVALID_WORK_ITEM_SIZE => {
            ": the device does not support work-groups of this size"
        }
        _ => "",
    };
    let kind = if is_out_of_memory(&e) || status == Status::CL_OUT_OF_HOST_MEMORY {
        ErrorKind::OutOfMemory
    } else {
        ErrorKind::Device
    };
    Error::new(kind, format!("{doing}: {status:?}{advice}"))
}
