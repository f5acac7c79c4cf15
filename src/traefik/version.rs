//! What Traefik's version says.

use crate::error::{Error, Result};

/// Refuses a Traefik that is too old for anything we write.
pub(crate) fn check_version(version: &str) -> Result<()> {
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major < 3 => Err(Error::invalid(format!(
            "Traefik {version} is too old; install Traefik 3"
        ))),
        _ => Ok(()),
    }
}

/// Whether a Traefik of this version knows `parentRefs`. One that was built by hand may have any
/// version.
pub(crate) fn has_parents(version: &str) -> bool {
    numbers(version).is_none_or(|version| version >= (3, 6))
}

/// The major and the minor version; `None` for one that was built by hand.
pub(crate) fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_depend_on_version() {
        for (version, expected) in [
            ("3.7.15", true),
            ("v3.6.0-rc1", true),
            ("3.5.3", false),
            ("v2.11.4", false),
            ("4.0", true),
            ("dev", true),
        ] {
            assert_eq!(has_parents(version), expected, "{version}");
        }
    }
}
