//! `traefik-router config …`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::failure::Failure;
use super::output::Output;
use crate::settings::Resolved;

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the static configuration that a Traefik which is started from here would get. It suits
    /// a Traefik that somebody else starts, too.
    #[command(after_help = "\
Examples:
  traefik-router config static --backend toml:rules.toml --public-url http://:8000
  traefik-router config static traefik.yaml --with-secrets > traefik.yaml")]
    Static {
        /// The name that the file will have, which says in which syntax to print; it is not
        /// written.
        file: Option<PathBuf>,
        /// The syntax. Defaults to what FILE ends in, else to toml.
        #[arg(long, value_name = "SYNTAX", conflicts_with = "file")]
        syntax: Option<Syntax>,
        /// Print the store's password and private key as well, and not REDACTED for them.
        #[arg(long)]
        with_secrets: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Syntax {
    Toml,
    Yaml,
}

pub(super) fn run(command: ConfigCommand, resolved: &Resolved) -> Result<ExitCode, Failure> {
    let ConfigCommand::Static {
        file,
        syntax,
        with_secrets,
    } = command;
    let name = match (syntax, &file) {
        (Some(Syntax::Yaml), _) => Path::new("traefik.yaml"),
        (_, Some(file)) => file,
        _ => Path::new("traefik.toml"),
    };
    let mut builder = resolved.builder()?.static_config_file(name);
    if resolved.settings.api_url.is_empty() {
        builder = builder.traefik_api_url("http://127.0.0.1:8099");
    }
    Output::plain().text(&builder.static_config_text(with_secrets)?)?;
    Ok(ExitCode::SUCCESS)
}
