//! Programs and kernels: compiled at their first use, cached in memory and on disk.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_void};

use ocl::core::{
    self, ArgVal, KernelArgAddressQualifier as Space, KernelArgInfo, KernelArgInfoResult, KernelInfo,
    KernelInfoResult, KernelWorkGroupInfo, KernelWorkGroupInfoResult, Program as Handle, ProgramInfo,
    ProgramInfoResult,
};

use super::cache::{Cache, Key};
use super::context::DeviceContext;
use super::error::fault;
use crate::opencl::info::{DeviceInfo, Kind};
use crate::opencl::launch::{Arg, Grid, Source};
use neocog_base::{Error, Result};

/// Functions for all programs.
const COMMON: &str = include_str!("../common.cl");

#[derive(Default)]
pub(super) struct Programs {
    programs: HashMap<Identity, Program>,
}

/// Identity of a program: the address of its static text, and what was added to it.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    text: (usize, usize),
    added: String,
}

struct Program {
    handle: Handle,
    kernels: HashMap<&'static str, Kernel>,
}

/// A compiled kernel. There is one object for each kernel, used under the launch lock of the device.
pub(super) struct Kernel {
    pub(super) kernel: core::Kernel,
    pub(super) launches: u64,
    name: &'static str,
    parameters: Vec<Parameter>,
    /// Largest work-group of this kernel on the device.
    max_group: usize,
}

/// Type of a kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Buffer,
    Local,
    Int,
    Uint,
    Ulong,
    Float,
    Int8,
    /// Not reported by the driver.
    Unknown,
}

impl Programs {
    /// Returns the kernel `name` of `source`, compiling the program if necessary.
    pub(super) fn kernel(
        &mut self,
        context: &DeviceContext,
        source: &Source,
        name: &'static str,
    ) -> Result<&mut Kernel> {
        use std::collections::hash_map::Entry;
        let identity = Identity {
            text: (source.text.as_ptr().addr(), source.text.len()),
            added: [source.defines.as_str(), source.code.as_str()].concat(),
        };
        let program = match self.programs.entry(identity) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let handle = build(context, source)?;
                new.insert(Program { handle, kernels: HashMap::new() })
            }
        };
        match program.kernels.entry(name) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(Kernel::new(context, &program.handle, name)?)),
        }
    }

    pub(super) fn launches(&self) -> BTreeMap<&'static str, u64> {
        let mut launches = BTreeMap::new();
        for kernel in self.programs.values().flat_map(|program| program.kernels.values()) {
            *launches.entry(kernel.name).or_default() += kernel.launches;
        }
        launches
    }
}

/// Compiler options, which may depend on the device. No option may relax the arithmetic.
fn options(_info: &DeviceInfo) -> &'static str {
    "-cl-std=CL1.2 -cl-kernel-arg-info"
}

fn build(context: &DeviceContext, source: &Source) -> Result<Handle> {
    let info = context.info;
    let on_cpu = u8::from(info.kind == Kind::Cpu);
    let text =
        format!("#define ON_CPU {on_cpu}\n{}{COMMON}\n{}\n{}", source.defines, source.code, source.text);
    let options = options(info);
    let version = env!("CARGO_PKG_VERSION");
    let key = Key::of(&[version, &text, options, &info.platform, &info.name, &info.version, &info.driver]);
    let cache = Cache::of_user();
    if let Some(kept) = cache.read(&key).and_then(|binary| build_binary(context, &binary, options).ok()) {
        return Ok(kept);
    }
    let failed = |e| fault(format!("cannot compile the program {}", source.name), e);
    let text = CString::new(text)
        .map_err(|_| Error::invalid_argument(format!("the program {} contains a zero byte", source.name)))?;
    let program = core::create_program_with_source(&context.context, &[text]).map_err(failed)?;
    compile(context, &program, options).map_err(failed)?;
    // A failure only makes the next start slower.
    let _kept = cache.write(&key, || match core::get_program_info(&program, ProgramInfo::Binaries) {
        Ok(ProgramInfoResult::Binaries(binaries)) => binaries.into_iter().next(),
        _ => None,
    });
    Ok(program)
}

fn build_binary(context: &DeviceContext, binary: &[u8], options: &str) -> core::Result<Handle> {
    let program = core::create_program_with_binary(&context.context, &[context.device], &[binary])?;
    compile(context, &program, options)?;
    Ok(program)
}

