//! The documentation, page by page.
//!
//! In the order in which one needs it: [`routes`]; [`stores`], with [`push`], [`mod@file`], [`etcd`] and [`redis`];
//! [`jupyterhub`] with [`chp`], and [`moving`] there; the [`shell`]; [`troubleshooting`]; [`limitations`];
//! [`reliability`]; [`performance`] and [`scale`].

// In docs/ a link to another guide names its file. Here a definition of the same label comes first, since
// Markdown uses the first one.

#[doc = "[limitations]: crate::guide::limitations\n[shell]: crate::guide::shell\n"]
#[doc = include_str!("../docs/routes.md")]
pub mod routes {}

#[doc = "[etcd]: crate::guide::etcd\n[file]: crate::guide::file\n[limitations]: crate::guide::limitations\n"]
#[doc = "[push]: crate::guide::push\n[reliability]: crate::guide::reliability\n"]
#[doc = "[redis]: crate::guide::redis\n"]
#[doc = include_str!("../docs/stores.md")]
pub mod stores {}

#[doc = "[shell]: crate::guide::shell\n[stores]: crate::guide::stores\n"]
#[doc = include_str!("../docs/push.md")]
pub mod push {}

#[doc = "[limitations]: crate::guide::limitations\n[stores]: crate::guide::stores\n"]
#[doc = include_str!("../docs/file.md")]
pub mod file {}

#[doc = "[performance]: crate::guide::performance\n[stores]: crate::guide::stores\n"]
#[doc = include_str!("../docs/etcd.md")]
pub mod etcd {}

// Other pages lead here with any features. Its examples need this one.
#[cfg(any(feature = "redis", not(doctest)))]
#[doc = "[etcd]: crate::guide::etcd\n[push]: crate::guide::push\n"]
#[doc = include_str!("../docs/redis.md")]
pub mod redis {}

#[doc = "[chp]: crate::guide::chp\n[moving]: crate::guide::moving\n[push]: crate::guide::push\n"]
#[doc = include_str!("../docs/jupyterhub.md")]
pub mod jupyterhub {}

#[doc = "[etcd]: crate::guide::etcd\n[jupyterhub]: crate::guide::jupyterhub\n[push]: crate::guide::push\n"]
#[doc = "[routes]: crate::guide::routes\n[shell]: crate::guide::shell\n"]
#[doc = include_str!("../docs/chp.md")]
pub mod chp {}

#[doc = "[chp]: crate::guide::chp\n[shell]: crate::guide::shell\n"]
#[doc = include_str!("../docs/moving.md")]
pub mod moving {}

#[doc = "[chp]: crate::guide::chp\n[etcd]: crate::guide::etcd\n[push]: crate::guide::push\n[routes]: crate::guide::routes\n"]
#[doc = "[redis]: crate::guide::redis\n"]
#[doc = include_str!("../docs/shell.md")]
pub mod shell {}

#[doc = "[file]: crate::guide::file\n[jupyterhub]: crate::guide::jupyterhub\n"]
#[doc = "[limitations]: crate::guide::limitations\n[push]: crate::guide::push\n[routes]: crate::guide::routes\n"]
#[doc = "[scale]: crate::guide::scale\n[shell]: crate::guide::shell\n"]
#[doc = "[redis]: crate::guide::redis\n"]
#[doc = include_str!("../docs/troubleshooting.md")]
pub mod troubleshooting {}

#[doc = "[limitations]: crate::guide::limitations\n"]
#[doc = "[redis]: crate::guide::redis\n"]
#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}

#[doc = "[etcd]: crate::guide::etcd\n[scale]: crate::guide::scale\n"]
#[doc = "[redis]: crate::guide::redis\n"]
#[doc = include_str!("../docs/limitations.md")]
pub mod limitations {}

#[doc = "[chp]: crate::guide::chp\n"]
#[doc = "[redis]: crate::guide::redis\n"]
#[doc = include_str!("../docs/performance.md")]
pub mod performance {}

#[doc = "[limitations]: crate::guide::limitations\n[performance]: crate::guide::performance\n"]
#[doc = include_str!("../docs/scale.md")]
pub mod scale {}
