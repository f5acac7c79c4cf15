//! What the sides of the comparison share, and quantiles for JupyterHub's tests too.

pub mod http;
pub mod programs;
pub mod stats;

/// The error says what failed, for a person.
pub type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
