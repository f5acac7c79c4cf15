//! Requests out of bytes: heads and bodies, however they arrive.

use std::io::{self, ErrorKind, Read};

use super::message::{Framing, Request};

/// A chunk's size and extensions, or a trailer.
const MAX_CHUNK_LINE: usize = 2 * 1024;

/// What is read from, and what was read and not used yet.
pub(super) struct Reader<W> {
    pub(super) wire: W,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Failure {
    /// Answer with this status, then close.
    Refuse(u16),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match is_timeout(&error) {
            true => Self::Refuse(408),
            false => Self::Io(error),
        }
    }
}

/// What a socket's timeout is called depends on the system.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

impl<W: Read> Reader<W> {
    pub(super) fn new(wire: W) -> Self {
        Self {
            wire,
            unread: Vec::new(),
        }
    }

    /// Whether a request has begun; waits for its first bytes, and for the connection's end.
    pub(super) fn begins(&mut self) -> io::Result<bool> {
        Ok(!self.unread.is_empty() || self.fill()? > 0)
    }

    /// The next request, without its body.
    pub(super) fn request(&mut self) -> Result<Request, Failure> {
        loop {
            if let Some((length, request)) =
                Request::parse(&self.unread).map_err(Failure::Refuse)?
            {
                self.unread.drain(..length);
                return Ok(request);
            }
            self.fill_more()?;
        }
    }

    /// The body that comes next, at most `max` bytes of it; without `max` it may be as long as it
    /// likes, for nothing of it is kept.
    pub(super) fn body(
        &mut self,
        framing: Framing,
        max: Option<usize>,
    ) -> Result<Vec<u8>, Failure> {
        match framing {
            Framing::Sized(length) => self.piece(length, max),
            Framing::Chunked => self.chunks(max),
        }
    }

    fn chunks(&mut self, max: Option<usize>) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let size = self.chunk_size()?;
            if size == 0 {
                // Trailers are read and forgotten.
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.piece(size, max.map(|max| max - body.len()))?);
            if self.take(2)? != b"\r\n" {
                return Err(Failure::Refuse(400));
            }
        }
    }

    /// So many bytes of the body; read, but not kept, where there is no `max`.
    fn piece(&mut self, length: u64, max: Option<usize>) -> Result<Vec<u8>, Failure> {
        if let Some(max) = max {
            let length = usize::try_from(length).ok().filter(|length| *length <= max);
            return self.take(length.ok_or(Failure::Refuse(413))?);
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
                    let has_digits = line[0].is_ascii_hexdigit();
                    if length > MAX_CHUNK_LINE || !has_digits || line[..length - 2].contains(&b'\n')
                    {
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
            let end = self.unread.windows(2).position(|two| two == b"\r\n");
            if let Some(end) = end.filter(|end| *end <= MAX_CHUNK_LINE - 2) {
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
}
