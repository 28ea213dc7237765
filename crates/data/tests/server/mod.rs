//! A small HTTP server on this machine that can misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, with its leading `/`.
    pub path: String,
    /// The first byte of a `Range: bytes=N-`.
    pub range: Option<usize>,
}

/// What it does.
pub enum Reply {
    /// Sends these bytes, headers included, and closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes and is silent, with the connection open, for as long as this.
    Silence(Vec<u8>, Duration),
}

impl Reply {
    /// An answer with a true `Content-Length`.
    pub fn new(status: &str, headers: &str, body: &[u8]) -> Reply {
        Reply::with_length(status, headers, body.len(), body)
    }

    /// An answer that claims to be `length` bytes long.
    pub fn with_length(status: &str, headers: &str, length: usize, body: &[u8]) -> Reply {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        Reply::Raw([head.as_bytes(), body].concat())
    }

    /// What a good server answers about a file.
    pub fn file(request: &Request, body: &[u8]) -> Reply {
        match request.range {
            None => Reply::new("200 OK", "", body),
            Some(start) if start < body.len() => {
                let range = format!("Content-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len());
                Reply::new("206 Partial Content", &range, &body[start..])
            }
            Some(_) => {
                let range = format!("Content-Range: bytes */{}\r\n", body.len());
                Reply::new("416 Range Not Satisfiable", &range, b"")
            }
        }
    }

    /// Only the first `count` bytes of it are sent.
    pub fn cut_to(self, count: usize) -> Reply {
        match self {
            Reply::Raw(mut bytes) => {
                let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                bytes.truncate(body + count);
                Reply::Raw(bytes)
            }
            silent => silent,
        }
    }
}

/// Listens until it is dropped.
pub struct Server {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A server that answers with `handler`.
    pub fn new(handler: impl Fn(&Request) -> Reply + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A client may go away in the middle of an answer.
                let _ = stream.and_then(|stream| answer(stream, &handler, &seen));
            }
        });
        Server { address, requests, stop, thread: Some(thread) }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked for so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let failed = thread.join().is_err();
            assert!(!failed || std::thread::panicking(), "the server's handler panicked");
        }
    }
}

fn answer(
    mut stream: TcpStream,
    handler: &dyn Fn(&Request) -> Reply,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut request = Request { path: first.split(' ').nth(1).unwrap_or_default().into(), range: None };
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            request.range = range.trim_end_matches('-').parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    seen.lock().unwrap().push(request.clone());
    match handler(&request) {
        Reply::Raw(bytes) => stream.write_all(&bytes),
        Reply::Silence(bytes, time) => {
            stream.write_all(&bytes)?;
            std::thread::sleep(time);
            Ok(())
        }
    }
}
