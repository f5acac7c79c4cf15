//! Backends that tell what reached them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::ports;

/// A server that answers each request with what it received, as JSON. It ends when dropped.
pub(crate) struct Echo {
    pub(crate) port: u16,
    ended: Arc<AtomicBool>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        Self::serve(|stream, port| drop(answer(stream, port)))
    }

    /// A WebSocket server that sends back what it gets.
    pub(crate) fn websocket() -> Self {
        Self::serve(|stream, _| {
            let mut socket = tungstenite::accept(stream).unwrap();
            while let Ok(message) = socket.read() {
                if !message.is_close() && socket.send(message).is_err() {
                    break;
                }
            }
        })
    }

    /// A server that answers each connection by `handle`, which is given the port.
    pub(crate) fn serve(handle: impl Fn(TcpStream, u16) + Send + Sync + 'static) -> Self {
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
                std::thread::spawn(move || handle(stream, port));
            }
        });
        Self { port, ended }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn answer(stream: TcpStream, port: u16) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_string);
    let (method, path) = (words.next(), words.next());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), Value::from(value));
            }
            None => break,
        }
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.as_str()?.parse().ok());
    let mut body = Vec::new();
    reader.take(length.unwrap_or(0)).read_to_end(&mut body)?;
    let echo = json!({
        "port": port,
        "method": method,
        "path": path,
        "headers": headers,
        "body_len": body.len(),
    });
    let echo = echo.to_string();
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{echo}",
        echo.len()
    )
}
