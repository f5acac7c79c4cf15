//! Real Redis servers: a free port each, their data in a temporary folder. They are killed when they are
//! dropped, or when this process ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::ports;
use crate::process::{Process, send_signal};
use crate::tools::REDIS;

/// A running Redis. It keeps its data if it is restarted.
#[derive(Debug)]
pub struct Server {
    port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    process: Option<Process>,
}

/// The URL of an empty database in a Redis that all tests of this process share. It ends with the process.
pub fn fresh_url() -> String {
    static SHARED: OnceLock<Server> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = SHARED.get_or_init(|| Server::start(&["--save", "", "--databases", "1024"]));
    let database = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(database < 1024, "no database is left");
    format!("{}/{database}", server.url())
}

impl Server {
    /// A Redis with these further arguments, each an option or a value: `--maxmemory`, `10mb`.
    pub fn start(arguments: &[&str]) -> Self {
        let mut server = Self {
            port: ports::free(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            process: None,
        };
        server.restart();
        server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills it if it runs, and starts it with what it has written to its files.
    pub fn restart(&mut self) {
        self.kill();
        let folder = self.folder.path();
        let mut command = Command::new(REDIS.path());
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(folder)
            .args(&self.arguments);
        let mut process = Process::start_in(&mut command, &self.log(), Some(folder));
        // It loads its data before it answers; without a password it answers with an error.
        let answers = || {
            self.try_run(&["PING"])
                .is_some_and(|said| !said.starts_with("-LOADING"))
        };
        process.wait_until("Redis answers", answers);
        self.process = Some(process);
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("redis.log")
    }

    /// Stops it where it stands, or lets it go on: its connections stay, and nothing answers.
    pub fn freeze(&self, frozen: bool) {
        let process = self.process.as_ref().expect("it runs");
        send_signal(process.id(), if frozen { "STOP" } else { "CONT" });
    }

    /// What it answers to a command, as the protocol writes it.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> String {
        let answer = self.try_run(command).expect("Redis answers");
        assert!(!answer.starts_with('-'), "{command:?}: {answer}");
        answer
    }

    /// The same, unless it can't be reached.
    pub fn try_run(&self, command: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let mut request = format!("*{}\r\n", command.len());
        for word in command {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        // It closes the connection once it has answered.
        request += "*1\r\n$4\r\nQUIT\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.trim_end_matches("+OK\r\n").trim_end().into())
    }

    /// How often a command was run since `CONFIG RESETSTAT`, in scripts too.
    #[track_caller]
    pub fn calls(&self, command: &str) -> u64 {
        let info = self.run(&["INFO", "commandstats"]);
        let label = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&label));
        let calls = line.and_then(|line| line.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }
}
