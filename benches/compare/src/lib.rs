//! What the comparison, the soak and JupyterHub's tests share: programs that end with their caller, a
//! connection, quantiles.

pub mod http;
pub mod programs;
pub mod stats;

/// The error says what failed, for a person.
pub type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
