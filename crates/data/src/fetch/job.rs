//! The transfer of one data set's files: sources, retries and verification.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neocog_base::file::open_input;
use neocog_base::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use super::checksum;
use super::event::Event;
use super::http::{HttpClient, Response};
use super::partial_file::PartialFile;
use crate::catalog::{Manifest, RemoteFile};

/// Progress within [`FetchOptions::timeout`](super::FetchOptions::timeout): at least this number of bytes for each second of it.
pub const MIN_BYTES_PER_SECOND: u64 = 1024;
/// Number of requests to a server that is busy (429 or 503).
pub const TRIES: u32 = 5;
/// The longest time that a busy server may ask for (`Retry-After`): with a longer one, it counts as failed.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

const BUFFER_BYTES: usize = 1 << 16;

/// Where the files are read from.
pub(crate) enum Sources {
    Folder(PathBuf),
    /// Base URLs with a trailing slash, in the order in which they are tried.
    Urls(Vec<String>),
}

impl Sources {
    /// Interprets `from` as a URL or directory; without it, uses the sources of the manifest.
    pub(crate) fn new(manifest: &Manifest<'_>, from: Option<&str>) -> Result<Self> {
        let Some(from) = from else {
            return Ok(Sources::Urls(manifest.sources.iter().map(ToString::to_string).collect()));
        };
        let lower = from.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Sources::Urls(vec![format!("{}/", from.trim_end_matches('/'))]));
        }
        if lower.contains("://") {
            return Err(Error::invalid_argument(format!(
                "cannot fetch from {from}: expected a directory or a URL that starts with http:// or https://"
            )));
        }
        let folder = Path::new(from);
        if !folder.is_dir() {
            return Err(Error::invalid_argument(format!("cannot fetch from {from}: no such directory")));
        }
        let subfolder = folder.join(manifest.name);
        Ok(Sources::Folder(if subfolder.is_dir() { subfolder } else { folder.into() }))
    }
}

/// Why a transfer failed.
enum Failure {
    /// An error of this machine, such as a full disk: other sources cannot help.
    Local(Error),
    /// An error of the source: the next source is tried.
    Source(ErrorKind, String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Local(e)
    }
}

/// How long servers are waited for.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// Time without progress.
    pub timeout: Duration,
    /// Time before the second request to a busy server.
    pub retry_delay: Duration,
}

/// Transfers files from `sources` into `folder`.
pub(crate) struct FetchJob<'a> {
    client: HttpClient,
    patience: Patience,
    sources: Sources,
    folder: &'a Path,
    progress: &'a mut dyn FnMut(Event<'_>),
}

