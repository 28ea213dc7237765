//! [`fetch`]: copies the files of a data set into its directory, from the internet or from a local directory.
//!
//! A file `NAME` is downloaded to `NAME.part` and renamed only after its size and SHA-256 were verified and its data
//! were flushed to disk, so a file under its final name is always complete. An interrupted download leaves its
//! `.part` file; the next call resumes it (HTTP `Range`) from any mirror, and the checksum detects parts that do not
//! fit together. Files that already exist and match are not downloaded again; damaged files are.

mod checksum;
mod event;
mod http;
mod job;
mod partial_file;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neocog_base::{Error, Result};

use crate::catalog::{DatasetInfo, Manifest};
use job::{FetchJob, Patience, Sources};

pub use event::Event;
pub use job::{MAX_WAIT, MIN_BYTES_PER_SECOND, TRIES};

/// Default time without progress after which a server counts as failed.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Default time before the second request to a busy server; it doubles with each further one.
pub const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Options of [`fetch`].
///
/// ```no_run
/// use neocog_data::fetch::{Event, FetchOptions, fetch, manifest};
///
/// let mut print = |event: Event<'_>| println!("{event:?}");
/// let options = FetchOptions::new(manifest("mnist")?, "data".as_ref()).progress(&mut print);
/// fetch(options)?;
/// # Ok::<(), neocog_base::Error>(())
/// ```
#[non_exhaustive]
pub struct FetchOptions<'a> {
    /// The files to fetch. [`manifest`] returns those of a data set in the catalog.
    pub manifest: &'a Manifest<'a>,
    /// Root directory of the data sets: the files are stored in `root/NAME`.
    pub root: &'a Path,
    /// Replaces the manifest's sources: a directory that holds the files or a subdirectory `NAME` with them, or a base URL
    /// that starts with `http://` or `https://`. Default: `None`.
    pub from: Option<&'a str>,
    /// Time without progress after which a server counts as failed: without a response, or with a body of fewer than
    /// [`MIN_BYTES_PER_SECOND`]. Default: [`TIMEOUT`].
    pub timeout: Duration,
    /// Time before the second request to a busy server, unless it asks for another one. Default: [`RETRY_DELAY`].
    pub retry_delay: Duration,
    /// Called for each [`Event`]. Default: `None`.
    pub progress: Option<&'a mut dyn FnMut(Event<'_>)>,
}

impl<'a> FetchOptions<'a> {
    /// Creates the options to fetch `manifest` from its own sources into `root/NAME`.
    pub fn new(manifest: &'a Manifest<'a>, root: &'a Path) -> Self {
        FetchOptions {
            manifest,
            root,
            from: None,
            timeout: TIMEOUT,
            retry_delay: RETRY_DELAY,
            progress: None,
        }
    }

    /// Sets the directory or base URL that replaces the manifest's sources.
    #[must_use]
    pub fn from(mut self, from: Option<&'a str>) -> Self {
        self.from = from;
        self
    }

    /// Sets the time before the second request to a busy server.
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// Sets the time without progress after which a server counts as failed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the function that is called for each [`Event`].
    #[must_use]
    pub fn progress(mut self, progress: &'a mut dyn FnMut(Event<'_>)) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl fmt::Debug for FetchOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchOptions")
            .field("manifest", self.manifest)
            .field("root", &self.root)
            .field("from", &self.from)
            .field("timeout", &self.timeout)
            .field("retry_delay", &self.retry_delay)
            .finish_non_exhaustive()
    }
}

/// Result of a successful [`fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchSummary {
    /// Directory that holds the files.
    pub folder: PathBuf,
    /// Number of files that were transferred.
    pub fetched: usize,
    /// Number of files that already existed and matched.
    pub present: usize,
}

/// Returns the manifest of the data set `name`.
///
/// # Errors
/// `NotFound` for a name that is not in the catalog, `InvalidArgument` for a data set that is embedded.
pub fn manifest(name: &str) -> Result<&'static Manifest<'static>> {
    let names: Vec<&str> = DatasetInfo::fetchable()?.into_iter().map(|info| info.name).collect();
    DatasetInfo::find(name)?.manifest.as_ref().ok_or_else(|| {
        Error::invalid_argument(format!(
            "the data set {name} is embedded in the program and needs no download; data sets to download: {}",
            names.join(", ")
        ))
    })
}

/// Transfers the files of a manifest into `root/NAME`, each from the first source that provides it.
///
/// Existing files that match the manifest are left alone. After an error, all files under their final names are
/// complete, and the same call resumes the transfer.
///
/// # Errors
/// - `InvalidArgument` if `from` is neither a directory nor an HTTP URL.
/// - `Io` if a directory or file cannot be read or written, or if all sources fail.
/// - `Format` if all sources provide other content than expected.
///
/// The message names the file, the source, and what was expected and found.
pub fn fetch(options: FetchOptions<'_>) -> Result<FetchSummary> {
    let FetchOptions { manifest, root, from, timeout, retry_delay, progress } = options;
    let sources = Sources::new(manifest, from)?;
    let folder = root.join(manifest.name);
    fs::create_dir_all(&folder)
        .map_err(|e| Error::io(format!("cannot create the directory {}", folder.display()), e))?;
    let mut ignore = |_: Event<'_>| {};
    let patience = Patience { timeout, retry_delay };
    let mut job = FetchJob::new(&folder, sources, patience, progress.unwrap_or(&mut ignore));
    let mut present = 0;
    for file in manifest.files {
        if job.is_present(file)? {
            present += 1;
        } else {
            job.fetch_file(file)?;
        }
    }
    Ok(FetchSummary { folder, fetched: manifest.files.len() - present, present })
}
