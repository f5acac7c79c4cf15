//! A blocking client of etcd's v3 API, over the HTTP/JSON gateway that etcd 3.4 and later serve on
//! their client port. It can be used on its own.
//!
//! ```no_run
//! use std::time::Duration;
//! use traefik_router::etcd::{Client, Compare, Event, Is, Op, Txn, WatchRange};
//!
//! # fn main() -> traefik_router::Result<()> {
//! let client = Client::new(["http://10.0.0.1:2379", "http://10.0.0.2:2379"])?
//!     .user("proxy", "secret")
//!     .timeout(Duration::from_secs(5));
//!
//! client.put("greeting", "hello")?;
//! let found = client.get("greeting")?.expect("it was put above");
//! assert_eq!(found.value, b"hello");
//!
//! // Replace it, unless another client has changed it in the meantime.
//! let replace = Txn::new([Op::put("greeting", "good morning")])
//!     .when(Compare::mod_revision("greeting", Is::Equal, found.mod_revision));
//! if !client.txn(&replace)?.succeeded {
//!     println!("another client changed it first");
//! }
//!
//! // Read all keys below a prefix, and then watch them for changes.
//! let tree = client.get_prefix("app/")?;
//! let mut watch = client.watch(WatchRange::prefix("app/").from_revision(tree.revision + 1))?;
//! while let Some(event) = watch.next(Duration::from_secs(60))? {
//!     match event {
//!         Event::Put(kv) => println!("put {:?}", kv.key),
//!         Event::Delete(kv) => println!("deleted {:?}", kv.key),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Keys, values, revisions
//! Keys and values are bytes. Each change gives the whole store a new revision. A key holds the
//! revisions at which it was created and last changed. A transaction can compare the latter, so that
//! it changes a key only if no other client has changed it since.
//!
//! # Large changes
//! By default, etcd accepts 128 operations in a transaction and 1.5 MiB in a request. [`Txn::pack`]
//! nests transactions, so that thousands of operations are one atomic step.
//!
//! # Several endpoints, and retries
//! All endpoints are members of one cluster. A call goes to the endpoint that answered last, and to
//! the next one if that fails. A request is sent again only if this can't apply a change twice:
//!
//! - it was not sent in full,
//! - etcd answered that it did not start on it,
//! - it only reads, or
//! - one of its compares can't hold a second time.
//!
//! Otherwise the error says [`Stored::Unknown`](crate::Stored::Unknown).
//!
//! # Errors
//! Each message begins with what happened. It holds the endpoint's URL, etcd's own message and, where it
//! is known, what to do. Every call can fail with these kinds. A function's documentation adds to them.
//!
//! - [`Unavailable`](crate::ErrorKind::Unavailable): no endpoint answered within the timeout, or
//!   the cluster has no leader. [`Error::stored`](crate::Error::stored) says whether a change may
//!   have been applied.
//! - [`Unauthorized`](crate::ErrorKind::Unauthorized): a wrong password, a missing permission, a
//!   user where etcd has authentication off, no user where it is on, or a certificate that one side
//!   does not trust.
//! - [`TooLarge`](crate::ErrorKind::TooLarge): too many operations or bytes at once.
//! - [`Compacted`](crate::ErrorKind::Compacted): etcd no longer keeps the revision.
//! - [`Store`](crate::ErrorKind::Store): etcd refused for another reason, such as a full disk.
//! - [`Protocol`](crate::ErrorKind::Protocol): the server that answers is not etcd's gateway, or it
//!   speaks TLS and the URL begins with `http:`, or the other way round.
//!
//! # What it does not do
//! - It does not renew leases by itself, and does not balance load.
//! - It reads no environment variables.
//! - It starts no thread that outlives a call. A host name is resolved in a thread, so that the lookup
//!   ends at the timeout too.
//! - It does not log in by client certificate: etcd's gateway does not support that. With TLS it can
//!   use a client certificate that has no Common Name.

mod auth;
mod call;
mod client;
mod cluster;
mod compare;
mod endpoints;
mod exchange;
mod fault;
mod kv;
mod lease;
mod pack;
mod txn;
mod watch;
mod wire;

pub use client::Client;
pub use cluster::MemberStatus;
pub use compare::{Compare, Is};
pub(crate) use endpoints::Identity;
pub use kv::{Deleted, KeyValue, Kvs, Range};
pub use lease::Lease;
pub use pack::MAX_OPS;
pub use txn::{Op, Response, Txn, TxnResult};
pub use watch::{Event, WatchRange, Watcher};
