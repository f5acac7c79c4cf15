//! Texts on what takes more than a paragraph.

#[doc = include_str!("../docs/etcd.md")]
pub mod etcd {}

#[doc = include_str!("../docs/chp.md")]
pub mod chp {}

#[doc = include_str!("../docs/shell.md")]
pub mod shell {}

#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}
