//! One connection: hyper reads its requests, and the handler answers them. Every wait has a bound.

use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::handler::Handler;
use super::limit::Permit;
use super::listener::Stream;
use super::message::{Request, Response, reason};

/// A longer head, in bytes, or one with more headers is refused with 431.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// The longest wait for a request's head to arrive, and for a TLS handshake.
const HEAD: Duration = Duration::from_secs(30);
/// The longest wait for its body.
const BODY: Duration = Duration::from_secs(30);
/// The longest wait until the client reads a piece of an answer.
const READ: Duration = Duration::from_secs(30);
/// How long, and how many bytes, are read and dropped after the last answer: closing a socket with unread
/// bytes resets the connection, and the client may lose the answer.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER: u64 = 4 << 20;

/// Serves what comes over a connection, with TLS or without.
pub(super) async fn serve(
    stream: Box<dyn Stream>,
    permit: Arc<Permit>,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: Arc<Handler>,
) {
    let stream = Watched {
        stream,
        permit: Arc::clone(&permit),
        stalled: None,
    };
    let Some(tls) = tls else {
        return converse(stream, permit, handler).await;
    };
    match timeout(HEAD, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, permit, handler).await,
        Ok(Err(error)) => log::debug!("a connection failed: {error}"),
        Err(_) => {}
    }
}

async fn converse(stream: impl Stream + 'static, permit: Arc<Permit>, handler: Arc<Handler>) {
    let service = service_fn(|request| {
        let (permit, handler) = (Arc::clone(&permit), Arc::clone(&handler));
        Box::pin(async move { answer(request, &permit, &handler).await })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let served = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let rest = connection.into_parts();
    let mut stream = rest.io.into_inner();
    if let Err(error) = served {
        // hyper sends nothing then. That is right only if no request has begun.
        if let Some(status) = status_of(&error).filter(|_| !rest.read_buf.is_empty()) {
            let answer = format!(
                "HTTP/1.1 {status} {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                reason(status)
            );
            stream.write_all(answer.as_bytes()).await.ok();
        }
        log::debug!("a connection failed: {error}");
    }
    linger(stream).await.ok();
}

/// The status for a head that came too slowly, or ended early.
fn status_of(error: &hyper::Error) -> Option<u16> {
    if error.is_timeout() {
        return Some(408);
    }
    error.is_incomplete_message().then_some(400)
}

/// Ends the answers, and drops what the client still sends for a while.
async fn linger(mut stream: impl Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = stream.take(MAX_LINGER);
    let mut nowhere = tokio::io::sink();
    let read_on = tokio::io::copy(&mut rest, &mut nowhere);
    timeout(LINGER, read_on).await.ok();
    Ok(())
}

async fn answer(
    request: hyper::Request<Incoming>,
    permit: &Permit,
    handler: &Arc<Handler>,
) -> io::Result<hyper::Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let request = Request::new(head);
    if !request.has_one_host() || !request.has_plain_body() {
        return Ok(Response::plain(400).into_hyper(true));
    }
    if let Some(refusal) = (handler.refuse)(&request) {
        let is_last = permit.has_waiters() || !body.is_end_stream();
        return Ok(refusal.into_hyper(is_last));
    }
    let body = match read(body, handler.max_body).await {
        Ok(body) => body,
        Err(status) => return Ok(Response::plain(status).into_hyper(true)),
    };
    if !permit.start_work() {
        return Err(io::Error::other("closed for another connection"));
    }
    let handler = Arc::clone(handler);
    let work = move || (handler.answer)(&request, &body);
    let answer = tokio::task::spawn_blocking(work).await;
    permit.end_work();
    Ok(answer
        .unwrap_or_else(|_| Response::plain(500))
        .into_hyper(permit.has_waiters()))
}

/// Reads the body. Without a bound its bytes are dropped: it is read because most clients send all of it
/// before they read an answer.
///
/// # Errors
/// The status to refuse it with.
async fn read(mut body: Incoming, max: Option<usize>) -> Result<Vec<u8>, u16> {
    let too_long = |length: u64| max.is_some_and(|max| length > max as u64);
    if too_long(body.size_hint().lower()) {
        return Err(413);
    }
    let mut bytes = Vec::new();
    let all = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| 400_u16)?.into_data() else {
                continue;
            };
            if too_long((bytes.len() + data.len()) as u64) {
                return Err(413_u16);
            }
            if max.is_some() {
                bytes.extend_from_slice(&data);
            }
        }
        Ok(())
    };
    timeout(BODY, all).await.map_err(|_| 408_u16)??;
    Ok(bytes)
}

/// Reports to the permit when the client sends or reads something. Fails when the client reads nothing of an
/// answer for [`READ`].
struct Watched {
    stream: Box<dyn Stream>,
    permit: Arc<Permit>,
    /// The end of the wait for the client to read.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.permit.received();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if polled.is_pending() {
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(READ)));
            return stalled
                .as_mut()
                .poll(context)
                .map(|()| Err(ErrorKind::TimedOut.into()));
        }
        self.stalled = None;
        if let Poll::Ready(Ok(1..)) = polled {
            self.permit.sent();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
