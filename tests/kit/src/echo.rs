//! Backends that send back what reached them.

use std::io::{self, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::server::{Request, Server, response};

/// A server that answers each request with what it received, as JSON. It ends when it is dropped.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub port: u16,
    server: Server,
}

impl Echo {
    /// One for HTTP, which gives out a cookie, and closes each connection after its answer.
    pub fn start() -> Self {
        // A client that goes away is no failure.
        Self::of(Server::serve(|stream| drop(answer(&stream))))
    }

    /// A WebSocket server that sends back each message.
    pub fn websocket() -> Self {
        Self::of(Server::serve(|stream| {
            let mut socket = tungstenite::accept(stream).unwrap();
            while let Ok(message) = socket.read() {
                if !message.is_close() && socket.send(message).is_err() {
                    break;
                }
            }
        }))
    }

    fn of(server: Server) -> Self {
        let port = server.port;
        Self { port, server }
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        self.server.url()
    }
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    let Some(request) = Request::read(&mut BufReader::new(stream))? else {
        return Ok(());
    };
    let echo = json!({
        "port": stream.local_addr()?.port(),
        "method": request.method,
        "path": request.path,
        "headers": request.headers,
        "body_len": request.body_len,
    });
    let headers = "Content-Type: application/json\r\nSet-Cookie: echo=1\r\nConnection: close\r\n";
    stream.write_all(&response(200, headers, echo.to_string().as_bytes()))
}
