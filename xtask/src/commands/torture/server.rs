//! Servers that do not send what they should.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neocog_base::{Error, Result};

use super::run::{Running, Runs};
use super::tally::Tally;

/// What a server does with a connection.
type Behavior = fn(&mut TcpStream) -> std::io::Result<()>;

/// Longer than the program waits.
const LONG: Duration = Duration::from_secs(20);

const BEHAVIORS: &[(&str, Behavior)] = &[
    ("closes at once", |_| Ok(())),
    ("is silent", |_| {
        std::thread::sleep(LONG);
        Ok(())
    }),
    ("is silent after the head", |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9912422\r\n\r\n")?;
        std::thread::sleep(LONG);
        Ok(())
    }),
    ("sends a byte at a time", |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9912422\r\n\r\n")?;
        drip(stream)
    }),
    ("sends its head a byte at a time", drip),
    ("has no end of its head", |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        let line = [b"X-Junk: ".as_slice(), &[b'x'; 8000], b"\r\n"].concat();
        loop {
            stream.write_all(&line)?;
        }
    }),
    ("sends no HTTP", |stream| stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n")),
    ("sends endless data", |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[7; 1 << 16])?;
        }
    }),
    ("declares another length", |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nabc")
    }),
    ("redirects to itself", |stream| {
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n")
    }),
    ("is busy for a day", |stream| {
        stream.write_all(b"HTTP/1.1 503 Busy\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n")
    }),
];

fn drip(stream: &mut TcpStream) -> std::io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < LONG {
        stream.write_all(b"H")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Fetches from each server: an error within the time that was given, and no file that is not right.
pub fn try_all(runs: &Runs, tally: &mut Tally) -> Result<()> {
    for (name, behavior) in BEHAVIORS {
        let folder = runs.file("fetched");
        let server = Server::start(*behavior)?;
        let mut command = Command::new(&runs.program);
        command.args(["fetch-data", "mnist", "--timeout", "1", "--from", &server.url, "--dir"]).arg(&folder);
        let start = Instant::now();
        let ended = Running::start(command, runs.file("stderr"))?.wait()?;
        server.stop.store(true, Ordering::Relaxed);
        let files = std::fs::read_dir(folder.join("mnist")).map_or(0, |files| {
            files.flatten().filter(|file| !file.file_name().to_string_lossy().ends_with(".part")).count()
        });
        let is_error = ended.code == Some(1) && ended.stderr.contains("error: ") && !ended.is_panic();
        if is_error && files == 0 && start.elapsed() < LONG {
            tally.servers += 1;
        } else {
            let time = start.elapsed().as_secs_f64();
            tally.other.push(format!("a server that {name}: {files} files after {time:.1} s, {ended}"));
        }
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(())
}

struct Server {
    url: String,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server whose threads end with the process, or when their client goes away.
    fn start(behavior: Behavior) -> Result<Self> {
        let cannot = |e| Error::io("cannot start a server", e);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(cannot)?;
        let url = format!("http://{}", listener.local_addr().map_err(cannot)?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || serve(stream, behavior));
            }
        });
        Ok(Server { url, stop })
    }
}

fn serve(mut stream: TcpStream, behavior: Behavior) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    behavior(&mut stream)
}
