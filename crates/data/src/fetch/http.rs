//! HTTP GET requests with an optional byte range.

use std::io::Read;
use std::time::{Duration, SystemTime};

use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, Uri};
use ureq::{Agent, Proxy};

/// Sends HTTP requests.
pub(crate) struct HttpClient {
    timeout: Duration,
}

/// Response to a request.
pub(crate) enum Response {
    /// The file from byte `start` on. `total` is the size of the whole file, if the server reports it.
    Body { start: u64, total: Option<u64>, reader: Box<dyn Read> },
    /// The requested range is not available.
    RangeNotSatisfiable,
    /// The server asks to come back later (429 or 503), after a time if it says so.
    Busy { status: u16, retry_after: Option<Duration> },
}

impl HttpClient {
    pub(crate) fn new(timeout: Duration) -> Self {
        HttpClient { timeout }
    }

    /// Requests the file at `url` from byte `start` on. The error describes what the server did.
    pub(crate) fn get(&self, url: &str, start: u64) -> Result<Response, String> {
        let agent = self.agent(url)?;
        // The checksum is that of the file as stored, so no transfer encoding may be applied.
        let mut request = agent.get(url).header("Accept-Encoding", "identity");
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = request.call().map_err(|e| format!("no response: {e}"))?;
        let status = response.status();
        let length = parse_number(response.headers(), &CONTENT_LENGTH);
        let range =
            response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).and_then(parse_content_range);
        let (start, total) = match (status.as_u16(), range) {
            (200, _) => (0, length),
            (206, Some((first, total))) if first == start => (start, total.or(length.map(|l| first + l))),
            (429 | 503, _) => {
                let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
                return Ok(Response::Busy {
                    status: status.as_u16(),
                    retry_after: retry_after.and_then(|value| parse_retry_after(value, SystemTime::now())),
                });
            }
            (206 | 416, _) if start > 0 => return Ok(Response::RangeNotSatisfiable),
            _ => return Err(format!("the server returned {status}")),
        };
        Ok(Response::Body { start, total, reader: Box::new(response.into_body().into_reader()) })
    }

    fn agent(&self, url: &str) -> Result<Agent, String> {
        let uri: Uri = url.parse().map_err(|e| format!("not a valid URL: {e}"))?;
        let timeout = Some(self.timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .proxy(if is_loopback(&uri) { None } else { Proxy::try_from_env() })
            .user_agent(concat!("neocog/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Agent::new_with_config(config))
    }
}

/// Loopback addresses are never reached through a proxy.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn parse_number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Parses `bytes 100-299/300` into the first byte and the total size, if given.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Parses a number of seconds, or a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |value| parse_retry_after(value, now).map(|time| time.as_secs());
        assert_eq!(seconds(" 120 "), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:40:00 GMT"), Some(0));
        assert_eq!([seconds("soon"), seconds("-1"), seconds("")], [None; 3]);
    }

    #[test]
    fn content_range_is_parsed() {
        assert_eq!(parse_content_range("bytes 100-299/300"), Some((100, Some(300))));
        assert_eq!(parse_content_range("bytes 100-299/*"), Some((100, None)));
        assert_eq!(parse_content_range("bytes */300"), None);
        assert_eq!(parse_content_range("lines 1-2/3"), None);
    }

    #[test]
    fn loopback_addresses() {
        for (url, expected) in [
            ("http://localhost:8000/x", true),
            ("http://127.0.0.1/x", true),
            ("http://[::1]:80/x", true),
            ("https://example.org/x", false),
            ("http://10.0.0.1/x", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
