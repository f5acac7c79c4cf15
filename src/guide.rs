//! Texts on what takes more than a paragraph.

#[doc = include_str!("../docs/etcd.md")]
pub mod etcd {}

#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}
