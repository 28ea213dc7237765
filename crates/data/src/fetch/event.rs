//! Progress events of a fetch.

use std::time::Duration;

/// Progress reported by [`fetch`](super::fetch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The file already exists and has the expected checksum.
    Present {
        /// File name.
        file: &'a str,
    },
    /// The file exists but is damaged. It is replaced once the new file is complete.
    Damaged {
        /// File name.
        file: &'a str,
        /// How it differs from what was expected.
        why: &'a str,
    },
    /// A transfer starts.
    Start {
        /// File name.
        file: &'a str,
        /// Source URL or path.
        from: &'a str,
        /// Number of bytes kept from an interrupted download.
        done: u64,
        /// File size in bytes.
        size: u64,
    },
    /// More bytes of the current file were received.
    Bytes {
        /// Number of bytes received so far.
        done: u64,
        /// File size in bytes.
        size: u64,
    },
    /// A source failed. The next source, if there is one, is tried.
    Failed {
        /// File name.
        file: &'a str,
        /// Source URL or path.
        from: &'a str,
        /// Reason of the failure.
        why: &'a str,
    },
    /// A server asks to come back later. It is tried again after `wait`.
    Busy {
        /// File name.
        file: &'a str,
        /// Source URL.
        from: &'a str,
        /// Status of its response: 429 or 503.
        status: u16,
        /// Time until the next request.
        wait: Duration,
    },
    /// The file is complete, verified, and stored under its final name.
    Done {
        /// File name.
        file: &'a str,
    },
}
