//! Watching keys.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::call::{Repeat, deadline_after};
use super::client::Client;
use super::exchange::to_json;
use super::fault::{Failure, Remedy};
use super::kv::{KeyValue, prefix_range};
use super::wire::{self, Header, bytes, number};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Bounds, Http, Stream};

const PATH: &str = "/v3/watch";

/// The pause before a stream is opened again right after the last one broke.
const PAUSE: Duration = Duration::from_millis(100);

/// Which keys to watch, and from which revision on.
#[derive(Clone, Debug, Serialize)]
pub struct WatchRange {
    #[serde(with = "bytes")]
    key: Vec<u8>,
    #[serde(with = "bytes", skip_serializing_if = "Vec::is_empty")]
    range_end: Vec<u8>,
    #[serde(with = "number", skip_serializing_if = "wire::is_zero")]
    start_revision: i64,
    /// Makes etcd send its revision from time to time. So the start revision follows the store even if
    /// no watched key changes, and is not compacted.
    progress_notify: bool,
}

impl WatchRange {
    /// One key.
    pub fn key(key: impl AsRef<[u8]>) -> Self {
        Self::of(key.as_ref().to_vec(), Vec::new())
    }

    /// All keys that begin with `prefix`. An empty prefix means all keys.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        let (key, range_end) = prefix_range(prefix.as_ref());
        Self::of(key, range_end)
    }

    fn of(key: Vec<u8>, range_end: Vec<u8>) -> Self {
        Self {
            key,
            range_end,
            start_revision: 0,
            progress_notify: true,
        }
    }

    /// The first revision to return events of. After a read, watch from the revision after the read's
    /// to miss nothing. Defaults to 0, which means from the next change on.
    pub fn from_revision(mut self, revision: i64) -> Self {
        self.start_revision = revision;
        self
    }
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The key was put.
    Put(KeyValue),
    /// The key was deleted, or its lease ended. Only `key` and `mod_revision` are set.
    Delete(KeyValue),
}

/// A running watch, made by [`Client::watch`]. Dropping it ends the watch in etcd too.
///
/// It returns each event once, in the order of the changes. If its endpoint fails, it continues with
/// another endpoint from the same revision.
///
/// It does not notice an endpoint that stops without closing the connection, as after a loss of
/// power: this looks as if nothing changes. If that matters, read the keys from time to time.
pub struct Watcher {
    client: Client,
    range: WatchRange,
    stream: Option<Stream>,
    /// The endpoint that was asked last, for messages.
    url: String,
    events: VecDeque<Event>,
}

impl Client {
    /// Begins to watch. Every change after this returns is seen.
    ///
    /// # Errors
    /// See [the module](super#errors). If `range` begins at a compacted revision, the first call of
    /// [`Watcher::next`] fails.
    pub fn watch(&self, range: WatchRange) -> Result<Watcher> {
        let mut watch = Watcher {
            client: self.clone(),
            range,
            stream: None,
            url: PATH.into(),
            events: VecDeque::new(),
        };
        watch.open()?;
        Ok(watch)
    }
}

