//! Fetching from folders and from servers that are good, bad, and broken.
#![allow(clippy::unwrap_used, reason = "all of it is tests")]
#![cfg(feature = "fetch")]

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neocog_base::{Error, ErrorKind, Result};
use neocog_data::fetch::{Event, FetchOptions, Fetched, fetch, manifest};
use neocog_data::known::{Manifest, RemoteFile};
use server::{Reply, Request, Server};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A data set of two files, `big` and `small`, and a place to fetch it to.
struct Case {
    root: TempDir,
    big: Vec<u8>,
    small: Vec<u8>,
    big_sum: String,
    small_sum: String,
    events: Vec<String>,
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl Case {
    fn new() -> Case {
        let big: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let small = b"a few bytes".to_vec();
        let (big_sum, small_sum) = (sum(&big), sum(&small));
        Case { root: tempfile::tempdir().unwrap(), big, small, big_sum, small_sum, events: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("set").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.root.path().join("set")).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Fetches from `sources`, or `from`.
    fn fetch(&mut self, sources: &[&str], from: Option<&str>) -> Result<Fetched> {
        let root = self.root.path().to_owned();
        self.fetch_to(&root, sources, from)
    }

    fn fetch_to(&mut self, root: &Path, sources: &[&str], from: Option<&str>) -> Result<Fetched> {
        let files = [
            RemoteFile { name: "big", size: self.big.len() as u64, sha256: &self.big_sum },
            RemoteFile { name: "small", size: self.small.len() as u64, sha256: &self.small_sum },
        ];
        let manifest = Manifest { name: "set", sources, files: &files };
        let events = &mut self.events;
        events.clear();
        let mut progress = |event: Event<'_>| match event {
            Event::Bytes { .. } => {}
            Event::Start { file, done, size, .. } => events.push(format!("start {file} {done}/{size}")),
            Event::Failed { file, why, .. } => events.push(format!("failed {file}: {why}")),
            Event::Damaged { file, why } => events.push(format!("damaged {file}: {why}")),
            Event::Present { file } => events.push(format!("present {file}")),
            Event::Done { file } => events.push(format!("done {file}")),
            other => panic!("{other:?}"),
        };
        let timeout = Duration::from_millis(500);
        fetch(FetchOptions { manifest: &manifest, root, from, timeout, progress: &mut progress })
    }

    /// Both files are there and nothing else is.
    fn assert_whole(&self) {
        assert_eq!(fs::read(self.path("big")).unwrap(), self.big);
        assert_eq!(fs::read(self.path("small")).unwrap(), self.small);
        assert_eq!(fs::read_dir(self.root.path().join("set")).unwrap().count(), 2);
    }

    /// An error that names the file; `big` must not be there under its name.
    fn complaint(&self, result: Result<Fetched>, kind: ErrorKind) -> String {
        let e: Error = result.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains("big"), "{e}");
        assert!(!self.path("big").exists());
        e.to_string()
    }

    /// A server with both files whose answer about `big` is `about_big`.
    fn server(&self, about_big: impl Fn(&Request, &[u8]) -> Reply + Send + 'static) -> Server {
        let (big, small) = (self.big.clone(), self.small.clone());
        Server::new(move |request| match request.path.as_str() {
            "/big" => about_big(request, &big),
            "/small" => Reply::file(request, &small),
            _ => Reply::new("404 Not Found", "", b"no such file"),
        })
    }

    fn good_server(&self) -> Server {
        self.server(Reply::file)
    }
}

fn asked(server: &Server) -> Vec<(String, Option<usize>)> {
    server.requests().into_iter().map(|r| (r.path, r.range)).collect()
}

#[test]
fn a_second_call_does_nothing() {
    let mut case = Case::new();
    let server = case.good_server();
    let fetched = case.fetch(&[&format!("{}/", server.url())], None).unwrap();
    assert_eq!((fetched.fetched, fetched.present), (2, 0));
    assert_eq!(fetched.folder, case.root.path().join("set"));
    assert_eq!(case.events, ["start big 0/300000", "done big", "start small 0/11", "done small"]);
    case.assert_whole();
    let fetched = case.fetch(&["http://127.0.0.1:1/"], None).unwrap();
    assert_eq!((fetched.fetched, fetched.present), (0, 2));
    assert_eq!(case.events, ["present big", "present small"]);
    assert_eq!(asked(&server), [("/big".into(), None), ("/small".into(), None)]);
}

