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
//! - [`start`](Builder::start) starts a Traefik for this Router. It writes the static configuration and waits until
//!   Traefik serves. Traefik ends with [`Router::stop`], when the Router is dropped, or when
//!   your program ends, even by SIGKILL (on Unix).
//! - [`attach`](Builder::attach) uses *external* Traefiks, which this Router does not start: one, or several that get
//!   the same table. Each needs the [entrypoint](Builder::traefik_entrypoint) that routes are served on,
//!   the [one for the API](Builder::traefik_api_entrypoint), and the provider of the store
//!   ([`Backend::static_config`] says which). A file must exist before Traefik starts: `offline()?.apply([])?` creates
//!   it. etcd and Redis must run before Traefik starts. For a pushed table Traefik needs a file,
//!   [`dynamic_config_text`](Builder::dynamic_config_text).
//! - [`offline`](Builder::offline) works on the store alone, and waits for no Traefik. It writes and
//!   creates nothing before the first change.
//!
//! A Router that opens an existing table does not change these: its entrypoint, `tls` of its routers, whether they are
//! [nested](Nested), and the [defaults](Builder::extra_service_config) of its services. Only an option that you set
//! changes them. If nothing changes, nothing is written.
//!
//! A started Traefik also needs a router for its API, a password, a certificate and
//! [`extra_dynamic_config`](Builder::extra_dynamic_config). They are in private files beside its
//! [static configuration](Builder::static_config_file). With a [`FileBackend`] they are in the file of the routes,
//! since Traefik has only one file provider.
//!
//! `attach` checks before it writes. It stores an API router only if the API answers 404 and the store has none, and
//! never for a pushed table. It never stores a certificate. A `start` or `attach` that fails restores the store,
//! unless another program has written to it meanwhile; [`Error::stored`] says so.
//!
//! [`Builder::diagnose`] reports what is wrong with a set-up, and changes no routes.
//!
//! A new file of routes can be read by its owner only. If you `attach` to a Traefik that reads the file as another
//! user, create the file beforehand: as the user of your program, with a group, mode or POSIX ACL that lets Traefik
//! read it. They are kept.
//!
//! # What a change promises
//!
//! [`add_route`](Router::add_route), [`delete_route`](Router::delete_route),
//! [`apply`](Router::apply) and [`reconcile`](Router::reconcile) return when every Traefik at
//! [`traefik_api_urls`](Builder::traefik_api_urls) serves the change, or as many as
//! [`traefik_quorum`](Builder::traefik_quorum) says. This holds for a new route, a new target and a deletion.
//!
//! A *commit* is one write of the table. Each commit has a number, its *generation*, which is stored in a middleware.
//! Traefik loads a configuration as a whole. So once its API shows the generation, it has loaded all routes of the
//! commit. (A Traefik on Redis may miss some keys, so there each changed router is checked, too.)
//!
//! With `start`, and with `attach` where [`public_url`](Builder::public_url) was set and there is one
//! Traefik, the generation must also be served at that URL. Then
//! [`Applied::verified`] is [`Seen`](Verified::Seen). Otherwise it is
//! [`NotAsked`](Verified::NotAsked) with the reason: the Router is offline, there are several Traefiks,
//! the URL was not set, or it is out of reach. A redirect, another status or an older generation there
//! is an error, [`NotLoaded`](ErrorKind::NotLoaded).
//!
//! All changes of one call are stored at once and loaded at once, so prefer one `apply` to many
//! calls of `add_route`. Calls from many threads at the same time share commits.
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
//! | `Locked`, `Store`, `Corrupt`, `TooLarge`, `Conflict` | see `stored` | the store could not be read or written; `Conflict` also if another program has pushed a table in place of this Router's |
//! | `NotLoaded` | all; see `stored` after `start` and `attach` | a Traefik did not load it in time, or does not serve it at `public_url`: the likely cause is in the message |
//! | `Refused` | all | Traefik loaded it and refuses the router; the message has Traefik's reason |
//! | `Unauthorized`, `Unavailable`, `Protocol` | see `stored` | Traefik's API, etcd or Redis refuses the password or certificate, does not answer, or gives an answer that this crate can't read |
//! | `Process` | see `stored` | Traefik could not be started, or has ended |
//! | `Internal` | see `stored` | this program or the operating system failed: another thread was committing this change, together with its own, and panicked; there are no random bytes; or no certificate can be made |
//! | `Compacted` | nothing | only from the module [`etcd`]: etcd no longer keeps the requested revision |
//!
//! [`is_transient`](Error::is_transient) says whether trying again later may help. An error prints its
//! causes itself, `a: b: c`, and has no [`source`](std::error::Error::source).
//!
//! # Threads
//!
//! Everything blocks, and everything may be called from many threads: a [`Router`] is `Send` and
//! `Sync`, and `&Router` is all that a thread needs. These threads are started:
//!
//! | threads | for | until |
//! |---|---|---|
//! | two | the output of a Traefik that this Router has started | Traefik ends |
//! | one, `traefik-router-keeper` | a started or attached Router with a pushed table: every [`keeper_interval`](Builder::keeper_interval) it sends the table to Traefiks that have lost it | the Router is stopped or dropped |
//! | one for each Traefik | requests to several Traefiks in parallel | the call ends |
//! | one | a started or attached Router on a [`KvBackend`]: it renews the key that marks the table as served | the Router is stopped or dropped |
//! | one | [`Etcd::heartbeat`], on etcd 3.4 with a user | as there |
//! | one for each endpoint | requests to several etcd endpoints in parallel | the call ends, or soon after |
//! | one for each | the end of a Traefik that was stopped; the read of the store for [`Router::lag`] and [`Router::wait_until_served`]; a host name that ureq resolves | the call ends, or soon after |
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
//! - `ERROR`, `WARN`: an error that no call can return, such as one in a `Drop`; a Traefik that has lost
//!   a pushed table; a Traefik that seems to have a throttle; a routespec that is probably a mistake.
//! - `INFO`: Traefik was started; temporary files of a killed writer were removed.
//! - The target `traefik` has the log of a Traefik that this Router has started, at Traefik's own levels.
//!   [`traefik_log_level`](Builder::traefik_log_level) says how much that is. At `DEBUG` Traefik
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
//! - `cli`: the program `traefik-router`. It replaces configurable-http-proxy for JupyterHub
//!   ([`guide::jupyterhub`]), and changes and checks routes from a shell ([`guide::shell`]).

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
mod threads;
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
