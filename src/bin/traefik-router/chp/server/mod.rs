//! A small HTTP/1.1 server: a thread a connection, a limit on them, a bound on every wait and size.

mod connection;
mod message;
mod socket;
pub(crate) mod tls;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use self::message::{Request, Response, reason};
pub(crate) use self::socket::{Listener, Stream};

use self::connection::Connection;
use self::socket::Socket;

/// How long to wait where no connection can be accepted, as when there are no file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

type Answer = dyn Fn(&Request) -> Response + Send + Sync;

/// What answers requests.
pub(crate) struct Handler {
    answer: Box<Answer>,
    /// How long a body may be; `None` means as long as it likes, since nothing of it is
    /// kept.
    max_body: Option<usize>,
}

impl Handler {
    pub(crate) fn new(
        max_body: Option<usize>,
        answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self {
            answer: Box::new(answer),
            max_body,
        }
    }
}

/// Serves what connects, on threads that end with the program.
pub(crate) fn serve(
    listeners: Vec<Listener>,
    limit: usize,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: Handler,
) {
    let handler = Arc::new(handler);
    let seats = Arc::new(Seats::new(limit));
    for listener in listeners {
        let (handler, seats, tls) = (Arc::clone(&handler), Arc::clone(&seats), tls.clone());
        std::thread::spawn(move || {
            loop {
                let Ok(stream) = listener.accept() else {
                    std::thread::sleep(PAUSE);
                    continue;
                };
                let (handler, tls) = (Arc::clone(&handler), tls.clone());
                let stream = Arc::new(stream);
                let Some(seat) = Seats::take(&seats, stream) else {
                    continue;
                };
                let talk = move || {
                    if let Err(error) = converse(&seat, tls, &handler) {
                        log::debug!("a connection failed: {error}");
                    }
                };
                // Without a thread the connection is closed.
                if let Err(error) = std::thread::Builder::new().spawn(talk) {
                    log::warn!("no thread for a connection: {error}");
                }
            }
        });
    }
}

fn converse(
    seat: &Seat,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: &Handler,
) -> io::Result<()> {
    let socket = Socket::new(Arc::clone(&seat.stream));
    let unread = Vec::new();
    match tls {
        None => Connection {
            wire: socket,
            seat,
            handler,
            unread,
        }
        .serve(),
        Some(tls) => {
            let session = rustls::ServerConnection::new(tls).map_err(io::Error::other)?;
            let wire = rustls::StreamOwned::new(session, socket);
            let mut connection = Connection {
                wire,
                seat,
                handler,
                unread,
            };
            let served = connection.serve();
            connection.wire.conn.send_close_notify();
            connection
                .wire
                .conn
                .complete_io(&mut connection.wire.sock)
                .ok();
            served
        }
    }
}

/// The connections that are open, at most so many.
struct Seats {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by_number: HashMap<u64, Occupant>,
}

struct Occupant {
    stream: Arc<Stream>,
    /// Since when it waits for its client, to ask or to read; `None` while its request is answered.
    waiting_since: Option<Instant>,
}

/// A connection's place; free again when this is dropped.
struct Seat {
    seats: Arc<Seats>,
    number: u64,
    stream: Arc<Stream>,
}

impl Seats {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: Mutex::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection. If there is none left, the connection that has waited longest for
    /// its client is closed; if all are at work, there is no place.
    fn take(seats: &Arc<Self>, stream: Arc<Stream>) -> Option<Seat> {
        let mut taken = seats.taken();
        if taken.by_number.len() >= seats.limit {
            let waiting = taken.by_number.iter();
            let waiting = waiting.filter_map(|(number, one)| Some((one.waiting_since?, *number)));
            let (_, number) = waiting.min()?;
            if let Some(one) = taken.by_number.remove(&number) {
                // It may be closed already.
                one.stream.shutdown(Shutdown::Both).ok();
            }
        }
        let number = taken.next;
        taken.next += 1;
        let occupant = Occupant {
            stream: Arc::clone(&stream),
            waiting_since: Some(Instant::now()),
        };
        taken.by_number.insert(number, occupant);
        let seats = Arc::clone(seats);
        Some(Seat {
            seats,
            number,
            stream,
        })
    }
}

impl Seat {
    /// Keeps the place while a request is answered.
    fn at_work<T>(&self, answer: impl FnOnce() -> T) -> T {
        let set = |since| {
            if let Some(one) = self.seats.taken().by_number.get_mut(&self.number) {
                one.waiting_since = since;
            }
        };
        set(None);
        let answer = answer();
        set(Some(Instant::now()));
        answer
    }

    fn close_output(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    const LIMIT: usize = 4;
    /// More than sockets take on their way to a client that does not read.
    const LONG: usize = 32 << 20;

    fn start() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Handler::new(Some(1 << 20), |request| match request.path() {
            "/long" => Response::text(200, "x".repeat(LONG)),
            _ => Response::text(200, "short"),
        });
        serve(vec![Listener::Tcp(listener)], LIMIT, None, handler);
        address
    }

    fn begin(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    #[test]
    fn whoever_holds_connections_locks_nobody_out() {
        let address = start();
        for held in [
            "",
            "GET / HTTP/1.1\r\nHost:",
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1234",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n1234",
            "GET /long HTTP/1.1\r\n\r\n",
        ] {
            let held: Vec<_> = (0..3 * LIMIT).map(|_| begin(address, held)).collect();
            for _ in 0..3 {
                let request = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
                let mut stream = begin(address, request);
                // Less than the server waits for those who hold on.
                let patience = Duration::from_secs(8);
                stream.set_read_timeout(Some(patience)).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.ends_with("short"), "{answer:?}");
            }
            drop(held);
        }
    }
}
