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
//! let found = client.get("greeting")?.expect("we have put it");
//! assert_eq!(found.value, b"hello");
//!
//! // Replace it, unless someone else has done so in the meantime.
//! let replace = Txn::new([Op::put("greeting", "good morning")])
//!     .when(Compare::mod_revision("greeting", Is::Equal, found.mod_revision));
//! if !client.txn(&replace)?.succeeded {
//!     println!("someone was faster");
//! }
//!
//! // Read a tree, and then hear of every change to it.
//! let tree = client.get_prefix("traefik/")?;
//! let mut watch = client.watch(WatchRange::prefix("traefik/").from_revision(tree.revision + 1))?;
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
//! Keys and values are bytes. Each change makes a new revision of the whole store. A key holds the
//! revisions at which it was created and last changed; a transaction can compare them, which makes
//! "only if nobody else has changed it" cheap and safe.
//!
//! # Large changes
//! etcd takes 128 operations a transaction by default, and 1.5 MiB a request. [`Txn::pack`] nests
//! transactions so that thousands of operations are still one atomic step.
//!
//! # Several endpoints, and repetition
//! All endpoints are members of one cluster. A call goes to the one that worked last; if that is
//! dead, to the next. A request is sent again only where that can't apply a change twice: when it
//! was not sent in full, when etcd answered that it did not take it up, when it only reads, or when
//! its compares can't hold a second time.
//! Otherwise the error says [`Stored::Unknown`](crate::Stored::Unknown).
//!
//! # Errors
//! Each message names the endpoint's URL, etcd's own words and what to do. Besides those that a
//! function names itself, every call can fail with these kinds:
//!
//! - [`Unavailable`](crate::ErrorKind::Unavailable): no endpoint answered within the timeout, or
//!   the cluster has no leader. [`Error::stored`](crate::Error::stored) tells whether a change may
//!   have been applied.
//! - [`Unauthorized`](crate::ErrorKind::Unauthorized): a wrong password, a missing permission,
//!   authentication that is on while no user was given (or the other way round), or a certificate
//!   that one side does not trust.
//! - [`TooLarge`](crate::ErrorKind::TooLarge): too many operations or bytes at once.
//! - [`Compacted`](crate::ErrorKind::Compacted): the revision is no longer kept.
//! - [`Store`](crate::ErrorKind::Store): etcd refused for another reason, such as a full disk.
//! - [`Protocol`](crate::ErrorKind::Protocol): whoever answers is not etcd's gateway, or speaks
//!   TLS where the URL says `http`, or the other way round.
//!
//! # What it does not do
//! It renews no lease by itself, and balances no load. It reads no environment variables, and
//! starts no thread that outlives a call (a host name is looked up on a short-lived one, so that
//! the lookup is bounded, too). Users with client certificates instead of passwords are not
//! supported by etcd's gateway; certificates without a Common Name are.

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
