//! Reading, putting and deleting keys.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::call::{Repeat, deadline_after};
use super::client::Client;
use super::wire::{self, Headed, Header, bytes, number};
use crate::error::{Error, ErrorKind, Result};

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct KeyValue {
    /// The key.
    #[serde(with = "bytes")]
    pub key: Vec<u8>,
    /// The value.
    #[serde(with = "bytes")]
    pub value: Vec<u8>,
    /// The revision at which the key was created: the first put since it was last absent.
    #[serde(with = "number")]
    pub create_revision: i64,
    /// The revision at which the key was last put, or deleted in a delete event.
    #[serde(with = "number")]
    pub mod_revision: i64,
    /// The number of puts since the key was created: 1 for a new key, 0 in a delete event.
    #[serde(with = "number")]
    pub version: i64,
    /// The lease whose end deletes the key, or 0.
    #[serde(with = "number")]
    pub lease: i64,
}

/// Which keys to read. They are returned in the order of their bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Range {
    #[serde(with = "bytes")]
    key: Vec<u8>,
    #[serde(with = "bytes", skip_serializing_if = "Vec::is_empty")]
    range_end: Vec<u8>,
    #[serde(with = "number", skip_serializing_if = "wire::is_zero")]
    limit: i64,
    #[serde(with = "number", skip_serializing_if = "wire::is_zero")]
    revision: i64,
    serializable: bool,
    count_only: bool,
}

impl Range {
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
            limit: 0,
            revision: 0,
            serializable: false,
            count_only: false,
        }
    }

    /// Reads at most this many keys. [`Kvs::more`] says whether there are more. Defaults to 0, which
    /// is no limit.
    pub fn limit(mut self, keys: u32) -> Self {
        self.limit = keys.into();
        self
    }

    /// Reads the keys as they were at this revision. Defaults to 0, which is the current one.
    pub fn revision(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// Lets the member answer from its own data, without asking the other members. The data may be
    /// old, but this also works if the cluster has no quorum. Defaults to `false`.
    pub fn serializable(mut self, serializable: bool) -> Self {
        self.serializable = serializable;
        self
    }

    /// Returns only the number of keys, in [`Kvs::count`]. Defaults to `false`.
    pub fn count_only(mut self, count_only: bool) -> Self {
        self.count_only = count_only;
        self
    }
}

/// The keys of a [`Range`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kvs {
    /// The keys, in the order of their bytes.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left out some keys.
    pub more: bool,
    /// The number of keys in the range, with those that the limit left out.
    pub count: i64,
    /// The store's revision at the time of the answer. A watch from the next revision on misses
    /// nothing.
    pub revision: i64,
}

/// The result of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// The number of deleted keys.
    pub deleted: i64,
    /// The store's revision after the deletion.
    pub revision: i64,
}

/// Keys in one request of [`Client::get_prefix`]. More keys cost more memory in etcd and here, fewer
/// keys cost more requests.
const PAGE_SIZE: u32 = 10_000;
/// All requests of [`Client::get_prefix`] together may take as long as so many, or else a server could keep it
/// forever.
const ALL_REQUESTS: u32 = 10;

impl Client {
    /// Reads one key. Returns `None` if it is absent.
    ///
    /// # Errors
    /// See [the module](super#errors).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyValue>> {
        Ok(self.range(&Range::key(key))?.kvs.pop())
    }

    /// Reads all keys that begin with `prefix`, as they were at one revision. Each request reads up
    /// to 10,000 keys.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Compacted`](crate::ErrorKind::Compacted) if etcd
    /// compacts that revision between two requests.
    pub fn get_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Kvs> {
        self.pages(Range::prefix(prefix), PAGE_SIZE)
    }

    fn pages(&self, range: Range, page: u32) -> Result<Kvs> {
        let limit = self.timeout.saturating_mul(ALL_REQUESTS);
        let deadline = deadline_after(limit);
        let mut range = range.limit(page);
        let mut all = self.range(&range)?;
        range.revision = all.revision;
        while all.more {
            if Instant::now() >= deadline {
                let message = format!("etcd's list of keys has no end after {limit:?}");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            let Some(last) = all.kvs.last() else { break };
            // The smallest key after `last`.
            range.key = [&last.key[..], b"\0"].concat();
            let next = self.range(&range)?;
            all.more = next.more;
            all.kvs.extend(next.kvs);
        }
        Ok(all)
    }

    /// Reads the keys of `range` with one request.
    ///
    /// # Errors
    /// See [the module](super#errors).
    pub fn range(&self, range: &Range) -> Result<Kvs> {
        let answer = self.ask::<RangeResponse>("/v3/kv/range", range, Repeat::Read)?;
        let revision = answer.value.header.revision;
        Ok(answer.value.into_kvs(revision))
    }

    /// Sets one key, and returns the store's new revision.
    ///
    /// # Errors
    /// See [the module](super#errors). If the answer is lost, the put is not sent again.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<i64> {
        let put = PutRequest::new(key.as_ref(), value.as_ref(), 0);
        let answer = self.ask::<Headed>("/v3/kv/put", &put, Repeat::Harmful)?;
        Ok(answer.value.header.revision)
    }

    /// Deletes one key. It is no error if the key is absent.
    ///
    /// # Errors
    /// See [the module](super#errors). If the answer is lost, the deletion is not sent again.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Deleted> {
        self.delete_range(&DeleteRequest::key(key.as_ref()))
    }

    /// Deletes all keys that begin with `prefix`. An empty prefix means all keys.
    ///
    /// # Errors
    /// See [the module](super#errors). If the answer is lost, the deletion is not sent again.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Deleted> {
        self.delete_range(&DeleteRequest::prefix(prefix.as_ref()))
    }

    fn delete_range(&self, request: &DeleteRequest) -> Result<Deleted> {
        let answer = self.ask::<DeleteResponse>("/v3/kv/deleterange", request, Repeat::Harmful)?;
        let DeleteResponse { header, deleted } = answer.value;
        Ok(Deleted {
            deleted,
            revision: header.revision,
        })
    }
}