#[test]
fn a_damaged_file_is_replaced_only_by_a_whole_one() {
    let mut case = Case::new();
    let mut damaged = case.big.clone();
    damaged[1000] ^= 1;
    case.write("big", &damaged);
    let e = case.fetch(&["http://127.0.0.1:1/"], None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert_eq!(fs::read(case.path("big")).unwrap(), damaged);
    let why = format!("damaged big: wrong SHA-256: expected {}, found {}", case.big_sum, sum(&damaged));
    assert_eq!(case.events[0], why);
    let server = case.good_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_whole();
}

#[test]
fn mirrors_are_tried_in_order() {
    let mut case = Case::new();
    let missing = case.server(|_, _| Reply::new("404 Not Found", "", b""));
    let broken = case.server(|_, _| Reply::new("500 Internal Server Error", "", b""));
    let good = case.good_server();
    let urls = [&missing, &broken, &good].map(|server| format!("{}/", server.url()));
    let sources = ["http://127.0.0.1:1/", &urls[0], &urls[1], &urls[2]];
    case.fetch(&sources, None).unwrap();
    case.assert_whole();
    assert!(case.events[0].starts_with("failed big: no answer: "), "{:?}", case.events);
    assert_eq!(case.events[1], "failed big: the server answers 404 Not Found");
    assert_eq!(case.events[2], "failed big: the server answers 500 Internal Server Error");
    assert_eq!(asked(&good).len(), 1);

    let mut case = Case::new();
    let result = case.fetch(&sources[..3], None);
    let e = case.complaint(result, ErrorKind::Io);
    assert!(e.starts_with("cannot fetch big: http://127.0.0.1:1/big: no answer"), "{e}");
    assert!(e.contains(&format!("; {}big: the server answers 404 Not Found; ", urls[0])), "{e}");
    assert!(e.ends_with("bring the files here otherwise and fetch from their folder"), "{e}");
    assert!(!case.path("big.part").exists());
}

#[test]
fn a_server_that_stops_halfway() {
    let mut case = Case::new();
    let stops = case.server(|request, big| Reply::file(request, big).cut_to(200_000));
    let result = case.fetch(&[], Some(&stops.url()));
    let e = case.complaint(result, ErrorKind::Io);
    assert!(e.contains("it stopped after 200000 of 300000 bytes"), "{e}");
    assert!(e.ends_with(&format!(
        "is kept in {}, the same command goes on from there",
        case.path("big.part").display()
    )));
    assert_eq!(fs::read(case.path("big.part")).unwrap(), case.big[..200_000]);

    let good = case.good_server();
    case.fetch(&[], Some(&good.url())).unwrap();
    assert_eq!(case.events[0], "start big 200000/300000");
    assert_eq!(asked(&good)[0], ("/big".into(), Some(200_000)));
    case.assert_whole();
}

#[test]
fn the_next_mirror_goes_on_where_one_stopped() {
    let mut case = Case::new();
    let stops = case.server(|request, big| Reply::file(request, big).cut_to(123_456));
    let good = case.good_server();
    let urls = [&stops, &good].map(|server| format!("{}/", server.url()));
    case.fetch(&[&urls[0], &urls[1]], None).unwrap();
    assert_eq!(asked(&good)[0], ("/big".into(), Some(123_456)));
    case.assert_whole();
}

#[test]
fn a_server_that_falls_silent() {
    let mut case = Case::new();
    let silent = case.server(|request, big| match Reply::file(request, big).cut_to(100_000) {
        Reply::Raw(bytes) => Reply::Silence(bytes, Duration::from_secs(2)),
        silent => silent,
    });
    let result = case.fetch(&[], Some(&silent.url()));
    let e = case.complaint(result, ErrorKind::Io);
    assert!(e.contains("it stopped after 100000 of 300000 bytes (timeout"), "{e}");
    assert_eq!(fs::read(case.path("big.part")).unwrap(), case.big[..100_000]);
    let mute = case.server(|_, _| Reply::Silence(Vec::new(), Duration::from_secs(2)));
    let result = case.fetch(&[], Some(&mute.url()));
    assert!(case.complaint(result, ErrorKind::Io).contains("no answer: timeout"));
}

#[test]
fn a_wrong_checksum() {
    let mut case = Case::new();
    let wrong = case.server(|request, big| {
        let mut bytes = big.to_vec();
        bytes[77] ^= 4;
        Reply::file(request, &bytes)
    });
    let result = case.fetch(&[], Some(&wrong.url()));
    let e = case.complaint(result, ErrorKind::Format);
    let mut bytes = case.big.clone();
    bytes[77] ^= 4;
    assert!(e.contains(&format!("wrong SHA-256: expected {}, found {}", case.big_sum, sum(&bytes))), "{e}");
    assert!(!case.path("big.part").exists());
    assert_eq!(asked(&wrong).len(), 1, "what came whole and wrong is not asked for again");
}

#[test]
fn a_wrong_length() {
    let mut case = Case::new();
    let other = case.server(|request, big| Reply::file(request, &big[..299_999]));
    let result = case.fetch(&[], Some(&other.url()));
    let e = case.complaint(result, ErrorKind::Format);
    assert!(e.contains("wrong size: expected 300000 bytes, found 299999"), "{e}");

    let lies = case.server(|_, big| Reply::with_length("200 OK", "", 300_001, big));
    let result = case.fetch(&[], Some(&lies.url()));
    assert!(case.complaint(result, ErrorKind::Format).contains("expected 300000 bytes, found 300001"));

    let endless = case.server(|_, big| Reply::Raw([b"HTTP/1.1 200 OK\r\n\r\n", big, big].concat()));
    let result = case.fetch(&[], Some(&endless.url()));
    assert!(
        case.complaint(result, ErrorKind::Format).contains("more bytes came than expected, which is 300000")
    );
    assert!(!case.path("big.part").exists());

    let untold = case.server(|_, big| Reply::Raw([b"HTTP/1.1 200 OK\r\n\r\n", big].concat()));
    case.fetch(&[], Some(&untold.url())).unwrap();
    case.assert_whole();
}

#[test]
fn a_server_that_ignores_or_refuses_ranges() {
    type Answer = fn(&Request, &[u8]) -> Reply;
    let ignores: Answer = |_, big| Reply::new("200 OK", "", big);
    let refuses: Answer = |request, big| match request.range {
        Some(_) => Reply::new("416 Range Not Satisfiable", "", b""),
        None => Reply::new("200 OK", "", big),
    };
    let sends_another: Answer = |request, big| match request.range {
        Some(_) => Reply::new("206 Partial Content", "Content-Range: bytes 0-9/300000\r\n", &big[..10]),
        None => Reply::new("200 OK", "", big),
    };
    let does_not_say: Answer = |request, big| match request.range {
        Some(start) => Reply::new("206 Partial Content", "", &big[start..]),
        None => Reply::new("200 OK", "", big),
    };
    for (requests, answer) in [(1, ignores), (2, refuses), (2, sends_another), (2, does_not_say)] {
        let mut case = Case::new();
        case.write("big.part", &case.big[..5000]);
        let server = case.server(answer);
        case.fetch(&[], Some(&server.url())).unwrap();
        case.assert_whole();
        assert_eq!(asked(&server)[0], ("/big".into(), Some(5000)));
        assert_eq!(asked(&server).len(), requests + 1);
    }
}

#[test]
fn a_part_that_is_not_of_this_file() {
    // Right length so far, wrong bytes: found at the end, and fetched again from the start.
    let mut case = Case::new();
    case.write("big.part", &[7; 5000]);
    let server = case.good_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_whole();
    assert_eq!(asked(&server)[..2], [("/big".into(), Some(5000)), ("/big".into(), None)]);

    // Complete and wrong.
    let mut case = Case::new();
    case.write("big.part", &[7; 300_000]);
    let server = case.good_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_whole();
    assert_eq!(asked(&server)[0], ("/big".into(), None));

    // Too long.
    let mut case = Case::new();
    case.write("big.part", &[7; 300_001]);
    let server = case.good_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_whole();
    assert_eq!(asked(&server)[0], ("/big".into(), None));

    // Complete and right: only its name is missing.
    let mut case = Case::new();
    case.write("big.part", &case.big);
    let server = case.good_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_whole();
    assert_eq!(asked(&server), [("/small".into(), None)]);
}

#[test]
fn bytes_are_kept_as_they_are_sent() {
    // Some servers call a `.gz` file an encoding; it must not be unpacked.
    let mut case = Case::new();
    let server = case.server(|_, big| Reply::new("200 OK", "Content-Encoding: gzip\r\n", big));
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_whole();
}

#[test]
fn redirections_are_followed() {
    let mut case = Case::new();
    let good = case.good_server();
    let location = format!("Location: {}/big\r\n", good.url());
    let moved = case.server(move |_, _| Reply::new("302 Found", &location, b""));
    case.write("big.part", &case.big[..5000]);
    case.fetch(&[], Some(&moved.url())).unwrap();
    case.assert_whole();
    assert_eq!(asked(&good)[0], ("/big".into(), Some(5000)));
}

#[test]
fn from_a_folder() {
    let mut case = Case::new();
    let source = tempfile::tempdir().unwrap();
    let from = source.path().to_str().unwrap();
    fs::write(source.path().join("small"), &case.small).unwrap();
    let result = case.fetch(&[], Some(from));
    let e = case.complaint(result, ErrorKind::Io);
    assert!(
        e.contains(&format!("{}: the file is missing there", source.path().join("big").display())),
        "{e}"
    );

    fs::write(source.path().join("big"), &case.big[1..]).unwrap();
    let result = case.fetch(&[], Some(from));
    assert!(case.complaint(result, ErrorKind::Format).contains("expected 300000 bytes, found 299999"));

    let mut wrong = case.big.clone();
    wrong[0] ^= 1;
    fs::write(source.path().join("big"), &wrong).unwrap();
    let result = case.fetch(&[], Some(from));
    assert!(case.complaint(result, ErrorKind::Format).contains("wrong SHA-256"));
    assert!(!case.path("big.part").exists());

    fs::write(source.path().join("big"), &case.big).unwrap();
    case.write("big.part", b"left by a download");
    case.fetch(&[], Some(from)).unwrap();
    case.assert_whole();
}

#[test]
fn from_a_folder_of_folders_and_from_itself() {
    let mut case = Case::new();
    case.write("big", &case.big);
    case.write("small", &case.small);
    let other = tempfile::tempdir().unwrap();
    let from = case.root.path().to_str().unwrap().to_owned();
    case.fetch_to(other.path(), &[], Some(&from)).unwrap();
    assert_eq!(fs::read(other.path().join("set/big")).unwrap(), case.big);
    assert_eq!(case.fetch(&[], Some(&from)).unwrap().present, 2);
    case.assert_whole();
}

#[test]
fn what_from_cannot_be() {
    let mut case = Case::new();
    for (from, why) in
        [("no/such/folder", "there is no such folder"), ("ftp://host/x", "expected a folder or a URL")]
    {
        let e = case.fetch(&[], Some(from)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains(from) && e.to_string().contains(why), "{e}");
        assert!(!case.root.path().join("set").exists());
    }
}

#[test]
fn a_folder_that_cannot_be_made() {
    let mut case = Case::new();
    let file = case.root.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let e = case.fetch_to(&file, &["http://127.0.0.1:1/"], None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(
        e.to_string().starts_with(&format!("cannot create the folder {}", file.join("set").display())),
        "{e}"
    );
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_it_at_once() {
    let mut case = Case::new();
    fs::create_dir(case.root.path().join("set")).unwrap();
    std::os::unix::fs::symlink("/dev/full", case.path("big.part")).unwrap();
    let good = [case.good_server(), case.good_server()];
    let urls = good.each_ref().map(|server| format!("{}/", server.url()));
    let result = case.fetch(&[&urls[0], &urls[1]], None);
    let e = case.complaint(result, ErrorKind::Io);
    assert!(e.starts_with(&format!("cannot write {}", case.path("big.part").display())), "{e}");
    assert!(e.contains("No space left on device"), "{e}");
    assert!(asked(&good[1]).is_empty(), "no other mirror can help");
}

#[test]
fn two_at_once() {
    let mut case = Case::new();
    case.write("big.part", b"");
    let held = fs::File::options().write(true).open(case.path("big.part")).unwrap();
    held.lock().unwrap();
    let result = case.fetch(&["http://127.0.0.1:1/"], None);
    assert!(case.complaint(result, ErrorKind::Io).contains("another download is at work on it"));
    drop(held);
    let server = case.good_server();
    case.fetch(&[], Some(&server.url())).unwrap();
    case.assert_whole();
}

#[test]
fn which_data_sets_can_be_fetched() {
    assert_eq!(manifest("fashion-mnist").unwrap().files.len(), 4);
    let e = manifest("digits").unwrap_err().to_string();
    assert!(
        e.contains("compiled in, there is nothing to fetch") && e.contains("fashion-mnist, mnist"),
        "{e}"
    );
    assert_eq!(manifest("cifar").unwrap_err().kind(), ErrorKind::NotFound);
}

/// A proxy for the internet must not be asked for a server on this machine. Runs itself again with the
/// environment of such a proxy, which is not there.
#[test]
fn loopback_needs_no_proxy() {
    const INSIDE: &str = "NEOCOG_TEST_BEHIND_A_PROXY";
    if std::env::var_os(INSIDE).is_some() {
        let mut case = Case::new();
        let server = case.good_server();
        assert_eq!(case.fetch(&[], Some(&server.url())).unwrap().fetched, 2);
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "loopback_needs_no_proxy"]).env(INSIDE, "1");
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    let output = command.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
