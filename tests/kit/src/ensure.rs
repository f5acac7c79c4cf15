//! Checks of programs, which fail with an error instead of a panic.

use std::error::Error;

/// Fails with the text `otherwise`, unless `holds`.
///
/// # Errors
///
/// Unless `holds`.
pub fn ensure(holds: bool, otherwise: &str) -> Result<(), Box<dyn Error>> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}
