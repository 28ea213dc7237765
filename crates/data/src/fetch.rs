//! [`fetch`]: brings the files of a data set into their folder, from the internet or from another folder.
//!
//! A file `NAME` grows as `NAME.part`; it takes its name only when it is complete, has the right size and
//! SHA-256, and is on the disk. So a file under its own name is always whole. A `.part` that is left by a
//! download that broke is gone on with by the next one (HTTP `Range`), from any mirror: the checksum tells whether
//! the pieces fit. Files that are there and right are not fetched again, those that are damaged are.

mod http;
mod part;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use neocog_base::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::known::{Known, Manifest, RemoteFile};
use http::{Answer, Client};
use part::Part;

/// How long a server may be silent unless something else is asked for.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// What to fetch, where to, and from where.
pub struct FetchOptions<'a> {
    /// The files; [`manifest`] gives those of a known data set.
    pub manifest: &'a Manifest<'a>,
    /// The folder that holds a folder for each data set: the files go to `root/NAME`.
    pub root: &'a Path,
    /// Instead of the official sources a folder, which holds the files or a folder `NAME` with them, or a base
    /// URL that begins with `http://` or `https://`.
    pub from: Option<&'a str>,
    /// How long to wait for a silent server; [`TIMEOUT`] is usual.
    pub timeout: Duration,
    /// Is told what happens.
    pub progress: &'a mut dyn FnMut(Event<'_>),
}

/// What happens during a [`fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A file is there already and has the right checksum.
    Present {
        /// The file.
        file: &'a str,
    },
    /// A file is there but damaged; it is replaced once the new one is whole.
    Damaged {
        /// The file.
        file: &'a str,
        /// What is wrong with it.
        why: &'a str,
    },
    /// Bytes of a file begin to come.
    Start {
        /// The file.
        file: &'a str,
        /// The URL or path that it comes from.
        from: &'a str,
        /// Bytes that an earlier call left.
        done: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// More bytes of the file have come.
    Bytes {
        /// Bytes that are there.
        done: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A source failed; the next one is tried, if there is one.
    Failed {
        /// The file.
        file: &'a str,
        /// The URL or path.
        from: &'a str,
        /// What went wrong.
        why: &'a str,
    },
    /// A file has come, is whole, and has its name.
    Done {
        /// The file.
        file: &'a str,
    },
}

/// What a [`fetch`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The folder of the files.
    pub folder: PathBuf,
    /// How many files came.
    pub fetched: usize,
    /// How many were there already.
    pub present: usize,
}

/// What to fetch for the known data set `name`.
///
/// # Errors
/// `Unknown` for a name that is not in the table, `Argument` for a data set that is compiled in.
pub fn manifest(name: &str) -> Result<&'static Manifest<'static>> {
    Known::find(name)?.manifest().ok_or_else(|| {
        let names: Vec<&str> = Known::fetchable().map(|known| known.name).collect();
        Error::invalid_argument(format!(
            "the data set {name} is compiled in, there is nothing to fetch; those that can be fetched: {}",
            names.join(", ")
        ))
    })
}

/// Brings the files of a manifest into `root/NAME`, each from the first source that has it.
///
/// Nothing that is there and right is touched. After an error, all files that are there under their names are
/// whole, and the same call goes on where it broke.
///
/// # Errors
/// `Argument` for a `from` that is neither folder nor URL. `Io` where a folder or file cannot be read or written or
/// all sources fail; `Format` where all of them send something else than expected. The message names file,
/// source, and what was expected and found.
pub fn fetch(options: FetchOptions<'_>) -> Result<Fetched> {
    let manifest = options.manifest;
    let origin = Origin::find(&options)?;
    let folder = options.root.join(manifest.name);
    fs::create_dir_all(&folder)
        .map_err(|e| Error::io(format!("cannot create the folder {}", folder.display()), e))?;
    let mut job = Job { client: Client::new(options.timeout), origin, folder, progress: options.progress };
    let mut present = 0;
    for file in manifest.files {
        if job.is_present(file)? {
            present += 1;
        } else {
            job.bring(file)?;
        }
    }
    Ok(Fetched { folder: job.folder, fetched: manifest.files.len() - present, present })
}

