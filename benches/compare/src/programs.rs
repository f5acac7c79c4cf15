//! Programs that run for as long as we do, ports for them, and a folder.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use kit::tools;

use crate::Result;
use crate::http::Connection;

/// A shell that becomes the program leaves a child behind that kills it once we are gone, however
/// we ended: the pipe that it reads from closes then.
const LEASH: &str = r#"
exec 3<&0 </dev/null
{
    read -r word <&3
    [ "$word" = gone ] || kill -KILL $$ 2>/dev/null
} >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;

/// A program that ends when this is dropped, or when we end.
pub struct Program {
    child: Child,
    leash: Option<ChildStdin>,
}

impl Program {
    /// Runs the command, with the variables that it sets.
    pub fn run(command: &Command, log: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let log = File::create(log)?;
        let variables = command.get_envs();
        let mut child = Command::new("/bin/sh")
            .args(["-c", LEASH, "leash"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let leash = child.stdin.take();
        Ok(Self { child, leash })
    }

    /// Waits until it ends of itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Starts Traefik with this static configuration.
    pub fn traefik(program: &Path, config: &Path, log: &Path) -> Result<Self> {
        let option = format!("--configFile={}", config.display());
        let mut command = Command::new(program);
        command.arg(option);
        if std::env::var_os("GOGC").is_none() {
            // As the library starts it.
            command.env("GOGC", "400");
        }
        Self::run(&command, log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        use std::io::Write as _;
        self.kill();
        if let Some(mut leash) = self.leash.take() {
            drop(leash.write_all(b"gone\n"));
        }
    }
}

/// An etcd of its own, with its data and its log in a folder.
pub struct Etcd {
    /// Where clients connect.
    pub port: u16,
    command: Command,
    log: PathBuf,
    program: Program,
}

impl Etcd {
    /// Starts it, and waits until it answers.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        let (port, peers) = (free_port()?, free_port()?);
        let (client, peers) = (
            format!("http://127.0.0.1:{port}"),
            format!("http://127.0.0.1:{peers}"),
        );
        let options = [
            ("--data-dir", folder.join("etcd").display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client.clone()),
            ("--listen-peer-urls", peers.clone()),
            ("--initial-advertise-peer-urls", peers.clone()),
            ("--initial-cluster", format!("default={peers}")),
        ];
        let mut command = Command::new(program);
        command.args(options.map(|(name, value)| format!("{name}={value}")));
        let log = folder.join("etcd.log");
        let program = Program::run(&command, &log)?;
        let etcd = Self {
            port,
            command,
            log,
            program,
        };
        etcd.wait()?;
        Ok(etcd)
    }

    /// Kills it and starts it again on the same data.
    pub fn restart(&mut self) -> Result {
        self.program.kill();
        self.program = Program::run(&self.command, &self.log)?;
        self.wait()
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn wait(&self) -> Result {
        wait_for(Duration::from_secs(20), "etcd", || {
            let mut connection = Connection::new(self.port, None);
            let body = br#"{"key":"YQ=="}"#;
            matches!(connection.post("/v3/kv/range", body), Ok((200, _)))
        })
    }
}

/// Waits until `ready` returns true.
///
/// # Errors
///
/// If it does not within `most`.
pub fn wait_for(most: Duration, what: &str, mut ready: impl FnMut() -> bool) -> Result {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > most {
            return Err(format!("{what} is not ready after {most:?}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A port below those that the system gives to outgoing connections.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(25_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 32_000 {
            return Err("no free port below 32000".into());
        }
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

/// A folder on the same disk as the build; it is gone when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it, in `target/work`.
    pub fn new() -> Result<Self> {
        let parent = tools::workspace().join("target/work");
        fs::create_dir_all(&parent)?;
        // A run that was killed leaves its folder to the next one.
        for left in fs::read_dir(&parent)? {
            let left = left?;
            if !Path::new("/proc").join(left.file_name()).exists() {
                fs::remove_dir_all(left.path())?;
            }
        }
        let path = parent.join(std::process::id().to_string());
        fs::create_dir(&path)?;
        Ok(Self(fs::canonicalize(path)?))
    }

    /// Its subfolder of this name, which is made if it is not there.
    pub fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Folder {
    #[allow(clippy::print_stderr, reason = "it belongs to programs for a terminal")]
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("can't remove {}: {error}", self.0.display());
        }
    }
}
