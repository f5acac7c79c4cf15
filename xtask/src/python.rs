//! `cargo xtask python`: the Python package in `packaging/python`. Its wheel is built, installed beside
//! JupyterHub, and tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use kit::terminal::println;
use kit::tools::{JUPYTERHUB, workspace};

use crate::tools::fetch::{check, files_in, needs_pip, pins};
use crate::{Result, tools};

/// Test the Python package: its types, and JupyterHubs on its classes
#[derive(Args)]
pub(crate) struct Options {
    /// Run the tests that this pattern matches, as pytest -k has it
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result {
    let (traefik, etcd) = (tools::traefik()?, tools::etcd_3_5()?);
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
    in_package(pytest.env("ETCD_BIN", etcd.path))
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

/// A virtual environment in `target/python` with JupyterHub, mypy, and a wheel of a debug build: as pip
/// leaves it, with `traefik` beside the program. Returns its Python.
fn environment(traefik: &Path) -> Result<PathBuf> {
    tools::jupyterhub()?;
    let target = workspace().join("target");
    let wheels = target.join("python-wheels");
    let wheel = wheel(&wheels, &["--profile", "dev", "--all-features"], None)?;
    let home = target.join("python");
    let python = home.join("bin/python");
    let hubs_python = JUPYTERHUB.python();
    let pip = |arguments: &mut Command| check(arguments.arg("--quiet"));
    if !python.is_file() {
        check(
            Command::new(&hubs_python)
                .args(["-m", "venv", "--without-pip"])
                .arg(&home),
        )
        .map_err(needs_pip)?;
        // Its own packages come first, then those of JupyterHub's environment.
        let code = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let folder = |python: &Path| -> Result<String> {
            let output = Command::new(python).args(["-c", code]).output()?;
            Ok(String::from_utf8(output.stdout)?.trim().into())
        };
        let own = folder(&python)?;
        fs::write(
            Path::new(&own).join("jupyterhub.pth"),
            folder(&hubs_python)?,
        )?;
        let mut mypy = Command::new(&hubs_python);
        mypy.args(["-m", "pip", "--python"])
            .arg(&python)
            .args(["install", "--no-deps"]);
        pip(mypy.arg("--requirement").arg(pins("mypy.txt")))?;
        std::os::unix::fs::symlink(traefik, home.join("bin/traefik"))?;
    }
    let mut install = Command::new(&hubs_python);
    install.args(["-m", "pip", "--python"]).arg(&python);
    pip(install
        .args(["install", "--no-deps", "--force-reinstall"])
        .arg(wheel))?;
    Ok(python)
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
