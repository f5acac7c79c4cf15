//! The log: lines on standard output, as configurable-http-proxy writes them.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use traefik_router::may_hold_secrets;

struct Logger;

/// Logs what is of this level or above.
///
/// # Errors
/// If there is no such level.
pub(super) fn start(level: &str) -> Result<(), String> {
    let filter = match &*level.to_lowercase() {
        "debug" | "silly" | "verbose" => LevelFilter::Debug,
        "info" | "http" => LevelFilter::Info,
        "warn" => LevelFilter::Warn,
        "error" => LevelFilter::Error,
        _ => {
            return Err(format!(
                "--log-level {level:?}: use debug, info, warn or error"
            ));
        }
    };
    log::set_logger(&Logger).map_err(|error| error.to_string())?;
    log::set_max_level(filter);
    Ok(())
}

impl Log for Logger {
    /// Of the libraries below only what is wrong, and of Traefik's own lines none that tell its
    /// configuration.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
            || metadata.target().starts_with("traefik") && !may_hold_secrets(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let source = match record.target() {
            "traefik" => "Traefik",
            _ => "ConfigProxy",
        };
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let message = in_one_record(&record.args().to_string());
        let line = format!("{} [{source}] {level}: {message}\n", clock());
        // Whoever reads the log may be gone.
        std::io::stdout().lock().write_all(line.as_bytes()).ok();
    }

    fn flush(&self) {}
}

/// A message that can't be taken for another one, or for orders to a terminal, whatever a client has
/// put into it: each further line of it is indented.
fn in_one_record(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for character in message.chars() {
        match character {
            '\n' => out.push_str("\n  "),
            '\t' => out.push(character),
            control if control.is_control() => out.extend(control.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

/// The time of day, UTC.
fn clock() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (seconds, millis) = (now.as_secs() % 86_400, now.subsec_millis());
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_record() {
        let told = in_one_record("/x\n00:00 [ConfigProxy] info: \x1b[2Jy\r\té");
        assert_eq!(told, "/x\n  00:00 [ConfigProxy] info: \\u{1b}[2Jy\\r\té");
    }

    #[test]
    fn what_is_told() {
        for (target, level, expected) in [
            ("traefik", Level::Info, true),
            ("traefik", Level::Debug, false),
            ("traefik_router::router", Level::Debug, true),
            ("ureq", Level::Warn, true),
            ("ureq", Level::Info, false),
        ] {
            let metadata = Metadata::builder().target(target).level(level).build();
            assert_eq!(Logger.enabled(&metadata), expected, "{target} {level}");
        }
    }
}
