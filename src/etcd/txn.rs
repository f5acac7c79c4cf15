//! Transactions: compares, operations, and transactions inside transactions.

use serde::{Deserialize, Serialize};

use super::call::Repeat;
use super::client::Client;
use super::compare::{Compare, Is, Operand};
use super::kv::{DeleteRequest, DeleteResponse, Deleted, Kvs, PutRequest, Range, RangeResponse};
use super::wire::Header;
use crate::error::{Error, ErrorKind, Result, Stored};

/// A transaction. If all compares hold, etcd does one list of operations, and otherwise the other. All
/// operations of the list take effect at one revision, or none does.
///
/// ```
/// use traefik_router::etcd::{Compare, Is, Op, Txn};
///
/// let replace = Txn::new([Op::put("key", "new"), Op::delete("other")])
///     .when(Compare::mod_revision("key", Is::Equal, 42))
///     .or_else([Op::range(traefik_router::etcd::Range::key("key"))]);
/// ```
#[derive(Clone, Debug, Default, Serialize)]
pub struct Txn {
    compare: Vec<Compare>,
    pub(super) success: Vec<Op>,
    failure: Vec<Op>,
}

impl Txn {
    /// The operations to do. A key may be put only once, and not if another operation deletes it.
    pub fn new(ops: impl IntoIterator<Item = Op>) -> Self {
        Self {
            success: ops.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds a condition. A transaction without conditions always does its operations.
    pub fn when(mut self, compare: Compare) -> Self {
        self.compare.push(compare);
        self
    }

    /// The operations to do if a condition does not hold. Defaults to none.
    pub fn or_else(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.failure = ops.into_iter().collect();
        self
    }

    fn repeat(&self) -> Repeat {
        if self.only_reads() {
            Repeat::Read
        } else if self.failure.iter().all(Op::only_reads)
            && self
                .compare
                .iter()
                .any(|compare| fails_after(compare, &self.success))
        {
            Repeat::Guarded
        } else {
            Repeat::Harmful
        }
    }

    fn only_reads(&self) -> bool {
        self.success.iter().chain(&self.failure).all(Op::only_reads)
    }
}

/// Whether `compare` can never hold again once `ops` are done.
///
/// Revisions only grow, so a put or a deletion ends the revision that is compared. Revision 0, which
/// stands for an absent key, may come again, because another client may delete the key.
fn fails_after(compare: &Compare, ops: &[Op]) -> bool {
    match (compare.is, &compare.operand) {
        (Is::Equal, Operand::Mod { mod_revision: 1.. }) => {
            ops.iter().any(|op| op.surely_changes(&compare.key))
        }
        _ => false,
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Op(pub(super) Request);

#[derive(Clone, Debug, Serialize)]
pub(super) enum Request {
    #[serde(rename = "request_put")]
    Put(PutRequest),
    #[serde(rename = "request_delete_range")]
    Delete(DeleteRequest),
    #[serde(rename = "request_range")]
    Range(Range),
    #[serde(rename = "request_txn")]
    Txn(Txn),
}

impl Op {
    /// Sets a key.
    pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self::put_leased(key, value, 0)
    }

    /// Sets a key that etcd deletes when the lease ends.
    pub fn put_leased(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, lease: i64) -> Self {
        Self(Request::Put(PutRequest::new(
            key.as_ref(),
            value.as_ref(),
            lease,
        )))
    }

    /// Deletes a key.
    pub fn delete(key: impl AsRef<[u8]>) -> Self {
        Self(Request::Delete(DeleteRequest::key(key.as_ref())))
    }

    /// Deletes all keys that begin with `prefix`. An empty prefix means all keys.
    pub fn delete_prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self(Request::Delete(DeleteRequest::prefix(prefix.as_ref())))
    }

    /// Reads keys, with the changes of the operations before it in the list.
    pub fn range(range: Range) -> Self {
        Self(Request::Range(range))
    }

    /// A transaction inside another one. Its compares see the store as it was before the outermost
    /// transaction.
    pub fn txn(txn: Txn) -> Self {
        Self(Request::Txn(txn))
    }

    fn only_reads(&self) -> bool {
        match &self.0 {
            Request::Put(_) | Request::Delete(_) => false,
            Request::Range(_) => true,
            Request::Txn(txn) => txn.only_reads(),
        }
    }

    /// Whether it puts or deletes the key in any case. A nested transaction with compares may not.
    fn surely_changes(&self, key: &[u8]) -> bool {
        match &self.0 {
            Request::Put(put) => put.key == key,
            Request::Delete(delete) => delete.covers(key),
            Request::Range(_) => false,
            Request::Txn(txn) => {
                txn.compare.is_empty() && txn.success.iter().any(|op| op.surely_changes(key))
            }
        }
    }
}

/// The result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxnResult {
    /// Whether all compares held.
    pub succeeded: bool,
    /// One response for each operation of the list that was done.
    pub responses: Vec<Response>,
    /// The store's revision after the outermost transaction.
    pub revision: i64,
}

/// The response to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// A key was set.
    Put,
    /// Keys were deleted.
    Delete(Deleted),
    /// Keys were read.
    Range(Kvs),
    /// A nested transaction was done.
    Txn(TxnResult),
}

