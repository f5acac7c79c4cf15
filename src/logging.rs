//! Which log records to keep from where secrets must not be.

use log::{Level, Metadata};

/// Whether a log record with this level and target may hold secrets that went through this crate:
/// what the crates below it tell beyond [`Level::Info`], and what Traefik does.
///
/// Nothing that this crate logs itself holds any. But ureq logs at [`Level::Trace`] what goes over the
/// wire, passwords included, for whichever logger is installed, and a crate can't keep another one from
/// that. A logger that lets such levels through asks here first:
///
/// ```
/// struct Logger;
///
/// impl log::Log for Logger {
///     fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
///         !traefik_router::may_hold_secrets(metadata)
///     }
///
///     fn log(&self, record: &log::Record<'_>) {
///         if self.enabled(record.metadata()) {
///             eprintln!("{}", record.args());
///         }
///     }
///
///     fn flush(&self) {}
/// }
/// ```
pub fn may_hold_secrets(metadata: &Metadata<'_>) -> bool {
    let source = metadata.target().split("::").next().unwrap_or_default();
    metadata.level() > Level::Info && matches!(source, "rustls" | "traefik" | "ureq" | "ureq_proto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbose_dependencies_may_hold_secrets() {
        for (target, level, expected) in [
            ("ureq_proto::util", Level::Trace, true),
            ("ureq::run", Level::Debug, true),
            ("ureq", Level::Warn, false),
            ("rustls::client::hs", Level::Debug, true),
            ("traefik", Level::Debug, true),
            ("traefik", Level::Info, false),
            ("traefik_router::router", Level::Trace, false),
            ("ureq_something_else", Level::Trace, false),
        ] {
            let metadata = Metadata::builder().target(target).level(level).build();
            assert_eq!(may_hold_secrets(&metadata), expected, "{target} {level}");
        }
    }
}
