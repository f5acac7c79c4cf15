//! An answer that is read line by line, as it comes.

use std::io::Read as _;
use std::time::{Duration, Instant};

use super::{Bounds, Http};
use crate::error::{Error, ErrorKind, Result};

/// How often a waiting [`Stream`] looks at the clock.
const FIRST_TICK: Duration = Duration::from_millis(100);

/// An answer that comes line by line. Dropping it closes the connection.
pub(crate) struct Stream {
    url: String,
    status: u16,
    body: ureq::BodyReader<'static>,
    unread: Vec<u8>,
}

impl Http {
    /// Posts JSON and reads the answer line by line, for as long as the server goes on with it.
    ///
    /// `bounds` hold until the answer begins. Errors are those of [`Http::post`].
    pub(crate) fn stream(
        &self,
        path: &str,
        body: &[u8],
        authorization: Option<&str>,
        bounds: Bounds,
    ) -> Result<Stream> {
        let deadline = Instant::now() + bounds.total;
        let mut tick = FIRST_TICK;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = self
                .post_request(path, body, authorization)
                .config()
                .timeout_connect(Some(bounds.connect.min(left)))
                .timeout_resolve(Some(left))
                .timeout_send_request(Some(left))
                .timeout_send_body(Some(left))
                .timeout_recv_response(Some(left))
                .timeout_per_read(Some(tick))
                .build();
            let mut unsent = body;
            match request.send(ureq::SendBody::from_reader(&mut unsent)) {
                Ok(answer) => {
                    return Ok(Stream {
                        url: format!("{}{path}", self.base),
                        status: answer.status().as_u16(),
                        body: answer.into_body().into_reader(),
                        unread: Vec::new(),
                    });
                }
                // The network is slower than the tick.
                Err(ureq::Error::Timeout(ureq::Timeout::PerRead)) if tick < left => tick *= 4,
                Err(error) => return Err(self.post_error(path, error, unsent)),
            }
        }
    }
}

impl Stream {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The next line, without its end; `None` if none came until `deadline`, which is overrun by
    /// a tenth of a second at most (on a network where a round trip takes longer: by more).
    ///
    /// An error means that the connection is gone, or the answer has come to its end.
    pub(crate) fn line(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.unread[searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                let rest = self.unread.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.unread.len();
            let mut buffer = [0; 16 * 1024];
            match self.body.read(&mut buffer) {
                Ok(0) if self.unread.is_empty() => return Err(self.ended("the answer ended")),
                Ok(0) => return Ok(Some(std::mem::take(&mut self.unread))),
                Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
                Err(error) => match ureq::Error::from(error) {
                    ureq::Error::Timeout(_) => {}
                    error => return Err(self.ended("the connection broke").with_source(error)),
                },
            }
            if Instant::now() >= deadline && !self.unread.contains(&b'\n') {
                return Ok(None);
            }
        }
    }

    fn ended(&self, how: &str) -> Error {
        Error::new(ErrorKind::Unavailable, format!("{}: {how}", self.url))
    }
}
