//! Programs that run for as long as we do, ports for them, and a folder.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::{Result, tools};

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
pub(crate) struct Program {
    child: Child,
    leash: Option<ChildStdin>,
}

impl Program {
    fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        Self::run(Command::new(program).args(arguments), log)
    }

    /// Runs the command, with the variables that it sets.
    pub(crate) fn run(command: &Command, log: &Path) -> Result<Self> {
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

    /// Until it ends of itself.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn traefik(program: &Path, config: &Path, log: &Path) -> Result<Self> {
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
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(mut leash) = self.leash.take() {
            drop(leash.write_all(b"gone\n"));
        }
    }
}

/// An etcd of its own.
pub(crate) struct Etcd {
    pub(crate) port: u16,
    _program: Program,
}

impl Etcd {
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
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
        let options: Vec<_> = options
            .map(|(name, value)| format!("{name}={value}"))
            .into();
        let program = Program::start(program, &options, &folder.join("etcd.log"))?;
        let etcd = Self {
            port,
            _program: program,
        };
        wait_for(Duration::from_secs(20), "etcd", || {
            let mut connection = super::http::Connection::new(port, None);
            let body = br#"{"key":"YQ=="}"#;
            matches!(connection.post("/v3/kv/range", body), Ok((200, _)))
        })?;
        Ok(etcd)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

pub(crate) fn wait_for(most: Duration, what: &str, mut ready: impl FnMut() -> bool) -> Result {
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
pub(crate) fn free_port() -> Result<u16> {
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
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
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

    pub(crate) fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("can't remove {}: {error}", self.0.display());
        }
    }
}
