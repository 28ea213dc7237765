//! Atomic file replacement, and files that are read.

mod input;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::{Error, Result as NeocogResult, fault};
#[cfg(unix)]
use input::file_id;
pub use input::{
    check_inputs, declare_output, forget_outputs, open_input, read_at_most, read_regular, text_of,
};

/// The end of the name of every temporary file of [`replace`].
const TEMPORARY: &str = ".neocog.part";

/// The number of symbolic links that are followed.
const MAX_LINKS: usize = 40;

static STOP_WAITING: AtomicBool = AtomicBool::new(false);

static ON_STANDARD_OUTPUT: AtomicBool = AtomicBool::new(false);

/// Replaces the file at `path` atomically by the one that `fill` writes.
///
/// The new file is written under a temporary name in the same directory, synchronized to disk, and then renamed. A file at `path` is
/// thus always complete: the old one or the new one. The new file has the permissions of the old one and, where that is
/// allowed, its owner. A symbolic link stays, and the file that it points to is replaced.
///
/// A FIFO or a character device is not replaced: the content is written to it when it is complete. So is a file that is open
/// already, such as `/dev/stdout` or `/dev/fd/3`.
///
/// A process that is killed leaves a file `.NAME.PROCESS-NUMBER.neocog.part`. The first replacement in a directory removes
/// those whose process has ended.
///
/// # Errors
/// Those of `fill` and of the file system; the old file is then unchanged. `PermissionDenied` for a file that may not be
/// written, `IsADirectory` for a directory, `InvalidInput` for a block device or a socket.
pub fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if let Some(number) = descriptor(path) {
        return write_to_descriptor(number, fill);
    }
    match fs::metadata(path) {
        Ok(existing) if existing.is_file() => {
            // Renaming needs no permission to write the file, but who took it away wants the file to stay.
            File::options().write(true).open(path)?;
            replace_file(&link_target(path)?, Some(&existing), fill)
        }
        Ok(existing) => write_through(path, &existing, fill),
        Err(e) if e.kind() == io::ErrorKind::NotFound => replace_file(&link_target(path)?, None, fill),
        Err(e) => Err(e),
    }
}

/// Writes a file that a user named: as [`replace`], but missing directories are created.
///
/// # Errors
/// As [`replace`]; when a directory cannot be created.
pub fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    replace(path, fill)
}

/// Whether a file was written to standard output, for which a user named `/dev/stdout`: what else is printed must not be mixed with it.
pub fn is_on_standard_output() -> bool {
    ON_STANDARD_OUTPUT.load(Ordering::Relaxed)
}

/// Checks that a command does not replace the file that it reads: `output` is not `input`, nor a link to it.
///
/// # Errors
/// `InvalidArgument` if it is.
pub fn check_distinct(input: &Path, output: &Path) -> NeocogResult<()> {
    if is_same(input, output) {
        return Err(Error::invalid_argument(format!(
            "{} is the file that is read; choose another output file",
            output.display()
        )));
    }
    Ok(())
}

/// Checks, before the work starts, that a file can be written at `path`: it is not a directory, and its directory is not a file
/// and may be written to.
///
/// # Errors
/// `InvalidArgument` if it is.
pub fn check_output_file(path: &Path) -> NeocogResult<()> {
    if path.is_dir() {
        return Err(Error::invalid_argument(format!(
            "cannot write to {}: it is a directory; add the name of a file",
            path.display()
        )));
    }
    let Some(parent) = path.parent() else { return Ok(()) };
    let folder = existing_folder(path, parent)?;
    let is_file = fs::metadata(path).map_or(!path.is_symlink(), |metadata| metadata.is_file());
    if is_file && !input::may_write(folder) {
        return Err(Error::invalid_argument(format!(
            "cannot write to {}: the directory {} may not be written to; choose another place",
            path.display(),
            folder.display()
        )));
    }
    Ok(())
}

