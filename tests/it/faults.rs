//! Faults that are provoked: what `docs/reliability.md` tells of.

pub(crate) mod disk;
pub(crate) mod kill;