/// The first key with this prefix, and the end of the range: the first key after all that have it.
///
/// The end is the prefix without trailing 0xff bytes, and with its last byte incremented. To etcd the
/// end `\0` means "no end". It accepts no empty first key.
pub(super) fn prefix_range(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key = if prefix.is_empty() {
        vec![0]
    } else {
        prefix.to_vec()
    };
    let kept = prefix
        .iter()
        .rposition(|&byte| byte != 0xff)
        .map_or(0, |last| last + 1);
    let mut end = prefix[..kept].to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    (key, end)
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct PutRequest {
    #[serde(with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(with = "bytes")]
    value: Vec<u8>,
    #[serde(with = "number", skip_serializing_if = "wire::is_zero")]
    lease: i64,
}

impl PutRequest {
    pub(super) fn new(key: &[u8], value: &[u8], lease: i64) -> Self {
        Self {
            key: key.to_vec(),
            value: value.to_vec(),
            lease,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct DeleteRequest {
    #[serde(with = "bytes")]
    key: Vec<u8>,
    #[serde(with = "bytes", skip_serializing_if = "Vec::is_empty")]
    range_end: Vec<u8>,
}

impl DeleteRequest {
    pub(super) fn key(key: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            range_end: Vec::new(),
        }
    }

    pub(super) fn prefix(prefix: &[u8]) -> Self {
        let (key, range_end) = prefix_range(prefix);
        Self { key, range_end }
    }

    pub(super) fn covers(&self, key: &[u8]) -> bool {
        match &self.range_end[..] {
            [] => self.key == key,
            [0] => *self.key <= *key,
            end => *self.key <= *key && key < end,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RangeResponse {
    header: Header,
    kvs: Vec<KeyValue>,
    more: bool,
    #[serde(with = "number")]
    count: i64,
}

impl RangeResponse {
    /// Inside a transaction, `revision` is the transaction's.
    pub(super) fn into_kvs(self, revision: i64) -> Kvs {
        Kvs {
            kvs: self.kvs,
            more: self.more,
            count: self.count,
            revision,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeleteResponse {
    header: Header,
    #[serde(with = "number")]
    pub(super) deleted: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_become_key_ranges() {
        for (prefix, key, end) in [
            (&b""[..], &b"\0"[..], &b"\0"[..]),
            (b"a", b"a", b"b"),
            (b"app/", b"app/", b"app0"),
            (b"a\xff", b"a\xff", b"b"),
            (b"a\xfe\xff\xff", b"a\xfe\xff\xff", b"a\xff"),
            (b"\xff\xff", b"\xff\xff", b"\0"),
            (b"\0", b"\0", b"\x01"),
        ] {
            assert_eq!(
                prefix_range(prefix),
                (key.to_vec(), end.to_vec()),
                "{prefix:?}"
            );
        }
    }

    #[test]
    fn deletion_covers_its_range() {
        for (request, key, covered) in [
            (DeleteRequest::key(b"a"), &b"a"[..], true),
            (DeleteRequest::key(b"a"), b"ab", false),
            (DeleteRequest::prefix(b"a"), b"ab", true),
            (DeleteRequest::prefix(b"a"), b"b", false),
            (DeleteRequest::prefix(b""), b"\xff\xff", true),
            (DeleteRequest::prefix(b"\xff"), b"a", false),
        ] {
            assert_eq!(request.covers(key), covered, "{request:?} {key:?}");
        }
    }
}
