//! The options of all commands, which may stand in a configuration file as well.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::failure::Failure;
use crate::store::{Nesting, Store};

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "traefik-router.toml";

/// The options of all commands.
#[derive(Args)]
pub(crate) struct Common {
    /// Print JSON, for programs.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) settings: Box<Settings>,
}

/// The options, which are the configuration file's keys as well.
#[derive(Args, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// A TOML file with further options. Defaults to $TRAEFIK_ROUTER_CONFIG, then to
    /// traefik-router.toml if that is there.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,

    /// Where routes are kept: toml:FILE, yaml:FILE or etcd:URL[,URL…].
    #[arg(long, value_name = "STORE")]
    pub(super) backend: Option<String>,
    /// The user of etcd.
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "etcd",
        hide_short_help = true
    )]
    pub(super) etcd_user: Option<String>,
    /// A file with the password of etcd's user. Defaults to $ETCD_PASSWORD.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    pub(super) etcd_password_file: Option<PathBuf>,
    /// The CA that etcd's certificate is from, in PEM. Defaults to the usual ones.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    pub(super) etcd_ca_file: Option<PathBuf>,
    /// The certificate to show to etcd, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    pub(super) etcd_cert_file: Option<PathBuf>,
    /// The private key for it, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    pub(super) etcd_key_file: Option<PathBuf>,
    /// Below which keys Traefik looks. Defaults to /traefik/.
    #[arg(
        long,
        value_name = "PREFIX",
        help_heading = "etcd",
        hide_short_help = true
    )]
    pub(super) traefik_prefix: Option<String>,
    /// Below which keys only we look. Defaults to /jupyterhub/.
    #[arg(
        long,
        value_name = "PREFIX",
        help_heading = "etcd",
        hide_short_help = true
    )]
    pub(super) jupyterhub_prefix: Option<String>,

    /// Where Traefik's API is; several times for several Traefiks. Without it changes are stored,
    /// and no Traefik is asked.
    #[arg(long, value_name = "URL", help_heading = "Traefik")]
    pub(super) api_url: Vec<String>,
    /// How many of several Traefiks have to serve a change. Defaults to all.
    #[arg(
        long,
        value_name = "COUNT",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    pub(super) quorum: Option<usize>,
    /// The user name for the API. Defaults to jupyterhub.
    #[arg(long, value_name = "NAME", help_heading = "Traefik")]
    pub(super) api_user: Option<String>,
    /// A file with the password for the API. Defaults to $TRAEFIK_API_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = "Traefik")]
    pub(super) api_password_file: Option<PathBuf>,
    /// The CA that the API's certificate is from, in PEM. Defaults to the usual ones.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    pub(super) api_ca_file: Option<PathBuf>,
    /// The certificate to show to the API, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    pub(super) api_cert_file: Option<PathBuf>,
    /// The private key for it, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    pub(super) api_key_file: Option<PathBuf>,
    /// The entrypoint that routes are served on. All routes of a store are served on one: another
    /// name moves them all. Defaults to the stored one, else to http or https as the public URL
    /// begins.
    #[arg(long, value_name = "NAME", help_heading = "Traefik")]
    pub(super) entrypoint: Option<String>,
    /// Whether routers stand below others: auto, always, or never for Traefik before 3.6. It holds for
    /// the whole table. Defaults to what is stored.
    #[arg(
        long,
        value_name = "WHEN",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    pub(super) nested_routers: Option<Nesting>,
    /// The program. Defaults to traefik on PATH.
    #[arg(
        long,
        env = "TRAEFIK_BIN",
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    pub(super) traefik_bin: Option<PathBuf>,

    /// How many seconds Traefik may take to serve a change, once it is stored. A change of a file takes
    /// --lock-timeout at most until it is stored. One in etcd takes several requests of 10 seconds at most.
    /// Defaults to 30.
    #[arg(long, value_name = "SECONDS", help_heading = "Time limits")]
    pub(super) timeout: Option<Seconds>,
    /// How many seconds one request to the API may take. Defaults to 5.
    #[arg(
        long,
        value_name = "SECONDS",
        help_heading = "Time limits",
        hide_short_help = true
    )]
    pub(super) api_timeout: Option<Seconds>,
    /// How many seconds to wait for another writer of the file. etcd has none. Defaults to 10.
    #[arg(
        long,
        value_name = "SECONDS",
        help_heading = "Time limits",
        hide_short_help = true
    )]
    pub(super) lock_timeout: Option<Seconds>,

    /// Where Traefik listens for requests. Where it is given, a change is served only once requests to
    /// this URL meet it. Defaults to http://127.0.0.1:8000, which is not asked.
    #[arg(
        long,
        value_name = "URL",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    pub(super) public_url: Option<String>,
    /// The entrypoint that the API is served on. Defaults to auth_api.
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    pub(super) api_entrypoint: Option<String>,
    /// How many seconds Traefik waits between two changes. Defaults to 0.
    #[arg(
        long,
        value_name = "SECONDS",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    pub(super) throttle: Option<Seconds>,
    /// What Traefik logs: TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC. Defaults to ERROR.
    #[arg(
        long,
        value_name = "LEVEL",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    pub(super) log_level: Option<String>,
}

/// A time that is written as seconds.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Seconds(pub(super) Duration);

