//! What these tests alone need: the stores that they run on, and a Traefik or a process for one of them.

pub(crate) mod child;
pub(crate) mod external;
pub(crate) mod keys;
pub(crate) mod logger;
pub(crate) mod rig;

pub(crate) use external::External;
pub(crate) use keys::Connect;
pub(crate) use rig::{
    Kind, Rig, on_each_backend, on_each_backend_and_push, on_each_file, on_push, on_redis,
};
