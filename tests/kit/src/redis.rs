//! Real Redis servers: a free port each, their data in a temporary folder. They are killed when they are
//! dropped, or when this process ends.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
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
        self.exchange(&[command])
    }

    /// Runs commands in one transaction.
    #[track_caller]
    pub fn transact(&self, commands: &[Vec<String>]) {
        let words = commands
            .iter()
            .map(|command| command.iter().map(String::as_str));
        let commands: Vec<Vec<&str>> = words.map(Iterator::collect).collect();
        let mut all: Vec<&[&str]> = vec![&["MULTI"]];
        all.extend(commands.iter().map(Vec::as_slice));
        all.push(&["EXEC"]);
        let answer = self.exchange(&all).expect("Redis answers");
        let error = answer.lines().find(|line| line.starts_with('-'));
        assert!(error.is_none(), "{error:?}");
    }

    fn exchange(&self, commands: &[&[&str]]) -> Option<String> {
        exchange(self.port, commands)
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

/// What the server at this port answers to commands, which it is sent at once.
fn exchange(port: u16, commands: &[&[&str]]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let mut request = String::new();
    for command in commands {
        request += &format!("*{}\r\n", command.len());
        for word in *command {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
    }
    stream.write_all(request.as_bytes()).ok()?;
    // It closes the connection once it has answered.
    stream.shutdown(Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.trim_end().into())
}

/// A master with two replicas, and three Sentinels that watch over it.
#[derive(Debug)]
pub struct Sentinels {
    /// The servers; the first one is the master to begin with.
    pub servers: Vec<Server>,
    ports: Vec<u16>,
    _processes: Vec<Process>,
    _folder: tempfile::TempDir,
}

impl Sentinels {
    /// What the master is called.
    pub const MASTER: &str = "themaster";

    /// Servers with these further arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Server::start(arguments);
        let of = format!("127.0.0.1 {}", first.port);
        let arguments = [arguments, &["--repl-diskless-sync-delay", "0"]].concat();
        let replica = |_| Server::start(&[&arguments[..], &["--replicaof", &of]].concat());
        let servers: Vec<_> = std::iter::once(first).chain((0..2).map(replica)).collect();
        // Sentinel asks for them every ten seconds.
        crate::eventually("the replicas are connected", || {
            let info = servers[0].run(&["INFO", "replication"]);
            info.matches("state=online").count() == 2
        });
        let ports: Vec<_> = (0..3).map(|_| ports::free()).collect();
        let start = |port: &u16| {
            let config = folder.path().join(format!("{port}.conf"));
            let name = Self::MASTER;
            let text = format!(
                "bind 127.0.0.1\nport {port}\nsentinel monitor {name} {of} 2\n\
                 sentinel down-after-milliseconds {name} 2000\nsentinel failover-timeout {name} 6000\n"
            );
            std::fs::write(&config, text).expect("a configuration file");
            let mut command = Command::new(REDIS.path());
            command.arg(&config).arg("--sentinel");
            Process::start(&mut command, &folder.path().join("sentinel.log"))
        };
        let processes = ports.iter().map(start).collect();
        let sentinels = Self {
            servers,
            ports,
            _processes: processes,
            _folder: folder,
        };
        crate::eventually("all Sentinels know each other", || sentinels.is_complete());
        sentinels
    }

    /// Whether each Sentinel knows the others and both replicas.
    fn is_complete(&self) -> bool {
        self.ports.iter().all(|port| {
            let question: &[&str] = &["SENTINEL", "MASTER", Self::MASTER];
            let answer = exchange(*port, &[question]).unwrap_or_default();
            let lines: Vec<_> = answer.lines().collect();
            let has = |label: &str, value: &str| {
                let at = lines.iter().position(|line| *line == label);
                at.is_some_and(|at| lines.get(at + 2) == Some(&value))
            };
            has("num-slaves", "2") && has("num-other-sentinels", "2") && has("flags", "master")
        })
    }

    /// Where the Sentinels are.
    pub fn urls(&self) -> Vec<String> {
        let url = |port| format!("redis://127.0.0.1:{port}");
        self.ports.iter().map(url).collect()
    }

    /// Which of the servers the first Sentinel takes for the master.
    pub fn master(&self) -> Option<usize> {
        let question: &[&str] = &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER];
        let answer = exchange(self.ports[0], &[question])?;
        let port: u16 = answer.lines().last()?.parse().ok()?;
        self.servers.iter().position(|server| server.port == port)
    }
}