/// Checks, before the work starts, that files can be written to the directory `path`: no file has this name, nor that of a
/// directory above it. The directory need not exist.
///
/// # Errors
/// `InvalidArgument` if a file has the name.
pub fn check_output_dir(path: &Path) -> NeocogResult<()> {
    let problem = match fs::read_link(path) {
        _ if path.is_dir() => return Ok(()),
        _ if path.exists() => "it is a file, but a directory is needed".to_string(),
        Ok(target) => format!("it is a link to {}, which does not exist", target.display()),
        Err(_) => return path.parent().map_or(Ok(()), |parent| existing_folder(path, parent).map(drop)),
    };
    Err(Error::invalid_argument(format!(
        "cannot write to {}: {problem}; choose another name",
        path.display()
    )))
}

/// Returns `parent` or, if it does not exist, the closest directory above it, and checks that it is not a file.
fn existing_folder<'a>(path: &Path, parent: &'a Path) -> NeocogResult<&'a Path> {
    match parent.ancestors().find(|ancestor| ancestor.exists()) {
        Some(file) if !file.is_dir() => Err(Error::invalid_argument(format!(
            "cannot write to {}: {} is a file, not a directory; choose another name",
            path.display(),
            file.display()
        ))),
        Some(folder) => Ok(folder),
        None => Ok(Path::new(".")),
    }
}

/// Whether two paths lead to one file or directory, which exists.
pub fn is_same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b)) {
        return file_id(&a) == file_id(&b);
    }
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Removes temporary files of [`replace`] in `folder` that killed processes left. Those of running processes stay, as does
/// everything where the file system has no locks.
pub fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            remove_if_unlocked(&entry.path());
        }
    }
}

/// Synchronizes a directory, which makes new names durable. Not supported on all systems.
///
/// # Errors
/// When the disk fails.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // A directory that may not be listed, or a file system without this operation.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn replace_file(
    path: &Path,
    existing: Option<&Metadata>,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    remove_leftovers_once(folder);
    let mut part = TemporaryFile::create(folder, name)?;
    fault::point("opened")?;
    if let Some(existing) = existing {
        keep_attributes(&part.file, existing)?;
    }
    fill(&mut part.file)?;
    fault::point("written")?;
    part.file.sync_all()?;
    fault::point("synced")?;
    fs::rename(&part.path, path)?;
    part.renamed = true;
    if let Some(existing) = existing {
        input::forget_output(path, existing);
    }
    fault::point("renamed")?;
    sync_folder(folder)?;
    fault::point("done")
}

/// Follows symbolic links to the file, which need not exist.
fn link_target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("")).join(target);
            }
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Gives a new file the permissions of an existing one, and its owner and group where that is allowed.
fn keep_attributes(new: &File, existing: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let (uid, gid) = (existing.uid(), existing.gid());
        let created = new.metadata()?;
        if (uid, gid) != (created.uid(), created.gid()) && fchown(new, Some(uid), Some(gid)).is_err() {
            // Only the superuser gives files away.
            let _ = fchown(new, None, Some(gid));
        }
    }
    new.set_permissions(existing.permissions())
}

/// Writes to what is not a regular file, after the content is complete.
fn write_through(
    path: &Path,
    existing: &Metadata,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    if existing.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !is_stream(existing) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a regular file nor a FIFO or character device",
        ));
    }
    let mut part = completed(fill)?;
    io::copy(&mut part.file, &mut open_stream(path)?)?;
    Ok(())
}

/// Opens a FIFO or a device for writing. Waiting for a reader of a FIFO ends when [`stop_waiting`] was called.
#[cfg(unix)]
fn open_stream(path: &Path) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    loop {
        match File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            // Without a reader.
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {}
            Err(e) => return Err(e),
            Ok(file) => {
                let number = file.as_raw_fd();
                // SAFETY: the descriptor is that of an open file.
                let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
                // SAFETY: as above.
                let set = |flags: libc::c_int| unsafe { libc::fcntl(number, libc::F_SETFL, flags) };
                if flags < 0 || set(flags & !libc::O_NONBLOCK) < 0 {
                    return Err(io::Error::last_os_error());
                }
                return Ok(file);
            }
        }
        if STOP_WAITING.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped while nothing read the FIFO"));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(not(unix))]
