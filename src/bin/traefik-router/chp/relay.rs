//! Bytes between Unix sockets and loopback ports, since Traefik knows ports only.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt as _, BufReader, copy_buf, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use traefik_router::Target;

use super::server::{ConnectionLimit, Listener, Stream, accept, at_most};
use crate::sync::unpoisoned;
use crate::url;

/// The connections that relays to Traefik carry at a time, and those that relays to targets do; others wait.
/// Each has a limit of its own: clients wait for targets, and must not take the targets' permits.
const LIMIT: usize = 2048;
const PAUSE: Duration = Duration::from_millis(50);
/// How long one side may go on once the other one has ended.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that are read at a time. With fewer, a relay spends its time in system calls.
const BUFFER: usize = 32 * 1024;
/// How long a target may have no room for a connection.
const CONNECTING: Duration = Duration::from_secs(5);

/// A relay without a route stays for so long, since its route may be about to be stored.
pub(super) const UNUSED: Duration = Duration::from_secs(600);

/// The loopback ports that lead to Unix sockets, by the socket's path.
pub(super) struct Relays {
    threads: Handle,
    ports: Mutex<HashMap<PathBuf, Relay>>,
    limit: Arc<ConnectionLimit>,
}

struct Relay {
    address: SocketAddr,
    /// When it was last asked for.
    asked: Instant,
    accepting: AbortHandle,
}

impl Relays {
    pub(super) fn new(threads: Handle) -> Self {
        Self {
            threads,
            ports: Mutex::default(),
            limit: connection_limit(),
        }
    }

    /// The loopback address that leads to this socket.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub(super) fn to(&self, socket: PathBuf) -> io::Result<SocketAddr> {
        let mut ports = unpoisoned(self.ports.lock());
        if let Some(relay) = ports.get_mut(&socket) {
            relay.asked = Instant::now();
            return Ok(relay.address);
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let path = Arc::new(socket.clone());
        let accepting = accept(
            &self.threads,
            Listener::Tcp(listener),
            &self.limit,
            move |stream, permit| {
                let path = Arc::clone(&path);
                async move {
                    // It is not closed for another one.
                    if permit.start_work() {
                        relay(stream, connect(&path).await, Ender::Either).await;
                    }
                }
            },
        )?;
        let relay = Relay {
            address,
            asked: Instant::now(),
            accepting,
        };
        ports.insert(socket, relay);
        Ok(address)
    }

    /// Closes the relays that no target of a route leads to, and that nobody has asked for in this time: each takes
    /// a port and a file.
    pub(super) fn close_unused<'t>(
        &self,
        targets: impl Iterator<Item = &'t Target>,
        unused: Duration,
    ) {
        let used: HashSet<_> = targets
            .map(|target| url::split(target.as_str()).1)
            .collect();
        unpoisoned(self.ports.lock()).retain(|_, relay| {
            let is_used =
                relay.asked.elapsed() < unused || used.contains(relay.address.to_string().as_str());
            if !is_used {
                relay.accepting.abort();
            }
            is_used
        });
    }
}

/// Half of what a server has of the system's files, since a relayed connection takes two.
fn connection_limit() -> Arc<ConnectionLimit> {
    ConnectionLimit::new(at_most(2 * LIMIT) / 2)
}

/// Connects to a socket, unless its backlog stays full.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    let connect = async {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE).await,
                connected => return connected,
            }
        }
    };
    timeout(CONNECTING, connect).await?
}

/// Carries the bytes of every connection to a loopback address, where Traefik listens: it leaves
/// clients that say nothing after a minute.
///
/// # Errors
/// If the runtime does not take the listener.
pub(super) fn to_port(threads: &Handle, from: Listener, address: SocketAddr) -> io::Result<()> {
    accept(
        threads,
        from,
        &connection_limit(),
        move |stream, permit| async move {
            if permit.start_work() {
                let connected = TcpStream::connect(address).await;
                let connected = connected.and_then(|to| to.set_nodelay(true).map(|()| to));
                relay(stream, connected, Ender::Server).await;
            }
        },
    )
    .map(drop)
}

/// Whose end is the end of a connection.
#[derive(Clone, Copy, PartialEq)]
enum Ender {
    /// Only the server's: a client may have no more to send and wait for its answer.
    Server,
    Either,
}

async fn relay(client: Box<dyn Stream>, server: io::Result<impl Stream>, ender: Ender) {
    match server {
        Ok(server) => carry(client, server, ender).await,
        Err(error) => log::debug!("a relayed connection failed: {error}"),
    }
}

/// Copies bytes both ways until a side that may end the connection ends, and for `LINGER` afterwards.
async fn carry(client: impl Stream, server: impl Stream, ender: Ender) {
    let (from_client, mut to_client) = split(client);
    let (from_server, mut to_server) = split(server);
    let mut from_client = BufReader::with_capacity(BUFFER, from_client);
    let mut from_server = BufReader::with_capacity(BUFFER, from_server);
    let forth = async {
        let carried = copy_buf(&mut from_client, &mut to_server).await;
        carried.and(to_server.shutdown().await)
    };
    let back = async {
        let carried = copy_buf(&mut from_server, &mut to_client).await;
        carried.and(to_client.shutdown().await)
    };
    tokio::pin!(forth, back);
    tokio::select! {
        _ = &mut back => {
            timeout(LINGER, forth).await.ok();
        }
        // What is broken one way is of no use the other way.
        ended = &mut forth => match (ended, ender) {
            (Ok(()), Ender::Server) => {
                back.await.ok();
            }
            _ => {
                timeout(LINGER, back).await.ok();
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::super::server::threads;
    use super::*;

    /// Or else clients that are silent would fill the relay.
    #[test]
    fn server_hangup_ends_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let threads = threads().unwrap();
        let address = server.local_addr().unwrap();
        to_port(&threads, Listener::unix(&path).unwrap(), address).unwrap();
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
    fn traefik_hangup_ends_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let target = UnixListener::bind(&path).unwrap();
        let mut traefik =
            TcpStream::connect(Relays::new(threads().unwrap()).to(path).unwrap()).unwrap();
        traefik.write_all(b"hello").unwrap();
        let (mut asked, _) = target.accept().unwrap();
        asked.read_exact(&mut [0; 5]).unwrap();
        drop(traefik);
        std::thread::sleep(2 * LINGER);
        asked.write_all(b"still here").unwrap_err();
    }

    #[test]
    fn wait_for_full_target_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let target = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&target, 0).unwrap();
        let threads = threads().unwrap();
        let connect = |path| threads.block_on(connect(path));
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
    fn unused_relay_is_closed() {
        let relays = Relays::new(threads().unwrap());
        let [used, unused] = ["/used", "/unused"].map(|path| relays.to(path.into()).unwrap());
        let target = Target::new(format!("http://{used}/base")).unwrap();
        let is_open = |address| TcpStream::connect(address).is_ok();
        relays.close_unused([&target].into_iter(), UNUSED);
        assert!(is_open(used) && is_open(unused));
        relays.close_unused([&target].into_iter(), Duration::ZERO);
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_open(unused) && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        assert!(is_open(used) && !is_open(unused));
        assert_eq!(relays.to("/used".into()).unwrap(), used);
        let again = relays.to("/unused".into()).unwrap();
        assert!(is_open(again));
    }

    #[test]
    fn relays_share_one_connection_limit() {
        let folder = tempfile::tempdir().unwrap();
        let relays = Relays {
            limit: ConnectionLimit::new(1),
            ..Relays::new(threads().unwrap())
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
