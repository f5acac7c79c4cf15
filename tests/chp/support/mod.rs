//! The program under test.

pub(crate) mod proxy;

pub(crate) use proxy::Proxy;
