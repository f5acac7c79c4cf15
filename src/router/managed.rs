//! A started Traefik, with the files that only it reads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::certificate::CertificateFiles;
use super::listen::Listen;
use crate::atomic::{self, FileId, Folder};
use crate::config::dynamic::Certificate;
use crate::config::text::Entries as _;
use crate::config::text::Syntax;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Lock;
use crate::sync::unpoisoned;
use crate::traefik::process::{Launch, Process};

const FIRST_LINE: &str =
    "# Written by traefik-router for a Traefik that it starts; removed when it stops.";

#[derive(Debug)]
pub(super) struct Managed {
    process: Mutex<State>,
    /// Held by the caller that revives Traefik.
    reviving: Mutex<()>,
    own_files: OwnFiles,
    launch: Launch,
    public: Listen,
    certificate: Option<CertificateFiles>,
}

/// The state of the Traefik that a Router has started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessStatus {
    /// It runs.
    #[non_exhaustive]
    Running {
        /// Its process id.
        pid: u32,
    },
    /// It runs, but has not served in time since [`Router::revive`](crate::Router::revive) started it.
    #[non_exhaustive]
    NotServing {
        /// Its process id.
        pid: u32,
    },
    /// It was stopped by [`Router::stop`](crate::Router::stop).
    Stopped,
    /// It ended by itself.
    #[non_exhaustive]
    Ended {
        /// How it ended, with the last lines of its log.
        reason: String,
    },
}

#[derive(Debug)]
enum State {
    Started(Box<Started>),
    /// What the start had made may still be there.
    Ended,
    Stopped,
}

#[derive(Debug)]
struct Started {
    process: Process,
    since: Instant,
    readiness: Readiness,
    /// The folder that its file provider watches.
    watched: Option<Folder>,
}

/// How far a process has come. One that runs may never serve: Traefik goes on without its file provider
/// if that can't start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// Not known yet whether it serves.
    Starting,
    Serves,
    /// It did not serve in time.
    Failed,
}

impl Started {
    fn new(launch: &Launch, watched: Option<&Path>) -> Result<Self> {
        let since = Instant::now();
        // Before Traefik looks: it may watch a later one, and not an earlier one.
        let watched = watched.and_then(Folder::open);
        Ok(Self {
            process: Process::start(launch)?,
            since,
            readiness: Readiness::Starting,
            watched,
        })
    }

    /// Whether the folder that Traefik watches was replaced: it notices no change in the new one.
    fn watches_replaced_folder(&self) -> bool {
        self.watched.as_ref().is_some_and(Folder::is_replaced)
    }
}

/// The files that only this Traefik reads: its static configuration, and beside it, where the store
/// does not hold them, its dynamic configuration and its certificate. They go when this does.
pub(super) struct OwnFiles {
    syntax: Syntax,
    static_file: PathBuf,
    private: PathBuf,
    pem: PathBuf,
    lock: Mutex<Option<Lock>>,
    /// What was written to them: passwords' hashes and private keys.
    written: Mutex<BTreeMap<PathBuf, String>>,
    /// The folder that the file provider watches.
    watched: Option<PathBuf>,
}

impl Managed {
    pub(super) fn start(
        own_files: OwnFiles,
        launch: Launch,
        public: Listen,
        certificate: Option<CertificateFiles>,
    ) -> Result<Self> {
        let started = Started::new(&launch, own_files.watched.as_deref())?;
        Ok(Self {
            process: Mutex::new(State::Started(Box::new(started))),
            reviving: Mutex::new(()),
            own_files,
            launch,
            public,
            certificate,
        })
    }

    /// The files of the certificate that the user gave.
    pub(super) fn certificate(&self) -> Option<&CertificateFiles> {
        self.certificate.as_ref()
    }

    /// Gives Traefik another certificate than the one in its private files.
    pub(super) fn replace_certificate(&self, certificate: &Certificate) -> Result<()> {
        self.own_files.write_certificate(certificate)?;
        // It reads a certificate only when it loads the configuration.
        match atomic::read(&self.own_files.private)? {
            Some((text, _)) => atomic::replace(&self.own_files.private, &text, true).map(drop),
            None => Ok(()),
        }
    }

    /// Starts Traefik again if it has ended by itself, if it was started again before and did not serve,
    /// or if it watches a folder that was replaced. Then calls `wait`, which waits until
    /// Traefik serves. Returns whether it had to. A caller waits for the one before it: nobody
    /// ends a Traefik for which another caller waits.
    pub(super) fn revive(&self, wait: impl FnOnce() -> Result<()>) -> Result<bool> {
        let _one_at_a_time = unpoisoned(self.reviving.lock());
        let is_needed = self.restart()?;
        if is_needed {
            wait()?;
        }
        Ok(is_needed)
    }

