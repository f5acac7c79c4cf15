//! The HTTP/1.1 server of the REST API, the metrics and the pages: hyper, with a limit on connections, and a
//! bound on every wait and size.

mod connection;
mod handler;
mod limit;
mod listener;
mod message;
pub(crate) mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::task::AbortHandle;

pub(crate) use self::handler::Handler;
pub(crate) use self::limit::{ConnectionLimit, Permit, at_most};
pub(crate) use self::listener::{Listener, Stream};
pub(crate) use self::message::{Request, Response, reason};

/// The wait after a connection could not be accepted, as when there are no file descriptors left.
const RETRY: Duration = Duration::from_millis(10);
/// The runtime's threads, which carry bytes only.
const WORKERS: usize = 4;
/// The threads that answer requests. Permits keep them fewer: one server's must not wait for another's.
const MAX_ANSWERING: usize = 1 << 16;

/// Starts the threads of all servers and relays. They end with the program.
///
/// # Errors
/// If the system has no thread left.
pub(crate) fn threads() -> io::Result<Handle> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(MAX_ANSWERING)
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    // To drop it would be to wait for its threads.
    std::mem::forget(runtime);
    Ok(handle)
}

/// Answers the requests of every connection to these listeners, on other threads.
///
/// # Errors
/// If a listener can't be added to the runtime.
pub(crate) fn serve(
    threads: &Handle,
    listeners: Vec<Listener>,
    limit: usize,
    tls: Option<&Arc<rustls::ServerConfig>>,
    handler: Handler,
) -> io::Result<()> {
    let (handler, limit) = (Arc::new(handler), ConnectionLimit::new(at_most(limit)));
    for listener in listeners {
        let (handler, tls) = (Arc::clone(&handler), tls.cloned());
        accept(threads, listener, &limit, move |stream, permit| {
            connection::serve(stream, permit, tls.clone(), Arc::clone(&handler))
        })?;
    }
    Ok(())
}

/// Runs `serve` for each connection to a listener, once the connection has a permit. Aborting it closes the
/// listener, and leaves the connections open.
///
/// # Errors
/// If the listener can't be added to the runtime.
pub(crate) fn accept<F: Future<Output = ()> + Send>(
    threads: &Handle,
    listener: Listener,
    limit: &Arc<ConnectionLimit>,
    serve: impl Fn(Box<dyn Stream>, Arc<Permit>) -> F + Clone + Send + Sync + 'static,
) -> io::Result<AbortHandle> {
    let _runtime = threads.enter();
    let (listener, limit) = (listener.on_runtime()?, Arc::clone(limit));
    let accepting = threads.spawn(async move {
        loop {
            let Ok(stream) = listener.accept().await else {
                // It may be a matter of file descriptors.
                limit.close_idle();
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let (permit, serve) = (Arc::new(limit.acquire().await), serve.clone());
            tokio::spawn(async move {
                permit
                    .until_closed(serve(stream, Arc::clone(&permit)))
                    .await;
            });
        }
    });
    Ok(accepting.abort_handle())
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
        })
        .refusing(|request| (request.path() == "/refused").then(|| Response::text(403, "no")));
        let threads = threads().unwrap();
        serve(
            &threads,
            vec![Listener::Tcp(listener)],
            LIMIT,
            None,
            handler,
        )
        .unwrap();
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
    fn held_connections_lock_nobody_out() {
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
    fn busy_server_loses_no_answer() {
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
    fn endless_requests_lock_nobody_out() {
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
    fn refused_clients_lock_nobody_out() {
        let (address, _) = start();
        for _ in 0..LIMIT {
            let mut stream = begin(address, "");
            std::thread::spawn(move || {
                let refused = b"GET /refused HTTP/1.1\r\nHost: h\r\n\r\n";
                while stream.write_all(refused).is_ok() && stream.read(&mut [0; 1024]).is_ok() {
                    std::thread::sleep(Duration::from_millis(300));
                }
            });
        }
        for _ in 0..3 {
            is_answered(begin(address, SHORT), "short");
        }
    }

    #[test]
    fn client_reading_nothing_is_disconnected() {
        let (address, _) = start();
        let mut stream = begin(address, "GET /long HTTP/1.1\r\nHost: h\r\n\r\n");
        std::thread::sleep(Duration::from_secs(35));
        let patience = Duration::from_secs(8);
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut length = 0;
        let end = loop {
            match stream.read(&mut [0; 1 << 16]) {
                Ok(0) => break None,
                Ok(count) => length += count,
                Err(error) => break Some(error.kind()),
            }
        };
        assert!(length < LONG, "{length}");
        assert!(
            end.is_none_or(|kind| kind == io::ErrorKind::ConnectionReset),
            "{end:?}"
        );
    }

    #[test]
    fn longest_waiting_client_makes_room() {
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
    fn new_client_has_grace_period() {
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
    fn steady_reader_gets_whole_answer() {
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
