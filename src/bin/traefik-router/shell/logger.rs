//! The log of `--verbose`: lines on standard error.

use log::{LevelFilter, Log, Metadata, Record};
use traefik_router::may_hold_secrets;

use super::output::print_log;
use crate::wording::for_shell;

struct Logger;

/// Logs from now on.
pub(super) fn start() {
    // Only one that is there already is refused.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !may_hold_secrets(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            print_log(&level, &for_shell(&record.args().to_string()));
        }
    }

    fn flush(&self) {}
}
