//! What Traefik's version says.

use super::Version;
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

impl Version {
    /// Whether it is this version or a later one: major, minor and patch. A Traefik that was built by hand may
    /// have any version, and counts as a later one.
    pub fn is_since(&self, first: [u32; 3]) -> bool {
        is_since(&self.version, first)
    }
}

/// Whether a Traefik of this version knows `parentRefs`.
pub(crate) fn has_parents(version: &str) -> bool {
    is_since(version, [3, 6, 0])
}

fn is_since(version: &str, [major, minor, patch]: [u32; 3]) -> bool {
    let Some(numbers) = numbers(version) else {
        return true;
    };
    // A release candidate comes before its patch.
    let this = version.split('.').nth(2).and_then(|text| text.parse().ok());
    numbers > (major, minor) || numbers == (major, minor) && (patch == 0 || this >= Some(patch))
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
    fn versions_are_compared_by_number() {
        for (version, parents, patch) in [
            ("3.7.15", true, true),
            ("v3.7.0", true, true),
            ("3.10.1", true, true),
            ("3.7.0-rc.3", true, true),
            ("3.6.15", true, true),
            ("3.6.15-rc1", true, false),
            ("3.6.14", true, false),
            ("v3.6.0-rc1", true, false),
            ("3.5.20", false, false),
            ("v2.11.4", false, false),
            ("4.0", true, true),
            ("dev", true, true),
        ] {
            assert_eq!(has_parents(version), parents, "{version}");
            assert_eq!(is_since(version, [3, 6, 15]), patch, "{version}");
        }
    }
}
