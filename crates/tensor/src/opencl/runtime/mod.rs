//! Everything that talks to OpenCL: one context, one in-order queue and one pool of memory for each device, open until
//! the program ends.
//!
//! Commands are queued and not waited for; only reads wait. As the queue keeps their order, memory can go back to the
//! pool, and be lent again, while commands that use it still wait in the queue.

mod cache;
mod memory;
mod platform;
mod profile;
mod program;
mod tuned;

pub use memory::Buffer;
pub(crate) use platform::list;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use neocog_opencl_loader as _;
use ocl::core::{self, CommandQueue, CommandQueueProperties, Context, Event, Mem, Status};

use self::cache::Cache;
use self::profile::Samples;
use self::program::Programs;
use super::Profile;
use super::call::{Arg, Grid, Source};
use super::device::{DeviceId, DeviceInfo};
use super::product::TileConfig;
use crate::memory::{MemoryReport, Pool};
use neocog_base::{Error, Result};

/// After so many launches the host waits until the device has done those before: the queue stays short.
const LAUNCHES_IN_QUEUE: usize = 512;

/// So many uploads may wait in the queue, with their data.
const UPLOADS_IN_QUEUE: usize = 8;

/// An open device.
pub(crate) struct Runtime {
    info: &'static DeviceInfo,
    device: core::DeviceId,
    context: Context,
    pool: Mutex<Pool<Mem>>,
    state: Mutex<State>,
    blocks: Mutex<TileConfig>,
}

struct State {
    queue: CommandQueue,
    programs: Programs,
    /// Kernels are timed while it is there.
    profile: Option<Samples>,
    /// Uploads that may not be done, with what they read from.
    uploads: VecDeque<(Event, Vec<f32>)>,
    /// Launches since the last of `marks`.
    launched: usize,
    /// An event of the launch `LAUNCHES_IN_QUEUE` ago, or later.
    mark: Option<Event>,
}

/// The device, opened at the first call.
///
/// # Errors
/// When there is no such device, or it cannot be opened.
pub(crate) fn open(id: DeviceId) -> Result<&'static Runtime> {
    static OPEN: Mutex<BTreeMap<DeviceId, &'static Runtime>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = open.get(&id) {
        return Ok(runtime);
    }
    // Drivers are not made to be closed and opened again, so devices stay open.
    let runtime: &'static Runtime = Box::leak(Box::new(Runtime::new(id)?));
    open.insert(id, runtime);
    Ok(runtime)
}

impl Runtime {
    fn new(id: DeviceId) -> Result<Self> {
        let (info, platform, device) = platform::find(id)?;
        let failed = |e| fault(format!("cannot open {id} ({})", info.name), e);
        let properties = core::ContextProperties::new().platform(platform);
        let context = core::create_context(Some(&properties), &[device], None, None).map_err(failed)?;
        let queue = core::create_command_queue(&context, device, None).map_err(failed)?;
        Ok(Runtime {
            info,
            device,
            context,
            pool: Mutex::new(Pool::new(memory::LINE)),
            blocks: Mutex::new(
                tuned::read(&Cache::of_user(), info).unwrap_or_else(|| TileConfig::untuned(info)),
            ),
            state: Mutex::new(State {
                queue,
                programs: Programs::default(),
                profile: None,
                uploads: VecDeque::new(),
                launched: 0,
                mark: None,
            }),
        })
    }

