//! Lists the devices and reads their properties.

use std::sync::Mutex;

use ocl::core::{
    self, DeviceInfo as Query, DeviceInfoResult as Answer, DeviceLocalMemType, DeviceType, PlatformId,
};

use super::error::fault;
use crate::opencl::info::{DeviceId, DeviceInfo, Kind};
use neocog_base::{Error, Result};

/// If set to 1, processors are reported as GPUs, so that GPU kernels can be tested on any machine.
const AS_GPU_VARIABLE: &str = "NEOCOG_OPENCL_AS_GPU";

struct Device {
    platform: PlatformId,
    device: core::DeviceId,
}

struct All {
    infos: Vec<DeviceInfo>,
    handles: Vec<Device>,
}

/// Lists all devices in the driver's order. The list is read once, unless it is empty.
pub(crate) fn list() -> Result<&'static [DeviceInfo]> {
    Ok(&all()?.infos)
}

/// Finds a device.
pub(super) fn find(id: DeviceId) -> Result<(&'static DeviceInfo, PlatformId, core::DeviceId)> {
    let all = all()?;
    let found = all.infos.iter().zip(&all.handles).find(|(info, _)| info.id == id);
    match found {
        Some((info, handle)) => Ok((info, handle.platform, handle.device)),
        None => Err(Error::device(format!("there is no device {id} on this machine"))),
    }
}

fn all() -> Result<&'static All> {
    static ALL: Mutex<Option<&'static All>> = Mutex::new(None);
    let mut known = ALL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(all) = *known {
        return Ok(all);
    }
    let all = query_all()?;
    if all.infos.is_empty() {
        return Err(no_device());
    }
    let all: &'static All = Box::leak(Box::new(all));
    *known = Some(all);
    Ok(all)
}

/// The error if there is no device, which says what to install.
#[cold]
fn no_device() -> Error {
    let why = match neocog_opencl_loader::status() {
        Err(why) => format!("no OpenCL library could be opened ({why})"),
        Ok(()) => "the OpenCL library found no driver with a device".into(),
    };
    Error::device(format!(
        "there is no OpenCL device: {why}. Install the library and a driver. On Debian and Ubuntu the library is the \
         package ocl-icd-libopencl1; drivers are pocl-opencl-icd for the processor, intel-opencl-icd or mesa-opencl-icd \
         for Intel's and AMD's graphics, and NVIDIA's driver brings its own. `clinfo -l` lists the installed devices"
    ))
}

fn query_all() -> Result<All> {
    let mut all = All { infos: Vec::new(), handles: Vec::new() };
    let platforms = core::get_platform_ids().map_err(|e| fault("cannot list the OpenCL platforms", e))?;
    for (p, &platform) in platforms.iter().enumerate() {
        // A platform without devices returns an error.
        let devices = core::get_device_ids(platform, Some(DeviceType::ALL), None).unwrap_or_default();
        for (d, &device) in devices.iter().enumerate() {
            let id = DeviceId { platform: p as u16, device: d as u16 };
            if let Some(info) = query(id, platform, device)? {
                all.infos.push(info);
                all.handles.push(Device { platform, device });
            }
        }
    }
    Ok(all)
}

/// Reads the properties of a device; `None` if it is not available or has no compiler.
fn query(id: DeviceId, platform: PlatformId, device: core::DeviceId) -> Result<Option<DeviceInfo>> {
    let read = |what: Query| {
        core::get_device_info(device, what).map_err(|e| fault(format!("cannot read {what:?} of {id}"), e))
    };
    let text = |what: Query| Ok::<_, Error>(read(what)?.to_string().trim().to_owned());
    let number = |what: Query| {
        Ok::<u64, Error>(match read(what)? {
            Answer::MaxComputeUnits(n) | Answer::NativeVectorWidthFloat(n) => n.into(),
            Answer::MaxWorkGroupSize(n) => n as u64,
            Answer::LocalMemSize(n) | Answer::GlobalMemSize(n) | Answer::MaxMemAllocSize(n) => n,
            Answer::Available(yes) | Answer::CompilerAvailable(yes) => yes.into(),
            other => return Err(Error::device(format!("{id} reports {other} instead of a number"))),
        })
    };
    if number(Query::Available)? == 0 || number(Query::CompilerAvailable)? == 0 {
        return Ok(None);
    }
    let kind = match read(Query::Type)? {
        Answer::Type(t) if t.contains(DeviceType::GPU) => Kind::Gpu,
        Answer::Type(_) if std::env::var_os(AS_GPU_VARIABLE).is_some_and(|v| v == "1") => Kind::Gpu,
        Answer::Type(t) if t.contains(DeviceType::CPU) => Kind::Cpu,
        _ => Kind::Other,
    };
    let own_local = matches!(read(Query::LocalMemType)?, Answer::LocalMemType(DeviceLocalMemType::Local));
    Ok(Some(DeviceInfo {
        id,
        name: text(Query::Name)?,
        vendor: text(Query::Vendor)?,
        platform: core::get_platform_info(platform, core::PlatformInfo::Name)
            .map_err(|e| fault(format!("cannot read the platform name of {id}"), e))?
            .to_string(),
        version: text(Query::Version)?,
        driver: text(Query::DriverVersion)?,
        kind,
        compute_units: number(Query::MaxComputeUnits)? as usize,
        max_group: number(Query::MaxWorkGroupSize)? as usize,
        local_memory: number(Query::LocalMemSize)? as usize,
        // Some drivers for processors report dedicated local memory, but no processor has any.
        has_local_memory: own_local && kind != Kind::Cpu,
        global_memory: number(Query::GlobalMemSize)?,
        max_allocation: number(Query::MaxMemAllocSize)?,
        vector_width: number(Query::NativeVectorWidthFloat)?.max(1) as usize,
        extensions: text(Query::Extensions)?.split_whitespace().map(str::to_owned).collect(),
    }))
}
