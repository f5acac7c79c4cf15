//! Faults that are provoked: what `docs/reliability.md` tells of.

pub(crate) mod disk;
mod etcd;
pub(crate) mod kill;
pub(crate) mod many;
mod traefik;