/// Where files come from.
enum Origin {
    Folder(PathBuf),
    Urls(Vec<String>),
}

impl Origin {
    fn find(options: &FetchOptions<'_>) -> Result<Self> {
        let name = options.manifest.name;
        let Some(from) = options.from else {
            return Ok(Origin::Urls(options.manifest.sources.iter().map(ToString::to_string).collect()));
        };
        let lower = from.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Origin::Urls(vec![format!("{}/", from.trim_end_matches('/'))]));
        }
        if lower.contains("://") {
            return Err(Error::invalid_argument(format!(
                "cannot fetch from {from}: expected a folder or a URL that begins with http:// or https://"
            )));
        }
        let folder = Path::new(from);
        if !folder.is_dir() {
            return Err(Error::invalid_argument(format!(
                "cannot fetch from {from}: there is no such folder"
            )));
        }
        let below = folder.join(name);
        Ok(Origin::Folder(if below.is_dir() { below } else { folder.into() }))
    }
}

/// Why a file did not come: because of this machine, which ends it all, or because of a source.
enum Failure {
    Here(Error),
    There(ErrorKind, String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Here(e)
    }
}

struct Job<'a> {
    client: Client,
    origin: Origin,
    folder: PathBuf,
    progress: &'a mut dyn FnMut(Event<'_>),
}

