//! An unmodified JupyterHub on our program, beside configurable-http-proxy.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod posts;
mod suites;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use kit::etcd::Cluster;
use kit::terminal::exit_code;
use kit::{Folder, tools};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The name that JupyterHub looks for on PATH.
const CHP: &str = "configurable-http-proxy";

#[derive(Parser)]
#[command(bin_name = "cargo xtask jupyterhub")]
/// Run JupyterHub's own tests with traefik-router for its proxy and with configurable-http-proxy,
/// and compare; ask both the same by REST
struct Options {
    /// Send both 200 and 1,000 routes, several at a time, instead; prints how many share a commit
    #[arg(long, group = "what")]
    posts: bool,
    /// Start a server for each awkward user name, through both, instead
    #[arg(long, group = "what")]
    names: bool,
    /// Kill JupyterHub, traefik-router and a Traefik that others run in turn, and see that servers which
    /// are open go on, instead
    #[arg(long, group = "what")]
    attached: bool,
    /// Move from configurable-http-proxy and from jupyterhub-traefik-proxy and back, while an open server is
    /// asked 50 times a second, instead
    #[arg(long, group = "what")]
    moving: bool,
    /// Sign in and run a notebook in Chromium instead, on two Traefiks; writes docs/jupyterhub.png and
    /// docs/two-traefiks.png
    #[arg(long, group = "what")]
    show: bool,
    /// Run the tests with traefik-router alone
    #[arg(long, conflicts_with = "what")]
    ours: bool,
    /// Run the tests with configurable-http-proxy alone
    #[arg(long, conflicts_with_all = ["ours", "what"])]
    real: bool,
    /// Run the tests with traefik-router attached to a Traefik that runs beside it, but for those with internal TLS
    /// and Unix sockets, which need a Traefik that it starts
    #[arg(long, conflicts_with_all = ["ours", "real", "class", "what"])]
    suite_attached: bool,
    /// Run the tests with the proxy class of the Python package for JupyterHub's own
    #[arg(long, conflicts_with_all = ["real", "what"])]
    class: bool,
    /// Run the tests that this pattern matches, as pytest -k has it, and none with a host for each user
    #[arg(long, value_name = "PATTERN", conflicts_with = "what")]
    only: Option<String>,
}

fn main() -> ExitCode {
    exit_code(run(&Options::parse()))
}

fn run(options: &Options) -> Result {
    tools::TRAEFIK.get()?;
    tools::JUPYTERHUB.get()?;
    let folder = Folder::new()?;
    let _leftovers = Leftovers(folder.sub("bin")?);
    if options.posts {
        return posts::run(&Side::both("release", &folder)?, &folder);
    }
    if options.names {
        return script("names.py", &Side::both("dev", &folder)?, &folder, &[]);
    }
    if options.attached {
        return attached(&folder);
    }
    if options.moving {
        return moving(&folder);
    }
    if options.show {
        let docs = tools::workspace().join("docs");
        let pictures = ["jupyterhub.png", "two-traefiks.png"].map(|name| docs.join(name).into());
        return script(
            "show.py",
            &[Side::ours("dev", &folder)?],
            &folder,
            &pictures,
        );
    }
    let mut sides: Vec<Side> = match (options.ours, options.real) {
        (true, _) => vec![Side::ours("dev", &folder)?],
        (_, true) => vec![Side::real(&folder)?],
        _ if options.suite_attached => vec![Side::attached(&folder)?, Side::real(&folder)?],
        _ => Side::both("dev", &folder)?.into(),
    };
    sides[0].has_class = options.class;
    let chosen = suites::Chosen {
        only: options.only.as_deref(),
        attached: options.suite_attached,
    };
    suites::run(&sides, chosen, &folder)
}

/// On Traefiks that take a table, and on others that read an etcd.
fn attached(folder: &Folder) -> Result {
    tools::ETCD.get()?;
    let etcd = Cluster::start(&tools::ETCD.path());
    let ours = Side::ours("dev", folder)?;
    for store in ["push".to_string(), format!("etcd:{}", etcd.url())] {
        let ours = std::slice::from_ref(&ours);
        script("attached.py", ours, folder, &[store.into()])?;
    }
    Ok(())
}

fn moving(folder: &Folder) -> Result {
    tools::ETCD.get()?;
    let other = tools::CONFIGURABLE_HTTP_PROXY.get()?;
    let etcd = Cluster::start(&tools::ETCD.path());
    let ours = Side::ours("dev", folder)?;
    let page = tools::workspace().join("docs/moving.md");
    let arguments = [etcd.url().into(), other.into(), page.into()];
    script("moving.py", &[ours], folder, &arguments)
}

