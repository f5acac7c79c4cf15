//! Traefik's process: started, watched, and ended with its owner.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::output::Log;
use super::watchdog::{self, Watched};
use crate::error::{Error, ErrorKind, Result};

/// By these, and the same in small letters, Go programs send requests for others to a proxy: Traefik would
/// send those of users there, with their cookies.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// Secrets of the program `traefik-router`, which Traefik has no use for.
const SECRETS: [&str; 4] = [
    "CONFIGPROXY_AUTH_TOKEN",
    "ETCD_PASSWORD",
    "REDIS_PASSWORD",
    "TRAEFIK_API_PASSWORD",
];

/// How long a Traefik that is killed may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait, after Traefik has ended, for what it has written to its log.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A started Traefik. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    program: Watched,
    log: Log,
    readers: [JoinHandle<()>; 2],
    stop_timeout: Duration,
    /// How it ended, if it has.
    end: Option<String>,
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
        let mut command = watchdog::command(&program, launch.stop_timeout);
        command.arg(option);
        for name in PROXIES {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        for name in SECRETS {
            command.env_remove(name);
        }
        command
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let log = Log::default();
        let (out, read_out) = reader(&log)?;
        let (err, read_err) = reader(&log)?;
        let spawned = command.spawn();
        let failed = |error| not_started(&command, &program, error);
        let mut child = spawned.map_err(failed)?;
        // Each reader waits for its output, and can't be gone.
        drop(child.stdout.take().map(|output| out.send(output)));
        drop(child.stderr.take().map(|output| err.send(output)));
        let watched = Watched::new(child, &log).map_err(failed)?;
        log::info!(
            "started Traefik ({}, process {})",
            program.display(),
            watched.id()
        );
        Ok(Self {
            program: watched,
            readers: [read_out, read_err],
            log,
            stop_timeout: launch.stop_timeout,
            end: None,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.end.is_none() {
            self.end = self.program.end(&self.log);
            if self.end.is_some() {
                // A wrapper's child may hold the pipes for longer.
                let deadline = Instant::now() + LAST_WORDS;
                while Instant::now() < deadline && !self.readers.iter().all(JoinHandle::is_finished)
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        self.end.is_some()
    }

    /// The error for a Traefik that ended without being asked, if it has.
    pub(crate) fn check(&mut self) -> Result<()> {
        if !self.has_ended() {
            return Ok(());
        }
        let last = match self.log.last_words() {
            words if words.is_empty() => "it logged nothing".into(),
            words => format!("its last words: {words}"),
        };
        let how = self.end.as_deref().unwrap_or_default();
        let mut message = format!("Traefik has ended ({how}); {last}");
        if last.contains("field not found") {
            message.push_str(
                "; this Traefik is too old for that option of its static configuration: say with \
                 `traefik_bin` where a newer one is, or leave the option out",
            );
        }
        Err(Error::new(ErrorKind::Process, message))
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
        if self.has_ended() {
            return Ok(());
        }
        self.program.terminate().map_err(failed)?;
        if !self.ends_within(self.stop_timeout) {
            log::debug!(
                "Traefik did not end within {} ms, and is killed",
                self.stop_timeout.as_millis()
            );
            self.program.kill().map_err(failed)?;
            if !self.ends_within(KILL_PATIENCE) {
                return Err(failed(std::io::ErrorKind::TimedOut.into()));
            }
        }
        Ok(())
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::error!("{error}");
        }
    }
}

/// Why the command that starts a program and watches over it has not started it.
fn not_started(command: &Command, program: &Path, error: std::io::Error) -> Error {
    let (first, program) = (Path::new(command.get_program()), program.display());
    let message = if first.exists() {
        format!("can't start {program}")
    } else {
        format!(
            "there is no {}, the shell that starts {program} and watches over it: install one there",
            first.display()
        )
    };
    Error::new(ErrorKind::Process, message).with_source(error)
}

/// A thread that follows the output which it is sent. It is there before Traefik is, which nobody would end
/// otherwise if there can be no thread.
fn reader<T: Read + Send + 'static>(log: &Log) -> Result<(Sender<T>, JoinHandle<()>)> {
    let (give, given) = channel();
    let log = log.clone();
    // It is sent none where Traefik can't be started.
    let follow = move || {
        if let Ok(output) = given.recv() {
            log.follow(output);
        }
    };
    let thread = std::thread::Builder::new().spawn(follow).map_err(|error| {
        let message = "Traefik is not started, since no thread can be that reads what it logs";
        Error::new(ErrorKind::Process, message).with_source(error)
    })?;
    Ok((give, thread))
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
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => failed(
                "can't be run, since the file is not executable for this user: `chmod +x` makes it so",
            ),
            _ => failed("can't be run").with_source(error),
        })?;
    let deadline = Instant::now() + timeout;
    // Where all children are reaped by themselves, an error means that it has ended.
    while matches!(child.try_wait(), Ok(None)) {
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
        .ok_or_else(|| {
            failed("does not answer as Traefik does: say with `traefik_bin` where Traefik 3 is")
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_brings_advice() {
        let error = find_program(Path::new("no-such-traefik")).unwrap_err();
        assert!(error.to_string().contains("traefik_bin"), "{error}");
    }

    #[test]
    fn missing_shell_brings_advice() {
        let mut command = Command::new("/no/such/sh");
        let error = command.spawn().unwrap_err();
        let text = not_started(&command, Path::new("/bin/true"), error).to_string();
        assert!(
            text.contains("there is no /no/such/sh, the shell"),
            "{text}"
        );
    }

    #[test]
    fn wrong_program_brings_advice() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (program, cure) in [
            (Path::new("/bin/true"), "`traefik_bin`"),
            (file.path(), "`chmod +x`"),
        ] {
            let error = version_of(program, Duration::from_secs(5)).unwrap_err();
            assert!(error.to_string().contains(cure), "{error}");
        }
    }
}