    /// Returns true if the caller must wait until Traefik serves.
    fn restart(&self) -> Result<bool> {
        let mut state = self.state();
        let State::Started(started) = &mut *state else {
            return Err(stopped());
        };
        let restored = self.own_files.restore();
        if !started.process.has_ended() {
            match started.readiness {
                _ if started.watches_replaced_folder() => {
                    log::warn!(
                        "the folder that Traefik watches was replaced; Traefik is started again"
                    );
                }
                Readiness::Serves => {
                    if let Err(error) = restored {
                        log::debug!("{error}");
                    }
                    return Ok(false);
                }
                Readiness::Starting => return Ok(true),
                // Waiting again does not help if its file provider did not start.
                Readiness::Failed => log::warn!("Traefik runs but does not serve; it is ended"),
            }
            // Without them no other one could be started.
            restored?;
            started.process.stop()?;
        } else {
            restored?;
        }
        **started = Started::new(&self.launch, self.own_files.watched.as_deref())?;
        Ok(true)
    }

    /// When the process was started.
    pub(super) fn started_at(&self) -> Result<Instant> {
        match &*self.state() {
            State::Ended | State::Stopped => Err(stopped()),
            State::Started(started) => Ok(started.since),
        }
    }

    /// Notes whether Traefik has served within the time allowed.
    pub(super) fn set_ready(&self, ready: bool) {
        if let State::Started(started) = &mut *self.state() {
            started.readiness = match (ready, started.readiness) {
                // A change may have been served in the meantime.
                (true, _) | (false, Readiness::Serves) => Readiness::Serves,
                (false, _) => Readiness::Failed,
            };
        }
    }

    /// Waits until Traefik listens where requests come in.
    pub(super) fn wait_until_open(&self, timeout: Duration) -> Result<()> {
        self.public.wait_until_open(timeout, || self.check())?;
        // Another Traefik may listen there, since ours could not.
        self.check()
    }

    /// Whether Traefik runs, and did not serve in time.
    pub(super) fn has_failed(&self) -> bool {
        match &*self.state() {
            State::Started(started) => started.readiness == Readiness::Failed,
            State::Ended | State::Stopped => false,
        }
    }

    /// Notes that Traefik serves a commit that was `begun` after Traefik was started.
    pub(super) fn serves(&self, begun: Instant) {
        if let State::Started(started) = &mut *self.state() {
            if started.since <= begun {
                started.readiness = Readiness::Serves;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(self.process.lock())
    }

    pub(super) fn is_stopped(&self) -> bool {
        !matches!(*self.state(), State::Started(_))
    }

    pub(super) fn status(&self) -> ProcessStatus {
        match &mut *self.state() {
            State::Ended | State::Stopped => ProcessStatus::Stopped,
            State::Started(started) => {
                let pid = started.process.id();
                match (started.process.check(), started.readiness) {
                    (Err(error), _) => ProcessStatus::Ended {
                        reason: error.to_string(),
                    },
                    (Ok(()), Readiness::Serves) => ProcessStatus::Running { pid },
                    (Ok(()), _) => ProcessStatus::NotServing { pid },
                }
            }
        }
    }

    /// Fails if Traefik has ended.
    pub(super) fn check(&self) -> Result<()> {
        match &mut *self.state() {
            State::Ended | State::Stopped => Err(stopped()),
            State::Started(started) => started.process.check(),
        }
    }

    pub(super) fn complaints_since(&self, then: Instant) -> Vec<String> {
        match &*self.state() {
            State::Ended | State::Stopped => Vec::new(),
            State::Started(started) => started.process.complaints_since(then),
        }
    }

    /// Whether Traefik has logged since then that it rejects the configuration, or could not start its
    /// provider. Its API shows neither.
    pub(super) fn has_rejected_since(&self, then: Instant) -> bool {
        let words = [
            "watcher callback",
            "building configuration",
            "Cannot build the configuration",
            "Cannot start the provider",
        ];
        let complaints = self.complaints_since(then);
        complaints
            .iter()
            .any(|line| words.iter().any(|words| line.contains(words)))
    }

    /// Ends Traefik.
    pub(super) fn end(&self) -> Result<()> {
        let mut state = self.state();
        if let State::Started(started) = &mut *state {
            started.process.stop()?;
            *state = State::Ended;
        }
        Ok(())
    }

    /// Removes its own files, and what `close` does; nothing if that was done before.
    pub(super) fn clean_up(&self, close: impl FnOnce() -> Result<()>) -> Result<()> {
        if !matches!(*self.state(), State::Stopped) {
            self.own_files.remove()?;
            close()?;
            *self.state() = State::Stopped;
        }
        Ok(())
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Process, "Traefik was stopped")
}

impl fmt::Debug for OwnFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnFiles")
            .field("static_file", &self.static_file)
            .finish_non_exhaustive()
    }
}

