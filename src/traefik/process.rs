//! Traefik's process: started, watched, and ended with its owner.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// Traefik must not outlive its owner, however that ends. A shell that turns into Traefik leaves a
/// child behind that reads from a pipe; the owner holds the other end and never writes to it but
/// to say that Traefik is gone already. The pipe closes when the owner ends, even by SIGKILL; then
/// the child ends Traefik, and what it may have started, first politely.
///
/// `$0` is the time to give it in tenths of a second, the arguments are Traefik's command line.
#[cfg(unix)]
const WATCHDOG: &str = r#"
exec 3<&0 </dev/null
{
    trap '' TERM
    read -r word <&3
    [ "$word" = gone ] && exit
    kill -TERM -$$ 2>/dev/null || exit
    tenths=$0
    while [ "$tenths" -gt 0 ] && kill -0 $$ 2>/dev/null; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
    kill -0 $$ 2>/dev/null && kill -KILL -$$ 2>/dev/null
} >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;

const KEPT_LINES: usize = 30;
/// Of a longer line of Traefik's log only the beginning is read.
const LONGEST_LINE: u64 = 1 << 20;
/// How long to wait, after Traefik has ended, for what it has written to its log.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A Traefik that we have started. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// While this is open, Traefik may run.
    leash: Option<ChildStdin>,
    log: Log,
    readers: Vec<JoinHandle<()>>,
    stop_timeout: Duration,
    exit: Option<ExitStatus>,
}

