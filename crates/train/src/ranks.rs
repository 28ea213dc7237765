//! Ranks: several processes that train one network together.
//!
//! Each rank computes some [shards](neocog_data::shard_ranges) of every batch. Sums over all shards have one order, that of a binary
//! tree, so that a run has the same bits for any number of ranks. What ranks send each other is sent by one thread in each of them,
//! one message after the other, while others compute.
//!
//! A [`Transport`] connects the ranks: MPI, with the feature `mpi`, or [`in_process`] for ranks that are threads.

mod collect;
mod compress;
mod in_process;
#[cfg(feature = "mpi")]
mod mpi;
mod reduce;
mod transport;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use neocog_tensor::{Error, ErrorKind, Result};

pub use in_process::in_process;
pub use transport::Transport;

pub(crate) use collect::Receivers;
pub(crate) use compress::{Compressed, Feedback, Summed};
pub(crate) use reduce::{Exact, Part, reduce};

/// The ranks of a run, as one of them sees them. Clones are the same rank.
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    /// Absent if there is one rank only.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    rank: usize,
    size: usize,
    host: Option<String>,
    /// Absent when the thread is to end.
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    sent: Arc<AtomicU64>,
}

/// How long the transport may take to end all ranks.
const ABORT_TIME: Duration = Duration::from_secs(3);

type Job = Box<dyn FnOnce(&mut dyn Transport) + Send>;

/// A result that another thread computes.
#[derive(Debug)]
pub(crate) struct Pending<T>(Receiver<Result<T>>);

impl<T> Pending<T> {
    /// Waits for the result.
    pub(crate) fn wait(self) -> Result<T> {
        self.0.recv().unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Internal, "the thread that exchanges data with the other processes has ended")
}

impl Ranks {
    /// One process that trains alone.
    pub fn single() -> Self {
        Ranks::default()
    }

