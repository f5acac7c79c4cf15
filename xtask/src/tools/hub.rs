//! JupyterHub, and the proxies that benchmarks and JupyterHub's tests compare with.

use std::fs;
use std::path::Path;
use std::process::Command;

use kit::tools::{CONFIGURABLE_HTTP_PROXY, JUPYTERHUB, PEER, Python};

use super::Tool;
use super::fetch::{check, fetch, needs_pip, output_of, pins, pip_download, quiet_pip, wheel_in};
use crate::Result;

/// jupyterhub-traefik-proxy in a virtual environment; the tool is its Python.
pub(crate) fn peer() -> Result<Tool> {
    Tool::pinned(PEER.python(), peer_version, "2.1.0", |python| {
        fetch("jupyterhub-traefik-proxy 2.1.0 from PyPI", |scratch| {
            pip_download("peer.txt", scratch)?;
            let mut wheel = wheel_in(scratch)?.into_os_string();
            wheel.push("[etcd,redis,yaml]");
            make_environment(&PEER)?;
            check(
                quiet_pip(&mut Command::new(python), "install")
                    .arg("--constraint")
                    .arg(pins("peer-constraints.txt"))
                    .arg(wheel),
            )
        })
    })
}

/// `None` too without the clients of its stores: then its last step is missing.
fn peer_version(python: &Path) -> Option<String> {
    let code = "from importlib.metadata import version as v; import etcd3, redis.asyncio, ruamel.yaml; \
                print(v('jupyterhub-traefik-proxy'))";
    output_of(Command::new(python).args(["-c", code]))
}

/// JupyterHub with its tests, and what they need, in a virtual environment; the tool is its Python.
pub(crate) fn jupyterhub() -> Result<Tool> {
    let pinned = "6.1.1";
    Tool::pinned(JUPYTERHUB.python(), jupyterhub_version, pinned, |python| {
        fetch(&format!("JupyterHub {pinned} from PyPI"), |_| {
            make_environment(&JUPYTERHUB)?;
            check(
                quiet_pip(&mut Command::new(python), "install")
                    .arg("--constraint")
                    .arg(pins("jupyterhub-constraints.txt"))
                    .args(["jupyterhub[test]", "pytest-timeout"])
                    // What `cargo xtask jupyterhub --moving` moves from.
                    .arg("jupyterhub-traefik-proxy[etcd]"),
            )?;
            // Its tests start servers, as the user who runs them.
            let settings = JUPYTERHUB.folder().join(SETTINGS);
            fs::create_dir_all(settings.parent().unwrap_or(&settings))?;
            let text = r#"{"ServerApp": {"allow_root": true}}"#;
            Ok(fs::write(settings, text)?)
        })
    })
}

/// The last file that is written.
const SETTINGS: &str = "etc/jupyter/jupyter_server_config.json";

fn jupyterhub_version(python: &Path) -> Option<String> {
    let code = "from importlib.metadata import version; import etcd3, jupyterhub_traefik_proxy; \
                print(version('jupyterhub'))";
    output_of(Command::new(python).args(["-c", code]))
        .filter(|_| JUPYTERHUB.folder().join(SETTINGS).is_file())
}

/// A virtual environment can't be moved, so it is made where it stays.
fn make_environment(python: &Python) -> Result {
    let home = python.folder();
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    check(Command::new("python3").args(["-m", "venv"]).arg(&home)).map_err(|e| needs_pip(e).into())
}

/// JupyterHub's default proxy: 5.3.0, unless the user has another.
pub(crate) fn configurable_http_proxy() -> Result<Tool> {
    if let Some(tool) = Tool::of_user(&CONFIGURABLE_HTTP_PROXY, chp_version)? {
        return Ok(tool);
    }
    let (pinned, path) = ("5.3.0", CONFIGURABLE_HTTP_PROXY.fetched());
    Tool::pinned(path, chp_version, pinned, |_| {
        let what = format!("configurable-http-proxy {pinned} from npm");
        fetch(&what, |_| {
            let home = kit::tools::folder().join("configurable-http-proxy");
            fs::create_dir_all(&home)?;
            for file in ["package.json", "package-lock.json"] {
                fs::copy(pins("configurable-http-proxy").join(file), home.join(file))?;
            }
            let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
            check(Command::new("npm").args(options).current_dir(&home))
                .map_err(|error| format!("{error}\nNode 20 or newer with npm is needed").into())
        })
    })
}

fn chp_version(program: &Path) -> Option<String> {
    output_of(Command::new(program).arg("--version"))
}
