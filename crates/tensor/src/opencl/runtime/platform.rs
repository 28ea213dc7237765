//! The list of devices, and what they say of themselves.

use std::sync::Mutex;

use ocl::core::{
    self, DeviceInfo as Ask, DeviceInfoResult as Told, DeviceLocalMemType, DeviceType, PlatformId,
};

use super::fault;
use crate::opencl::{DeviceId, DeviceInfo, Kind};
use neocog_base::{Error, Result};

/// Set to 1, it makes processors pass for graphics cards, so that the kernels of those can be tested anywhere.
const AS_GPU_VARIABLE: &str = "NEOCOG_OPENCL_AS_GPU";

struct Device {
    platform: PlatformId,
    device: core::DeviceId,
}

struct All {
    infos: Vec<DeviceInfo>,
    handles: Vec<Device>,
}

/// All devices, in the driver's order. They are asked for once, unless there is none.
pub(crate) fn list() -> Result<&'static [DeviceInfo]> {
    Ok(&all()?.infos)
}

/// A device, by its positions.
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
    let all = ask_all()?;
    if all.infos.is_empty() {
        return Err(none());
    }
    let all: &'static All = Box::leak(Box::new(all));
    *known = Some(all);
    Ok(all)
}

/// The error where there is no device: why, and what to install.
#[cold]
fn none() -> Error {
    let why = match neocog_opencl_loader::status() {
        Err(why) => format!("no OpenCL library could be opened ({why})"),
        Ok(()) => "the OpenCL library knows of no driver with a device".into(),
    };
    Error::device(format!(
        "there is no OpenCL device: {why}. Install the library and a driver. On Debian and Ubuntu the library is the \
         package ocl-icd-libopencl1; drivers are pocl-opencl-icd for the processor, intel-opencl-icd or mesa-opencl-icd \
         for Intel's and AMD's graphics, and NVIDIA's driver brings its own. `clinfo -l` lists what is found"
    ))
}

fn ask_all() -> Result<All> {
    let mut all = All { infos: Vec::new(), handles: Vec::new() };
    let platforms = core::get_platform_ids().map_err(|e| fault("cannot list the OpenCL platforms", e))?;
    for (p, &platform) in platforms.iter().enumerate() {
        // A platform without devices says so by an error.
        let devices = core::get_device_ids(platform, Some(DeviceType::ALL), None).unwrap_or_default();
        for (d, &device) in devices.iter().enumerate() {
            let id = DeviceId { platform: p as u16, device: d as u16 };
            if let Some(info) = ask(id, platform, device)? {
                all.infos.push(info);
                all.handles.push(Device { platform, device });
            }
        }
    }
    Ok(all)
}

/// What a device says; nothing if it cannot compile or is not there.
fn ask(id: DeviceId, platform: PlatformId, device: core::DeviceId) -> Result<Option<DeviceInfo>> {
    let tell = |what: Ask| {
        core::get_device_info(device, what).map_err(|e| fault(format!("{id} does not tell its {what:?}"), e))
    };
    let text = |what: Ask| Ok::<_, Error>(tell(what)?.to_string().trim().to_owned());
    let number = |what: Ask| {
        Ok::<u64, Error>(match tell(what)? {
            Told::MaxComputeUnits(n) | Told::NativeVectorWidthFloat(n) => n.into(),
            Told::MaxWorkGroupSize(n) => n as u64,
            Told::LocalMemSize(n) | Told::GlobalMemSize(n) | Told::MaxMemAllocSize(n) => n,
            Told::Available(yes) | Told::CompilerAvailable(yes) => yes.into(),
            other => return Err(Error::device(format!("{id} tells {other} where a number is expected"))),
        })
    };
    if number(Ask::Available)? == 0 || number(Ask::CompilerAvailable)? == 0 {
        return Ok(None);
    }
    let kind = match tell(Ask::Type)? {
        Told::Type(t) if t.contains(DeviceType::GPU) => Kind::Gpu,
        Told::Type(_) if std::env::var_os(AS_GPU_VARIABLE).is_some_and(|v| v == "1") => Kind::Gpu,
        Told::Type(t) if t.contains(DeviceType::CPU) => Kind::Cpu,
        _ => Kind::Other,
    };
    let own_local = matches!(tell(Ask::LocalMemType)?, Told::LocalMemType(DeviceLocalMemType::Local));
    Ok(Some(DeviceInfo {
        id,
        name: text(Ask::Name)?,
        vendor: text(Ask::Vendor)?,
        platform: core::get_platform_info(platform, core::PlatformInfo::Name)
            .map_err(|e| fault(format!("the platform of {id} has no name"), e))?
            .to_string(),
        version: text(Ask::Version)?,
        driver: text(Ask::DriverVersion)?,
        kind,
        compute_units: number(Ask::MaxComputeUnits)? as usize,
        max_group: number(Ask::MaxWorkGroupSize)? as usize,
        local_memory: number(Ask::LocalMemSize)? as usize,
        // Some drivers for processors claim it; none of them has it.
        has_local_memory: own_local && kind != Kind::Cpu,
        global_memory: number(Ask::GlobalMemSize)?,
        max_allocation: number(Ask::MaxMemAllocSize)?,
        vector_width: number(Ask::NativeVectorWidthFloat)?.max(1) as usize,
        extensions: text(Ask::Extensions)?.split_whitespace().map(str::to_owned).collect(),
    }))
}
