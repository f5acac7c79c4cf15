//! Servers that answer as a test wants.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ports;

/// A server on a port of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub port: u16,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Handles each connection by `handle`, in a thread.
    pub fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = ports::listen();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let handle = Arc::new(handle);
        let stop = Arc::clone(&ended);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || handle(stream));
            }
        });
        Self { port, ended }
    }

    /// Sends what `answer` makes of each request, such as a [`response`]. At `None` it closes the
    /// connection.
    pub fn answering(answer: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        // A client that goes away is no failure.
        Self::serve(move |stream| drop(answer_all(&stream, &answer)))
    }

    /// Answers each request with this name.
    pub fn named(name: &str) -> Self {
        let answer = response(200, "", name.as_bytes());
        Self::answering(move |_| Some(answer.clone()))
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn answer_all(
    mut stream: &TcpStream,
    answer: impl Fn(&Request) -> Option<Vec<u8>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let Some(bytes) = answer(&request) else {
            break;
        };
        stream.write_all(&bytes)?;
    }
    Ok(())
}

/// A request that a server has received.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers by their names in lower case. Of several with one name only the last is kept.
    pub headers: BTreeMap<String, String>,
    /// The length of its body, in bytes.
    pub body_len: usize,
}

impl Request {
    /// Reads the next request and its body; `None` if the client sends no more.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_string);
        let [method, path] = [(); 2].map(|()| words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
        }
        let length = headers
            .get("content-length")
            .and_then(|length| length.parse().ok());
        let mut body = reader.take(length.unwrap_or(0));
        let body_len = io::copy(&mut body, &mut io::sink())? as usize;
        Ok(Some(Self {
            method,
            path,
            headers,
            body_len,
        }))
    }
}

/// A response with this status, these further headers, each of which ends with `\r\n`, and this body.
pub fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