    /// Connects the process by the transport that `connect` returns; it is used by one thread only, the one that calls `connect`.
    ///
    /// # Errors
    /// Those of `connect`; when the thread cannot be started; `InvalidArgument` for a number of ranks that is not a power of two.
    pub fn connect(connect: impl FnOnce() -> Result<Box<dyn Transport>> + Send + 'static) -> Result<Self> {
        let (jobs, received) = channel::<Job>();
        let (report, reported) = channel();
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        let run = move || {
            let mut transport = match connect() {
                Ok(transport) => Counting { transport, sent: count },
                Err(e) => return drop(report.send(Err(e))),
            };
            drop(report.send(Ok((transport.rank(), transport.size(), transport.host()))));
            received.into_iter().for_each(|job| job(&mut transport));
        };
        let thread = std::thread::Builder::new()
            .name("neocog-ranks".into())
            .spawn(run)
            .map_err(|e| Error::io("cannot start the thread that exchanges data", e))?;
        let (rank, size, host) = reported.recv().unwrap_or_else(|_| Err(ended()))?;
        let shared =
            Shared { rank, size, host, jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), sent };
        if size == 1 {
            return Ok(Ranks::single());
        }
        if !size.is_power_of_two() {
            return Err(Error::invalid_argument(format!(
                "{size} processes: their number must be a power of two, such as {}",
                size.next_power_of_two()
            )));
        }
        Ok(Ranks { shared: Some(Arc::new(shared)) })
    }

    /// Connects the process to those that were started with it by `mpirun` or `srun`; alone if it was started otherwise.
    ///
    /// # Errors
    /// When there are others, but this program was built without the feature `mpi`; when MPI fails.
    pub fn from_environment() -> Result<Self> {
        let Some(announced) = started_together().filter(|size| *size > 1) else { return Ok(Ranks::single()) };
        #[cfg(feature = "mpi")]
        {
            let ranks = Ranks::connect(|| Ok(Box::new(mpi::Mpi::new()?)))?;
            // Some launchers announce those on this machine only.
            if ranks.size() >= announced {
                return Ok(ranks);
            }
            Err(Error::device(format!(
                "the launcher has started {announced} processes, but MPI connects {}: it is of another MPI than the one that this program was \
                 built with",
                ranks.size()
            )))
        }
        #[cfg(not(feature = "mpi"))]
        Err(Error::device(format!(
            "started as one of {announced} processes, but this program was built without MPI; build it with `--features mpi`"
        )))
    }

    /// Returns the number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.rank)
    }

    /// Returns the number of ranks.
    pub fn size(&self) -> usize {
        self.shared.as_ref().map_or(1, |shared| shared.size)
    }

    /// Returns the name of the machine that this rank runs on; `None` for a process alone, and where it is not known.
    pub fn host(&self) -> Option<&str> {
        self.shared.as_ref()?.host.as_deref()
    }

    /// Whether this rank is the first, which writes files and reports progress.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Returns the number of bytes that this rank has sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.sent.load(Ordering::Relaxed))
    }

    /// Ends all ranks at once with an exit code, for errors that not all of them have. Does not return if there are several.
    pub fn abort(&self, code: i32) {
        if self.shared.is_some() {
            #[cfg(feature = "mpi")]
            mpi::request_abort(code);
            let pending = self.submit(move |transport| -> Result<()> { transport.abort(code) });
            // No result is sent. If the thread waits for another process, the launcher ends the others.
            let _ = pending.0.recv_timeout(ABORT_TIME);
            std::process::exit(code);
        }
    }

    /// Checks that `shards` can be divided among the ranks.
    ///
    /// # Errors
    /// `InvalidArgument` if they cannot.
    pub fn check_shards(&self, shards: usize) -> Result<()> {
        if shards.is_multiple_of(self.size()) {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "{} cannot be divided among {} processes: each computes as many; use fewer processes, or, for a new run, --shards {} or a multiple of it",
            neocog_base::text::count(shards, "shard"),
            self.size(),
            self.size()
        )))
    }

    /// Returns the shards that this rank computes.
    pub(crate) fn own_shards(&self, shards: usize) -> Range<usize> {
        let each = shards / self.size();
        self.rank() * each..(self.rank() + 1) * each
    }

    /// Runs `job` on the thread that exchanges data, after all that were submitted before. All ranks must submit the same jobs in the
    /// same order. A process alone runs it at once.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Transport) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let (sender, receiver) = channel();
        let run: Job = Box::new(move |transport| drop(sender.send(job(transport))));
        match &self.shared {
            None => run(&mut Alone),
            Some(shared) => {
                if let Some(jobs) = &*shared.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
                    // If the thread has ended, the result says so.
                    let _ = jobs.send(run);
                }
            }
        }
        Pending(receiver)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

/// The transport of a process without others.
struct Alone;

impl Transport for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&mut self, partner: usize, _: &[u8], _: &mut [u8]) -> Result<()> {
        Err(Error::new(ErrorKind::Internal, format!("there is no process {partner}")))
    }

    fn abort(&mut self, code: i32) -> ! {
        std::process::exit(code)
    }
}

/// A transport that counts what it sends.
struct Counting {
    transport: Box<dyn Transport>,
    sent: Arc<AtomicU64>,
}

impl Transport for Counting {
    fn rank(&self) -> usize {
        self.transport.rank()
    }

    fn size(&self) -> usize {
        self.transport.size()
    }

    fn host(&self) -> Option<String> {
        self.transport.host()
    }

    fn exchange(&mut self, partner: usize, sent: &[u8], received: &mut [u8]) -> Result<()> {
        self.sent.fetch_add(sent.len() as u64, Ordering::Relaxed);
        self.transport.exchange(partner, sent, received)
    }

    fn abort(&mut self, code: i32) -> ! {
        self.transport.abort(code)
    }
}

/// Returns the number of processes that were started together with this one, as MPI's launchers and Slurm say it.
pub fn started_together() -> Option<usize> {
    let number = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    let of_launcher = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE"]
        .into_iter()
        .find_map(number);
    // In an allocation outside of `srun` there is no step.
    of_launcher.or_else(|| number("SLURM_PROCID").and_then(|_| number("SLURM_STEP_NUM_TASKS")))
}

/// Returns the number of this process among those on its machine, if it was started together with others.
pub fn local_rank() -> Option<usize> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"]
        .into_iter()
        .find_map(number)
}
