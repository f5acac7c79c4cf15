//! Sockets of both families, with a deadline instead of a timeout a read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, getrlimit};

use super::Seat;

/// How long a client may take to read a piece of an answer.
const WRITE: Duration = Duration::from_secs(30);
/// The same where others wait for its place.
const READING: Duration = Duration::from_secs(1);
const PIECE: usize = 64 * 1024;
/// How long it may take to ask for the first time then.
const ASKING: Duration = Duration::from_millis(250);
/// How many connections may wait to be accepted; the system may have a lower limit.
const BACKLOG: i32 = 4096;

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on every address that `host` stands for; the empty one means all there are.
    pub(crate) fn tcp(host: &str, port: u16) -> io::Result<Vec<Self>> {
        if matches!(host, "" | "*") {
            let any = TcpListener::bind(("::", port)).or_else(|error| match error.kind() {
                ErrorKind::AddrInUse => Err(error),
                _ => TcpListener::bind(("0.0.0.0", port)),
            });
            return Ok(vec![Self::Tcp(with_room(any?)?)]);
        }
        let mut failure = io::Error::new(ErrorKind::NotFound, "no such address");
        let mut listeners = Vec::new();
        for address in (host, port).to_socket_addrs()? {
            match TcpListener::bind(address) {
                Ok(listener) => listeners.push(Self::Tcp(with_room(listener)?)),
                // A host name may stand for an address family that this machine lacks.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable => failure = error,
                Err(error) => return Err(error),
            }
        }
        if listeners.is_empty() {
            return Err(failure);
        }
        Ok(listeners)
    }

    /// Listens on a socket file; one that nobody listens on any more is replaced.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        let left_behind = |error: &io::Error| {
            error.kind() == ErrorKind::AddrInUse && UnixStream::connect(path).is_err()
        };
        let listener = match UnixListener::bind(path) {
            Err(error) if left_behind(&error) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            other => other,
        };
        Ok(Self::Unix(listener?))
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }
}

/// So many connections, or fewer, so that all the servers and relays of this program leave files for
/// what else there is to do.
pub(crate) fn at_most(connections: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    files.map_or(connections, |files| connections.min(files as usize / 8))
}

/// Lets more connections wait to be accepted: one that comes when there is no room is tried again
/// by the client's system only after a second.
fn with_room(listener: TcpListener) -> io::Result<TcpListener> {
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

impl Stream {
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream
                .set_read_timeout(read)
                .and_then(|()| stream.set_write_timeout(write)),
            Self::Unix(stream) => stream
                .set_read_timeout(read)
                .and_then(|()| stream.set_write_timeout(write)),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that can be read until a deadline, however slowly its bytes come.
pub(super) struct Socket<'a> {
    seat: &'a Seat,
    deadline: Instant,
}

impl<'a> Socket<'a> {
    pub(super) fn new(seat: &'a Seat) -> Self {
        Self {
            seat,
            deadline: Instant::now(),
        }
    }

    fn is_ready(&self, events: PollFlags) -> bool {
        let mut fds = [PollFd::new(&*self.seat.stream, events)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut stream = &*self.seat.stream;
        stream.set_timeouts(Some(left), Some(WRITE))?;
        if self.is_ready(PollFlags::IN) {
            return stream.read(buffer);
        }
        let may_go = Instant::now().max(self.seat.taken_at + ASKING);
        self.seat.waiting(may_go, || stream.read(buffer))
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = &*self.seat.stream;
        // A client that reads on loses no answer; each piece of it begins to wait anew.
        let piece = &bytes[..bytes.len().min(PIECE)];
        let may_go = Instant::now() + READING;
        self.seat.waiting(may_go, || stream.write(piece))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a connection is read from and written to: a socket, with TLS or without.
pub(super) trait Wire: Read + Write {
    fn read_until(&mut self, deadline: Instant);
}

impl Wire for Socket<'_> {
    fn read_until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
}

impl Wire for rustls::StreamOwned<rustls::ServerConnection, Socket<'_>> {
    fn read_until(&mut self, deadline: Instant) {
        self.sock.deadline = deadline;
    }
}
