//! The logger of this process, which keeps what is logged.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Metadata, Record};
use traefik_router::may_hold_secrets;

static KEPT: Mutex<BTreeMap<bool, String>> = Mutex::new(BTreeMap::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut texts = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let text = texts
            .entry(may_hold_secrets(record.metadata()))
            .or_default();
        text.push_str(&format!("{} {}\n", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// Keeps what is logged up to this level from now on. A process can do so once.
pub(crate) fn keep_log(level: LevelFilter) {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(level);
}

/// What has been logged: what the crate says may hold secrets, or all else.
pub(crate) fn logged(may_hold_secrets: bool) -> String {
    let texts = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    texts.get(&may_hold_secrets).cloned().unwrap_or_default()
}