fn compile(context: &DeviceContext, program: &Handle, options: &str) -> core::Result<()> {
    core::build_program(program, Some(&[context.device]), &CString::new(options)?, None, None)
}

impl Kernel {
    fn new(context: &DeviceContext, program: &Handle, name: &'static str) -> Result<Self> {
        let failed = |e| fault(format!("cannot create the kernel {name}"), e);
        let kernel = core::create_kernel(program, name).map_err(failed)?;
        let count = match core::get_kernel_info(&kernel, KernelInfo::NumArgs).map_err(failed)? {
            KernelInfoResult::NumArgs(count) => count,
            other => {
                return Err(Error::device(format!(
                    "the number of arguments of {name} is reported as {other}"
                )));
            }
        };
        let max_group = KernelWorkGroupInfo::WorkGroupSize;
        let max_group = core::get_kernel_work_group_info(&kernel, context.device, max_group);
        let max_group = match max_group.map_err(failed)? {
            KernelWorkGroupInfoResult::WorkGroupSize(size) => size,
            _ => context.info.max_group,
        };
        let parameters = (0..count).map(|index| parameter(&kernel, name, index)).collect::<Result<_>>()?;
        Ok(Kernel { kernel, launches: 0, name, parameters, max_group })
    }

    /// Sets the arguments of the next launch.
    ///
    /// # Panics
    /// If the arguments do not match the kernel's parameters.
    pub(super) fn set(&self, args: &[Arg<'_>], grid: &Grid) -> core::Result<()> {
        let name = self.name;
        assert_eq!(args.len(), self.parameters.len(), "number of arguments of the kernel {name}");
        let group: usize = grid.group.iter().product();
        if group > self.max_group {
            return Err(core::Error::from(format!(
                "the work-group size is {group}, the largest possible is {}",
                self.max_group
            )));
        }
        for (index, (arg, &parameter)) in args.iter().zip(&self.parameters).enumerate() {
            let (given, value) = match arg {
                Arg::Buffer(buffer) => (Parameter::Buffer, ArgVal::mem(buffer.mem())),
                Arg::Int(value) => (Parameter::Int, ArgVal::scalar(value)),
                Arg::Uint(value) => (Parameter::Uint, ArgVal::scalar(value)),
                Arg::Ulong(value) => (Parameter::Ulong, ArgVal::scalar(value)),
                Arg::Float(value) => (Parameter::Float, ArgVal::scalar(value)),
                Arg::Int8(value) => {
                    // SAFETY: an `int8` is eight ints; the array outlives the call below, which copies it.
                    let raw = unsafe {
                        ArgVal::from_raw(
                            size_of_val(value),
                            std::ptr::from_ref(value).cast::<c_void>(),
                            false,
                        )
                    };
                    (Parameter::Int8, raw)
                }
                Arg::Local(bytes) => (Parameter::Local, ArgVal::local::<u8>(bytes)),
            };
            assert!(
                given == parameter || parameter == Parameter::Unknown,
                "argument {index} of the kernel {name} is {arg:?}, its parameter is {parameter:?}"
            );
            core::set_kernel_arg(&self.kernel, index as u32, value)?;
        }
        Ok(())
    }
}

/// Returns the type of a kernel's parameter.
fn parameter(kernel: &core::Kernel, name: &str, index: u32) -> Result<Parameter> {
    let ask = |what| core::get_kernel_arg_info(kernel, index, what, None);
    let (Ok(KernelArgInfoResult::AddressQualifier(space)), Ok(KernelArgInfoResult::TypeName(type_name))) =
        (ask(KernelArgInfo::AddressQualifier), ask(KernelArgInfo::TypeName))
    else {
        // Some drivers do not report it for programs created from binaries.
        return Ok(Parameter::Unknown);
    };
    Ok(match (space, type_name.as_str()) {
        (Space::Global | Space::Constant, _) => Parameter::Buffer,
        (Space::Local, _) => Parameter::Local,
        (Space::Private, "int") => Parameter::Int,
        (Space::Private, "uint" | "unsigned int") => Parameter::Uint,
        (Space::Private, "ulong" | "unsigned long") => Parameter::Ulong,
        (Space::Private, "float") => Parameter::Float,
        (Space::Private, "int8") => Parameter::Int8,
        (Space::Private, other) => {
            return Err(Error::invalid_argument(format!(
                "parameter {index} of the kernel {name} has the unsupported type {other}; supported are buffers, local \
                 memory, int, uint, ulong, float and int8"
            )));
        }
    })
}
