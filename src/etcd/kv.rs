//! Reading, putting and deleting keys.

use serde::{Deserialize, Serialize};

use super::call::Repeat;
use super::client::Client;
use super::wire::{self, Headed, Header, bytes, number};
use crate::error::Result;

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct KeyValue {
    /// The key.
    #[serde(with = "bytes")]
    pub key: Vec<u8>,
    /// The value; empty also where only keys were asked for.
    #[serde(with = "bytes")]
    pub value: Vec<u8>,
    /// The revision at which the key was put for the first time since it was last absent.
    #[serde(with = "number")]
    pub create_revision: i64,
    /// The revision at which the key was last put, or deleted in a delete event.
    #[serde(with = "number")]
    pub mod_revision: i64,
    /// How often it was put since it was last absent: 1 for a new key, 0 in a delete event.
    #[serde(with = "number")]
    pub version: i64,
    /// The lease that the key ends with, or 0.
    #[serde(with = "number")]
    pub lease: i64,
}

/// A question for keys. The answer comes in the order of the keys' bytes.
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

    /// All keys that begin with `prefix`; with an empty one, all keys.
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

    /// At most this many keys; [`Kvs::more`] tells whether there are others.
    /// Defaults to 0, which is no limit.
    pub fn limit(mut self, keys: u32) -> Self {
        self.limit = keys.into();
        self
    }

    /// The keys as they were at this revision. Defaults to 0, which is now.
    pub fn revision(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// Lets the asked member answer from what it knows, which may be old, without asking the
    /// others. Works also where the cluster has no majority. Defaults to `false`.
    pub fn serializable(mut self, serializable: bool) -> Self {
        self.serializable = serializable;
        self
    }

    /// Leaves out the keys, and only counts them. Defaults to `false`.
    pub fn count_only(mut self, count_only: bool) -> Self {
        self.count_only = count_only;
        self
    }
}

/// The keys that a [`Range`] asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kvs {
    /// The keys, in the order of their bytes.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left some out.
    pub more: bool,
    /// How many there are, those left out included.
    pub count: i64,
    /// The store's revision when it answered. Watch from the next one to miss nothing.
    pub revision: i64,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// How many keys there were.
    pub deleted: i64,
    /// The store's revision afterwards.
    pub revision: i64,
}

/// Keys a page of [`Client::get_prefix`]: large enough to cost little, small enough for memory.
const PAGE: u32 = 10_000;

impl Client {
    /// One key, or `None` where it is absent.
    ///
    /// # Errors
    /// See [the module](super#errors).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyValue>> {
        Ok(self.range(&Range::key(key))?.kvs.pop())
    }

    /// All keys that begin with `prefix`, as they were at one revision, in pages of 10,000.
    ///
    /// # Errors
    /// See [the module](super#errors).
    /// [`ErrorKind::Compacted`](crate::ErrorKind::Compacted) where etcd compacts between two pages.
    pub fn get_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Kvs> {
        self.pages(Range::prefix(prefix), PAGE)
    }

    fn pages(&self, range: Range, page: u32) -> Result<Kvs> {
        let mut range = range.limit(page);
        let mut all = self.range(&range)?;
        range.revision = all.revision;
        while all.more {
            let Some(last) = all.kvs.last() else { break };
            // The least key after `last`.
            range.key = [&last.key[..], b"\0"].concat();
            let next = self.range(&range)?;
            all.more = next.more;
            all.kvs.extend(next.kvs);
        }
        Ok(all)
    }

    /// The keys that `range` asks for, in one answer.
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
    /// See [the module](super#errors). A put is never repeated once it was sent.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<i64> {
        let put = PutRequest::new(key.as_ref(), value.as_ref(), 0);
        let answer = self.ask::<Headed>("/v3/kv/put", &put, Repeat::Harmful)?;
        Ok(answer.value.header.revision)
    }

    /// Deletes one key. That it was absent is not an error.
    ///
    /// # Errors
    /// See [the module](super#errors). A deletion is never repeated once it was sent.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Deleted> {
        self.delete_range(&DeleteRequest::key(key.as_ref()))
    }

    /// Deletes all keys that begin with `prefix`; with an empty one, all keys.
    ///
    /// # Errors
    /// See [the module](super#errors). A deletion is never repeated once it was sent.
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

/// The first key with this prefix, and the first one after those with it.
///
/// The end is the prefix with its last byte incremented, after dropping bytes that can't be. etcd
/// reads the end `\0` as "no end", and takes no empty first key.
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
    /// Inside a transaction the header is the transaction's.
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
    fn prefixes() {
        for (prefix, key, end) in [
            (&b""[..], &b"\0"[..], &b"\0"[..]),
            (b"a", b"a", b"b"),
            (b"traefik/", b"traefik/", b"traefik0"),
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
    fn what_a_deletion_covers() {
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
