//! Change a running Traefik's routes from blocking Rust, and know when they are served.
//!
//! A [`Router`] keeps a table of routes, and [Traefik](https://doc.traefik.io/traefik/) serves it. Each change
//! returns when Traefik serves it, or fails with the reason.
//!
//! ```no_run
//! use traefik_router::{MemoryBackend, Router};
//!
//! let router = Router::builder(MemoryBackend::new()).start()?;
//! router.add_route("/user/zoe/", "http://127.0.0.1:9001", "Zoe's notebook")?;
//! // From here on requests for http://127.0.0.1:8000/user/zoe/ reach port 9001.
//! router.delete_route("/user/zoe/")?;
//! router.stop()?;
//! # Ok::<(), traefik_router::Error>(())
//! ```
//!
//! # Routes
//!
//! A [`Route`] has three parts. The [`RouteSpec`], `[host]/path/`, says which requests match: those for the path
//! itself and for everything below it, on this host or on any host. The [`Target`] is the URL of the server. The data
//! is any JSON that you want back with the route; Traefik does not use it.
//!
//! If several routes match a request, one with a host wins, then the one with the longest path:
//!
//! ```
//! use traefik_router::{MemoryBackend, Router};
//!
//! let router = Router::builder(MemoryBackend::new()).offline()?;
//! router.add_route("/", "http://hub:8081", "hub")?;
//! router.add_route("/user/zoe", "http://node-7:8888", "zoe")?;
//! router.add_route("docs.example.org", "http://docs:80", "docs")?;
//!
//! let data_of = |host, path| Ok(router.resolve(host, path)?.map(|route| route.data.clone()));
//! assert_eq!(data_of("example.org", "/user/zoe")?, Some("zoe".into()));
//! assert_eq!(data_of("example.org", "/user/zoe/lab?a=1")?, Some("zoe".into()));
//! assert_eq!(data_of("example.org", "/user/zoeira")?, Some("hub".into()));
//! assert_eq!(data_of("DOCS.example.org:443", "/user/zoe/")?, Some("docs".into()));
//! # Ok::<(), traefik_router::Error>(())
//! ```
//!
//! A route may also have middlewares, several servers with weights, a health check, sticky sessions, and certificates
//! of its own. [`guide::routes`] describes them, with recipes.
//!
//! Your input can't inject configuration. A backtick, a quote or a `{{` in a routespec, a target or the data changes
//! no rule and runs as no template: it is either refused or matched literally.
//!
//! # Where routes are kept
//!
//! | | for | how Traefik gets a change |
//! |---|---|---|
//! | [`MemoryBackend`] | one program, one or many Traefiks | the Router pushes the table to Traefik's REST provider; see [`guide::push`] |
//! | [`FileBackend`] | several programs on one machine, routes that outlast all of them | Traefik watches the TOML or YAML file |
//! | [`KvBackend`] over [`Etcd`] | several programs on several machines | Traefik watches etcd; see [`guide::etcd`] |
//! | [`KvBackend`] over `Redis` (feature `redis`) | the same, with Redis or Valkey | Traefik watches Redis; see [`guide::redis`] |
//! | [`KvBackend`] over another [`KvStore`](backend::KvStore) | as with etcd | Traefik watches that store |
//!
//! The routes in a [`MemoryBackend`] are lost when the program ends, unless a Traefik still has them and the program
//! attaches to it again. The `data` of these routes can be read through Traefik's API.
//!
//! # Which Traefik
//!
//! - [`start`](Builder::start) runs a Traefik of our own. It writes the static configuration and waits until Traefik
//!   serves. Traefik ends with [`Router::stop`], when the Router is dropped, or when
//!   this program ends, even by SIGKILL (on Unix).
//! - [`attach`](Builder::attach) works with Traefiks that others run, one or several that get the
//!   same table. Each needs the [entrypoint](Builder::traefik_entrypoint) that routes are served on,
//!   the [one for the API](Builder::traefik_api_entrypoint), and the provider of the store
//!   ([`Backend::static_config`] says which). A store that Traefik watches has to be there before that
//!   Traefik starts: [`offline`](Builder::offline) and an [`apply`](Router::apply) of no changes make it
//!   ready. For a pushed table Traefik needs a file,
//!   [`dynamic_config_text`](Builder::dynamic_config_text).
//! - [`offline`](Builder::offline) works on the store alone, and waits for no Traefik. It writes and
//!   creates nothing before the first change.
//!
//! A Router that opens a table keeps its entrypoint, whether its routers carry `tls`, its layout and the
//! [defaults](Builder::extra_service_config) of its services: only an option that is set explicitly changes them. If
//! nothing changes, nothing is written.
//!
//! What one Traefik needs beside the table is its API router, its password, its certificate and its
//! [`extra_dynamic_config`](Builder::extra_dynamic_config). A Traefik that we start reads it from
//! private files beside its [static configuration](Builder::static_config_file). With a [`FileBackend`] it is in the
//! rules file, since Traefik has one file provider.
//!
//! `attach` checks before it writes. It stores an API router only if the API answers 404 and the store has none, and
//! never for a pushed table. It never stores a certificate. A `start` or `attach` that fails restores the store,
//! unless others have written to it meanwhile; [`Error::stored`] says so.
//!
//! [`Builder::diagnose`] reports what is wrong with a set-up, without changing anything.
//!
//! A new rules file can be read by its owner only. If you `attach` to a Traefik that reads the file as another user,
//! create the file beforehand: as the user of this program, with a group, mode or POSIX ACL that lets Traefik read
//! it. They are kept.
//!
//! # What a change promises
//!
//! [`add_route`](Router::add_route), [`delete_route`](Router::delete_route),
//! [`apply`](Router::apply) and [`reconcile`](Router::reconcile) return when every Traefik at
//! [`traefik_api_urls`](Builder::traefik_api_urls) serves the change, or as many as
//! [`traefik_quorum`](Builder::traefik_quorum) says. This holds for a new route, a new target and a deletion. For
//! this each commit carries a generation number, in a middleware. Traefik applies a configuration as a whole, so once
//! its API shows the generation, all routes of the commit are loaded.
//!
//! With `start`, and with `attach` where [`public_url`](Builder::public_url) was set and there is one
//! Traefik, the generation must also be served at that URL.
//! [`Applied::verified`] is [`Seen`](Verified::Seen) then, or
//! [`NotAsked`](Verified::NotAsked) with the reason: the Router is offline, there are several Traefiks,
//! the URL was not set, or it is out of reach. A redirect, another status or an older generation there
//! is an error, [`NotLoaded`](ErrorKind::NotLoaded).
//!
//! All changes of one call are stored at once and loaded at once, so prefer one `apply` to many
//! calls of `add_route`. Calls from many threads share commits by themselves.
//!
//! ```
//! use traefik_router::{Change, MemoryBackend, Route, Router};
//!
//! let router = Router::builder(MemoryBackend::new()).offline()?;
//! let done = router.apply([
//!     Change::set("/a/", "http://node-1:80")?,
//!     Change::set("/b/", "http://node-2:80")?,
//! ])?;
//! assert_eq!(done.added.len(), 2);
//!
//! // Or give the whole table, and get the differences.
//! let done = router.reconcile([Route::new("/b/", "http://node-3:80")?])?;
//! assert_eq!(done.changed[0].as_str(), "/b/");
//! assert_eq!(done.deleted[0].as_str(), "/a/");
//! # Ok::<(), traefik_router::Error>(())
//! ```
//!
//! Other programs may change the same table. [`Router::watch`] reports each route that was added, changed or deleted
//! as a [`RouteEvent`].
//!
//! For routes in etcd, with several Traefiks and several programs, see [`guide::etcd`]; for one program and
//! several Traefiks, [`guide::push`].
//!
//! # Errors
//!
//! There is one [`Error`]. Its [`kind`](Error::kind) says what went wrong, its message where and,
//! where that is known, what to do next; [`stored`](Error::stored) says what is in the store now,
//! since a change may be stored and yet not be served:
//!
//! ```
//! use traefik_router::{ErrorKind, MemoryBackend, Router, Stored};
//!
//! let router = Router::builder(MemoryBackend::new()).offline()?;
//! let error = router.add_route("/user/zoe/", "ftp://node-7", ()).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::InvalidRoute);
//! assert_eq!(*error.stored(), Stored::Nothing);
//! assert!(error.to_string().contains("use http, https or h2c"));
//! # Ok::<(), traefik_router::Error>(())
//! ```
//!
//! | kind | what is stored | what it means |
//! |---|---|---|
//! | `InvalidRoute`, `InvalidConfig` | nothing | the call was wrong |
//! | `InUse` | nothing | another program uses the store in a way that conflicts with the call |
//! | `Locked`, `Store`, `Corrupt`, `TooLarge`, `Compacted`, `Conflict` | see `stored` | the store could not be read or written; `Conflict` also if another program has pushed a table in place of this Router's |
//! | `NotLoaded` | all; see `stored` after `start` and `attach` | a Traefik did not load it in time, or does not serve it at `public_url`: the likely cause is in the message |
//! | `Refused` | all | Traefik loaded it and refuses the router, in its own words |
//! | `Unauthorized`, `Unavailable`, `Protocol` | see `stored` | Traefik's API refuses us, does not answer, or gives an invalid answer |
//! | `Process` | see `stored` | Traefik could not be started, or has ended |
//! | `Internal` | see `stored` | this program or the operating system failed: the thread that committed a change for others has panicked, there are no random bytes, or no certificate can be made |
//!
//! [`is_transient`](Error::is_transient) says whether trying again later may help. An error prints its
//! causes itself, `a: b: c`, and has no [`source`](std::error::Error::source).
//!
//! # Threads
//!
//! Everything blocks, and everything may be called from many threads: a [`Router`] is `Send` and
//! `Sync`, and `&Router` is all that a thread needs. A Router that has started a Traefik runs two
//! threads that read its output; a change that several Traefiks have to serve asks each of them on a
//! thread of its own, which ends with the call. With a store that is pushed, a Router that is started or
//! attached runs one more, `traefik-router-keeper`, until it is dropped or has stopped its Traefik: every
//! [`keeper_interval`](Builder::keeper_interval) it sends the table to Traefiks that have lost it, to several
//! of them each on a thread of its own. On a key-value store, a Router that is started or
//! attached runs one that renews the key that marks the table as served. On etcd 3.4 with a user,
//! [`Etcd::heartbeat`] runs one. All others end with the call, or soon after: those that ask several etcd
//! endpoints in parallel, one that waits for the end of a Traefik that was stopped, one that reads the store for
//! [`Router::lag`] and [`Router::wait_until_served`], and those on which ureq resolves host names.
//!
//! Every wait has a bound. The bounds of waits that a caller notices are options:
//! [`check_route_timeout`](Builder::check_route_timeout), [`commit_wait`](Builder::commit_wait),
//! [`keeper_interval`](Builder::keeper_interval),
//! [`traefik_api_timeout`](Builder::traefik_api_timeout),
//! [`stop_timeout`](Builder::stop_timeout), [`lock_timeout`](FileBackend::lock_timeout),
//! [`Etcd::timeout`], [`conflict_timeout`](KvBackend::conflict_timeout).
//!
//! # Logging
//!
//! This crate logs by the [`log`] crate: little, and no secrets.
//!
//! - `ERROR`, `WARN`: errors that no caller could get, as in a `Drop`; that a Traefik had lost
//!   a pushed table; that Traefik seems to have a throttle.
//! - `INFO`: Traefik was started; what a killed writer left behind was removed.
//! - With the target `traefik`, at the levels that it has there: what a Traefik that we have started
//!   logs. [`traefik_log_level`](Builder::traefik_log_level) says how much that is. At `DEBUG` Traefik
//!   logs its configuration, with the *hash* of the API's password.
//!
//! The HTTP client of this crate, [ureq](https://docs.rs/ureq), logs requests at `DEBUG`, without their headers. **At
//! `TRACE` it logs all that it sends and receives, and that is NOT REDACTED**: it includes the passwords of the API
//! and of etcd. This crate can't prevent that, so your logger must drop the records for which [`may_hold_secrets`] is
//! true.
//!
//! # Features
//!
//! - `tls` (default): HTTPS to Traefik's API and to etcd, by rustls.
//! - `yaml`: [`FileBackend`] for `.yaml` and `.yml`.
//! - `redis`: the store `Redis`, for Redis and Valkey.
//! - `idn`: host names in scripts other than Latin, converted to punycode.
//! - `bcrypt`: `Builder::bcrypt_cost`, for an API password that a person chose.
//! - `cli`: the program `traefik-router`, which takes configurable-http-proxy's place for JupyterHub
//!   ([`guide::jupyterhub`]) and changes and checks routes from a shell ([`guide::shell`]).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
pub mod backend;
#[cfg(feature = "tls")]
mod client_tls;
mod config;
mod error;
pub mod etcd;
mod fault;
mod finding;
pub mod guide;
mod http;
mod lock;
mod logging;
mod random;
mod route;
mod router;
mod sync;
mod table_text;
pub mod traefik;
mod url;

#[cfg(feature = "redis")]
pub use backend::Redis;
pub use backend::{Backend, Etcd, FileBackend, KvBackend, MemoryBackend};
pub use error::{Error, ErrorKind, Result, Stored};
pub use finding::{Finding, Level};
pub use http::Tls;
pub use logging::may_hold_secrets;
pub use route::{Change, Nested, Route, RouteSpec, Server, Table, Target, priority, rule};
pub use router::{
    Applied, Builder, Lag, NotAsked, ProcessStatus, RouteEvent, Router, Status, TraefikAnswer,
    TraefikStatus, Verified, Watch, read_config,
};
pub use table_text::TableSyntax;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
