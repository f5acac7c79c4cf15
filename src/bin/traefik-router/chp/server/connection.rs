//! One connection: requests in, answers out, each wait with a deadline.

use std::io;
use std::time::{Duration, Instant};

use super::message::{Framing, Request, Response, reason};
use super::reader::{Failure, Reader, is_timeout};
use super::socket::Wire;
use super::{Handler, Seat};

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(75);
/// How long a request's head may take, once it has begun.
const HEAD: Duration = Duration::from_secs(10);
/// How long its body may take.
const BODY: Duration = Duration::from_secs(30);
/// How long, and how much, we read on after a refusal, so that the client can read it.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER: usize = 1 << 20;

pub(super) struct Connection<'a, W> {
    reader: Reader<W>,
    seat: &'a Seat,
    handler: &'a Handler,
}

impl<'a, W: Wire> Connection<'a, W> {
    pub(super) fn new(wire: W, seat: &'a Seat, handler: &'a Handler) -> Self {
        Self {
            reader: Reader::new(wire),
            seat,
            handler,
        }
    }

    pub(super) fn wire(&mut self) -> &mut W {
        &mut self.reader.wire
    }

    /// Serves requests until the client closes the connection, or has to be refused.
    pub(super) fn serve(&mut self) -> io::Result<()> {
        loop {
            match self.serve_one() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Failure::Io(error)) => return Err(error),
                Err(Failure::Refuse(status)) => {
                    let refusal = Response::text(status, reason(status));
                    self.wire().write_all(&refusal.to_bytes(false, false))?;
                    return self.linger();
                }
            }
        }
    }

    /// Serves one request; says whether another one may follow.
    fn serve_one(&mut self) -> Result<bool, Failure> {
        let Some(request) = self.request()? else {
            return Ok(false);
        };
        let refusal = (self.handler.refuse)(&request);
        let is_read = refusal.is_none() || request.framing == Framing::Sized(0);
        let answer = match refusal {
            Some(refusal) => refusal,
            None => (self.handler.answer)(&request, &self.body(&request)?),
        };
        // Whoever asks on and on makes room, too.
        let stays = request.keep_alive && is_read && !self.seat.is_wanted();
        let bytes = answer.to_bytes(stays, request.method == "HEAD");
        self.wire().write_all(&bytes)?;
        if !stays && (request.keep_alive || !is_read) {
            self.linger()?;
        }
        Ok(stays)
    }

    /// The next request; `None` if the connection ends before it.
    fn request(&mut self) -> Result<Option<Request>, Failure> {
        self.wire().read_until(Instant::now() + IDLE);
        match self.reader.begins() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if is_timeout(&error) => return Ok(None),
            Err(error) => return Err(Failure::Io(error)),
        }
        self.wire().read_until(Instant::now() + HEAD);
        self.reader.request().map(Some)
    }

    /// The request's body; nothing of it where it is not wanted, but it is read all the same: until
    /// it is sent, most clients look for no answer.
    fn body(&mut self, request: &Request) -> Result<Vec<u8>, Failure> {
        let max = self.handler.max_body;
        let is_too_long = |length: u64| max.is_some_and(|max| length > max as u64);
        match request.framing {
            Framing::Sized(length) if is_too_long(length) => return Err(Failure::Refuse(413)),
            Framing::Sized(0) => {}
            _ if request.expects_continue => {
                self.wire().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            _ => {}
        }
        self.wire().read_until(Instant::now() + BODY);
        self.reader.body(request.framing, max)
    }

    /// A connection that is closed with unread bytes is reset, and the answer may be lost.
    fn linger(&mut self) -> io::Result<()> {
        self.wire().flush()?;
        self.seat.close_output()?;
        self.wire().read_until(Instant::now() + LINGER);
        let mut left = MAX_LINGER;
        let mut buffer = [0; 8 * 1024];
        while left > 0 {
            match self.wire().read(&mut buffer) {
                Ok(1..) => left = left.saturating_sub(buffer.len()),
                _ => break,
            }
        }
        Ok(())
    }
}
