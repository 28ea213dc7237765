//! The runtime of a device: launches kernels, profiles them, and holds the tile sizes of matrix products.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ocl::core::{self, CommandQueueProperties, Event};

use super::buffer::Buffer;
use super::cache::Cache;
use super::context::DeviceContext;
use super::error::{fault, is_out_of_memory};
use super::profile::Samples;
use super::program::Programs;
use super::tuned;
use crate::memory::MemoryReport;
use crate::opencl::info::{DeviceId, DeviceInfo};
use crate::opencl::launch::{Arg, Grid, Source};
use crate::opencl::profile::Profile;
use crate::opencl::tile_config::TileConfig;
use neocog_base::Result;

/// Number of launches after which the host waits for those before: bounds the length of the queue.
const LAUNCHES_IN_QUEUE: usize = 512;

/// An open device.
pub(crate) struct Runtime {
    context: DeviceContext,
    launches: Mutex<Launches>,
    tiles: Mutex<TileConfig>,
}

/// Compiled programs, and the state of launches.
#[derive(Default)]
struct Launches {
    programs: Programs,
    /// Measurements, while a profile is recorded.
    profile: Option<Samples>,
    /// Number of launches since `mark` was set.
    since_mark: usize,
    /// An event at least `LAUNCHES_IN_QUEUE` launches ago.
    mark: Option<Event>,
}

/// Returns the runtime of a device, which is opened at the first call.
///
/// # Errors
/// If there is no such device, or it cannot be opened.
pub(crate) fn open(id: DeviceId) -> Result<&'static Runtime> {
    static OPEN: Mutex<BTreeMap<DeviceId, &'static Runtime>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = open.get(&id) {
        return Ok(runtime);
    }
    // Devices stay open: drivers do not reliably support closing and reopening them.
    let runtime: &'static Runtime = Box::leak(Box::new(Runtime::new(id)?));
    open.insert(id, runtime);
    Ok(runtime)
}

impl Runtime {
    fn new(id: DeviceId) -> Result<Self> {
        let context = DeviceContext::new(id)?;
        let tiles =
            tuned::read(&Cache::of_user(), context.info).unwrap_or_else(|| TileConfig::untuned(context.info));
        Ok(Runtime { context, launches: Mutex::default(), tiles: Mutex::new(tiles) })
    }

    pub(crate) fn info(&self) -> &'static DeviceInfo {
        self.context.info
    }

    /// Returns the tile sizes of matrix products.
    pub(crate) fn tile_config(&self) -> TileConfig {
        *self.tiles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the tile sizes of matrix products.
    pub(crate) fn set_tile_config(&self, tiles: TileConfig) {
        *self.tiles.lock().unwrap_or_else(PoisonError::into_inner) = tiles;
    }

    /// Saves the current tile sizes for later runs of the program.
    pub(crate) fn save_tile_config(&self) -> Result<()> {
        tuned::write(&Cache::of_user(), self.context.info, self.tile_config())
    }

    /// Allocates a buffer of `len` floats with unspecified contents.
    pub(crate) fn allocate(&'static self, len: usize) -> Result<Buffer> {
        Buffer::new(&self.context, len)
    }

    fn launches_state(&self) -> MutexGuard<'_, Launches> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a kernel; see [`Call::launch`](crate::opencl::Call::launch).
    ///
    /// # Safety
    /// As of [`Call::launch`](crate::opencl::Call::launch).
    pub(crate) unsafe fn launch(
        &self,
        op: &'static str,
        source: &Source,
        kernel: &'static str,
        args: &[Arg<'_>],
        grid: &Grid,
    ) -> Result<()> {
        let mut state = self.launches_state();
        let state = &mut *state;
        let prepared = state.programs.kernel(&self.context, source, kernel)?;
        prepared.set(args, grid).map_err(|e| fault(format!("cannot set the arguments of {kernel}"), e))?;
        state.since_mark += 1;
        let marks = state.since_mark >= LAUNCHES_IN_QUEUE;
        let mut event = (marks || state.profile.is_some()).then(Event::null);
        let queue = self.context.queue();
        let mut enqueue = || {
            // SAFETY: `set` has checked that the arguments have the kernel's types; the caller guarantees that the kernel keeps
            // within the bounds of its buffers. The driver keeps buffers alive until the kernel is complete.
            unsafe {
                core::enqueue_kernel(
                    &queue.commands,
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
            // Some drivers allocate memory at its first use: retry without the pool's free buffers.
            self.context.release_cached_memory();
            core::finish(&queue.commands).map_err(|e| fault(format!("cannot launch {kernel}"), e))?;
            result = enqueue();
        }
        result.map_err(|e| fault(format!("cannot launch {kernel}"), e))?;
        prepared.launches += 1;
        let Some(event) = event else { return Ok(()) };
        if marks {
            state.since_mark = 0;
            core::flush(&queue.commands).map_err(|e| fault("cannot submit commands", e))?;
            if let Some(earlier) = state.mark.replace(event.clone()) {
                core::wait_for_event(&earlier).map_err(|e| fault("a kernel failed", e))?;
            }
        }
        if let Some(samples) = &mut state.profile {
            samples.push(op, kernel, event, args)?;
        }
        Ok(())
    }

    /// Adds a run of an operation to the profile.
    pub(crate) fn note_run(&self, op: &'static str, multiply_adds: impl FnOnce() -> u64) {
        if let Some(samples) = &mut self.launches_state().profile {
            samples.note_run(op, multiply_adds());
        }
    }

    pub(crate) fn finish(&self) -> Result<()> {
        self.context.finish()
    }

    pub(crate) fn memory_report(&self) -> MemoryReport {
        self.context.memory_report()
    }

    pub(crate) fn release_cached_memory(&self) {
        self.context.release_cached_memory();
    }

    pub(crate) fn launches(&self) -> BTreeMap<&'static str, u64> {
        self.launches_state().programs.launches()
    }

    pub(crate) fn start_profile(&self) -> Result<()> {
        // Locked throughout: while a profile is recorded, the queue times its commands.
        let mut state = self.launches_state();
        self.context.replace_queue(Some(CommandQueueProperties::PROFILING_ENABLE))?;
        state.profile = Some(Samples::default());
        Ok(())
    }

    pub(crate) fn take_profile(&self) -> Result<Profile> {
        let samples = {
            let mut state = self.launches_state();
            let Some(samples) = state.profile.take() else { return Ok(Profile::default()) };
            self.context.replace_queue(None)?;
            samples
        };
        samples.profile()
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runtime({})", self.context.info.id)
    }
}