    pub(crate) fn info(&self) -> &'static DeviceInfo {
        self.info
    }

    /// How products are cut into blocks.
    pub(crate) fn tile_config(&self) -> TileConfig {
        *self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts products otherwise from now on.
    pub(crate) fn set_tile_config(&self, blocks: TileConfig) {
        *self.blocks.lock().unwrap_or_else(PoisonError::into_inner) = blocks;
    }

    /// SavedTensors the blocks for the next programs.
    pub(crate) fn keep_blocks(&self) -> Result<()> {
        tuned::write(&Cache::of_user(), self.info, self.tile_config())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self) -> MutexGuard<'_, Pool<Mem>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a kernel; see [`super::Call::launch`].
    pub(crate) fn launch(
        &self,
        op: &'static str,
        source: &Source,
        kernel: &'static str,
        args: &[Arg<'_>],
        grid: &Grid,
    ) -> Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let prepared = state.programs.kernel(self, source, kernel)?;
        prepared.set(args, grid).map_err(|e| fault(format!("cannot set the arguments of {kernel}"), e))?;
        state.launched += 1;
        let marks = state.launched >= LAUNCHES_IN_QUEUE;
        let mut event = (marks || state.profile.is_some()).then(Event::null);
        let mut enqueue = || {
            // SAFETY: the arguments are of the kernel's types, which `set` has checked, and its bounds are its own to
            // keep: the conformance tests look at that. Buffers in use are kept by the driver until the kernel is done.
            unsafe {
                core::enqueue_kernel(
                    &state.queue,
                    &prepared.kernel,
                    grid.dims,
                    None,
                    &grid.rounded(),
                    Some(grid.group),
                    None::<()>,
                    event.as_mut(),
                )
            }
        };
        let mut result = enqueue();
        if result.as_ref().is_err_and(is_out_of_memory) {
            // Memory that drivers give out only when it is used: perhaps what the pool keeps was in the way.
            self.release_cached_memory();
            core::finish(&state.queue).map_err(|e| fault(format!("cannot launch {kernel}"), e))?;
            result = enqueue();
        }
        result.map_err(|e| fault(format!("cannot launch {kernel}"), e))?;
        prepared.launches += 1;
        let Some(event) = event else { return Ok(()) };
        if marks {
            state.launched = 0;
            core::flush(&state.queue).map_err(|e| fault("cannot hand over commands", e))?;
            if let Some(earlier) = state.mark.replace(event.clone()) {
                core::wait_for_event(&earlier).map_err(|e| fault("a kernel failed", e))?;
            }
        }
        if let Some(samples) = &mut state.profile {
            samples.push(op, kernel, event, args)?;
        }
        Ok(())
    }

    /// Counts a run of an operation for the profile.
    pub(crate) fn note_run(&self, op: &'static str, multiply_adds: impl FnOnce() -> u64) {
        if let Some(samples) = &mut self.state().profile {
            samples.note_run(op, multiply_adds());
        }
    }

    pub(crate) fn finish(&self) -> Result<()> {
        let mut state = self.state();
        core::finish(&state.queue).map_err(|e| fault(format!("{} failed", self.info.id), e))?;
        state.uploads.clear();
        state.mark = None;
        Ok(())
    }

    pub(crate) fn memory_report(&self) -> MemoryReport {
        self.pool().report()
    }

    pub(crate) fn release_cached_memory(&self) {
        // Freed after the lock is released.
        let free = self.pool().release();
        drop(free);
    }

    pub(crate) fn launches(&self) -> BTreeMap<&'static str, u64> {
        self.state().programs.launches()
    }

    pub(crate) fn start_profile(&self) -> Result<()> {
        self.renew_queue(Some(CommandQueueProperties::PROFILING_ENABLE))?;
        self.state().profile = Some(Samples::default());
        Ok(())
    }

    pub(crate) fn take_profile(&self) -> Result<Profile> {
        self.finish()?;
        let samples = self.state().profile.take();
        let profile = samples.map_or_else(|| Ok(Profile::default()), Samples::profile)?;
        self.renew_queue(None)?;
        Ok(profile)
    }

    /// Replaces the queue by one with these properties, when the old one has done all.
    fn renew_queue(&self, properties: Option<CommandQueueProperties>) -> Result<()> {
        self.finish()?;
        let queue = core::create_command_queue(&self.context, self.device, properties);
        self.state().queue =
            queue.map_err(|e| fault(format!("cannot make a queue for {}", self.info.id), e))?;
        Ok(())
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runtime({})", self.info.id)
    }
}

fn is_out_of_memory(e: &core::Error) -> bool {
    use Status::{CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_RESOURCES};
    matches!(e.api_status(), Some(CL_MEM_OBJECT_ALLOCATION_FAILURE | CL_OUT_OF_RESOURCES))
}

/// An error of OpenCL in our words: what could not be done, OpenCL's name for why, and what to do about it.
#[cold]
fn fault(doing: impl Into<String>, e: core::Error) -> Error {
    let doing = doing.into();
    let Some(status) = e.api_status() else { return Error::device(format!("{doing}: {e}")) };
    let advice = match status {
        Status::CL_MEM_OBJECT_ALLOCATION_FAILURE
        | Status::CL_OUT_OF_RESOURCES
        | Status::CL_OUT_OF_HOST_MEMORY => {
            ": the device is out of memory or of other resources; a smaller batch needs less"
        }
        Status::CL_DEVICE_NOT_AVAILABLE => ": the device is gone",
        Status::CL_INVALID_WORK_GROUP_SIZE | Status::CL_INVALID_WORK_ITEM_SIZE => {
            ": the device allows no work-groups of this size"
        }
        _ => "",
    };
    Error::device(format!("{doing}: {status:?}{advice}"))
}
