//! Where connections come in: ports and Unix sockets.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};

/// How many connections may wait to be accepted; the system may have a lower limit.
const BACKLOG: i32 = 4096;

/// One that is bound: what connects waits until it is accepted.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
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
        let is_taken = |error: &io::Error| error.kind() == ErrorKind::AddrInUse;
        let listener = match UnixListener::bind(path) {
            Err(error) if is_taken(&error) && !std::fs::metadata(path)?.file_type().is_socket() => {
                return Err(io::Error::other(
                    "there is a file of this name that is not a socket; remove it, or give another name",
                ));
            }
            Err(error) if is_taken(&error) && UnixStream::connect(path).is_err() => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            other => other,
        };
        Ok(Self::Unix(listener?))
    }

    /// Has the runtime accept what connects.
    pub(super) fn on_runtime(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Accepting::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Accepting::Unix(tokio::net::UnixListener::from_std(listener)?)
            }
        })
    }
}

/// A listener on the runtime.
pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Accepting {
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Lets more connections wait to be accepted: one that comes when there is no room is tried again
/// by the client's system only after a second.
fn with_room(listener: TcpListener) -> io::Result<TcpListener> {
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let listening = Listener::unix(&path).unwrap();
        assert!(Listener::unix(&path).is_err());
        drop(listening);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a user's").unwrap();
        let error = Listener::unix(&path).err().unwrap();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"a user's");
    }
}
