//! A minimal local HTTP server that can also send invalid responses.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A received request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, with its leading `/`.
    pub path: String,
    /// `N` of a header `Range: bytes=N-`.
    pub range: Option<usize>,
}

/// A response.
pub enum Reply {
    /// Sends these bytes, including headers, and closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes and keeps the connection open without data for this time.
    Stall(Vec<u8>, Duration),
    /// Sends the head at once and the body a byte at a time, with this time between two.
    Drip(Vec<u8>, Duration),
}

impl Reply {
    /// A response with the correct `Content-Length`.
    pub fn new(status: &str, headers: &str, body: &[u8]) -> Reply {
        Reply::with_length(status, headers, body.len(), body)
    }

    /// A response that declares a `Content-Length` of `length`.
    pub fn with_length(status: &str, headers: &str, length: usize, body: &[u8]) -> Reply {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        Reply::Raw([head.as_bytes(), body].concat())
    }

    /// The correct response to a request for a file, with range support.
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

    /// Truncates the body to `count` bytes.
    pub fn truncate_body(self, count: usize) -> Reply {
        match self {
            Reply::Raw(mut bytes) => {
                let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                bytes.truncate(body + count);
                Reply::Raw(bytes)
            }
            stalled => stalled,
        }
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server that responds with `handler`.
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
                // A client may close the connection during a response.
                let _ = stream.and_then(|stream| respond(stream, &handler, &seen));
            }
        });
        Server { address, requests, stop, thread: Some(thread) }
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests received so far.
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

fn respond(
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
        Reply::Drip(bytes, time) => {
            let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            stream.write_all(&bytes[..body])?;
            for byte in &bytes[body..] {
                stream.write_all(&[*byte])?;
                std::thread::sleep(time);
            }
            Ok(())
        }
        Reply::Stall(bytes, time) => {
            stream.write_all(&bytes)?;
            std::thread::sleep(time);
            Ok(())
        }
    }
}
