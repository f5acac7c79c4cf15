//! Bytes between Unix sockets and loopback ports, since Traefik knows ports only.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::server::{Listener, Stream, at_most};

/// How many connections all relays together carry at a time; others wait.
const LIMIT: usize = 4096;
const PAUSE: Duration = Duration::from_millis(50);
/// How long one side may go on once the other one has ended.
const LINGER: Duration = Duration::from_secs(2);
/// How long a target may have no room for a connection.
const CONNECTING: Duration = Duration::from_secs(5);

/// The loopback ports that lead to Unix sockets, by the socket's path.
#[derive(Debug, Default)]
pub(super) struct Relays {
    ports: Mutex<HashMap<PathBuf, SocketAddr>>,
    places: Arc<Places>,
}

impl Relays {
    /// The loopback address that leads to this socket.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub(super) fn to(&self, socket: PathBuf) -> io::Result<SocketAddr> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = ports.get(&socket) {
            return Ok(*address);
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let path = socket.clone();
        let connect = move || Ok(Stream::Unix(connect(&path)?));
        let places = Arc::clone(&self.places);
        start(Listener::Tcp(listener), places, Ender::Either, connect);
        ports.insert(socket, address);
        Ok(address)
    }
}

/// Connects to a socket, unless those who wait for its listener are too many for too long.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(CONNECTING))?;
    net::connect(&stream, &SocketAddrUnix::new(path)?)?;
    stream.set_write_timeout(None)?;
    Ok(stream)
}

/// Carries the bytes of every connection to a loopback address, where Traefik listens: it leaves
/// clients that say nothing after a minute.
pub(super) fn to_port(from: Listener, address: SocketAddr) {
    start(from, Arc::default(), Ender::Server, move || {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    });
}

/// Whose end is the end of a connection.
#[derive(Clone, Copy, PartialEq)]
enum Ender {
    /// Only the server's: a client may have no more to send and wait for its answer.
    Server,
    Either,
}

/// The places of some relays: who has one has a clone of what is in here.
#[derive(Debug)]
struct Places {
    limit: usize,
    taken: Mutex<Arc<()>>,
}

impl Default for Places {
    /// One half is for Traefik's clients and one for its targets: clients wait for targets, and so
    /// must not keep them from a place.
    fn default() -> Self {
        Self {
            limit: at_most(LIMIT) / 2,
            taken: Mutex::default(),
        }
    }
}

impl Places {
    /// Waits for a place.
    fn take(&self) -> Arc<()> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while Arc::strong_count(&taken) > self.limit {
            std::thread::sleep(PAUSE);
        }
        Arc::clone(&taken)
    }
}

fn start(
    from: Listener,
    places: Arc<Places>,
    ender: Ender,
    connect: impl Fn() -> io::Result<Stream> + Send + Sync + 'static,
) {
    let connect = Arc::new(connect);
    std::thread::spawn(move || {
        loop {
            let Ok(stream) = from.accept() else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let (connect, place) = (Arc::clone(&connect), places.take());
            let relay = move || {
                if let Err(error) = connect().and_then(|other| carry(stream, other, ender)) {
                    log::debug!("a relayed connection failed: {error}");
                }
                drop(place);
            };
            // Without a thread the connection is closed.
            if let Err(error) = std::thread::Builder::new().spawn(relay) {
                log::warn!("no thread for a connection: {error}");
            }
        }
    });
}

/// Carries bytes both ways between a client and a server, the `other` one.
fn carry(one: Stream, other: Stream, ender: Ender) -> io::Result<()> {
    let (one, other) = (Arc::new(one), Arc::new(other));
    let (forth_ends, forth) = channel();
    let (back_ends, back) = channel();
    {
        let (one, other) = (Arc::clone(&one), Arc::clone(&other));
        std::thread::Builder::new().spawn(move || {
            carry_one_way(&one, &other);
            drop(forth_ends);
            if ender == Ender::Either {
                end(&one, &other, &back);
            }
        })?;
    }
    carry_one_way(&other, &one);
    drop(back_ends);
    end(&one, &other, &forth);
    Ok(())
}

/// Closes both once the other way has ended as well, or has had its time.
fn end(one: &Stream, other: &Stream, other_way: &Receiver<()>) {
    other_way.recv_timeout(LINGER).ok();
    // They may be closed already.
    one.shutdown(Shutdown::Both).ok();
    other.shutdown(Shutdown::Both).ok();
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
    use std::os::unix::net::UnixListener;

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

    /// Or else targets that are silent would fill the relays.
    #[test]
    fn who_is_left_by_traefik_is_left_by_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let target = UnixListener::bind(&path).unwrap();
        let mut traefik = TcpStream::connect(Relays::default().to(path).unwrap()).unwrap();
        traefik.write_all(b"hello").unwrap();
        let (mut asked, _) = target.accept().unwrap();
        asked.read_exact(&mut [0; 5]).unwrap();
        drop(traefik);
        std::thread::sleep(2 * LINGER);
        asked.write_all(b"still here").unwrap_err();
    }

    #[test]
    fn a_target_without_room_is_not_waited_for_without_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let target = UnixListener::bind(&path).unwrap();
        net::listen(&target, 0).unwrap();
        let start = std::time::Instant::now();
        let mut waiting = Vec::new();
        while let Ok(stream) = connect(&path) {
            waiting.push(stream);
        }
        assert!(start.elapsed() < 2 * CONNECTING, "{}", waiting.len());
        target.accept().unwrap();
        connect(&path).unwrap();
    }

    #[test]
    fn relays_share_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            limit: 1,
            ..Places::default()
        };
        let relays = Relays {
            places: Arc::new(places),
            ..Relays::default()
        };
        let [first, second] = ["first", "second"].map(|name| {
            let path = folder.path().join(name);
            let target = UnixListener::bind(&path).unwrap();
            let traefik = TcpStream::connect(relays.to(path).unwrap()).unwrap();
            std::thread::sleep(4 * PAUSE);
            (traefik, target)
        });
        first.1.accept().unwrap();
        second.1.set_nonblocking(true).unwrap();
        second.1.accept().unwrap_err();
        drop(first);
        std::thread::sleep(4 * PAUSE);
        second.1.accept().unwrap();
    }
}
