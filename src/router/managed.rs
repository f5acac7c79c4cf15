//! A Traefik that we have started, with the static configuration that we wrote for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::ProcessStatus;
use super::listen::Listen;
use super::verify::Verifier;
use crate::atomic;
use crate::backend::Commit;
use crate::config::text::Syntax;
use crate::error::{Error, ErrorKind, Result};
use crate::traefik::process::{Launch, Process};

const FIRST_LINE: &str =
    "# Written by traefik-router for a Traefik that it starts; removed when it stops.";

#[derive(Debug)]
pub(super) struct Managed {
    process: Mutex<State>,
    static_file: StaticFile,
    launch: Launch,
    public: Listen,
}

#[derive(Debug)]
enum State {
    Started(Process),
    /// What the start had made may still be there.
    Ended,
    Stopped,
}

/// The static configuration's file; it goes when this does.
#[derive(Debug)]
pub(super) struct StaticFile(PathBuf);

impl Managed {
    pub(super) fn start(static_file: StaticFile, launch: Launch, public: Listen) -> Result<Self> {
        let process = Process::start(&launch)?;
        Ok(Self {
            process: Mutex::new(State::Started(process)),
            static_file,
            launch,
            public,
        })
    }

    /// Starts Traefik again if it has ended by itself; says whether it had.
    pub(super) fn restart(&self) -> Result<bool> {
        match &mut *self.state() {
            State::Ended | State::Stopped => Err(stopped()),
            State::Started(process) => {
                let has_ended = process.exit().is_some();
                if has_ended {
                    *process = Process::start(&self.launch)?;
                }
                Ok(has_ended)
            }
        }
    }

    /// Waits until Traefik, started when it was `begun`, serves `commit` on its entrypoint.
    pub(super) fn wait_until_ready(
        &self,
        verifier: &Verifier,
        commit: &Commit,
        begun: Instant,
    ) -> Result<()> {
        verifier.confirm_setup(commit, begun, Some(self))?;
        self.public.wait_until_open(verifier.timeout(), self)?;
        // Somebody else's Traefik may have answered for ours, which could not listen there.
        self.check()?;
        verifier.look_at_entrypoint(commit);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        !matches!(*self.state(), State::Started(_))
    }

    pub(super) fn status(&self) -> ProcessStatus {
        match &mut *self.state() {
            State::Ended | State::Stopped => ProcessStatus::Stopped,
            State::Started(process) => match process.check() {
                Ok(()) => ProcessStatus::Running(process.id()),
                Err(error) => ProcessStatus::Ended(error.to_string()),
            },
        }
    }

    /// Fails if Traefik has ended.
    pub(super) fn check(&self) -> Result<()> {
        match &mut *self.state() {
            State::Ended | State::Stopped => Err(stopped()),
            State::Started(process) => process.check(),
        }
    }

    pub(super) fn complaints_since(&self, then: Instant) -> Vec<String> {
        match &*self.state() {
            State::Ended | State::Stopped => Vec::new(),
            State::Started(process) => process.complaints_since(then),
        }
    }

    /// Whether Traefik has said since then that it rejects what is stored, or that it does
    /// without the provider from now on. Its API tells neither.
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
        if let State::Started(process) = &mut *state {
            process.stop()?;
            *state = State::Ended;
        }
        Ok(())
    }

    /// Removes the static configuration, and what `close` does; nothing if that was done before.
    pub(super) fn clean_up(&self, close: impl FnOnce() -> Result<()>) -> Result<()> {
        if !matches!(*self.state(), State::Stopped) {
            self.static_file.remove()?;
            close()?;
            *self.state() = State::Stopped;
        }
        Ok(())
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Process, "Traefik was stopped")
}

impl StaticFile {
    /// Writes the file, for its owner's eyes only. A file that somebody else wrote stays.
    pub(super) fn write(path: &Path, config: &Value) -> Result<Self> {
        let syntax = Syntax::of(path)?;
        let resolved = atomic::resolve(path)?;
        if let Some((text, _)) = atomic::read(&resolved)? {
            if !text.starts_with(FIRST_LINE) {
                return Err(Error::new(
                    ErrorKind::InvalidConfig,
                    format!(
                        "{} is there already and not ours; move it away, or choose another \
                         `static_config_file`",
                        path.display()
                    ),
                ));
            }
        }
        atomic::remove_stale_temps(&resolved);
        let file = Self(resolved);
        // A new file has mode 0600; one that is replaced would keep its own.
        file.remove()?;
        atomic::replace(
            &file.0,
            &format!("{FIRST_LINE}\n\n{}", syntax.document(config)),
            true,
        )?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(atomic::failed("remove", &self.0, error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for StaticFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            log::warn!("{error}");
        }
    }
}