impl Watcher {
    /// Returns the next event, or `None` if none came within `wait`. It may take a tenth of a second
    /// longer. If the watch has to go to another endpoint, it may also take the client's timeout
    /// longer.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Compacted`] if etcd no longer keeps the revision
    /// to continue from. Events are missing then: read the keys, and begin a new watch after the
    /// read's revision. After [`ErrorKind::Unavailable`] the next call continues, and no event is
    /// missing.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Event>> {
        let deadline = deadline_after(wait);
        let mut broken = false;
        while self.events.is_empty() {
            // Without a pause, an endpoint that accepts watches and drops them makes a busy loop.
            if std::mem::replace(&mut broken, self.stream.is_none()) {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(None);
                }
                std::thread::sleep(PAUSE.min(left));
            }
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => self.open()?,
            };
            match stream.line(deadline) {
                Ok(Some(line)) => self.read(&line)?,
                Ok(None) => return Ok(None),
                Err(error) => {
                    log::debug!("etcd watch continues with another endpoint: {error}");
                    self.stream = None;
                }
            }
        }
        Ok(self.events.pop_front())
    }

    /// The revision that the watch continues from if its endpoint fails. Events before it have been
    /// received, but [`next`](Self::next) may not have returned all of them yet.
    pub fn revision(&self) -> i64 {
        self.range.start_revision
    }

    fn open(&mut self) -> Result<&mut Stream> {
        let request = Create {
            create_request: &self.range,
        };
        let body = to_json(PATH, &request)?;
        let exchange =
            |http: &Http, token: Option<&str>, bounds: Bounds| open(http, &body, token, bounds);
        let (stream, revision) = self.client.call(Repeat::Read, exchange)?.value;
        if self.range.start_revision == 0 {
            self.range.start_revision = revision + 1;
        }
        self.url = stream.url().into();
        Ok(self.stream.insert(stream))
    }

    fn read(&mut self, line: &[u8]) -> Result<()> {
        let message = match parse(&self.url, line) {
            Ok(message) => message,
            Err(failure) => {
                self.stream = None;
                // `next` opens a stream to another endpoint if that may help.
                return match failure.remedy {
                    Remedy::GiveUp => Err(failure.described()),
                    _ => Ok(()),
                };
            }
        };
        if message.canceled {
            self.stream = None;
            return Err(self.canceled(&message).described());
        }
        // A message without events says up to which revision there were none.
        let seen = match message.events.last() {
            Some(event) => event.kv.mod_revision,
            None => message.header.revision,
        };
        self.range.start_revision = self.range.start_revision.max(seen + 1);
        self.events
            .extend(message.events.into_iter().map(Event::from));
        Ok(())
    }

    fn canceled(&self, message: &Message) -> Failure {
        let asked = self.range.start_revision;
        match message.compact_revision {
            0 => Failure::of(&self.url, 0, &message.cancel_reason),
            kept => Failure {
                error: Error::new(
                    ErrorKind::Compacted,
                    format!(
                        "{}: the watch continues from revision {asked} on, but etcd keeps only the \
                         events from the compact revision {kept} on: read the keys, and watch from there",
                        self.url
                    ),
                ),
                remedy: Remedy::GiveUp,
            },
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// Opens a stream, and waits until etcd confirms the watch. Returns the store's revision too.
fn open(
    http: &Http,
    body: &[u8],
    token: Option<&str>,
    bounds: Bounds,
) -> Result<(Stream, i64), Failure> {
    let url = format!("{}{PATH}", http.base());
    let deadline = Instant::now() + bounds.total;
    let mut stream = http.stream(PATH, body, token, bounds)?;
    let Some(line) = stream.line(deadline)? else {
        let message = format!("{url}: no answer within the timeout");
        return Err(Error::new(ErrorKind::Unavailable, message).into());
    };
    if stream.status() != 200 {
        return Err(Failure::read(&url, stream.status(), &line));
    }
    let message = parse(&url, &line)?;
    if message.canceled && message.compact_revision == 0 {
        let mut failure = Failure::of(&url, 0, &message.cancel_reason);
        // etcd 3.4 also answers this to a token that it has forgotten.
        if token.is_some() && message.cancel_reason.contains("permission denied") {
            failure.remedy = Remedy::Login;
        }
        return Err(failure);
    }
    Ok((stream, message.header.revision))
}

fn parse(url: &str, line: &[u8]) -> Result<Message, Failure> {
    match serde_json::from_slice(line) {
        Ok(Line {
            result: Some(message),
            ..
        }) => Ok(message),
        Ok(Line {
            error: Some(fault), ..
        }) => Err(Failure::of(url, fault.grpc_code, &fault.message)),
        _ => {
            let message = format!("{url}: a line of the answer is not JSON of etcd's gateway");
            let error = Error::new(ErrorKind::Protocol, message);
            Err(Failure {
                error,
                remedy: Remedy::GiveUp,
            })
        }
    }
}

#[derive(Serialize)]
struct Create<'a> {
    create_request: &'a WatchRange,
}

#[derive(Deserialize)]
struct Line {
    result: Option<Message>,
    error: Option<Fault>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault {
    grpc_code: i32,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    header: Header,
    canceled: bool,
    cancel_reason: String,
    #[serde(with = "number")]
    compact_revision: i64,
    events: Vec<WireEvent>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireEvent {
    /// Absent in a put.
    r#type: Type,
    kv: KeyValue,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Type {
    #[default]
    Put,
    Delete,
}

impl From<WireEvent> for Event {
    fn from(event: WireEvent) -> Self {
        match event.r#type {
            Type::Put => Self::Put(event.kv),
            Type::Delete => Self::Delete(event.kv),
        }
    }
}
