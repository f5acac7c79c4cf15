//! `cargo xtask pictures`: what programs print on a terminal, as pictures for the guides.

mod svg;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use kit::terminal::println;
use kit::tools::{TRAEFIK, cargo, workspace};
use kit::{Folder, Process, ports};

use crate::Result;
use crate::tools::fetch::check;

const COLUMNS: usize = 110;

const BEFORE: &str = "\
[routes]
'/' = {target = 'http://127.0.0.1:8081'}
'/user/zoe/' = {target = 'http://127.0.0.1:9001', data = {user = 'zoe'}}
'/old/' = {target = 'http://old'}
";
const AFTER: &str = "\
[routes]
'/' = {target = 'http://127.0.0.1:8081'}
'/user/zoe/' = {target = 'http://127.0.0.1:9009', data = {user = 'zoe'}}
'/app/' = {target = 'http://blue', settings = {weight = 9, servers = [{url = 'http://green'}]}}
'docs.example.org/' = {target = 'http://docs'}
";

pub(crate) fn run() -> Result {
    let build = [
        "build",
        "--quiet",
        "--package",
        "traefik-router",
        "--all-features",
    ];
    check(cargo().args(build).current_dir(workspace()))?;
    draw("demo", &["cargo xtask demo"], workspace())?;
    let folder = Folder::new()?;
    let home = folder.sub("hub")?;
    let _traefik = set_up(&home)?;
    let apply = "traefik-router routes apply table.toml --delete";
    draw("apply", &[&format!("{apply} --dry-run"), apply], &home)?;
    draw("doctor", &["traefik-router doctor"], &home)
}

/// Routes in a file of this folder, and a Traefik that others run on it.
fn set_up(home: &Path) -> Result<Process> {
    let (web, api) = (ports::free(), ports::free());
    let write = |name: &str, text: &str| -> Result {
        let file = home.join(name);
        fs::write(&file, text)?;
        Ok(fs::set_permissions(file, Permissions::from_mode(0o600))?)
    };
    let traefik = TRAEFIK.get()?;
    let settings = format!(
        "backend = \"toml:rules.toml\"\napi-url = [\"http://127.0.0.1:{api}\"]\n\
         api-password-file = \"api-password\"\ntraefik-bin = {traefik:?}\n"
    );
    write("traefik-router.toml", &settings)?;
    write("api-password", "made-up\n")?;
    write("rules.toml", "")?;
    let run = |arguments: &str| {
        let command = format!("traefik-router {arguments}");
        check(
            Command::new("sh")
                .args(["-c", &command])
                .envs(path())
                .current_dir(home),
        )
    };
    run(&format!(
        "config static --public-url http://127.0.0.1:{web} > traefik.toml"
    ))?;
    let mut program = Command::new(traefik);
    program.arg("--configFile=traefik.toml").current_dir(home);
    let mut process = Process::start(&mut program, &home.join("traefik.log"));
    process.wait_until("Traefik listens", || ports::is_open(api));
    run("setup")?;
    write("table.toml", BEFORE)?;
    run("routes apply table.toml")?;
    write("table.toml", AFTER)?;
    Ok(process)
}

/// Draws what these commands print, as `docs/NAME.svg`.
fn draw(name: &str, commands: &[&str], folder: &Path) -> Result {
    let mut output = String::new();
    for command in commands {
        if !output.is_empty() {
            output.push('\n');
        }
        output.push_str(&format!("\x1b[2m$\x1b[0m \x1b[1m{command}\x1b[0m\n"));
        output.push_str(&recorded(command, folder)?);
    }
    // Where this machine has its files says nothing to readers.
    let tools = kit::tools::folder();
    for (here, there) in [(&*tools, "target/tools"), (folder, "/srv/hub")] {
        output = output.replace(&here.display().to_string(), there);
    }
    let file = workspace().join(format!("docs/{name}.svg"));
    fs::write(&file, svg::picture(&commands.join("; "), &output, COLUMNS))?;
    println!("{}", file.display());
    Ok(())
}

/// What a command prints on a terminal.
fn recorded(command: &str, folder: &Path) -> Result<String> {
    let sized = format!("stty cols {COLUMNS}; {command}");
    let done = Command::new("script")
        .args(["--quiet", "--return", "--command", &sized, "/dev/null"])
        .current_dir(folder)
        .envs(path())
        .env("TERM", "xterm-256color")
        // What cargo builds is not part of the picture.
        .env("CARGO_TERM_QUIET", "true")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("script does not run: {error}; on Debian: apt-get install bsdutils")
        })?;
    let output = String::from_utf8(done.stdout)?;
    match done.status.success() {
        true => Ok(output),
        false => Err(format!("{command}: {}\n{output}", done.status).into()),
    }
}

/// PATH with the program that was built.
fn path() -> Option<(&'static str, std::ffi::OsString)> {
    let path = std::env::var_os("PATH")?;
    let built = workspace().join("target/debug");
    let all = std::iter::once(built).chain(std::env::split_paths(&path));
    Some(("PATH", std::env::join_paths(all).ok()?))
}
