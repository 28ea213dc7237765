//! Fault points: places where the tests of this project end the process or let a write fail.
//!
//! For tests only. The environment variable `NEOCOG_TEST_FAULT` has the form `ACTION@POINT:COUNT`: the action is `kill`, which
//! ends the process as `kill -9` does, or `full`, an error as of a full disk; the point is one of [`POINTS`], or `any`; the
//! count, from 1, is which time that the process reaches such a point. `kill@write:7` ends the process before its seventh write.
//! Without the variable, a point is one comparison for each write of 64 KiB.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable.
pub const VARIABLE: &str = "NEOCOG_TEST_FAULT";

/// The points of the replacement of a file, in their order: after the temporary file is opened, before each write, before and
/// after it is synchronized, after it is renamed, and after the directory is synchronized.
pub const POINTS: [&str; 6] = ["opened", "write", "written", "synced", "renamed", "done"];

/// A fault that the environment asks for.
struct Fault {
    is_kill: bool,
    /// `None` for any point.
    point: Option<String>,
    /// Times that a point must still be reached.
    left: AtomicU64,
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (action, rest) = text.split_once('@')?;
        let (point, count) = rest.split_once(':')?;
        let is_known = point == "any" || POINTS.contains(&point);
        (is_known && matches!(action, "kill" | "full")).then_some(())?;
        Some(Fault {
            is_kill: action == "kill",
            point: (point != "any").then(|| point.to_string()),
            left: AtomicU64::new(count.parse().ok().filter(|&count| count > 0)?),
        })
    }

    /// Whether the fault is due at `point`.
    fn is_due(&self, point: &str) -> bool {
        let is_here = self.point.as_deref().is_none_or(|wanted| wanted == point);
        is_here && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Lets the fault happen that the environment asks for at this point.
///
/// # Errors
/// `StorageFull` if that is the fault.
#[inline]
pub(crate) fn point(name: &str) -> io::Result<()> {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    let fault = FAULT.get_or_init(|| Fault::parse(&std::env::var(VARIABLE).ok()?));
    let Some(fault) = fault else { return Ok(()) };
    if !fault.is_due(name) {
        return Ok(());
    }
    if fault.is_kill {
        kill();
    }
    Err(io::ErrorKind::StorageFull.into())
}

fn kill() -> ! {
    #[cfg(unix)]
    // SAFETY: sends a signal to this process, which ends it.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    std::process::abort()
}

/// A writer with a fault point before each write; put it behind a buffer.
#[derive(Debug)]
pub struct FaultWriter<W>(pub W);

impl<W: Write> Write for FaultWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        point("write")?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Seek> Seek for FaultWriter<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_due_once() {
        let fault = Fault::parse("full@write:2").unwrap();
        assert!(!fault.is_kill);
        let due: Vec<bool> =
            ["write", "synced", "write", "write"].into_iter().map(|p| fault.is_due(p)).collect();
        assert_eq!(due, [false, false, true, false]);
        let any = Fault::parse("kill@any:1").unwrap();
        assert!(any.is_kill && any.is_due("opened"));
        for wrong in
            ["", "kill", "kill@write", "kill@write:0", "kill@nowhere:1", "die@write:1", "kill@write:x"]
        {
            assert!(Fault::parse(wrong).is_none(), "{wrong}");
        }
        point("write").unwrap();
    }
}