impl<'a> FetchJob<'a> {
    pub(crate) fn new(
        folder: &'a Path,
        sources: Sources,
        patience: Patience,
        progress: &'a mut dyn FnMut(Event<'_>),
    ) -> Self {
        FetchJob { client: HttpClient::new(patience.timeout), patience, sources, folder, progress }
    }

    /// Returns whether the file exists with the expected size and checksum.
    pub(crate) fn is_present(&mut self, file: &RemoteFile<'_>) -> Result<bool> {
        let path = self.folder.join(file.name);
        let read_error = |e| Error::io(format!("cannot read {}", path.display()), e);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(read_error(e)),
        };
        let why = if metadata.len() != file.size {
            size_mismatch(file, metadata.len())
        } else {
            let mut hash = Sha256::new();
            io::copy(&mut open_input(&path).map_err(read_error)?, &mut hash).map_err(read_error)?;
            let found = checksum::to_hex(hash);
            if found.eq_ignore_ascii_case(file.sha256) {
                (self.progress)(Event::Present { file: file.name });
                return Ok(true);
            }
            checksum_mismatch(file, &found)
        };
        (self.progress)(Event::Damaged { file: file.name, why: &why });
        Ok(false)
    }

    /// Transfers `file` from the first source that provides it.
    pub(crate) fn fetch_file(&mut self, file: &RemoteFile<'_>) -> Result<()> {
        let mut part = PartialFile::open(self.folder.join(format!("{}.part", file.name)), file.size)?;
        let sources: Vec<String> = match &self.sources {
            Sources::Folder(folder) => vec![folder.join(file.name).display().to_string()],
            Sources::Urls(bases) => bases.iter().map(|base| format!("{base}{}", file.name)).collect(),
        };
        let mut kind = ErrorKind::Format;
        let mut reasons = Vec::new();
        for source in &sources {
            let result = match &self.sources {
                Sources::Folder(folder) => self.copy(&folder.join(file.name), file, &mut part),
                Sources::Urls(_) => self.download(source, file, &mut part),
            };
            match result {
                Ok(()) => {
                    part.rename_to(&self.folder.join(file.name))?;
                    (self.progress)(Event::Done { file: file.name });
                    return Ok(());
                }
                Err(Failure::Local(e)) => return Err(e),
                Err(Failure::Source(source_kind, why)) => {
                    (self.progress)(Event::Failed { file: file.name, from: source, why: &why });
                    if source_kind != ErrorKind::Format {
                        kind = source_kind;
                    }
                    reasons.push(format!("{source}: {why}"));
                }
            }
        }
        let mut message = format!("cannot fetch {}: {}", file.name, reasons.join("; "));
        if let Some(kept) = part.keep_or_remove()? {
            message += &format!(
                "; the partial download is kept in {}: run the same command again to resume it",
                kept.display()
            );
        } else if matches!(self.sources, Sources::Urls(_)) && kind == ErrorKind::Io {
            message += "; if this machine cannot reach the servers, copy the files to it and fetch from their directory";
        }
        Err(Error::new(kind, message))
    }

    fn copy(&mut self, source: &Path, file: &RemoteFile<'_>, part: &mut PartialFile) -> Result<(), Failure> {
        let source_error = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => Failure::Source(ErrorKind::Io, "no such file".into()),
            _ => Failure::Source(ErrorKind::Io, format!("cannot read the file: {e}")),
        };
        let mut reader = open_input(source).map_err(source_error)?;
        let found = reader.metadata().map_err(source_error)?.len();
        if found != file.size {
            return Err(Failure::Source(ErrorKind::Format, size_mismatch(file, found)));
        }
        part.clear()?;
        self.receive(&mut reader, &source.display().to_string(), file, part)?;
        verify(file, part)
    }

    /// Downloads the missing bytes of `part`. If it was resumed and the checksum does not match, downloads the whole
    /// file once more.
    fn download(&mut self, url: &str, file: &RemoteFile<'_>, part: &mut PartialFile) -> Result<(), Failure> {
        let resumed = part.len() > 0;
        self.download_rest(url, file, part)?;
        match verify(file, part) {
            Err(Failure::Source(..)) if resumed => {
                self.download_rest(url, file, part)?;
                verify(file, part)
            }
            result => result,
        }
    }

    /// Downloads until `part` has the size of `file`.
    fn download_rest(
        &mut self,
        url: &str,
        file: &RemoteFile<'_>,
        part: &mut PartialFile,
    ) -> Result<(), Failure> {
        if part.len() == file.size {
            return Ok(());
        }
        let server_error = |why| Failure::Source(ErrorKind::Io, why);
        let mut response = self.request(url, file, part.len())?;
        if let Response::RangeNotSatisfiable = response {
            part.clear()?;
            response = self.request(url, file, 0)?;
        }
        let Response::Body { start, total, mut reader } = response else {
            return Err(server_error("the server rejected the request (416)".into()));
        };
        if let Some(total) = total.filter(|&total| total != file.size) {
            return Err(Failure::Source(ErrorKind::Format, size_mismatch(file, total)));
        }
        if start != part.len() {
            part.clear()?; // the server ignored the range and sends the whole file
        }
        self.receive(&mut reader, url, file, part)
    }

    /// Requests a file from byte `start` on, again as long as the server is busy.
    fn request(&mut self, url: &str, file: &RemoteFile<'_>, start: u64) -> Result<Response, Failure> {
        let server_error = |why| Failure::Source(ErrorKind::Io, why);
        for tried in 1.. {
            let (status, retry_after) = match self.client.get(url, start).map_err(server_error)? {
                Response::Busy { status, retry_after } => (status, retry_after),
                response => return Ok(response),
            };
            let wait = retry_after.unwrap_or_else(|| self.patience.retry_delay * (1 << (tried - 1).min(10)));
            if wait > MAX_WAIT {
                let seconds = wait.as_secs();
                return Err(server_error(format!(
                    "the server returned {status} and asks to come back after {seconds} s"
                )));
            }
            if tried == TRIES {
                return Err(server_error(format!("the server returned {status} to {TRIES} requests")));
            }
            (self.progress)(Event::Busy { file: file.name, from: url, status, wait });
            std::thread::sleep(wait);
        }
        unreachable!("the last try returns")
    }

    /// Appends the data of `reader` to `part`, up to exactly the size of `file`.
    fn receive(
        &mut self,
        reader: &mut dyn Read,
        from: &str,
        file: &RemoteFile<'_>,
        part: &mut PartialFile,
    ) -> Result<(), Failure> {
        let size = file.size;
        (self.progress)(Event::Start { file: file.name, from, done: part.len(), size });
        let mut buffer = vec![0; BUFFER_BYTES];
        let timeout = self.patience.timeout;
        let least = (timeout.as_secs_f64() * MIN_BYTES_PER_SECOND as f64) as u64;
        // Since when, and from which byte on, the speed is measured.
        let mut since = (Instant::now(), part.len());
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) if part.len() == size => return Ok(()),
                Ok(0) => return Err(interrupted(part.len(), size, "the connection was closed")),
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if part.len() == size => return Ok(()),
                Err(e) => return Err(interrupted(part.len(), size, &e.to_string())),
            };
            if part.len() + count as u64 > size {
                part.clear()?;
                let why = format!("received more than the expected {size} bytes");
                return Err(Failure::Source(ErrorKind::Format, why));
            }
            part.append(&buffer[..count])?;
            if since.0.elapsed() >= timeout {
                let received = part.len() - since.1;
                if received < least && part.len() < size {
                    let seconds = timeout.as_secs_f64();
                    let why = format!("only {received} bytes in {seconds} s, at least {least} are expected");
                    return Err(interrupted(part.len(), size, &why));
                }
                since = (Instant::now(), part.len());
            }
            (self.progress)(Event::Bytes { done: part.len(), size });
        }
    }
}

/// Compares the checksum of a complete `part` with that of `file`; clears `part` if they differ.
fn verify(file: &RemoteFile<'_>, part: &mut PartialFile) -> Result<(), Failure> {
    let found = part.sha256();
    if found.eq_ignore_ascii_case(file.sha256) {
        return Ok(());
    }
    part.clear()?;
    Err(Failure::Source(ErrorKind::Format, checksum_mismatch(file, &found)))
}

fn interrupted(done: u64, size: u64, why: &str) -> Failure {
    Failure::Source(ErrorKind::Io, format!("interrupted after {done} of {size} bytes ({why})"))
}

fn size_mismatch(file: &RemoteFile<'_>, found: u64) -> String {
    format!("wrong size: expected {} bytes, found {found}", file.size)
}

fn checksum_mismatch(file: &RemoteFile<'_>, found: &str) -> String {
    format!("wrong SHA-256: expected {}, found {found}", file.sha256)
}