impl OwnFiles {
    /// Claims the path of a static configuration. A file of others there is refused, and so is a path
    /// that another process has claimed.
    pub(super) fn claim(path: &Path) -> Result<Self> {
        let syntax = Syntax::of(path)?;
        let static_file = atomic::resolve(path)?;
        let lock = claimed(&static_file)?;
        let ending = static_file.extension().unwrap_or_default().to_os_string();
        let mut private = OsString::from("private.");
        private.push(&ending);
        let mut pem = private.clone();
        pem.push(".pem");
        let files = Self {
            syntax,
            private: static_file.with_extension(private),
            pem: static_file.with_extension(pem),
            lock: Mutex::new(Some(lock)),
            static_file,
            written: Mutex::default(),
            watched: None,
        };
        for file in [&files.static_file, &files.private, &files.pem] {
            let is_ours = |text: &str| text.starts_with(FIRST_LINE) || Certificate::is_ours(text);
            let there = atomic::read(file)?;
            if there.is_some_and(|(text, _)| !is_ours(&text)) {
                // Without the lock nothing is removed.
                files.unlock();
                return Err(Error::invalid(format!(
                    "{} exists already, and this program did not write it; move it away, or choose another \
                     `static_config_file`",
                    file.display()
                )));
            }
        }
        atomic::remove_stale_temps(&files.static_file);
        // A new file has mode 0600; one that is replaced would keep its own.
        files.remove_files()?;
        Ok(files)
    }

    pub(super) fn static_file(&self) -> &Path {
        &self.static_file
    }

    pub(super) fn write_static(&mut self, config: &Value) -> Result<()> {
        let provider = |key| config.pointer(key).and_then(Value::as_str).map(Path::new);
        let folder = provider("/providers/file/directory");
        let folder = folder.or_else(|| provider("/providers/file/filename")?.parent());
        self.watched = folder.map(Into::into);
        self.write(&self.static_file, &self.syntax.document(config))
    }

    /// Writes the dynamic configuration of this Traefik alone; returns its file.
    pub(super) fn write_dynamic(&self, config: &Value) -> Result<String> {
        // Unlike a document, entries hold nothing that Traefik would run as a template.
        let parts = config.as_object().into_iter().flatten();
        let entries = parts.map(|(name, part)| self.syntax.entry(name, part));
        self.write(&self.private, &entries.collect::<String>())?;
        atomic::utf8(&self.private)
    }

    /// Writes the certificate of this Traefik alone; returns its file.
    pub(super) fn write_certificate(&self, certificate: &Certificate) -> Result<String> {
        self.replace(&self.pem, certificate.pem.clone())?;
        atomic::utf8(&self.pem)
    }

    fn write(&self, file: &Path, text: &str) -> Result<()> {
        self.replace(file, format!("{FIRST_LINE}\n\n{text}"))
    }

    fn replace(&self, file: &Path, text: String) -> Result<()> {
        let mut written = unpoisoned(self.written.lock());
        atomic::replace(file, &text, true)?;
        written.insert(file.into(), text);
        Ok(())
    }

    /// Writes those again that others have removed, and claims the path again if its lock is gone.
    fn restore(&self) -> Result<()> {
        let mut lock = unpoisoned(self.lock.lock());
        if lock.as_ref().is_some_and(|lock| !lock.is_met()) {
            *lock = Some(claimed(&self.static_file)?);
        }
        let written = unpoisoned(self.written.lock());
        for (file, text) in &*written {
            if FileId::of(file)?.is_none() {
                log::warn!("{} is gone; it is written again", file.display());
                atomic::replace(file, text, true)?;
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        self.remove_files()?;
        self.unlock();
        Ok(())
    }

    fn remove_files(&self) -> Result<()> {
        for file in [&self.static_file, &self.private, &self.pem] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(atomic::failed("remove", file, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn unlock(&self) {
        let lock = unpoisoned(self.lock.lock()).take();
        match lock.map(|lock| lock.remove()) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => log::warn!(
                "can't remove the lock of {}: {error}",
                self.static_file.display()
            ),
            _ => {}
        }
    }
}

impl Drop for OwnFiles {
    fn drop(&mut self) {
        let held = unpoisoned(self.lock.lock()).is_some();
        // Files that are no longer locked may be another's.
        if held {
            if let Err(error) = self.remove() {
                log::warn!("{error}");
            }
        }
    }
}

/// The lock of a static configuration; refused if another process has it.
fn claimed(static_file: &Path) -> Result<Lock> {
    Lock::claim(static_file)?.map_err(|holder| {
        let holder = holder.map_or("another process".into(), |pid| format!("process {pid}"));
        let message = format!(
            "{} (`static_config_file`) is in use by a Traefik that {holder} has started; choose \
             another one",
            static_file.display()
        );
        Error::new(ErrorKind::InUse, message)
    })
}