impl Settings {
    /// The configuration file, if there is one. Names of files in it are relative to its folder.
    pub(super) fn file(&self) -> Result<Self, Failure> {
        let named = self.config.clone().or_else(|| {
            let named = env::var_os("TRAEFIK_ROUTER_CONFIG").filter(|name| !name.is_empty())?;
            Some(named.into())
        });
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                let message = format!(
                    "can't read the configuration file {}: {error}",
                    path.display()
                );
                return Err(Failure::usage(message));
            }
        };
        let mut settings = Self::parse(&text)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if let Some(text) = &settings.backend {
            // An error names the file.
            let in_file = |why| Failure::usage(format!("{}: {why}", path.display()));
            Store::parse(text).map_err(in_file)?;
        }
        settings.rebase(folder);
        Ok(settings)
    }

    /// Reads a configuration file; the error names the line, and never shows it: a password may
    /// stand there by mistake.
    fn parse(text: &str) -> Result<Self, String> {
        toml_edit::de::from_str(text).map_err(|error: toml_edit::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text[..at.min(text.len())].matches('\n').count() + 1;
            format!("line {line}: {}", error.message().trim_end())
        })
    }

    fn rebase(&mut self, folder: &Path) {
        let files = [
            &mut self.etcd_password_file,
            &mut self.etcd_ca_file,
            &mut self.etcd_cert_file,
            &mut self.etcd_key_file,
            &mut self.api_password_file,
            &mut self.api_ca_file,
            &mut self.api_cert_file,
            &mut self.api_key_file,
        ];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
        // A bare name is looked for on PATH.
        if let Some(program) = &mut self.traefik_bin {
            if program.components().count() > 1 {
                *program = folder.join(&*program);
            }
        }
        if let Some((kind, file)) = self
            .backend
            .as_deref()
            .and_then(|text| text.split_once(':'))
        {
            if kind != "etcd" {
                self.backend = Some(format!("{kind}:{}", folder.join(file).display()));
            }
        }
    }

    /// These where they are given, those of `file` elsewhere.
    pub(super) fn over(self, file: Self) -> Self {
        Self {
            config: self.config,
            backend: self.backend.or(file.backend),
            etcd_user: self.etcd_user.or(file.etcd_user),
            etcd_password_file: self.etcd_password_file.or(file.etcd_password_file),
            etcd_ca_file: self.etcd_ca_file.or(file.etcd_ca_file),
            etcd_cert_file: self.etcd_cert_file.or(file.etcd_cert_file),
            etcd_key_file: self.etcd_key_file.or(file.etcd_key_file),
            traefik_prefix: self.traefik_prefix.or(file.traefik_prefix),
            jupyterhub_prefix: self.jupyterhub_prefix.or(file.jupyterhub_prefix),
            api_url: match self.api_url.is_empty() {
                true => file.api_url,
                false => self.api_url,
            },
            quorum: self.quorum.or(file.quorum),
            api_user: self.api_user.or(file.api_user),
            api_password_file: self.api_password_file.or(file.api_password_file),
            api_ca_file: self.api_ca_file.or(file.api_ca_file),
            api_cert_file: self.api_cert_file.or(file.api_cert_file),
            api_key_file: self.api_key_file.or(file.api_key_file),
            entrypoint: self.entrypoint.or(file.entrypoint),
            nested_routers: self.nested_routers.or(file.nested_routers),
            traefik_bin: self.traefik_bin.or(file.traefik_bin),
            timeout: self.timeout.or(file.timeout),
            api_timeout: self.api_timeout.or(file.api_timeout),
            lock_timeout: self.lock_timeout.or(file.lock_timeout),
            public_url: self.public_url.or(file.public_url),
            api_entrypoint: self.api_entrypoint.or(file.api_entrypoint),
            throttle: self.throttle.or(file.throttle),
            log_level: self.log_level.or(file.log_level),
        }
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        let time = Duration::try_from_secs_f64(seconds);
        time.map(Self)
            .map_err(|_| format!("{seconds} is no number of seconds"))
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
        seconds.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for (text, expected) in [
            (
                "backend = \"toml:x.toml\"\npassword = \"hunter2\"\n",
                "line 2: unknown field `password`",
            ),
            ("\n\nhunter2\n", "line 3: "),
            ("timeout = -1\n", "line 1: -1 is no number of seconds"),
            ("timeout = \"soon\"\n", "line 1: invalid type"),
            ("api-url = \"http://x\"\n", "line 1: invalid type"),
        ] {
            let error = Settings::parse(text).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn every_option_is_in_the_guide() {
        let guide = include_str!("../../../../docs/shell.md");
        let command = Settings::augment_args(clap::Command::new("x"));
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            let named = guide.contains(&format!("`{option}`")) || option == "config";
            assert!(named, "{option}");
        }
    }

    #[test]
    fn options_win_and_files_are_found_beside_the_configuration() {
        let text = "backend = \"toml:rules.toml\"\napi-user = \"a\"\ntimeout = 5\n\
                    traefik-bin = \"traefik\"\napi-ca-file = \"ca.pem\"\n";
        let mut file = Settings::parse(text).unwrap();
        file.rebase(Path::new("/etc/x"));
        let options = Settings {
            api_user: Some("b".into()),
            ..Settings::default()
        };
        let both = options.over(file);
        assert_eq!(both.backend.as_deref(), Some("toml:/etc/x/rules.toml"));
        assert_eq!(both.api_user.as_deref(), Some("b"));
        assert_eq!(both.timeout.map(|time| time.0.as_secs()), Some(5));
        assert_eq!(both.traefik_bin, Some("traefik".into()));
        assert_eq!(both.api_ca_file, Some("/etc/x/ca.pem".into()));
    }
}
