//! Measures the execution times of kernels by events.

use std::collections::BTreeMap;

use ocl::core::{self, Event, ProfilingInfo};

use super::error::fault;
use crate::opencl::launch::Arg;
use crate::opencl::profile::{KernelTime, OpWork, Profile};
use neocog_base::Result;

/// Number of events after which their times are read.
const EVENTS: usize = 1024;

/// Measurements since the start of the profile.
#[derive(Default)]
pub(super) struct Samples {
    events: Vec<(&'static str, &'static str, Event)>,
    kernels: BTreeMap<(&'static str, &'static str), Sum>,
    ops: BTreeMap<&'static str, (u64, u64)>,
}

#[derive(Default)]
struct Sum {
    launches: u64,
    nanoseconds: u64,
    bytes: u64,
}

impl Samples {
    pub(super) fn push(
        &mut self,
        op: &'static str,
        kernel: &'static str,
        event: Event,
        args: &[Arg<'_>],
    ) -> Result<()> {
        let floats = args.iter().map(|arg| if let Arg::Buffer(buffer) = arg { buffer.len() } else { 0 });
        let sum = self.kernels.entry((op, kernel)).or_default();
        sum.launches += 1;
        sum.bytes += floats.sum::<usize>() as u64 * size_of::<f32>() as u64;
        self.events.push((op, kernel, event));
        if self.events.len() >= EVENTS { self.read_times() } else { Ok(()) }
    }

    pub(super) fn note_run(&mut self, op: &'static str, multiply_adds: u64) {
        let (runs, work) = self.ops.entry(op).or_default();
        *runs += 1;
        *work += multiply_adds;
    }

    fn read_times(&mut self) -> Result<()> {
        for (op, kernel, event) in self.events.drain(..) {
            let time = |what| core::get_event_profiling_info(&event, what)?.time();
            let took = core::wait_for_event(&event)
                .and_then(|()| Ok(time(ProfilingInfo::End)?.saturating_sub(time(ProfilingInfo::Start)?)))
                .map_err(|e| fault(format!("cannot time {kernel}"), e))?;
            self.kernels.entry((op, kernel)).or_default().nanoseconds += took;
        }
        Ok(())
    }

    pub(super) fn profile(mut self) -> Result<Profile> {
        self.read_times()?;
        let kernels = self.kernels.into_iter().map(|((op, kernel), sum)| KernelTime {
            op,
            kernel,
            launches: sum.launches,
            seconds: sum.nanoseconds as f64 * 1e-9,
            bytes: sum.bytes,
        });
        let ops = self.ops.into_iter().map(|(op, (runs, multiply_adds))| OpWork { op, runs, multiply_adds });
        Ok(Profile { kernels: kernels.collect(), ops: ops.collect() })
    }
}
