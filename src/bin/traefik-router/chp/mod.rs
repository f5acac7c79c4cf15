//! `traefik-router chp`: replaces configurable-http-proxy.

mod activity;
mod api;
mod attached;
mod config;
mod folder;
mod front;
mod init;
mod logger;
mod metrics;
mod monitor;
mod pages;
mod proxy;
mod relay;
mod routes;
mod server;
mod sockets;
mod stored_config;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::folder::{Folder, RemovedAtEnd};
use self::proxy::{Event, Proxy};
use crate::failure::Failure;
use crate::settings::{ChpOptions, Settings};

/// How long a program that is ended while it attaches takes to take back what it has stored. A request to
/// Traefik's API takes 5 seconds at most by default.
const TAKING_BACK: Duration = Duration::from_secs(6);

pub(crate) fn run(options: ChpOptions, settings: Settings) -> ExitCode {
    let unblocked = unblock_signals();
    let below = match init::run_below() {
        Ok(Some(code)) => return code,
        other => other,
    };
    if let Err(error) = logger::start(options.log_level) {
        clap::Error::raw(clap::error::ErrorKind::Io, error + "\n").exit();
    }
    if let Err(error) = unblocked {
        log::warn!("SIGTERM and SIGINT may be blocked: {error}");
    }
    if let Err(error) = below {
        log::warn!("process 1 can't reap orphaned processes: {error}");
    }
    lift_file_limit();
    let code = match serve(options, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = &failure.message {
                log::error!("{message}");
            }
            ExitCode::from(failure.code)
        }
    };
    logger::flush();
    code
}

/// Serves until a signal ends the program.
fn serve(options: ChpOptions, settings: Settings) -> Result<(), Failure> {
    let (tell, events) = mpsc::channel();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::failed(error.to_string()))?;
    let sender = tell.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // Nobody listens any more where the program ends already.
            sender.send(Event::Signal(signal)).ok();
        }
    });
    let folder = (!settings.attaches()).then(Folder::new).transpose();
    let folder = folder
        .map_err(|error| Failure::failed(format!("can't make a temporary folder: {error}")))?;
    let folder = folder.map(|folder| RemovedAtEnd(Arc::new(folder)));
    let pid_file = options.pid_file.clone().map(PidFile::write).transpose();
    let _pid_file = pid_file.map_err(Failure::failed)?;
    let place = folder.as_ref().map(|folder| Arc::clone(&folder.0));
    let attaches = settings.attaches();
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    std::thread::spawn(move || {
        let event = match Proxy::start(&options, settings, place, &flag, tell.clone()) {
            Ok(proxy) => Event::Started(Box::new(proxy)),
            Err(failure) => Event::Failed(failure),
        };
        tell.send(event).ok();
    });
    let mut running = None;
    loop {
        let event = events.recv();
        match event.map_err(|error| Failure::failed(error.to_string()))? {
            Event::Started(proxy) => running = Some(proxy),
            Event::Failed(failure) => {
                if let Some(Err(second)) = running.map(|proxy| proxy.stop()) {
                    log::error!("{second}");
                }
                return Err(failure);
            }
            Event::Signal(SIGHUP) => {
                log::info!("SIGHUP is ignored: a renewed certificate is loaded without it");
            }
            Event::Signal(signal) => {
                log::warn!(
                    "{}",
                    if signal == SIGINT {
                        "Interrupted"
                    } else {
                        "Terminated"
                    }
                );
                return match running {
                    Some(proxy) => proxy.stop().map_err(Failure::failed),
                    None => {
                        cancelled.store(true, Ordering::Relaxed);
                        match attaches {
                            true => taken_back(&events),
                            false => Ok(()),
                        }
                    }
                };
            }
        }
    }
}

/// Waits until what was stored to attach is taken back.
fn taken_back(events: &Receiver<Event>) -> Result<(), Failure> {
    let deadline = Instant::now() + TAKING_BACK;
    let left = || deadline.saturating_duration_since(Instant::now());
    loop {
        match events.recv_timeout(left()) {
            Ok(Event::Started(proxy)) => return proxy.stop().map_err(Failure::failed),
            Ok(Event::Signal(_)) => {}
            Ok(Event::Failed(why)) => {
                log::info!("{}", why.message.unwrap_or_default());
                return Ok(());
            }
            Err(_) => {
                log::warn!(
                    "the router for Traefik's API, and more configuration, may be left in the store: Traefik or the \
                     store does not answer"
                );
                return Ok(());
            }
        }
    }
}

/// A program inherits the signals that its parent has blocked. Before there are threads, which inherit
/// them, too.
fn unblock_signals() -> nix::Result<()> {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]).thread_unblock()
}

/// Lets us have as many files open as the system allows, as Traefik does for itself: each connection
/// is one, and a relayed one two.
fn lift_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let lifted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, lifted) {
        log::debug!("the limit of open files stays: {error}");
    }
}

/// The file with the process id; it goes when this does.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self, String> {
        std::fs::write(&path, std::process::id().to_string())
            .map_err(|error| format!("--pid-file {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            log::warn!("{}: {error}", self.0.display());
        }
    }
}
