//! Servers that routes lead to, and requests that say which one they reach.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use compare::Result;
use compare::http::Connection;
use compare::programs::free_port;

/// Starts an HTTP server that answers every request with its name; it ends with this program.
pub(crate) fn server(name: &'static str) -> Result<String> {
    let port = free_port()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(connection, name));
        }
    });
    Ok(format!("http://127.0.0.1:{port}"))
}

fn answer(connection: TcpStream, name: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&connection).lines();
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
    write!(&connection, "{head} {}\r\n\r\n{name}", name.len())
}

/// The name of the server that a request to this port reaches, or the status that Traefik answers with.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    match Connection::new(port, None).get(path)? {
        (200, body) => Ok(String::from_utf8_lossy(body).into()),
        (status, _) => Ok(status.to_string()),
    }
}
