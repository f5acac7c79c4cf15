//! An HTTP client that opens a connection for each request.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::connection::{Connection, receive};

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its body, and what follows it up to the end of the connection; what is not UTF-8 is replaced.
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

/// Sends these bytes, and reads the answer until the server closes the connection.
pub fn send(port: u16, request: &[u8]) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request).unwrap();
    let (mut stream, mut body) = (BufReader::new(stream), Vec::new());
    let status = receive(&mut stream, &mut body).unwrap();
    stream.read_to_end(&mut body).unwrap();
    Response {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// The name of the [named](crate::Server::named) server that a GET reaches, or the status if that is not
/// 200.
pub fn name_at(port: u16, path: &str) -> io::Result<String> {
    match Connection::new(port, None).get(path)? {
        (200, name) => Ok(String::from_utf8_lossy(name).into()),
        (status, _) => Ok(status.to_string()),
    }
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
