//! Ranks that are processes started by `mpirun` or `srun`.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Source};
use neocog_tensor::{Error, ErrorKind, Result};

use super::transport::Transport;

/// The most bytes in one message: MPI counts them with 32 bits.
const MAX_MESSAGE: usize = 1 << 30;
/// How long to look for a message without a pause.
const SPINS: u32 = 200;
/// The pause between two looks: a core that only waits is one less for those that compute.
const PAUSE: Duration = Duration::from_micros(20);

/// The exit code with which all ranks are to end, or `NO_ABORT`: a thread that waits for another process looks at it.
static ABORT: AtomicI32 = AtomicI32::new(NO_ABORT);
const NO_ABORT: i32 = i32::MIN;

/// Ends all ranks even if the thread that exchanges data waits for one of them.
pub(super) fn request_abort(code: i32) {
    ABORT.store(code, Ordering::Relaxed);
}

/// The ranks of MPI's world.
pub(super) struct Mpi {
    world: SimpleCommunicator,
    /// MPI ends when it is dropped.
    _universe: Universe,
}

impl Mpi {
    /// Starts MPI, for the calling thread.
    ///
    /// # Errors
    /// When it was started before, or allows no other threads.
    pub(super) fn new() -> Result<Self> {
        let failed = |what: &str| Error::new(ErrorKind::Device, format!("cannot start MPI: {what}"));
        let (universe, threading) = mpi::initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| failed("it was started before"))?;
        if threading < Threading::Funneled {
            return Err(failed("it allows one thread only"));
        }
        Ok(Mpi { world: universe.world(), _universe: universe })
    }

    fn exchange_part(&self, partner: i32, sent: &[u8], received: &mut [u8]) {
        let process = self.world.process_at_rank(partner);
        mpi::request::scope(|scope| {
            let mut receiving = Some(process.immediate_receive_into(scope, received));
            let mut sending = Some(process.immediate_send(scope, sent));
            let mut looks = 0u32;
            while receiving.is_some() || sending.is_some() {
                receiving = receiving.take().and_then(|request| request.test().err());
                sending = sending.take().and_then(|request| request.test().err());
                looks += 1;
                match ABORT.load(Ordering::Relaxed) {
                    NO_ABORT => {}
                    code => self.world.abort(code),
                }
                if looks > SPINS {
                    std::thread::sleep(PAUSE);
                } else {
                    std::thread::yield_now();
                }
            }
        });
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn host(&self) -> Option<String> {
        mpi::environment::processor_name().ok().filter(|name| !name.is_empty())
    }

    /// An error of MPI ends all ranks.
    fn exchange(&mut self, partner: usize, sent: &[u8], received: &mut [u8]) -> Result<()> {
        let parts = sent.len().max(received.len()).div_ceil(MAX_MESSAGE).max(1);
        let part =
            |length: usize, i: usize| (i * MAX_MESSAGE).min(length)..((i + 1) * MAX_MESSAGE).min(length);
        for i in 0..parts {
            let (out, into) = (part(sent.len(), i), part(received.len(), i));
            self.exchange_part(partner as i32, &sent[out], &mut received[into]);
        }
        Ok(())
    }

    fn abort(&mut self, code: i32) -> ! {
        self.world.abort(code)
    }
}
