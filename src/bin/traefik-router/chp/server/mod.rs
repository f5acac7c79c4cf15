//! A small HTTP/1.1 server: a thread a connection, a limit on them, a bound on every wait and size.

mod connection;
mod message;
mod reader;
mod socket;
pub(crate) mod tls;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use self::message::{Request, Response, reason};
pub(crate) use self::socket::{Listener, Stream, at_most};

use self::connection::Connection;
use self::socket::Socket;

/// How long to wait where no connection can be accepted, as when there are no file descriptors.
const PAUSE: Duration = Duration::from_millis(10);

type Refuse = dyn Fn(&Request) -> Option<Response> + Send + Sync;
type Answer = dyn Fn(&Request, &[u8]) -> Response + Send + Sync;

/// What answers requests.
pub(crate) struct Handler {
    refuse: Box<Refuse>,
    answer: Box<Answer>,
    /// How long a body may be; `None` means as long as it likes, since nothing of it is
    /// kept.
    max_body: Option<usize>,
}

impl Handler {
    pub(crate) fn new(
        max_body: Option<usize>,
        answer: impl Fn(&Request, &[u8]) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self {
            refuse: Box::new(|_| None),
            answer: Box::new(answer),
            max_body,
        }
    }

    /// Refuses requests before their bodies are read, so that nobody's need be kept who may not ask.
    pub(crate) fn refusing(
        mut self,
        refuse: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        self.refuse = Box::new(refuse);
        self
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
    let seats = Arc::new(Seats::new(at_most(limit)));
    for listener in listeners {
        let (handler, seats, tls) = (Arc::clone(&handler), Arc::clone(&seats), tls.clone());
        std::thread::spawn(move || {
            loop {
                let Ok(stream) = listener.accept() else {
                    // It may be a matter of file descriptors.
                    seats.taken().close_one().ok();
                    std::thread::sleep(PAUSE);
                    continue;
                };
                let (handler, tls) = (Arc::clone(&handler), tls.clone());
                let seat = Seats::take(&seats, Arc::new(stream));
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
    let socket = Socket::new(seat);
    let Some(tls) = tls else {
        return Connection::new(socket, seat, handler).serve();
    };
    let session = rustls::ServerConnection::new(tls).map_err(io::Error::other)?;
    let wire = rustls::StreamOwned::new(session, socket);
    let mut connection = Connection::new(wire, seat, handler);
    let served = connection.serve();
    let wire = connection.wire();
    wire.conn.send_close_notify();
    wire.conn.complete_io(&mut wire.sock).ok();
    served
}

/// The connections that are open, at most so many.
struct Seats {
    limit: usize,
    taken: Mutex<Taken>,
    /// Told when one is free, or its occupant waits for its client.
    changed: Condvar,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// How many connections wait for a place.
    wanted: usize,
    by_number: HashMap<u64, Occupant>,
}

struct Occupant {
    stream: Arc<Stream>,
    /// From when on it may be closed for another one, since it waits for its client, to ask or to
    /// read; `None` while it does not.
    may_go: Option<Instant>,
}

/// A connection's place; free again when this is dropped.
struct Seat {
    seats: Arc<Seats>,
    number: u64,
    stream: Arc<Stream>,
    taken_at: Instant,
}

impl Seats {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection. If there is none left, the connection that has waited longest for
    /// its client is closed; if none waits, this waits until one does.
    fn take(seats: &Arc<Self>, stream: Arc<Stream>) -> Seat {
        let mut taken = seats.taken();
        taken.wanted += 1;
        while taken.by_number.len() >= seats.limit {
            if let Err(left) = taken.close_one() {
                let waited = seats.changed.wait_timeout(taken, left);
                taken = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        taken.wanted -= 1;
        let number = taken.next;
        taken.next += 1;
        let occupant = Occupant {
            stream: Arc::clone(&stream),
            may_go: None,
        };
        taken.by_number.insert(number, occupant);
        let seats = Arc::clone(seats);
        Seat {
            seats,
            number,
            stream,
            taken_at: Instant::now(),
        }
    }
}

impl Taken {
    /// Closes the connection that has waited longest for its client; the error is how long no other
    /// one may be closed.
    fn close_one(&mut self) -> Result<(), Duration> {
        let waiting = self.by_number.iter();
        let waiting = waiting.filter_map(|(number, one)| Some((one.may_go?, *number)));
        let (may_go, number) = waiting.min().ok_or(Duration::MAX)?;
        let left = may_go.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Err(left);
        }
        if let Some(one) = self.by_number.remove(&number) {
            // It may be closed already.
            one.stream.shutdown(Shutdown::Both).ok();
        }
        Ok(())
    }
}

impl Seat {
    /// Waits for the client; the place may go to another one from then on.
    ///
    /// # Errors
    /// If it has gone; and as `wait`.
    fn waiting<T>(&self, may_go: Instant, wait: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let set = |may_go| {
            let mut taken = self.seats.taken();
            let one = taken.by_number.get_mut(&self.number);
            one.ok_or(io::ErrorKind::ConnectionAborted)?.may_go = may_go;
            self.seats.changed.notify_all();
            io::Result::Ok(())
        };
        set(Some(may_go))?;
        let waited = wait();
        set(None)?;
        waited
    }

    /// Whether another connection waits for a place.
    fn is_wanted(&self) -> bool {
        self.seats.taken().wanted > 0
    }

    fn close_output(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().by_number.remove(&self.number);
        self.seats.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    const LIMIT: usize = 4;
    /// More than sockets take on their way to a client that does not read.
    const LONG: usize = 32 << 20;

    /// A server, and how many requests for `/slow` it has begun to answer.
    fn start() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let handler = Handler::new(Some(1 << 20), move |request, _| match request.path() {
            "/long" => Response::text(200, "x".repeat(LONG)),
            "/slow" => {
                count.fetch_add(1, SeqCst);
                std::thread::sleep(Duration::from_millis(500));
                Response::text(200, "slow")
            }
            _ => Response::text(200, "short"),
        });
        serve(vec![Listener::Tcp(listener)], LIMIT, None, handler);
        (address, begun)
    }

    fn begin(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    #[track_caller]
    fn is_answered(mut stream: TcpStream, end: &str) {
        // Less than the server waits for those who hold on.
        let patience = Duration::from_secs(8);
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(end), "{answer:?}");
    }

    /// So many connections whose requests are being answered.
    fn put_to_work(address: SocketAddr, begun: &AtomicUsize, count: usize) -> Vec<TcpStream> {
        let slow = "GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let one = |number| {
            let stream = begin(address, slow);
            while begun.load(SeqCst) < number {
                std::thread::yield_now();
            }
            stream
        };
        (1..=count).map(one).collect()
    }

    const SHORT: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

    #[test]
    fn whoever_holds_connections_locks_nobody_out() {
        let (address, _) = start();
        for held in [
            "",
            "GET / HTTP/1.1\r\nHost:",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1234",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n1234",
            "GET /long HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            let held: Vec<_> = (0..3 * LIMIT).map(|_| begin(address, held)).collect();
            for _ in 0..3 {
                is_answered(begin(address, SHORT), "short");
            }
            drop(held);
        }
    }

    #[test]
    fn while_all_are_at_work_others_wait_and_no_answer_is_lost() {
        let (address, begun) = start();
        let at_work = put_to_work(address, &begun, LIMIT);
        let later: Vec<_> = (0..2 * LIMIT).map(|_| begin(address, SHORT)).collect();
        at_work
            .into_iter()
            .for_each(|stream| is_answered(stream, "slow"));
        later
            .into_iter()
            .for_each(|stream| is_answered(stream, "short"));
    }

    #[test]
    fn who_asks_on_and_on_locks_nobody_out() {
        let (address, _) = start();
        let batch = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
        for _ in 0..LIMIT {
            let mut stream = begin(address, &batch);
            let mut answers = stream.try_clone().unwrap();
            let batch = batch.clone();
            std::thread::spawn(move || while stream.write_all(batch.as_bytes()).is_ok() {});
            std::thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
        }
        for _ in 0..3 {
            is_answered(begin(address, SHORT), "short");
        }
    }

    #[test]
    fn who_has_waited_longest_makes_room() {
        let (address, _) = start();
        let wait = |_| {
            let mut stream = begin(address, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            let patience = Duration::from_secs(8);
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"short") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.extend(byte);
            }
            // Until its thread waits again.
            std::thread::sleep(Duration::from_millis(100));
            stream
        };
        let mut waiting: Vec<_> = (0..LIMIT).map(wait).collect();
        is_answered(begin(address, SHORT), "short");
        let mut first = waiting.remove(0);
        assert_eq!(first.read(&mut [0]).unwrap(), 0);
        for mut stream in waiting {
            stream.write_all(SHORT.as_bytes()).unwrap();
            is_answered(stream, "short");
        }
    }

    #[test]
    fn who_has_just_come_has_a_moment_to_ask() {
        let (address, begun) = start();
        let at_work = put_to_work(address, &begun, LIMIT - 1);
        let newcomers: Vec<_> = (0..LIMIT).map(|_| begin(address, "")).collect();
        std::thread::sleep(Duration::from_millis(10));
        for mut newcomer in newcomers {
            newcomer.write_all(SHORT.as_bytes()).unwrap();
            is_answered(newcomer, "short");
        }
        at_work
            .into_iter()
            .for_each(|stream| is_answered(stream, "slow"));
    }

    #[test]
    fn who_reads_on_gets_the_whole_of_a_long_answer() {
        let (address, _) = start();
        let long = "GET /long HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let mut reader = begin(address, long);
        std::thread::scope(|scope| {
            // Others want its place all the time.
            let others = scope.spawn(|| {
                let come = |_| {
                    std::thread::sleep(Duration::from_millis(100));
                    begin(address, "")
                };
                drop((0..30).map(come).collect::<Vec<_>>());
            });
            let (mut length, mut piece) = (0, vec![0; LONG / 64]);
            while let count @ 1.. = reader.read(&mut piece).unwrap() {
                length += count;
                std::thread::sleep(Duration::from_millis(40));
            }
            assert!(length > LONG, "{length}");
            others.join().unwrap();
        });
    }
}
