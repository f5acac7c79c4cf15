//! What the tests, benchmarks and fuzz targets are made of. It knows Traefik and etcd, and nothing of
//! `traefik-router`.

pub mod terminal;
pub mod tools;