/// How to start Traefik.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) stop_timeout: Duration,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Launch")
            .field("program", &self.program)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Process {
    pub(crate) fn start(launch: &Launch) -> Result<Self> {
        let program = find_program(&launch.program)?;
        let config = fs::canonicalize(&launch.config).map_err(|error| {
            Error::new(
                ErrorKind::Process,
                format!("can't read {}", launch.config.display()),
            )
            .with_source(error)
        })?;
        let mut option = OsString::from("--configFile=");
        option.push(config);
        let mut command = watched(&program, launch.stop_timeout);
        command
            .arg(option)
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Error::new(
                ErrorKind::Process,
                format!("can't start {}", program.display()),
            )
            .with_source(error)
        })?;
        log::info!(
            "started Traefik ({}, process {})",
            program.display(),
            child.id()
        );
        let log = Log::default();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as _),
            child.stderr.take().map(|out| Box::new(out) as _),
        ];
        let readers = outputs.into_iter().flatten().map(|output| {
            let log = log.clone();
            std::thread::spawn(move || log.follow(output))
        });
        Ok(Self {
            leash: child.stdin.take(),
            readers: readers.collect(),
            child,
            log,
            stop_timeout: launch.stop_timeout,
            exit: None,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.ended(status);
            }
        }
        self.exit
    }

    /// The error for a Traefik that ended without being asked, if it has.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.exit() else {
            return Ok(());
        };
        let last = match self.log.last_words() {
            words if words.is_empty() => "it logged nothing".into(),
            words => format!("its last words: {words}"),
        };
        Err(Error::new(
            ErrorKind::Process,
            format!("Traefik has ended ({status}); {last}"),
        ))
    }

    /// What Traefik complained of in its log since `then`; what it repeats comes once.
    pub(crate) fn complaints_since(&self, then: Instant) -> Vec<String> {
        let mut complaints = Vec::new();
        for line in self.log.lines().iter() {
            if line.complaint && line.at >= then && !complaints.contains(&line.text) {
                complaints.push(line.text.clone());
            }
        }
        complaints
    }

    /// Ends Traefik: SIGTERM, a bounded wait, SIGKILL.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let failed =
            |error| Error::new(ErrorKind::Process, "can't stop Traefik").with_source(error);
        if self.exit().is_none() {
            // The watchdog sends SIGTERM once the pipe closes.
            drop(self.leash.take());
            let deadline = Instant::now() + self.stop_timeout + Duration::from_secs(1);
            while self.exit().is_none() {
                if Instant::now() >= deadline {
                    log::warn!("Traefik did not end in time, it is killed");
                    self.child.kill().map_err(failed)?;
                    let status = self.child.wait().map_err(failed)?;
                    self.ended(status);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn ended(&mut self, status: ExitStatus) {
        self.exit = Some(status);
        // Its number may soon be another process's: tell the watchdog to leave it alone. A watchdog
        // that is gone as well needs no telling.
        if let Some(mut leash) = self.leash.take() {
            drop(leash.write_all(b"gone\n"));
        }
        // A wrapper's child may hold the pipes for longer.
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline && !self.readers.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::error!("{error}");
        }
    }
}

#[cfg(unix)]
fn watched(program: &Path, stop_timeout: Duration) -> Command {
    use std::os::unix::process::CommandExt as _;
    let tenths = stop_timeout.as_millis() / 100 + 1;
    let mut command = Command::new("/bin/sh");
    // A group of its own: Ctrl-C in a terminal is for the owner, who then stops Traefik.
    command
        .args(["-c", WATCHDOG])
        .arg(tenths.to_string())
        .arg(program)
        .process_group(0);
    command
}

#[cfg(not(unix))]
fn watched(program: &Path, _stop_timeout: Duration) -> Command {
    Command::new(program)
}

/// The version that a program says it is, such as `3.7.15`.
pub(crate) fn version_of(program: &Path, timeout: Duration) -> Result<String> {
    let program = find_program(program)?;
    let failed = |why: &str| {
        let message = format!("`{} version` {why}", program.display());
        Error::new(ErrorKind::Process, message)
    };
    let mut child = Command::new(&program)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("can't be run").with_source(error))?;
    let deadline = Instant::now() + timeout;
    while !matches!(child.try_wait(), Ok(Some(_))) {
        if Instant::now() >= deadline {
            // Whether it could be ended or not, it has not answered.
            drop(child.kill());
            drop(child.wait());
            return Err(failed("does not end"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // What it has said waits in the pipe. The pipe's end may not come if others hold it open.
    let mut said = [0; 4096];
    let read = child.stdout.take().map(|mut output| output.read(&mut said));
    let read = read.unwrap_or(Ok(0));
    let length = read.map_err(|error| failed("can't be read").with_source(error))?;
    let text = String::from_utf8_lossy(&said[..length]);
    let line = text.lines().find_map(|line| line.strip_prefix("Version:"));
    line.map(|version| version.trim().to_string())
        .ok_or_else(|| failed("does not answer as Traefik does"))
}

/// The program's absolute path: a bare name is looked for on PATH, as a shell would.
pub(crate) fn find_program(program: &Path) -> Result<PathBuf> {
    let found = if program.components().count() > 1 {
        fs::canonicalize(program).ok()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|dir| dir.join(program))
            .find(|file| file.is_file())
    };
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::Process,
            format!(
                "there is no program {}; install Traefik 3 and put it on PATH, or say where it is \
                 with `traefik_bin`",
                program.display()
            ),
        )
    })
}

/// The last lines of what Traefik logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<VecDeque<Line>>>);

struct Line {
    at: Instant,
    complaint: bool,
    text: String,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_words(&self) -> String {
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

    /// Reads until Traefik closes its end. What comes goes to the log of this program, too.
    fn follow(&self, output: impl Read) {
        let mut output = BufReader::new(output);
        while let Some(line) = next_line(&mut output) {
            if line.is_empty() {
                continue;
            }
            let (level, text) = readable(&line);
            log::log!(target: "traefik", level, "{text}");
            // Below that it tells its configuration, and what is kept here ends up in errors.
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

/// The next line, as much of it as is kept: what follows, by itself, would be a line of no level.
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

/// The level of a line of Traefik's log, and the line as one would tell it.
fn readable(line: &str) -> (log::Level, String) {
    let mut fields = match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => fields,
        // Cut off, it may be of any level, and what it tells any of Traefik's configuration.
        _ if line.starts_with('{') => return (log::Level::Debug, line.into()),
        // Only what stops Traefik early is not JSON.
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
    fn log_lines() {
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
    fn nothing_of_a_line_that_is_cut_is_kept() {
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

    #[test]
    fn a_missing_program_is_told_with_what_to_do() {
        let error = find_program(Path::new("no-such-traefik")).unwrap_err();
        assert!(error.to_string().contains("traefik_bin"), "{error}");
    }
}
