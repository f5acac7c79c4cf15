//! Texts on what takes more than a paragraph.

// In docs/ a link to another guide names its file. Here a definition of the same label comes first, since
// Markdown uses the first one.

#[doc = "[shell]: crate::guide::shell\n"]
#[doc = include_str!("../docs/routes.md")]
pub mod routes {}

#[doc = "[etcd]: crate::guide::etcd\n[shell]: crate::guide::shell\n"]
#[doc = include_str!("../docs/push.md")]
pub mod push {}

#[doc = include_str!("../docs/etcd.md")]
pub mod etcd {}

#[cfg(feature = "redis")]
#[doc = "[etcd]: crate::guide::etcd\n[push]: crate::guide::push\n"]
#[doc = include_str!("../docs/redis.md")]
pub mod redis {}

#[doc = "[etcd]: crate::guide::etcd\n[moving]: crate::guide::moving\n"]
#[doc = "[push]: crate::guide::push\n[shell]: crate::guide::shell\n"]
#[doc = include_str!("../docs/chp.md")]
pub mod chp {}

#[doc = "[chp]: crate::guide::chp\n[shell]: crate::guide::shell\n"]
#[doc = include_str!("../docs/moving.md")]
pub mod moving {}

#[doc = "[chp]: crate::guide::chp\n[etcd]: crate::guide::etcd\n[push]: crate::guide::push\n[routes]: crate::guide::routes\n"]
#[cfg_attr(feature = "redis", doc = "[redis]: crate::guide::redis\n")]
#[doc = include_str!("../docs/shell.md")]
pub mod shell {}

#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}
