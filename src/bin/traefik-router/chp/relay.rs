//! Bytes between Unix sockets and loopback ports, since Traefik knows ports only.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::server::{Listener, Stream, at_most};

/// How many connections one relay carries at a time; others wait.
const LIMIT: usize = 4096;
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client that has been left may go on sending. Traefik leaves those that say nothing
/// after a minute.
const LINGER: Duration = Duration::from_secs(2);

/// The loopback ports that lead to Unix sockets, by the socket's path.
#[derive(Debug, Default)]
pub(super) struct Relays(Mutex<HashMap<PathBuf, SocketAddr>>);

impl Relays {
    /// The loopback address that leads to this socket.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub(super) fn to(&self, socket: PathBuf) -> io::Result<SocketAddr> {
        let mut relays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = relays.get(&socket) {
            return Ok(*address);
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let path = socket.clone();
        start(Listener::Tcp(listener), move || {
            Ok(Stream::Unix(UnixStream::connect(&path)?))
        });
        relays.insert(socket, address);
        Ok(address)
    }
}

/// Carries the bytes of every connection to a loopback address.
pub(super) fn to_port(from: Listener, address: SocketAddr) {
    start(from, move || {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    });
}

fn start(from: Listener, connect: impl Fn() -> io::Result<Stream> + Send + Sync + 'static) {
    let connect = Arc::new(connect);
    let (limit, open) = (at_most(LIMIT), Arc::new(()));
    std::thread::spawn(move || {
        loop {
            let is_full = Arc::strong_count(&open) > limit;
            let Some(stream) = (!is_full).then(|| from.accept().ok()).flatten() else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let (connect, open) = (Arc::clone(&connect), Arc::clone(&open));
            let relay = move || {
                if let Err(error) = connect().and_then(|other| carry(stream, other)) {
                    log::debug!("a relayed connection failed: {error}");
                }
                drop(open);
            };
            // Without a thread the connection is closed.
            if let Err(error) = std::thread::Builder::new().spawn(relay) {
                log::warn!("no thread for a connection: {error}");
            }
        }
    });
}

/// Carries bytes both ways until the server, the `other` one, has finished.
fn carry(one: Stream, other: Stream) -> io::Result<()> {
    let (one, other) = (Arc::new(one), Arc::new(other));
    let (finished, forth) = std::sync::mpsc::channel::<()>();
    {
        let (one, other) = (Arc::clone(&one), Arc::clone(&other));
        std::thread::Builder::new().spawn(move || {
            carry_one_way(&one, &other);
            drop(finished);
        })?;
    }
    carry_one_way(&other, &one);
    forth.recv_timeout(LINGER).ok();
    // They may be closed already.
    one.shutdown(Shutdown::Both).ok();
    other.shutdown(Shutdown::Both).ok();
    Ok(())
}

/// Carries bytes until `from` has no more, or `to` takes none.
fn carry_one_way(from: &Stream, to: &Stream) {
    let (mut source, mut sink) = (from, to);
    match io::copy(&mut source, &mut sink) {
        Ok(_) => to.shutdown(Shutdown::Write).ok(),
        // What is broken one way is of no use the other way.
        Err(_) => from
            .shutdown(Shutdown::Both)
            .and(to.shutdown(Shutdown::Both))
            .ok(),
    };
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// Or else clients that are silent would fill the relay.
    #[test]
    fn who_is_left_by_the_server_is_left_by_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        to_port(Listener::unix(&path).unwrap(), server.local_addr().unwrap());
        let mut client = UnixStream::connect(path).unwrap();
        client.write_all(b"hello").unwrap();
        let (mut served, _) = server.accept().unwrap();
        served.read_exact(&mut [0; 5]).unwrap();
        served.write_all(b"bye").unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "bye");
        std::thread::sleep(2 * LINGER);
        client.write_all(b"still here").unwrap_err();
    }
}
