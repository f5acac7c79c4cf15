//! One connection: requests in, answers out, each wait with a deadline.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::message::{Framing, Request, Response, reason};
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
/// A chunk's size and extensions, or a trailer.
const MAX_CHUNK_LINE: usize = 8 * 1024;

pub(super) struct Connection<'a, W> {
    pub(super) wire: W,
    pub(super) seat: &'a Seat,
    pub(super) handler: &'a Handler,
    /// What was read and not used yet.
    pub(super) unread: Vec<u8>,
}

enum Failure {
    /// Answer with this status, then close.
    Refuse(u16),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What a socket's timeout is called depends on the system.
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Refuse(408),
            _ => Self::Io(error),
        }
    }
}

impl<W: Wire> Connection<'_, W> {
    /// Serves requests until the client closes the connection, or has to be refused.
    pub(super) fn serve(&mut self) -> io::Result<()> {
        loop {
            match self.serve_one() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Failure::Io(error)) => return Err(error),
                Err(Failure::Refuse(status)) => {
                    let refusal = Response::text(status, reason(status));
                    self.wire.write_all(&refusal.to_bytes(false, false))?;
                    return self.linger();
                }
            }
        }
    }

    /// Serves one request; says whether another one may follow.
    fn serve_one(&mut self) -> Result<bool, Failure> {
        let Some(request) = self.head()? else {
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
        self.wire.write_all(&bytes)?;
        if request.keep_alive && !stays {
            self.linger()?;
        }
        Ok(stays)
    }

    /// The next head; `None` if the connection ends before it.
    fn head(&mut self) -> Result<Option<Request>, Failure> {
        let idle_until = Instant::now() + IDLE;
        while self.unread.is_empty() {
            self.wire.read_until(idle_until);
            match self.fill() {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Ok(None),
                Err(error) => return Err(Failure::Io(error)),
            }
        }
        self.wire.read_until(Instant::now() + HEAD);
        loop {
            if let Some((length, head)) = Request::parse(&self.unread).map_err(Failure::Refuse)? {
                self.unread.drain(..length);
                return Ok(Some(head));
            }
            self.fill_more()?;
        }
    }

    /// The request's body; nothing of it where it is not wanted, but it is read all the same: until
    /// it is sent, most clients look for no answer.
    fn body(&mut self, request: &Request) -> Result<Vec<u8>, Failure> {
        let max = self.handler.max_body.map_or(u64::MAX, |max| max as u64);
        if matches!(request.framing, Framing::Sized(length) if length > max) {
            return Err(Failure::Refuse(413));
        }
        if request.expects_continue && request.framing != Framing::Sized(0) {
            self.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.wire.read_until(Instant::now() + BODY);
        match request.framing {
            Framing::Sized(length) => self.piece(length),
            Framing::Chunked => self.chunks(max),
        }
    }

    fn chunks(&mut self, max: u64) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let size = self.chunk_size()?;
            if size == 0 {
                // Trailers are read and forgotten.
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            if size > max - body.len() as u64 {
                return Err(Failure::Refuse(413));
            }
            body.extend(self.piece(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(Failure::Refuse(400));
            }
        }
    }

    /// So many bytes of the body; read, but not kept, where the body is not wanted.
    fn piece(&mut self, length: u64) -> Result<Vec<u8>, Failure> {
        if self.handler.max_body.is_some() {
            return self.take(length as usize);
        }
        let mut left = length;
        loop {
            let used = left.min(self.unread.len() as u64);
            self.unread.drain(..used as usize);
            left -= used;
            if left == 0 {
                return Ok(Vec::new());
            }
            self.fill_more()?;
        }
    }

    fn chunk_size(&mut self) -> Result<u64, Failure> {
        loop {
            match httparse::parse_chunk_size(&self.unread) {
                Ok(httparse::Status::Complete((length, size))) => {
                    let line: Vec<u8> = self.unread.drain(..length).collect();
                    // No digits are no end, and an extension has no second line.
                    if !line[0].is_ascii_hexdigit() || line[..length - 2].contains(&b'\n') {
                        return Err(Failure::Refuse(400));
                    }
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) if self.unread.len() < MAX_CHUNK_LINE => {
                    self.fill_more()?;
                }
                _ => return Err(Failure::Refuse(400)),
            }
        }
    }

    /// A line of the trailer, without its end.
    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(end)?;
                self.take(2)?;
                if line.contains(&b'\n') {
                    return Err(Failure::Refuse(400));
                }
                return Ok(line);
            }
            if self.unread.len() >= MAX_CHUNK_LINE {
                return Err(Failure::Refuse(431));
            }
            self.fill_more()?;
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.unread.len() < length {
            self.fill_more()?;
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    fn fill_more(&mut self) -> Result<(), Failure> {
        match self.fill()? {
            0 => Err(Failure::Io(ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 8 * 1024];
        let length = self.wire.read(&mut buffer)?;
        self.unread.extend_from_slice(&buffer[..length]);
        Ok(length)
    }

    /// A connection that is closed with unread bytes is reset, and the answer may be lost.
    fn linger(&mut self) -> io::Result<()> {
        self.wire.flush()?;
        self.seat.close_output()?;
        self.wire.read_until(Instant::now() + LINGER);
        let mut left = MAX_LINGER;
        let mut buffer = [0; 8 * 1024];
        while left > 0 {
            match self.wire.read(&mut buffer) {
                Ok(1..) => left = left.saturating_sub(buffer.len()),
                _ => break,
            }
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}
