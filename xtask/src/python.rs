//! `cargo xtask python`: the Python package in `packaging/python`. Its wheel is built, installed beside
//! JupyterHub, and tested.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use kit::terminal::println;
use kit::tools::{JUPYTERHUB, workspace};

use crate::tools::fetch::{check, files_in, needs_pip, output_of, pins};
use crate::{Result, tools};

/// Test the Python package: its types, and JupyterHubs on its classes
#[derive(Args)]
pub(crate) struct Options {
    /// Run the tests that this pattern matches, as pytest -k has it
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result {
    let (traefik, etcd, redis) = (tools::traefik()?, tools::etcd_3_5()?, tools::redis()?);
    let python = environment(&traefik.path)?;
    println!("types");
    in_package(Command::new(&python).args(["-m", "mypy"]))?;
    println!("tests");
    let mut pytest = Command::new(&python);
    pytest.args([
        "-m",
        "pytest",
        "-p",
        "no:jupyter_server",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
    ]);
    if let Some(pattern) = &options.only {
        pytest.args(["-k", pattern]);
    }
    in_package(
        pytest
            .env("ETCD_BIN", etcd.path)
            .env("REDIS_BIN", redis.path),
    )
}

/// Runs a command in the package's folder, and shows what it prints.
fn in_package(command: &mut Command) -> Result {
    let status = command.current_dir(package()).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {status}").into()),
    }
}

fn package() -> PathBuf {
    workspace().join("packaging/python")
}

/// Makes a virtual environment in `target/python` with JupyterHub, mypy, and a wheel of a debug build: as pip
/// leaves it, with `traefik` beside the program. Returns its Python.
fn environment(traefik: &Path) -> Result<PathBuf> {
    tools::jupyterhub()?;
    let target = workspace().join("target");
    let wheels = target.join("python-wheels");
    let wheel = wheel(&wheels, &["--profile", "dev", "--all-features"], None)?;
    let (home, hubs_python) = (target.join("python"), JUPYTERHUB.python());
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    let mut venv = Command::new(&hubs_python);
    check(venv.args(["-m", "venv", "--without-pip"]).arg(&home)).map_err(needs_pip)?;
    let python = home.join("bin/python");
    borrow_packages(&hubs_python, &python)?;
    symlink(JUPYTERHUB.folder().join("share"), home.join("share"))?;
    symlink(traefik, home.join("bin/traefik"))?;
    let mut install = Command::new(&hubs_python);
    install.args(["-m", "pip", "--python"]).arg(&python);
    install.args(["install", "--quiet", "--no-deps", "--requirement"]);
    check(install.arg(pins("mypy.txt")).arg(wheel))?;
    Ok(python)
}

/// Links the packages of one environment into another, but for jupyterhub-traefik-proxy, which registers names
/// that are ours as well.
fn borrow_packages(from: &Path, to: &Path) -> Result {
    let code = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = |python: &Path| {
        let said = output_of(Command::new(python).args(["-c", code]));
        said.map(PathBuf::from)
            .ok_or("Python does not say where its packages are")
    };
    let to = packages(to)?;
    for package in files_in(&packages(from)?)? {
        let name = package.file_name().unwrap_or_default();
        if !name
            .to_string_lossy()
            .starts_with("jupyterhub_traefik_proxy")
        {
            symlink(&package, to.join(name))?;
        }
    }
    Ok(())
}

/// Builds the wheel into a folder, where it is the only file. `programs` comes first on PATH.
pub(crate) fn wheel(into: &Path, options: &[&str], programs: Option<&Path>) -> Result<PathBuf> {
    let maturin = tools::maturin()?;
    if into.exists() {
        fs::remove_dir_all(into)?;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = programs
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path));
    let mut build = Command::new(maturin.path);
    build.args(["build", "--out"]).arg(into).args(options);
    build.env("PATH", std::env::join_paths(path)?);
    check(build.current_dir(package()))?;
    let built = files_in(into)?.pop();
    built.ok_or_else(|| "maturin has built no wheel".into())
}
