//! Transactions: compares, operations, and transactions inside transactions.

use serde::{Deserialize, Serialize};

use super::call::Repeat;
use super::client::Client;
use super::compare::{Compare, Is, Operand};
use super::kv::{DeleteRequest, DeleteResponse, Deleted, Kvs, PutRequest, Range, RangeResponse};
use super::wire::Header;
use crate::error::{Error, ErrorKind, Result, Stored};

/// A transaction: if all compares hold, one list of operations is done, else the other; the whole
/// at one revision, or not at all.
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
    /// Does these operations. One key may be put only once, and not within a deleted range.
    pub fn new(ops: impl IntoIterator<Item = Op>) -> Self {
        Self {
            success: ops.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds a condition. Without any, the operations are always done.
    pub fn when(mut self, compare: Compare) -> Self {
        self.compare.push(compare);
        self
    }

    /// The operations for when a condition does not hold. Defaults to none.
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
/// Revisions only grow: a put or a deletion ends the revision that is compared. Revision 0, which
/// stands for an absent key, may come again, because another client may delete the key.
fn fails_after(compare: &Compare, ops: &[Op]) -> bool {
    let changes_key = |request: &Request| match request {
        Request::Put(put) => put.key == compare.key,
        Request::Delete(delete) => delete.covers(&compare.key),
        _ => false,
    };
    let ends_revision = matches!(
        (compare.is, &compare.operand),
        (Is::Equal, Operand::Mod { mod_revision: 1.. })
    );
    ends_revision && ops.iter().any(|op| op.surely(&changes_key))
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

    /// Sets a key that is deleted when the lease ends.
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

    /// Deletes all keys that begin with `prefix`; with an empty one, all keys.
    pub fn delete_prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self(Request::Delete(DeleteRequest::prefix(prefix.as_ref())))
    }

    /// Reads keys. It sees what the operations before it in the list did.
    pub fn range(range: Range) -> Self {
        Self(Request::Range(range))
    }

    /// A transaction inside this one. Its compares see the store as it was before all of it.
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

    /// Whether it is sure to do something that `wanted` says of a put or a deletion.
    fn surely(&self, wanted: &impl Fn(&Request) -> bool) -> bool {
        match &self.0 {
            Request::Txn(txn) => {
                txn.compare.is_empty() && txn.success.iter().any(|op| op.surely(wanted))
            }
            request => wanted(request),
        }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxnResult {
    /// Whether all compares held.
    pub succeeded: bool,
    /// A response for each operation of the list that was done.
    pub responses: Vec<Response>,
    /// The store's revision afterwards. In a nested transaction: the outermost one's.
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
    /// The responses with those of nested transactions in their place: for a transaction made by
    /// [`Txn::pack`], one for each operation.
    pub fn flat(self) -> Vec<Response> {
        let flat = |response| match response {
            Response::Txn(txn) => txn.flat(),
            response => vec![response],
        };
        self.responses.into_iter().flat_map(flat).collect()
    }
}

impl Client {
    /// Does a transaction. That its compares did not hold is not an error: look at `succeeded`.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::TooLarge`] for more operations than etcd
    /// takes. Where an answer was lost, the transaction sent again, and its compares then did not
    /// hold, the error says [`Stored::Unknown`]: the first one may be what they ran into.
    pub fn txn(&self, txn: &Txn) -> Result<TxnResult> {
        let repeat = txn.repeat();
        let answer = self.ask::<TxnResponse>("/v3/kv/txn", txn, repeat)?;
        if answer.in_doubt && repeat == Repeat::Guarded && !answer.value.succeeded {
            let urls: Vec<_> = self.endpoints.urls().collect();
            let message = format!(
                "transaction at {}: the answer to it was lost; sent again, its compares did not \
                 hold, either because it had been applied or because of others: read the keys",
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
    fn what_may_be_sent_again() {
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
            // The compare survives the change, or may come true again.
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
            // A change that only a nested compare lets through may not have been made.
            (
                Txn::new([Op::txn(Txn::new([put()]).when(at(5)))]).when(at(5)),
                Repeat::Harmful,
            ),
            // The second time, the other list would be done.
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
    fn the_gateways_json() {
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
