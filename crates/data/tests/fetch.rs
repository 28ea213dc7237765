//! Fetching from directories and from servers, including servers that fail.
#![allow(clippy::unwrap_used, reason = "test code")]
#![cfg(feature = "fetch")]

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use neocog_base::{Error, ErrorKind, Result};
use neocog_data::catalog::{Manifest, RemoteFile};
use neocog_data::fetch::{Event, FetchOptions, FetchSummary, fetch, manifest};
use server::{Reply, Request, Server};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A data set of two files, `big` and `small`, and a temporary directory to fetch it to.
struct Case {
    root: TempDir,
    big: Vec<u8>,
    small: Vec<u8>,
    big_sha256: String,
    small_sha256: String,
    events: Vec<String>,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl Case {
    fn new() -> Case {
        let big: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let small = b"a few bytes".to_vec();
        let (big_sha256, small_sha256) = (sha256(&big), sha256(&small));
        Case { root: tempfile::tempdir().unwrap(), big, small, big_sha256, small_sha256, events: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("set").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.root.path().join("set")).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Fetches from `sources`, or from `from`.
    fn fetch(&mut self, sources: &[&str], from: Option<&str>) -> Result<FetchSummary> {
        let root = self.root.path().to_owned();
        self.fetch_to(&root, sources, from)
    }

    fn fetch_to(&mut self, root: &Path, sources: &[&str], from: Option<&str>) -> Result<FetchSummary> {
        let files = [
            RemoteFile::new("big", self.big.len() as u64, &self.big_sha256),
            RemoteFile::new("small", self.small.len() as u64, &self.small_sha256),
        ];
        let manifest = Manifest::new("set", sources, &files);
        let events = &mut self.events;
        events.clear();
        let mut progress = |event: Event<'_>| match event {
            Event::Bytes { .. } => {}
            Event::Start { file, done, size, .. } => events.push(format!("start {file} {done}/{size}")),
            Event::Failed { file, why, .. } => events.push(format!("failed {file}: {why}")),
            Event::Damaged { file, why } => events.push(format!("damaged {file}: {why}")),
            Event::Present { file } => events.push(format!("present {file}")),
            Event::Busy { file, status, wait, .. } => {
                events.push(format!("busy {file}: {status}, {} ms", wait.as_millis()));
            }
            Event::Done { file } => events.push(format!("done {file}")),
            other => panic!("{other:?}"),
        };
        let timeout = Duration::from_millis(500);
        let options = FetchOptions::new(&manifest, root).from(from).timeout(timeout);
        fetch(options.retry_delay(Duration::from_millis(2)).progress(&mut progress))
    }

    /// Checks that both files are complete and that there are no other files.
    fn assert_complete(&self) {
        assert_eq!(fs::read(self.path("big")).unwrap(), self.big);
        assert_eq!(fs::read(self.path("small")).unwrap(), self.small);
        assert_eq!(fs::read_dir(self.root.path().join("set")).unwrap().count(), 2);
    }

    /// Returns the error message, after checking its kind and that `big` does not exist.
    fn error_message(&self, result: Result<FetchSummary>, kind: ErrorKind) -> String {
        let e: Error = result.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains("big"), "{e}");
        assert!(!self.path("big").exists());
        e.to_string()
    }

    /// A server of both files that answers requests for `big` with `respond_to_big`.
    fn server(&self, respond_to_big: impl Fn(&Request, &[u8]) -> Reply + Send + 'static) -> Server {
        let (big, small) = (self.big.clone(), self.small.clone());
        Server::new(move |request| match request.path.as_str() {
            "/big" => respond_to_big(request, &big),
            "/small" => Reply::file(request, &small),
            _ => Reply::new("404 Not Found", "", b"no such file"),
        })
    }

    fn working_server(&self) -> Server {
        self.server(Reply::file)
    }
}

/// Path and range start of each request.
fn requests(server: &Server) -> Vec<(String, Option<usize>)> {
    server.requests().into_iter().map(|r| (r.path, r.range)).collect()
}

