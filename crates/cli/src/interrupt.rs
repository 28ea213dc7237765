//! Signals: Ctrl-C and requests to terminate stop a training after it is saved; those that were ignored when the program
//! started stay ignored, as under `nohup`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_base::{Error, Result};

use crate::output;

/// The exit code of a training that a signal stopped: 128 + SIGINT, whichever signal it was.
pub const INTERRUPTED: u8 = 130;

/// Makes a write beyond the limit of file sizes (`ulimit -f`) an error of that write; without, the process would be killed.
pub fn report_file_size_limit() {
    #[cfg(unix)]
    {
        use signal_hook::consts::SIGXFSZ;
        if !unix::is_ignored(SIGXFSZ) {
            // The signal itself needs no reaction. Without the handler, the process is killed as before.
            let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
        }
    }
}

/// Makes an abort, of an allocation that fails or of a device driver that gives up, an exit with a message and the code of an error.
pub fn report_abort() {
    #[cfg(unix)]
    {
        const MESSAGE: &[u8] =
            b"error: aborted, most likely for want of memory; smaller batches or images need less, a higher \
            limit (ulimit -v) gives more\n";
        let end = || {
            // SAFETY: `write` and `_exit` may be called by a signal handler; the buffer is a constant.
            unsafe {
                libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
                libc::_exit(1);
            }
        };
        // SAFETY: the handler only calls functions that are safe in a signal handler. Without it, the process dies as before.
        let _ = unsafe { signal_hook::low_level::register(libc::SIGABRT, end) };
    }
}

/// Returns a flag that the first Ctrl-C, SIGTERM or SIGHUP sets. Further ones change nothing, so that what the first one
/// saves is not lost. Signals that are ignored stay so.
///
/// # Errors
/// When no handler can be installed.
pub fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    install(move || {
        neocog_base::file::stop_waiting();
        if flag.swap(true, Ordering::Relaxed) {
            output::note(format_args!(
                "still stopping: the checkpoint follows after this batch; only `kill -9 {}` ends at once, without it",
                std::process::id()
            ));
        } else {
            output::note(format_args!("stopping after this batch"));
        }
    })?;
    Ok(stop)
}

#[cfg(unix)]
use unix::install;

#[cfg(unix)]
mod unix {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    use super::{Error, Result};
    use crate::threads;

    pub(super) fn install(on_signal: impl Fn() + Send + 'static) -> Result<()> {
        let cannot = |e| Error::io("cannot handle Ctrl-C", e);
        let wanted: Vec<_> =
            [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut signals = Signals::new(wanted).map_err(cannot)?;
        let thread = std::thread::Builder::new().name("signals".into());
        let spawned = thread.spawn(move || signals.forever().for_each(|_| on_signal()));
        spawned.map_err(threads::cannot_start)?;
        Ok(())
    }

    /// Whether the process ignores a signal.
    pub(super) fn is_ignored(signal: i32) -> bool {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action, `sigaction` only writes the current one to the memory that is passed, which has its type;
        // all zeros are a valid value too, if the signal is unknown.
        let action = unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn install(on_signal: impl Fn() + Send + 'static) -> Result<()> {
    ctrlc::set_handler(on_signal).map_err(|e| Error::invalid_argument("cannot handle Ctrl-C").with_source(e))
}