fn open_stream(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

/// Ends the waiting for a reader of a FIFO that is written to, now and from now on: the program is to stop.
pub fn stop_waiting() {
    STOP_WAITING.store(true, Ordering::Relaxed);
}

/// Returns the number of the open file of this process that `path` stands for: `/dev/stdout`, `/dev/fd/1`, `/proc/self/fd/1`.
fn descriptor(path: &Path) -> Option<u32> {
    let open_files = fs::canonicalize("/dev/fd").ok()?;
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent
            && fs::canonicalize(parent).is_ok_and(|parent| parent == open_files)
        {
            return path.file_name()?.to_str()?.parse().ok();
        }
        path = parent.unwrap_or(Path::new("")).join(fs::read_link(&path).ok()?);
    }
    None
}

/// Writes to a file that is open already, after the content is complete, behind what was written to it before.
fn write_to_descriptor(number: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut part = completed(fill)?;
    match number {
        1 => {
            ON_STANDARD_OUTPUT.store(true, Ordering::Relaxed);
            let mut out = io::stdout().lock();
            io::copy(&mut part.file, &mut out)?;
            out.flush()
        }
        2 => io::copy(&mut part.file, &mut io::stderr().lock()).map(drop),
        _ => {
            let mut out = File::options().append(true).open(format!("/dev/fd/{number}"))?;
            io::copy(&mut part.file, &mut out).map(drop)
        }
    }
}

/// Returns a temporary file with what `fill` writes, to be read from the start.
fn completed(fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<TemporaryFile> {
    let mut part = TemporaryFile::create(&std::env::temp_dir(), OsStr::new("neocog"))?;
    fill(&mut part.file)?;
    part.file.rewind()?;
    Ok(part)
}

fn is_stream(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// A file with a name of its own, locked while its process writes it, and removed when it is dropped without being renamed.
struct TemporaryFile {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl TemporaryFile {
    fn create(folder: &Path, name: &OsStr) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = name.to_string_lossy();
        // File names have at most 255 bytes.
        let name: String = name.chars().take(50).collect();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".{name}.{}-{number}{TEMPORARY}", std::process::id()));
            let file = match File::options().read(true).write(true).create_new(true).open(&path) {
                // The number restarts with the process, and process ids come back.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // Another process that looks for leftovers may lock and remove the file before it is locked here.
            let locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if locked && is_at(&file, &path) {
                return Ok(TemporaryFile { path, file, renamed: false });
            }
        }
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.renamed {
            // The first error is reported; the partial file is not needed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    if let Ok(open) = file.metadata() {
        return fs::metadata(path).is_ok_and(|there| file_id(&there) == file_id(&open));
    }
    let _ = file;
    path.exists()
}

/// Whether a name is `.NAME.PROCESS-NUMBER.neocog.part`.
fn is_temporary(name: &OsStr) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.to_str()
        .and_then(|name| name.strip_prefix('.')?.strip_suffix(TEMPORARY))
        .and_then(|name| name.rsplit_once('.')?.1.split_once('-'))
        .is_some_and(|(process, number)| digits(process) && digits(number))
}

fn remove_leftovers_once(folder: &Path) {
    static SEEN: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    let key = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    if SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
        remove_leftovers(folder);
    }
}

