//! What Traefik and its watchdog print.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use serde_json::Value;

use crate::sync::unpoisoned;

const KEPT_LINES: usize = 30;
/// Of a longer line of Traefik's log only the beginning is read.
const LONGEST_LINE: u64 = 1 << 20;

/// What the watchdog has printed about the program.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The program's process id.
    pub(super) process: Option<u32>,
    /// Its exit code, in a shell's numbers.
    pub(super) code: Option<u8>,
}

impl Report {
    /// Notes a line of the watchdog. `false` if the line is the program's.
    pub(super) fn take(&mut self, line: &str) -> bool {
        let Some(said) = line.strip_prefix("traefik-router: ") else {
            return false;
        };
        match said.split_once(' ') {
            Some(("process", process)) => self.process = process.parse().ok(),
            Some(("ended", code)) => self.code = code.parse().ok(),
            _ => return false,
        }
        true
    }
}

/// The last lines of Traefik's log, and the watchdog's report.
#[derive(Clone, Default)]
pub(super) struct Log {
    lines: Arc<Mutex<VecDeque<Line>>>,
    report: Arc<Mutex<Report>>,
}

pub(super) struct Line {
    pub(super) at: Instant,
    pub(super) complaint: bool,
    pub(super) text: String,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    pub(super) fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        unpoisoned(self.lines.lock())
    }

    pub(super) fn report(&self) -> MutexGuard<'_, Report> {
        unpoisoned(self.report.lock())
    }

    pub(super) fn last_words(&self) -> String {
        let lines = self.lines();
        let complaints: Vec<_> = lines.iter().filter(|line| line.complaint).collect();
        let chosen = if complaints.is_empty() {
            lines.iter().collect()
        } else {
            complaints
        };
        let last = chosen.len().saturating_sub(3);
        chosen[last..]
            .iter()
            .map(|line| &*line.text)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// Reads until Traefik closes its end. Each line goes to this program's log as well.
    pub(super) fn follow(&self, output: impl Read) {
        let mut output = BufReader::new(output);
        while let Some(line) = next_line(&mut output) {
            if line.is_empty() || self.report().take(&line) {
                continue;
            }
            let (level, text) = readable(&line);
            log::log!(target: "traefik", level, "{text}");
            // Kept lines end up in errors. At `DEBUG` Traefik logs its configuration, which must not.
            if level > log::Level::Info {
                continue;
            }
            let mut lines = self.lines();
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            let complaint = level <= log::Level::Error;
            lines.push_back(Line {
                at: Instant::now(),
                complaint,
                text,
            });
        }
    }
}

/// The beginning of the next line. Its rest is skipped: it would look like a line without a level.
fn next_line(output: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    let length = output
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut bytes)
        .ok()
        .filter(|length| *length > 0)?;
    if length as u64 == LONGEST_LINE && !bytes.ends_with(b"\n") {
        output.skip_until(b'\n').ok()?;
    }
    Some(String::from_utf8_lossy(&bytes).trim().to_string())
}

/// The level of a line of Traefik's log, and its text for people.
fn readable(line: &str) -> (log::Level, String) {
    let mut fields = match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => fields,
        // JSON that was cut off may be of any level, and hold Traefik's configuration.
        _ if line.starts_with('{') => return (log::Level::Debug, line.into()),
        // Traefik prints plain text only when it can't start.
        _ => return (log::Level::Error, line.into()),
    };
    let mut take = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let level = match &*take("level") {
        "trace" => log::Level::Trace,
        "debug" => log::Level::Debug,
        "info" => log::Level::Info,
        "warn" => log::Level::Warn,
        _ => log::Level::Error,
    };
    let (message, error) = (take("message"), take("error"));
    drop(take("time"));
    let text = [message.trim(), &error]
        .into_iter()
        .filter(|part| !part.is_empty());
    let mut text = text.collect::<Vec<_>>().join(": ");
    if !fields.is_empty() {
        text.push_str(&format!(" {}", Value::Object(fields)));
    }
    (level, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_parsed() {
        for (line, level, text) in [
            (
                r#"{"level":"error","error":"x","message":"y","time":"z"}"#,
                log::Level::Error,
                "y: x",
            ),
            (
                r#"{"level":"info","message":"y\n","a":1}"#,
                log::Level::Info,
                "y {\"a\":1}",
            ),
            ("plain", log::Level::Error, "plain"),
            (r#"{"level":"x"#, log::Level::Debug, r#"{"level":"x"#),
        ] {
            assert_eq!(readable(line), (level, text.to_string()));
        }
    }

    #[test]
    fn cut_lines_are_dropped() {
        let long = "a-hash ".repeat(LONGEST_LINE as usize / 2);
        let debug = format!(r#"{{"level":"debug","config":"{long}"}}"#);
        let error = r#"{"level":"error","message":"well"}"#;
        // It may be cut by us, or by the end of a Traefik that is killed.
        let output = format!("{debug}\n{error}\n{}", &debug[..200]);
        let log = Log::default();
        log.follow(output.as_bytes());
        let kept: Vec<_> = log.lines().iter().map(|line| line.text.clone()).collect();
        assert_eq!(kept, ["well"]);
    }
}
