//! Bytes between Unix sockets and loopback ports, since Traefik knows ports only.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::server::{Listener, Stream};

/// How many connections one relay carries at a time.
const LIMIT: usize = 4096;
const PAUSE: Duration = Duration::from_millis(50);

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
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        loop {
            let Ok(stream) = from.accept() else {
                std::thread::sleep(PAUSE);
                continue;
            };
            if open.load(Ordering::Relaxed) >= LIMIT {
                continue;
            }
            let (connect, open) = (Arc::clone(&connect), Arc::clone(&open));
            open.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                if let Err(error) = connect().and_then(|other| carry(stream, other)) {
                    log::debug!("a relayed connection failed: {error}");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

/// Carries bytes both ways until both ends have finished.
fn carry(one: Stream, other: Stream) -> io::Result<()> {
    let (one, other) = (Arc::new(one), Arc::new(other));
    let back = {
        let (one, other) = (Arc::clone(&one), Arc::clone(&other));
        std::thread::Builder::new().spawn(move || carry_one_way(&other, &one))?
    };
    carry_one_way(&one, &other);
    drop(back.join());
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