impl TxnResult {
    /// All responses, with those of nested transactions in place of these. For [`Txn::pack`] this is
    /// one response for each operation.
    pub fn flat(self) -> Vec<Response> {
        let flat = |response| match response {
            Response::Txn(txn) => txn.flat(),
            response => vec![response],
        };
        self.responses.into_iter().flat_map(flat).collect()
    }
}

impl Client {
    /// Does a transaction. If its compares don't hold, this is no error:
    /// [`succeeded`](TxnResult::succeeded) is false.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::TooLarge`] if there are more operations than etcd
    /// accepts. If an answer was lost, and the compares did not hold when the transaction was sent
    /// again, the error says [`Stored::Unknown`]: the first attempt may have been applied.
    pub fn txn(&self, txn: &Txn) -> Result<TxnResult> {
        let repeat = txn.repeat();
        let answer = self.ask::<TxnResponse>("/v3/kv/txn", txn, repeat)?;
        if answer.in_doubt && repeat == Repeat::Guarded && !answer.value.succeeded {
            let urls: Vec<_> = self.endpoints.urls().collect();
            let message = format!(
                "the answer to a transaction of etcd at {} was lost, and the compares did not hold when \
                 it was sent again. Either the first attempt was applied, or another client changed the \
                 keys: read the keys",
                urls.join(", ")
            );
            return Err(Error::new(ErrorKind::Unavailable, message).with_stored(Stored::Unknown));
        }
        let revision = answer.value.header.revision;
        Ok(answer.value.into_result(revision))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TxnResponse {
    header: Header,
    succeeded: bool,
    responses: Vec<OpResponse>,
}

#[derive(Debug, Deserialize)]
enum OpResponse {
    #[serde(rename = "response_put")]
    Put(serde::de::IgnoredAny),
    #[serde(rename = "response_delete_range")]
    Delete(DeleteResponse),
    #[serde(rename = "response_range")]
    Range(RangeResponse),
    #[serde(rename = "response_txn")]
    Txn(TxnResponse),
}

impl TxnResponse {
    fn into_result(self, revision: i64) -> TxnResult {
        let response = |response| match response {
            OpResponse::Put(_) => Response::Put,
            OpResponse::Delete(response) => Response::Delete(Deleted {
                deleted: response.deleted,
                revision,
            }),
            OpResponse::Range(response) => Response::Range(response.into_kvs(revision)),
            OpResponse::Txn(response) => Response::Txn(response.into_result(revision)),
        };
        let responses = self.responses.into_iter().map(response).collect();
        TxnResult {
            succeeded: self.succeeded,
            responses,
            revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_depends_on_guards() {
        let put = || Op::put("k", "v");
        let at = |revision| Compare::mod_revision("k", Is::Equal, revision);
        let pack = |n: u32| {
            Txn::pack(
                (0..n).map(|n| Op::put(n.to_string(), "")).chain([put()]),
                128,
            )
        };
        for (case, (txn, repeat)) in [
            (Txn::new([Op::range(Range::key("k"))]), Repeat::Read),
            (
                Txn::new([Op::txn(Txn::new([Op::range(Range::key("k"))]))]),
                Repeat::Read,
            ),
            (Txn::new([put()]), Repeat::Harmful),
            (Txn::new([put()]).when(at(5)), Repeat::Guarded),
            (Txn::new([Op::delete("k")]).when(at(5)), Repeat::Guarded),
            (
                Txn::new([Op::delete_prefix("")]).when(at(5)),
                Repeat::Guarded,
            ),
            (pack(300).expect("it fits").when(at(5)), Repeat::Guarded),
            (
                Txn::new([put()])
                    .when(at(5))
                    .or_else([Op::range(Range::key("k"))]),
                Repeat::Guarded,
            ),
            // The compare still holds after the change, or may hold again later.
            (Txn::new([put()]).when(at(0)), Repeat::Harmful),
            (
                Txn::new([Op::put("other", "")]).when(at(5)),
                Repeat::Harmful,
            ),
            (
                Txn::new([put()]).when(Compare::mod_revision("k", Is::Less, 5)),
                Repeat::Harmful,
            ),
            (
                Txn::new([put()]).when(Compare::value("k", Is::Equal, "o")),
                Repeat::Harmful,
            ),
            // A nested compare may have kept the change from being made.
            (
                Txn::new([Op::txn(Txn::new([put()]).when(at(5)))]).when(at(5)),
                Repeat::Harmful,
            ),
            // The second attempt would do the other list.
            (
                Txn::new([put()]).when(at(5)).or_else([Op::delete("x")]),
                Repeat::Harmful,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(txn.repeat(), repeat, "case {case}");
        }
    }

    #[test]
    fn json_follows_the_gateway() {
        let txn = Txn::new([Op::put_leased("k", "v", 7), Op::delete("d")])
            .when(Compare::mod_revision("k", Is::NotEqual, 0))
            .when(Compare::value("k", Is::Less, [0xff]));
        let json = serde_json::to_value(&txn).expect("it is JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "compare": [
                    {"target": "MOD", "result": "NOT_EQUAL", "key": "aw==", "mod_revision": "0"},
                    {"target": "VALUE", "result": "LESS", "key": "aw==", "value": "/w=="},
                ],
                "success": [
                    {"request_put": {"key": "aw==", "value": "dg==", "lease": "7"}},
                    {"request_delete_range": {"key": "ZA=="}},
                ],
                "failure": [],
            })
        );
    }
}