fn remove_if_unlocked(path: &Path) {
    if let Ok(file) = File::options().write(true).open(path)
        && file.try_lock().is_ok()
    {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn missing_directories_are_created_for_what_a_user_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        assert_eq!(replace(&path, |_| Ok(())).unwrap_err().kind(), io::ErrorKind::NotFound);
        write(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(write(&path.join("d"), |_| Ok(())).is_err());
    }

    #[test]
    fn a_full_disk_preserves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.ckpt");
        replace(&path, |file| file.write_all(b"old")).unwrap();
        let full = |file: &mut File| {
            file.write_all(b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        assert_eq!(replace(&path, full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the unfinished file is gone");
        replace(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn two_writers_of_one_file_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.ckpt");
        replace(&path, |outer| {
            outer.write_all(b"out")?;
            replace(&path, |inner| inner.write_all(b"inner"))?;
            remove_leftovers(folder.path());
            outer.write_all(b"er")
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"outer");
        assert_eq!(names(folder.path()), ["last.ckpt"]);
    }

    #[test]
    fn only_leftovers_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        for name in
            [".a.bin.12-0.neocog.part", ".a.bin.x-0.neocog.part", ".a.12-0.part", "a.12-0.neocog.part"]
        {
            write(name);
        }
        write(".live.77-1.neocog.part");
        let live = File::open(folder.path().join(".live.77-1.neocog.part")).unwrap();
        live.try_lock().unwrap();
        replace(&folder.path().join("b"), |file| file.write_all(b"b")).unwrap();
        let kept =
            [".a.12-0.part", ".a.bin.x-0.neocog.part", ".live.77-1.neocog.part", "a.12-0.neocog.part", "b"];
        assert_eq!(names(folder.path()), kept);
    }

    #[test]
    fn outputs_are_checked_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let (file, dir) = (folder.path().join("file"), folder.path().join("dir"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&dir).unwrap();
        let error = |result: NeocogResult<()>| result.unwrap_err().to_string();
        assert!(error(check_output_file(&dir)).ends_with("dir: it is a directory; add the name of a file"));
        assert!(
            error(check_output_file(&file.join("a/b")))
                .ends_with("file is a file, not a directory; choose another name")
        );
        assert!(error(check_output_dir(&file)).contains("it is a file, but a directory is needed"));
        assert!(error(check_output_dir(&file.join("a"))).contains("file is a file, not a directory"));
        for new in ["new", "new/deeper", "dir/new"] {
            check_output_file(&folder.path().join(new)).unwrap();
            check_output_dir(&folder.path().join(new)).unwrap();
        }
        check_output_file(&file).unwrap();
        check_output_dir(&dir).unwrap();
        check_output_dir(Path::new(".")).unwrap();
        check_output_file(Path::new("a-file-that-does-not-exist")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_symbolic_links_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("sub/real"), folder.path().join("link"));
        fs::create_dir(folder.path().join("sub")).unwrap();
        symlink("sub/real", &link).unwrap();
        // A link to nothing yet.
        replace(&link, |file| file.write_all(b"1")).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"1");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&link, |file| {
            assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o640, "private from the start");
            file.write_all(b"2")
        })
        .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"2");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(&folder.path().join("sub")), ["real"]);
        assert!(is_same(&link, &target) && !is_same(&link, folder.path()));
        assert!(check_distinct(&target, &link).unwrap_err().to_string().contains("is the file that is read"));
        check_distinct(&target, &folder.path().join("none")).unwrap();
        // A circle of links.
        let circle = folder.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(replace(&circle, |file| file.write_all(b"3")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_written_to_an_open_file_follows_what_it_holds() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut open = File::create(&path).unwrap();
        open.write_all(b"before").unwrap();
        let number = open.as_raw_fd();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(format!("/dev/fd/{number}"), &link).unwrap();
        replace(Path::new(&format!("/dev/fd/{number}")), |file| file.write_all(b", one")).unwrap();
        replace(&link, |file| file.write_all(b", two")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before, one, two");
        let full = |file: &mut File| {
            file.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        replace(&link, full).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"before, one, two");
        assert_eq!(descriptor(Path::new("/dev/stdout")), Some(1));
        assert_eq!(descriptor(&path), None);
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_directories_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let e = replace(folder.path(), |file| file.write_all(b"x")).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::IsADirectory);
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let e = replace(&socket, |file| file.write_all(b"x")).unwrap_err();
        assert!(e.to_string().contains("neither a regular file"), "{e}");
        assert!(socket.exists());
        // A character device is written to: this one is always full.
        if Path::new("/dev/full").exists() {
            let e = replace(Path::new("/dev/full"), |file| file.write_all(b"x")).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::StorageFull);
            replace(Path::new("/dev/null"), |file| file.write_all(b"x")).unwrap();
        }
    }
}
