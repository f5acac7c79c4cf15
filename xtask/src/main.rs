//! What a developer of `traefik-router` runs, as `cargo xtask COMMAND`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod compare;
mod demo;
mod deny;
mod fuzz;
mod jupyterhub;
mod soak;
mod suite;
mod tools;

use std::process::ExitCode;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const HELP: &str = "\
cargo xtask COMMAND

  demo              show what the crate does: a real Traefik, real requests
  demo --etcd       ... and what two Traefiks with their routes in etcd do
  test              get what the tests need, run them all, check every feature
  fuzz              try to break what takes text or answers from others, 60 s each
                    --seconds N  --only TARGET
  deny              check the licences and sources of what is built in; and known vulnerabilities,
                    if github.com gives the list of them
  deny --advisories ... and fail if it does not
  compare           measure Traefik alone, the crate and jupyterhub-traefik-proxy side by side;
                    writes target/compare.json, .md and .svg
  compare --quick   ... within five minutes, with fewer samples and tables
                    --routes 0,100  --backend toml,yaml,etcd  --no-peer
                    --only add (or change, delete, apply, concurrent, reads)
  compare --serving   measure how many requests are served, with the routes as a flat table and
                    as a tree, beside configurable-http-proxy; writes target/serving.json, .md
                    and .svg                    --quick  --routes 1,100
  jupyterhub        run JupyterHub's own tests with traefik-router for its proxy and with
                    configurable-http-proxy, and compare; ask both the same by REST
                    --ours  --real  --only PATTERN (as pytest -k has it)
  jupyterhub --posts  ... many routes at once through the REST API of both
  jupyterhub --names  ... a server for each awkward user name, through both
  jupyterhub --show   ... sign in and run a notebook in Chromium; writes docs/jupyterhub.png
  soak              half an hour of changes and faults, while requests go through routes that
                    nobody touches: none may fail, and memory and open files stay as they are
                    --minutes 30  --routes 1000  --backend toml (or etcd)  --seed N
  tools             put Traefik into target/tools, unless there is one already
  tools --all       ... and Traefik 3.5, etcd 3.4 and 3.5, which the tests need
  tools --peer      ... and jupyterhub-traefik-proxy, which benchmarks compare with
  tools --deny      ... and cargo-deny, built from crates.io
  tools --hub       ... and JupyterHub with its tests, and configurable-http-proxy
  tools --serving   ... and configurable-http-proxy and wrk, for compare --serving

A program named by TRAEFIK_BIN, ETCD_BIN, CHP_BIN or WRK_BIN is used as it is, or else
one on PATH, or else the one in target/tools. Colours are off with NO_COLOR and outside a terminal.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["demo"] => demo::run(),
        ["demo", "--etcd"] => demo::etcd::run(),
        ["test"] => suite::run(),
        ["fuzz", options @ ..] => fuzz::run(options),
        ["deny", options @ ..] => deny::run(options),
        ["compare", options @ ..] => compare::run(options),
        [compare::OURS, options @ ..] => compare::run_ours(options),
        [compare::TARGET, port] => compare::run_target(port),
        ["jupyterhub", options @ ..] => jupyterhub::run(options),
        ["soak", options @ ..] => soak::run(options),
        [soak::WRITER, options @ ..] => soak::write_until_killed(options),
        ["tools", options @ ..] => tools::run(options),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error}", kit::terminal::red("error:"));
            ExitCode::FAILURE
        }
    }
}
