//! The least of an HTTP client: one connection that is kept, std only, nothing of the library's.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A connection to a port of 127.0.0.1. It is opened by the first request, and again after an error.
pub struct Connection {
    port: u16,
    headers: String,
    stream: Option<BufReader<TcpStream>>,
    body: Vec<u8>,
}

impl Connection {
    /// To this port of 127.0.0.1, with credentials for basic authentication.
    pub fn new(port: u16, credentials: Option<&str>) -> Self {
        let basic = |credentials: &str| format!("Basic {}", base64(credentials.as_bytes()));
        Self::authorized(port, credentials.map(basic).as_deref())
    }

    /// The same with the value of an `Authorization` header.
    pub fn authorized(port: u16, authorization: Option<&str>) -> Self {
        let mut headers = format!("Host: 127.0.0.1:{port}\r\n");
        if let Some(authorization) = authorization {
            headers.push_str(&format!("Authorization: {authorization}\r\n"));
        }
        Self {
            port,
            headers,
            stream: None,
            body: Vec::new(),
        }
    }

    /// Sends a GET; returns status and body.
    pub fn get(&mut self, path: &str) -> io::Result<(u16, &[u8])> {
        let head = format!("GET {path} HTTP/1.1\r\n{}\r\n", self.headers);
        self.ask(&head, b"")
    }

    /// Sends a DELETE; returns status and body.
    pub fn delete(&mut self, path: &str) -> io::Result<(u16, &[u8])> {
        let head = format!("DELETE {path} HTTP/1.1\r\n{}\r\n", self.headers);
        self.ask(&head, b"")
    }

    /// Sends a POST of JSON; returns status and body.
    pub fn post(&mut self, path: &str, body: &[u8]) -> io::Result<(u16, &[u8])> {
        self.send("POST", path, body)
    }

    /// Sends a PUT of JSON; returns status and body.
    pub fn put(&mut self, path: &str, body: &[u8]) -> io::Result<(u16, &[u8])> {
        self.send("PUT", path, body)
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, &[u8])> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.headers,
            body.len()
        );
        self.ask(&head, body)
    }

    fn ask(&mut self, head: &str, body: &[u8]) -> io::Result<(u16, &[u8])> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            self.stream = Some(BufReader::new(stream));
        }
        let Some(stream) = &mut self.stream else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let answer = exchange(stream, head, body, &mut self.body);
        if answer.is_err() {
            self.stream = None;
        }
        Ok((answer?, &self.body))
    }
}

fn exchange(
    stream: &mut BufReader<TcpStream>,
    head: &str,
    sent: &[u8],
    body: &mut Vec<u8>,
) -> io::Result<u16> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    stream.get_mut().write_all(head.as_bytes())?;
    stream.get_mut().write_all(sent)?;
    body.clear();
    let mut line = String::new();
    let next = |stream: &mut BufReader<TcpStream>, line: &mut String| {
        line.clear();
        match stream.read_line(line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    };
    next(stream, &mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status: u16 = status.ok_or_else(bad)?;
    let (mut length, mut chunked) = (0, false);
    loop {
        next(stream, &mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| bad())?,
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    if status == 204 {
        return Ok(status);
    }
    loop {
        if chunked {
            next(stream, &mut line)?;
            length = u64::from_str_radix(line.trim(), 16).map_err(|_| bad())?;
        }
        if length > 0 {
            stream.by_ref().take(length).read_to_end(body)?;
        }
        if !chunked {
            return Ok(status);
        }
        next(stream, &mut line)?;
        if length == 0 {
            return Ok(status);
        }
    }
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            if n <= three.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