#[test]
fn a_second_call_transfers_nothing() {
    let mut case = Case::new();
    let server = case.working_server();
    let fetched = case.fetch(&[&format!("{}/", server.url())], None).unwrap();
    assert_eq!((fetched.fetched, fetched.present), (2, 0));
    assert_eq!(fetched.folder, case.root.path().join("set"));
    assert_eq!(case.events, ["start big 0/300000", "done big", "start small 0/11", "done small"]);
    case.assert_complete();
    let fetched = case.fetch(&["http://127.0.0.1:1/"], None).unwrap();
    assert_eq!((fetched.fetched, fetched.present), (0, 2));
    assert_eq!(case.events, ["present big", "present small"]);
    assert_eq!(requests(&server), [("/big".into(), None), ("/small".into(), None)]);
}

#[test]
fn a_damaged_file_is_replaced_only_by_a_complete_one() {
    let mut case = Case::new();
    let mut damaged = case.big.clone();
    damaged[1000] ^= 1;
    case.write("big", &damaged);
    let e = case.fetch(&["http://127.0.0.1:1/"], None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert_eq!(fs::read(case.path("big")).unwrap(), damaged);
    let why = format!("damaged big: wrong SHA-256: expected {}, found {}", case.big_sha256, sha256(&damaged));
    assert_eq!(case.events[0], why);
    let server = case.working_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
}

#[test]
fn mirrors_are_tried_in_order() {
    let mut case = Case::new();
    let missing = case.server(|_, _| Reply::new("404 Not Found", "", b""));
    let broken = case.server(|_, _| Reply::new("500 Internal Server Error", "", b""));
    let good = case.working_server();
    let urls = [&missing, &broken, &good].map(|server| format!("{}/", server.url()));
    let sources = ["http://127.0.0.1:1/", &urls[0], &urls[1], &urls[2]];
    case.fetch(&sources, None).unwrap();
    case.assert_complete();
    assert!(case.events[0].starts_with("failed big: no response: "), "{:?}", case.events);
    assert_eq!(case.events[1], "failed big: the server returned 404 Not Found");
    assert_eq!(case.events[2], "failed big: the server returned 500 Internal Server Error");
    assert_eq!(requests(&good).len(), 1);

    let mut case = Case::new();
    let result = case.fetch(&sources[..3], None);
    let e = case.error_message(result, ErrorKind::Io);
    assert!(e.starts_with("cannot fetch big: http://127.0.0.1:1/big: no response"), "{e}");
    assert!(e.contains(&format!("; {}big: the server returned 404 Not Found; ", urls[0])), "{e}");
    assert!(e.ends_with("copy the files to it and fetch from their directory"), "{e}");
    assert!(!case.path("big.part").exists());
}

#[test]
fn an_interrupted_download_is_resumed() {
    let mut case = Case::new();
    let stops = case.server(|request, big| Reply::file(request, big).truncate_body(200_000));
    let result = case.fetch(&[], Some(&stops.url()));
    let e = case.error_message(result, ErrorKind::Io);
    assert!(e.contains("interrupted after 200000 of 300000 bytes"), "{e}");
    assert!(e.ends_with(&format!(
        "is kept in {}: run the same command again to resume it",
        case.path("big.part").display()
    )));
    assert_eq!(fs::read(case.path("big.part")).unwrap(), case.big[..200_000]);

    let good = case.working_server();
    case.fetch(&[], Some(&good.url())).unwrap();
    assert_eq!(case.events[0], "start big 200000/300000");
    assert_eq!(requests(&good)[0], ("/big".into(), Some(200_000)));
    case.assert_complete();
}

#[test]
fn the_next_mirror_resumes_the_download() {
    let mut case = Case::new();
    let stops = case.server(|request, big| Reply::file(request, big).truncate_body(123_456));
    let good = case.working_server();
    let urls = [&stops, &good].map(|server| format!("{}/", server.url()));
    case.fetch(&[&urls[0], &urls[1]], None).unwrap();
    assert_eq!(requests(&good)[0], ("/big".into(), Some(123_456)));
    case.assert_complete();
}

#[test]
fn a_stalled_server_times_out() {
    let mut case = Case::new();
    let stalled = case.server(|request, big| match Reply::file(request, big).truncate_body(100_000) {
        Reply::Raw(bytes) => Reply::Stall(bytes, Duration::from_secs(2)),
        other => other,
    });
    let result = case.fetch(&[], Some(&stalled.url()));
    let e = case.error_message(result, ErrorKind::Io);
    assert!(e.contains("interrupted after 100000 of 300000 bytes (timeout"), "{e}");
    assert_eq!(fs::read(case.path("big.part")).unwrap(), case.big[..100_000]);
    let no_response = case.server(|_, _| Reply::Stall(Vec::new(), Duration::from_secs(2)));
    let result = case.fetch(&[], Some(&no_response.url()));
    assert!(case.error_message(result, ErrorKind::Io).contains("no response: timeout"));
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let mut case = Case::new();
    let wrong = case.server(|request, big| {
        let mut bytes = big.to_vec();
        bytes[77] ^= 4;
        Reply::file(request, &bytes)
    });
    let result = case.fetch(&[], Some(&wrong.url()));
    let e = case.error_message(result, ErrorKind::Format);
    let mut bytes = case.big.clone();
    bytes[77] ^= 4;
    assert!(
        e.contains(&format!("wrong SHA-256: expected {}, found {}", case.big_sha256, sha256(&bytes))),
        "{e}"
    );
    assert!(!case.path("big.part").exists());
    assert_eq!(requests(&wrong).len(), 1, "a complete file with a wrong checksum is requested once only");
}

#[test]
fn a_wrong_size_is_an_error() {
    let mut case = Case::new();
    let other = case.server(|request, big| Reply::file(request, &big[..299_999]));
    let result = case.fetch(&[], Some(&other.url()));
    let e = case.error_message(result, ErrorKind::Format);
    assert!(e.contains("wrong size: expected 300000 bytes, found 299999"), "{e}");

    let wrong_header = case.server(|_, big| Reply::with_length("200 OK", "", 300_001, big));
    let result = case.fetch(&[], Some(&wrong_header.url()));
    assert!(case.error_message(result, ErrorKind::Format).contains("expected 300000 bytes, found 300001"));

    let endless = case.server(|_, big| Reply::Raw([b"HTTP/1.1 200 OK\r\n\r\n", big, big].concat()));
    let result = case.fetch(&[], Some(&endless.url()));
    assert!(
        case.error_message(result, ErrorKind::Format)
            .contains("received more than the expected 300000 bytes")
    );
    assert!(!case.path("big.part").exists());

    let without_length = case.server(|_, big| Reply::Raw([b"HTTP/1.1 200 OK\r\n\r\n", big].concat()));
    case.fetch(&[], Some(&without_length.url())).unwrap();
    case.assert_complete();
}

#[test]
fn servers_without_range_support() {
    type Respond = fn(&Request, &[u8]) -> Reply;
    let ignores: Respond = |_, big| Reply::new("200 OK", "", big);
    let refuses: Respond = |request, big| match request.range {
        Some(_) => Reply::new("416 Range Not Satisfiable", "", b""),
        None => Reply::new("200 OK", "", big),
    };
    let sends_another_range: Respond = |request, big| match request.range {
        Some(_) => Reply::new("206 Partial Content", "Content-Range: bytes 0-9/300000\r\n", &big[..10]),
        None => Reply::new("200 OK", "", big),
    };
    let without_content_range: Respond = |request, big| match request.range {
        Some(start) => Reply::new("206 Partial Content", "", &big[start..]),
        None => Reply::new("200 OK", "", big),
    };
    for (expected, respond) in
        [(1, ignores), (2, refuses), (2, sends_another_range), (2, without_content_range)]
    {
        let mut case = Case::new();
        case.write("big.part", &case.big[..5000]);
        let server = case.server(respond);
        case.fetch(&[], Some(&server.url())).unwrap();
        case.assert_complete();
        assert_eq!(requests(&server)[0], ("/big".into(), Some(5000)));
        assert_eq!(requests(&server).len(), expected + 1);
    }
}

#[test]
fn partial_files_with_other_content() {
    // Wrong bytes: detected at the end, and downloaded again from the start.
    let mut case = Case::new();
    case.write("big.part", &[7; 5000]);
    let server = case.working_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
    assert_eq!(requests(&server)[..2], [("/big".into(), Some(5000)), ("/big".into(), None)]);

    // Complete, with wrong content.
    let mut case = Case::new();
    case.write("big.part", &[7; 300_000]);
    let server = case.working_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
    assert_eq!(requests(&server)[0], ("/big".into(), None));

    // Too long.
    let mut case = Case::new();
    case.write("big.part", &[7; 300_001]);
    let server = case.working_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
    assert_eq!(requests(&server)[0], ("/big".into(), None));

    // Complete and correct: only the rename is missing.
    let mut case = Case::new();
    case.write("big.part", &case.big);
    let server = case.working_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
    assert_eq!(requests(&server), [("/small".into(), None)]);
}

#[test]
fn content_encoding_is_not_decoded() {
    // Some servers declare a content encoding for `.gz` files; they must not be decompressed.
    let mut case = Case::new();
    let server = case.server(|_, big| Reply::new("200 OK", "Content-Encoding: gzip\r\n", big));
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
}

#[test]
fn redirects_are_followed() {
    let mut case = Case::new();
    let good = case.working_server();
    let location = format!("Location: {}/big\r\n", good.url());
    let moved = case.server(move |_, _| Reply::new("302 Found", &location, b""));
    case.write("big.part", &case.big[..5000]);
    case.fetch(&[], Some(&moved.url())).unwrap();
    case.assert_complete();
    assert_eq!(requests(&good)[0], ("/big".into(), Some(5000)));
}

#[test]
fn fetch_from_a_folder() {
    let mut case = Case::new();
    let source = tempfile::tempdir().unwrap();
    let from = source.path().to_str().unwrap();
    fs::write(source.path().join("small"), &case.small).unwrap();
    let result = case.fetch(&[], Some(from));
    let e = case.error_message(result, ErrorKind::Io);
    assert!(e.contains(&format!("{}: no such file", source.path().join("big").display())), "{e}");

    fs::write(source.path().join("big"), &case.big[1..]).unwrap();
    let result = case.fetch(&[], Some(from));
    assert!(case.error_message(result, ErrorKind::Format).contains("expected 300000 bytes, found 299999"));

    let mut wrong = case.big.clone();
    wrong[0] ^= 1;
    fs::write(source.path().join("big"), &wrong).unwrap();
    let result = case.fetch(&[], Some(from));
    assert!(case.error_message(result, ErrorKind::Format).contains("wrong SHA-256"));
    assert!(!case.path("big.part").exists());

    fs::write(source.path().join("big"), &case.big).unwrap();
    case.write("big.part", b"partial download");
    case.fetch(&[], Some(from)).unwrap();
    case.assert_complete();
}

#[test]
fn fetch_from_a_root_folder_and_from_itself() {
    let mut case = Case::new();
    case.write("big", &case.big);
    case.write("small", &case.small);
    let other = tempfile::tempdir().unwrap();
    let from = case.root.path().to_str().unwrap().to_owned();
    case.fetch_to(other.path(), &[], Some(&from)).unwrap();
    assert_eq!(fs::read(other.path().join("set/big")).unwrap(), case.big);
    assert_eq!(case.fetch(&[], Some(&from)).unwrap().present, 2);
    case.assert_complete();
}

#[test]
fn invalid_sources_are_errors() {
    let mut case = Case::new();
    for (from, why) in
        [("no/such/folder", "no such directory"), ("ftp://host/x", "expected a directory or a URL")]
    {
        let e = case.fetch(&[], Some(from)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains(from) && e.to_string().contains(why), "{e}");
        assert!(!case.root.path().join("set").exists());
    }
}

#[test]
fn a_folder_that_cannot_be_created_is_an_error() {
    let mut case = Case::new();
    let file = case.root.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let e = case.fetch_to(&file, &["http://127.0.0.1:1/"], None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(
        e.to_string().starts_with(&format!("cannot create the directory {}", file.join("set").display())),
        "{e}"
    );
}

/// `/dev/full` fails every write with "no space left".
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_fetch() {
    let mut case = Case::new();
    fs::create_dir(case.root.path().join("set")).unwrap();
    std::os::unix::fs::symlink("/dev/full", case.path("big.part")).unwrap();
    let good = [case.working_server(), case.working_server()];
    let urls = good.each_ref().map(|server| format!("{}/", server.url()));
    let result = case.fetch(&[&urls[0], &urls[1]], None);
    let e = case.error_message(result, ErrorKind::Io);
    assert!(e.starts_with(&format!("cannot write {}", case.path("big.part").display())), "{e}");
    assert!(e.contains("No space left on device"), "{e}");
    assert!(requests(&good[1]).is_empty(), "other mirrors are not tried");
}

#[test]
fn concurrent_downloads_are_rejected() {
    let mut case = Case::new();
    case.write("big.part", b"");
    let held = fs::File::options().write(true).open(case.path("big.part")).unwrap();
    held.lock().unwrap();
    let result = case.fetch(&["http://127.0.0.1:1/"], None);
    assert!(case.error_message(result, ErrorKind::Io).contains("is in use by another download"));
    drop(held);
    let server = case.working_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
}

#[test]
fn manifests_of_the_catalog() {
    assert_eq!(manifest("fashion-mnist").unwrap().files.len(), 4);
    let e = manifest("digits").unwrap_err().to_string();
    assert!(e.contains("needs no download") && e.contains("fashion-mnist, kmnist, mnist"), "{e}");
    assert_eq!(manifest("cifar-11").unwrap_err().kind(), ErrorKind::NotFound);
}

/// Loopback addresses bypass the proxy. Runs this test again with the environment of a proxy that does not exist.
#[test]
fn loopback_bypasses_the_proxy() {
    const INSIDE: &str = "NEOCOG_TEST_BEHIND_A_PROXY";
    if std::env::var_os(INSIDE).is_some() {
        let mut case = Case::new();
        let server = case.working_server();
        assert_eq!(case.fetch(&[], Some(&server.url())).unwrap().fetched, 2);
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "loopback_bypasses_the_proxy"]).env(INSIDE, "1");
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    let output = command.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}

#[test]
fn busy_servers_are_asked_again() {
    let mut case = Case::new();
    let (big, small) = (case.big.clone(), case.small.clone());
    let count = AtomicUsize::new(0);
    let server = Server::new(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new("503 Service Unavailable", "", b"later"),
        1 => Reply::new("429 Too Many Requests", "Retry-After: 0\r\n", b""),
        2 => Reply::new("503 Service Unavailable", "", b""),
        _ if request.path == "/big" => Reply::file(request, &big),
        _ => Reply::file(request, &small),
    });
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_complete();
    let busy: Vec<&str> = case.events.iter().filter(|e| e.starts_with("busy")).map(String::as_str).collect();
    assert_eq!(busy, ["busy big: 503, 2 ms", "busy big: 429, 0 ms", "busy big: 503, 8 ms"]);
}

#[test]
fn servers_that_stay_busy_fail() {
    let mut case = Case::new();
    let server = Server::new(|_| Reply::new("503 Service Unavailable", "", b""));
    let e = case.fetch(&[], Some(&server.url())).unwrap_err().to_string();
    assert!(e.contains("the server returned 503 to 5 requests"), "{e}");
    assert_eq!(server.requests().len(), 5);

    let server = Server::new(|_| Reply::new("429 Too Many Requests", "Retry-After: 86400\r\n", b""));
    let e = case.fetch(&[], Some(&server.url())).unwrap_err().to_string();
    assert!(e.contains("the server returned 429 and asks to come back after 86400 s"), "{e}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_without_progress_fails() {
    let mut case = Case::new();
    let big = case.big.clone();
    // A byte every 20 ms: never silent, but far below 1 KiB/s.
    let server = Server::new(move |_| {
        let Reply::Raw(bytes) = Reply::new("200 OK", "", &big) else { unreachable!() };
        Reply::Drip(bytes, Duration::from_millis(20))
    });
    let start = Instant::now();
    let e = case.fetch(&[], Some(&server.url())).unwrap_err().to_string();
    assert!(e.contains("bytes in 0.5 s, at least 512 are expected"), "{e}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
