//! `traefik-router config …`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use traefik_router::Backend as _;

use super::output::{Output, warn};
use crate::failure::Failure;
use crate::needs;
use crate::settings::Resolved;
use crate::wording::for_shell;

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the static configuration for an external Traefik that serves the routes.
    #[command(after_help = "\
Examples:
  traefik-router config static --backend toml:rules.toml --public-url http://:8000
  traefik-router config static traefik.yaml --with-secrets > traefik.yaml
  traefik-router config static --backend push --dynamic-config-file /etc/traefik/dynamic.toml
  traefik-router config static --chp --backend etcd:http://etcd:2379 --public-url http://:8000")]
    Static {
        #[command(flatten)]
        printed: Printed,
        /// The path at which Traefik will find the output of `config dynamic`, for --backend push. Defaults to
        /// dynamic.toml.
        #[arg(long, value_name = "FILE")]
        dynamic_config_file: Option<PathBuf>,
        /// For a Traefik that `chp` attaches to: it then treats requests as configurable-http-proxy
        /// does. X-Forwarded-… headers of all clients are trusted.
        #[arg(long)]
        chp: bool,
    },
    /// Print the dynamic configuration that an external Traefik needs for a pushed table (--backend push): routers for
    /// its API and its REST provider, with the API's password.
    #[command(after_help = "\
Example:
  traefik-router config dynamic --backend push --api-url http://:8099 --api-password-file password \
    --with-secrets > dynamic.toml")]
    Dynamic {
        #[command(flatten)]
        printed: Printed,
        /// Include a router for Traefik's metrics, at /metrics, which `chp` reads.
        #[arg(long)]
        chp: bool,
    },
}

/// A configuration that is printed.
#[derive(Args)]
pub(crate) struct Printed {
    /// The name that the file will have. It selects the syntax; the file is not written.
    file: Option<PathBuf>,
    /// The syntax. Defaults to the ending of FILE, else to toml.
    #[arg(long, value_name = "SYNTAX", conflicts_with = "file")]
    syntax: Option<Syntax>,
    /// Print passwords, their hashes and private keys instead of REDACTED.
    #[arg(long)]
    with_secrets: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Syntax {
    Toml,
    Yaml,
}

impl Printed {
    fn name(&self) -> &Path {
        match (self.syntax, &self.file) {
            (Some(Syntax::Yaml), _) => Path::new("traefik.yaml"),
            (_, Some(file)) => file,
            _ => Path::new("traefik.toml"),
        }
    }
}

pub(super) fn run(command: ConfigCommand, resolved: &Resolved) -> Result<ExitCode, Failure> {
    let mut builder = resolved.builder()?;
    if resolved.settings.api_url.is_empty() {
        builder = builder.traefik_api_url("http://127.0.0.1:8099");
    }
    let text = match command {
        ConfigCommand::Static {
            printed,
            dynamic_config_file,
            chp,
        } => {
            let stored = match resolved.settings.entrypoint {
                None => stored_entrypoint(resolved)?,
                Some(_) => None,
            };
            if let Some(entrypoint) = &stored {
                builder = builder.traefik_entrypoint(entrypoint);
            }
            if chp {
                let default = resolved.settings.entrypoint_or_default();
                let entrypoint = stored.as_deref().unwrap_or(default);
                builder = builder.extra_static_config(needs::static_config(entrypoint));
            }
            if let Some(file) = dynamic_config_file {
                if !resolved.store.is_pushed() {
                    return Err(Failure::usage(
                        "--dynamic-config-file has no effect without --backend push",
                    ));
                }
                builder = builder.dynamic_config_file(file);
            }
            let builder = builder.static_config_file(printed.name());
            builder.static_config_text(printed.with_secrets)?
        }
        ConfigCommand::Dynamic { printed, chp } => {
            let builder = builder.dynamic_config_file(printed.name());
            let builder = builder.metrics_router(chp);
            builder.dynamic_config_text(printed.with_secrets)?
        }
    };
    Output::plain().text(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The entrypoint of the routes that are stored. `None` if there are none, or the store can't be asked from here:
/// then a configuration is printed all the same.
fn stored_entrypoint(resolved: &Resolved) -> Result<Option<String>, Failure> {
    let stored = match resolved.store.open()?.inspect() {
        Ok(stored) => stored,
        Err(error) => {
            warn(&format!(
                "the entrypoint that is stored is not known, so it may be another one: {}",
                for_shell(&error.to_string())
            ));
            None
        }
    };
    let stored = stored.map(|stored| stored.entrypoint);
    Ok(stored.filter(|entrypoint| !entrypoint.is_empty()))
}
