//! An HTTP client that sends what it is given, byte for byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its body; what is not UTF-8 in it is replaced.
    pub body: String,
}

/// A GET, or a POST if there is a body.
#[derive(Debug)]
pub struct Request<'a> {
    /// The `Host` header.
    pub host: &'a str,
    /// The path with the query.
    pub path: &'a str,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// A GET of `path` with this `Host` header.
pub fn get(port: u16, host: &str, path: &str) -> Response {
    let request = Request {
        host,
        path,
        headers: &[],
        body: b"",
    };
    request.send(port)
}

impl Request<'_> {
    /// Sends it to this port of 127.0.0.1.
    pub fn send(&self, port: u16) -> Response {
        let method = if self.body.is_empty() { "GET" } else { "POST" };
        let mut head = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.path,
            self.host,
            self.body.len()
        );
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        send(port, &[head.as_bytes(), b"\r\n", self.body].concat())
    }
}

/// Sends a whole request, which may be anything.
pub fn send(port: u16, request: &[u8]) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request).unwrap();
    read(stream)
}

impl Response {
    /// What the [`Echo`](crate::Echo) received that answered.
    pub fn echo(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The port of the [`Echo`](crate::Echo) that answered; `None` for Traefik's own 404.
    #[track_caller]
    pub fn landed(&self) -> Option<u16> {
        match self.status {
            404 => None,
            _ => Some(self.echo()["port"].as_u64().unwrap() as u16),
        }
    }
}

fn read(stream: TcpStream) -> Response {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no HTTP answer: {line:?}"));
    let mut chunked = false;
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        chunked |= line
            .to_ascii_lowercase()
            .starts_with("transfer-encoding: chunked");
    }
    assert!(!chunked, "the echo backends send no chunks");
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    Response {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}