impl Job<'_> {
    fn is_present(&mut self, file: &RemoteFile<'_>) -> Result<bool> {
        let path = self.folder.join(file.name);
        let cannot = |e| Error::io(format!("cannot read {}", path.display()), e);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(cannot(e)),
        };
        let why = if metadata.len() != file.size {
            wrong_size(file, metadata.len())
        } else {
            let mut hash = Sha256::new();
            io::copy(&mut File::open(&path).map_err(cannot)?, &mut hash).map_err(cannot)?;
            let found = hex(hash);
            if found.eq_ignore_ascii_case(file.sha256) {
                (self.progress)(Event::Present { file: file.name });
                return Ok(true);
            }
            wrong_sum(file, &found)
        };
        (self.progress)(Event::Damaged { file: file.name, why: &why });
        Ok(false)
    }

    /// Fetches `file` from the first source that has it.
    fn bring(&mut self, file: &RemoteFile<'_>) -> Result<()> {
        let mut part = Part::open(self.folder.join(format!("{}.part", file.name)), file.size)?;
        let sources: Vec<String> = match &self.origin {
            Origin::Folder(folder) => vec![folder.join(file.name).display().to_string()],
            Origin::Urls(bases) => bases.iter().map(|base| format!("{base}{}", file.name)).collect(),
        };
        let mut kind = ErrorKind::Format;
        let mut reasons = Vec::new();
        for source in &sources {
            let result = match &self.origin {
                Origin::Folder(folder) => self.copy(&folder.join(file.name), file, &mut part),
                Origin::Urls(_) => self.download(source, file, &mut part),
            };
            match result {
                Ok(()) => {
                    part.finish(&self.folder.join(file.name))?;
                    (self.progress)(Event::Done { file: file.name });
                    return Ok(());
                }
                Err(Failure::Here(e)) => return Err(e),
                Err(Failure::There(what, why)) => {
                    (self.progress)(Event::Failed { file: file.name, from: source, why: &why });
                    if what != ErrorKind::Format {
                        kind = what;
                    }
                    reasons.push(format!("{source}: {why}"));
                }
            }
        }
        let mut message = format!("cannot fetch {}: {}", file.name, reasons.join("; "));
        if let Some(kept) = part.leave()? {
            message +=
                &format!("; what came is kept in {}, the same command goes on from there", kept.display());
        } else if matches!(self.origin, Origin::Urls(_)) && kind == ErrorKind::Io {
            message +=
                "; where these cannot be reached, bring the files here otherwise and fetch from their folder";
        }
        Err(Error::new(kind, message))
    }

    fn copy(&mut self, source: &Path, file: &RemoteFile<'_>, part: &mut Part) -> Result<(), Failure> {
        let there = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => Failure::There(ErrorKind::Io, "the file is missing there".into()),
            _ => Failure::There(ErrorKind::Io, format!("it cannot be read: {e}")),
        };
        let mut reader = File::open(source).map_err(there)?;
        let found = reader.metadata().map_err(there)?.len();
        if found != file.size {
            return Err(Failure::There(ErrorKind::Format, wrong_size(file, found)));
        }
        part.restart()?;
        self.receive(&mut reader, &source.display().to_string(), file, part)?;
        check(file, part)
    }

    /// Downloads what `part` lacks. What an earlier call left is not trusted more than once.
    fn download(&mut self, url: &str, file: &RemoteFile<'_>, part: &mut Part) -> Result<(), Failure> {
        let resumed = part.len() > 0;
        let result = self.go_on(url, file, part);
        match result {
            Ok(()) => match check(file, part) {
                Err(Failure::There(..)) if resumed => {
                    self.go_on(url, file, part)?;
                    check(file, part)
                }
                checked => checked,
            },
            failed => failed,
        }
    }

    /// Makes `part` as long as `file`.
    fn go_on(&mut self, url: &str, file: &RemoteFile<'_>, part: &mut Part) -> Result<(), Failure> {
        if part.len() == file.size {
            return Ok(());
        }
        let there = |why| Failure::There(ErrorKind::Io, why);
        let mut answer = self.client.get(url, part.len()).map_err(there)?;
        if let Answer::NoRange = answer {
            part.restart()?;
            answer = self.client.get(url, 0).map_err(there)?;
        }
        let Answer::Body { start, total, mut reader } = answer else {
            return Err(there("the server refuses the file (416)".into()));
        };
        if let Some(total) = total.filter(|&total| total != file.size) {
            return Err(Failure::There(ErrorKind::Format, wrong_size(file, total)));
        }
        if start != part.len() {
            part.restart()?; // the server sends all of it
        }
        self.receive(&mut reader, url, file, part)
    }

    /// Appends what `reader` gives to `part`, which must then be as long as `file`.
    fn receive(
        &mut self,
        reader: &mut dyn Read,
        from: &str,
        file: &RemoteFile<'_>,
        part: &mut Part,
    ) -> Result<(), Failure> {
        let size = file.size;
        (self.progress)(Event::Start { file: file.name, from, done: part.len(), size });
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) if part.len() == size => return Ok(()),
                Ok(0) => return Err(stopped(part.len(), size, "the connection was closed")),
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if part.len() == size => return Ok(()),
                Err(e) => return Err(stopped(part.len(), size, &e.to_string())),
            };
            if part.len() + count as u64 > size {
                part.restart()?;
                let why = format!("more bytes came than expected, which is {size}");
                return Err(Failure::There(ErrorKind::Format, why));
            }
            part.append(&buffer[..count])?;
            (self.progress)(Event::Bytes { done: part.len(), size });
        }
    }
}

/// Whether a complete `part` is `file`; if not it is emptied.
fn check(file: &RemoteFile<'_>, part: &mut Part) -> Result<(), Failure> {
    let found = part.sha256();
    if found.eq_ignore_ascii_case(file.sha256) {
        return Ok(());
    }
    part.restart()?;
    Err(Failure::There(ErrorKind::Format, wrong_sum(file, &found)))
}

fn stopped(done: u64, size: u64, why: &str) -> Failure {
    Failure::There(ErrorKind::Io, format!("it stopped after {done} of {size} bytes ({why})"))
}

fn wrong_size(file: &RemoteFile<'_>, found: u64) -> String {
    format!("wrong size: expected {} bytes, found {found}", file.size)
}

fn wrong_sum(file: &RemoteFile<'_>, found: &str) -> String {
    format!("wrong SHA-256: expected {}, found {found}", file.sha256)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
