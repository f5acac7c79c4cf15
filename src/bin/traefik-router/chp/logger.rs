//! The log: lines on standard output, as configurable-http-proxy writes them.
//!
//! One thread writes them, so that only this thread waits for whoever reads them.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record};
use traefik_router::may_hold_secrets;

use crate::sync::unpoisoned;
use crate::wording::{for_chp, speaks};

/// Further lines are dropped while so many bytes wait to be written.
const MAX_WAITING: usize = 1 << 20;
/// How long the end of the program waits until the last lines are written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The exit code of a program that panicked, as Rust has it.
const PANICKED: i32 = 101;

static QUEUE: Queue = Queue::new();

struct Logger;

/// Logs what is of this level or above, panics included. The first thread that panics ends the program:
/// the others would wait for it for ever. Traefik ends with the program.
///
/// # Errors
/// If there is no thread for the log.
pub(super) fn start(level: LevelFilter) -> Result<(), String> {
    std::thread::Builder::new()
        .name("log".into())
        .spawn(|| {
            loop {
                QUEUE.write_next(&mut io::stdout());
            }
        })
        .map_err(|error| format!("no thread for the log: {error}"))?;
    log::set_logger(&Logger).map_err(|error| error.to_string())?;
    log::set_max_level(level);
    // The usual hook writes to standard error, where it may wait for a reader.
    std::panic::set_hook(Box::new(|panic| {
        log::error!("{panic}");
        flush();
        std::process::exit(PANICKED);
    }));
    Ok(())
}

/// Waits until the log is written, for a bounded time.
pub(super) fn flush() {
    QUEUE.wait_until_written(LAST_WORDS);
}

impl Log for Logger {
    /// Of the libraries below only what is wrong, and of Traefik's own lines none that show its
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
        let message = in_one_record(&for_chp(&record.args().to_string()));
        QUEUE.push(line(source, record.level(), &message));
    }

    fn flush(&self) {
        flush();
    }
}

fn line(source: &str, level: Level, message: &str) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    // The time of day, UTC.
    let clock = Timestamp::now().strftime("%H:%M:%S%.3f");
    format!("{clock} [{source}] {level}: {message}\n")
}

/// The lines that wait to be written.
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    lines: Vec<String>,
    bytes: usize,
    /// How many lines that came after those were dropped.
    dropped: u64,
    /// Whether lines that were taken from here are not written yet.
    is_writing: bool,
}

impl Queue {
    const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: Vec::new(),
                bytes: 0,
                dropped: 0,
                is_writing: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        unpoisoned(self.waiting.lock())
    }

    /// Adds a line, or counts it if there is no room. After a dropped line all are dropped until the
    /// others are taken, so that the count has its place among the lines.
    fn push(&self, line: String) {
        let mut waiting = self.waiting();
        let has_room = waiting.bytes + line.len() <= MAX_WAITING || waiting.lines.is_empty();
        if waiting.dropped > 0 || !has_room {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push(line);
        self.changed.notify_all();
    }

    /// Waits for lines and writes them, and how many were dropped after them.
    fn write_next(&self, out: &mut impl Write) {
        let (lines, dropped) = {
            let waiting = self.waiting();
            let waiting = self
                .changed
                .wait_while(waiting, |waiting| waiting.lines.is_empty());
            let mut waiting = unpoisoned(waiting);
            waiting.is_writing = true;
            waiting.bytes = 0;
            let lines = std::mem::take(&mut waiting.lines);
            (lines, std::mem::take(&mut waiting.dropped))
        };
        let count = (dropped > 0).then(|| {
            let message = format!("{dropped} log lines were dropped, since nobody read them");
            line("ConfigProxy", Level::Warn, &message)
        });
        for line in lines.into_iter().chain(count) {
            // The reader of the log may be gone.
            out.write_all(line.as_bytes()).ok();
        }
        self.waiting().is_writing = false;
        self.changed.notify_all();
    }

    fn wait_until_written(&self, patience: Duration) {
        let waiting = self.waiting();
        let is_unwritten = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        drop(
            self.changed
                .wait_timeout_while(waiting, patience, is_unwritten),
        );
    }
}

/// A message that can't be taken for another one, or for orders to a terminal, whatever a client has
/// put into it: each further line of it is indented.
fn in_one_record(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for character in message.chars() {
        match character {
            '\n' => out.push_str("\n  "),
            '\t' => out.push(character),
            control if speaks(control) => out.extend(control.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "it ends the program: the next test runs it in another one"]
    fn one_thread_panics() {
        start(LevelFilter::Info).unwrap();
        drop(std::thread::spawn(|| panic!("one thread")).join());
    }

    #[test]
    fn panicking_thread_ends_the_program() {
        let mut other = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "chp::logger::tests::one_thread_panics";
        let ended = other
            .args(["--ignored", "--nocapture", "--exact", name])
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(PANICKED), "{ended:?}");
        let log = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(
            log.contains("[ConfigProxy] error: ") && log.contains("one thread"),
            "{log}"
        );
    }

    #[test]
    fn message_is_one_record() {
        let written = in_one_record("/x\n00:00 [ConfigProxy] info: \x1b[2Jy\r\té\u{202e}");
        assert_eq!(
            written,
            "/x\n  00:00 [ConfigProxy] info: \\u{1b}[2Jy\\r\té\\u{202e}"
        );
    }

    #[test]
    fn dropped_lines_are_counted() {
        let queue = Queue::new();
        let long = format!("{}\n", "x".repeat(MAX_WAITING - 5));
        for line in ["a\n", &long, &long, "b\n", "c\n"] {
            queue.push(line.into());
        }
        let mut out = Vec::new();
        queue.write_next(&mut out);
        queue.push("e\n".into());
        queue.write_next(&mut out);
        queue.wait_until_written(Duration::MAX);
        let out = String::from_utf8(out).unwrap().replace(&long, "long\n");
        assert!(out.starts_with("a\nlong\n"), "{out}");
        assert!(out.contains("warn: 3 log lines were dropped"), "{out}");
        assert!(out.ends_with("them\ne\n"), "{out}");
    }

    #[test]
    fn levels_depend_on_the_target() {
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
