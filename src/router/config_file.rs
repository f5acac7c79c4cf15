//! Traefik's configuration in a file that the caller has written.

use std::path::Path;

use serde_json::Value;

use crate::atomic;
use crate::config::text::Syntax;
use crate::error::{Error, Result};

/// Reads a file with configuration of Traefik, `.toml` or (with the feature `yaml`) `.yaml`, for
/// [`Builder::extra_static_config`](crate::Builder::extra_static_config) or
/// [`extra_dynamic_config`](crate::Builder::extra_dynamic_config).
///
/// # Errors
/// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if the file is not there or not a map, or what is wrong in
/// which line; [`Store`](crate::ErrorKind::Store) if it can't be read.
pub fn read_config(path: impl AsRef<Path>) -> Result<Value> {
    let path = path.as_ref();
    let syntax = Syntax::of(path)?;
    let invalid = |why: &str| Error::invalid(format!("{}: {why}", path.display()));
    let (text, _) = atomic::read(path)?.ok_or_else(|| invalid("there is no such file"))?;
    let tree = syntax.parse(&text).map_err(|why| invalid(&why))?;
    match tree.to_value() {
        config if config.is_object() => Ok(config),
        _ => Err(invalid("it must be a map, as Traefik documents it")),
    }
}