/// One of the two proxies, as JupyterHub finds it.
struct Side {
    name: &'static str,
    python: PathBuf,
    path: OsString,
    traefik: PathBuf,
    /// Whether JupyterHub uses the class of our Python package.
    has_class: bool,
}

impl Side {
    fn both(profile: &str, folder: &Folder) -> Result<[Self; 2]> {
        Ok([Self::ours(profile, folder)?, Self::real(folder)?])
    }

    /// Our binary under the other one's name.
    fn ours(profile: &str, folder: &Folder) -> Result<Self> {
        let binary = build(profile)?;
        Self::new("traefik-router", &[CHP, "traefik-router"], &binary, folder)
    }

    /// Our binary, attached to a Traefik that runs beside it.
    fn attached(folder: &Folder) -> Result<Self> {
        let side = Self::new(
            "traefik-router attached",
            &["traefik-router"],
            &build("dev")?,
            folder,
        )?;
        write_scripts(&folder.sub(side.name)?)?;
        let script = folder.sub(side.name)?.join("beside.py");
        let quoted = |path: &Path| format!("'{}'", path.display());
        let stub = format!(
            "#!/bin/sh\nexec {} {} \"$@\"\n",
            quoted(&side.python),
            quoted(&script)
        );
        let program = folder.sub("bin")?.join(side.name).join(CHP);
        fs::write(&program, stub)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(side)
    }

    fn real(folder: &Folder) -> Result<Self> {
        let program = tools::CONFIGURABLE_HTTP_PROXY.get()?;
        Self::new(CHP, &[CHP], &program, folder)
    }

    fn new(name: &'static str, names: &[&str], program: &Path, folder: &Folder) -> Result<Self> {
        let programs = folder.sub("bin")?.join(name);
        fs::create_dir(&programs)?;
        for name in names {
            std::os::unix::fs::symlink(program, programs.join(name))?;
        }
        let python = tools::JUPYTERHUB.find()?;
        let mut path = vec![programs];
        path.extend(python.parent().map(Path::to_path_buf));
        let rest = std::env::var_os("PATH").unwrap_or_default();
        path.extend(std::env::split_paths(&rest));
        Ok(Self {
            name,
            python,
            path: std::env::join_paths(path)?,
            traefik: tools::TRAEFIK.find()?,
            has_class: false,
        })
    }

    /// A program of this side's PATH, without what the caller's environment says to JupyterHub.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("PATH", &self.path)
            .env("TRAEFIK_BIN", &self.traefik)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1");
        command
    }
}

/// Ends what JupyterHub's tests leave behind: every process with this folder on its PATH.
struct Leftovers(PathBuf);

impl Drop for Leftovers {
    fn drop(&mut self) {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = self.0.as_os_str().as_bytes();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            let mut parts = environment.windows(folder.len());
            if parts.any(|part| part == folder) {
                let kill = Command::new("kill")
                    .arg("-KILL")
                    .arg(process.file_name())
                    .status();
                drop(kill);
            }
        }
    }
}

/// Our program, as this profile of cargo builds it.
fn build(profile: &str) -> Result<PathBuf> {
    let options = ["build", "--all-features", "--profile", profile];
    let status = tools::cargo()
        .args(options)
        .args(["--bin", "traefik-router"])
        .current_dir(tools::workspace())
        .status()?;
    if !status.success() {
        return Err(format!("cargo build: {status}").into());
    }
    // We are in target/debug ourselves, wherever that is.
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    let target = target.ok_or("this program is not in a target folder")?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target.join(folder).join("traefik-router"))
}

/// Runs a script with JupyterHub's Python on each side in turn: it speaks for itself.
fn script(name: &str, sides: &[Side], folder: &Folder, arguments: &[OsString]) -> Result {
    for side in sides {
        let folder = folder.sub(side.name)?;
        write_scripts(&folder)?;
        println!("{}", side.name);
        let status = side
            .command(&side.python)
            .arg(folder.join(name))
            .args(arguments)
            .current_dir(&folder)
            .status()?;
        if !status.success() {
            return Err(format!("{name} on {}: {status}", side.name).into());
        }
    }
    Ok(())
}

fn write_scripts(folder: &Path) -> Result {
    for (name, text) in [
        ("hub.py", include_str!("../scripts/hub.py")),
        ("attached.py", include_str!("../scripts/attached.py")),
        ("beside.py", include_str!("../scripts/beside.py")),
        ("programs.py", include_str!("../scripts/programs.py")),
        ("moving.py", include_str!("../scripts/moving.py")),
        ("names.py", include_str!("../scripts/names.py")),
        ("server.py", include_str!("../scripts/server.py")),
        ("show.py", include_str!("../scripts/show.py")),
        ("outcomes.py", include_str!("../scripts/outcomes.py")),
        ("pytest.ini", include_str!("../scripts/pytest.ini")),
    ] {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
