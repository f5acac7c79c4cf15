//! What a command is told: by its options, by the environment, by a configuration file.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use traefik_router::traefik::Api;
use traefik_router::{Builder, Router, Tls};

use super::failure::Failure;
use crate::store::{SYNTAX, Store};

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "traefik-router.toml";

/// The options, which are the configuration file's keys as well.
#[derive(Args, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// A TOML file with further options. Defaults to $TRAEFIK_ROUTER_CONFIG, then to
    /// traefik-router.toml if that is there.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,

    /// Where routes are kept: toml:FILE, yaml:FILE or etcd:URL[,URL…].
    #[arg(long, value_name = "STORE")]
    backend: Option<String>,
    /// The user of etcd.
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "etcd",
        hide_short_help = true
    )]
    etcd_user: Option<String>,
    /// A file with the password of etcd's user. Defaults to $ETCD_PASSWORD.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    etcd_password_file: Option<PathBuf>,
    /// The CA that etcd's certificate is from, in PEM. Defaults to the usual ones.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    etcd_ca_file: Option<PathBuf>,
    /// The certificate to show to etcd, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    etcd_cert_file: Option<PathBuf>,
    /// The private key for it, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "etcd",
        hide_short_help = true
    )]
    etcd_key_file: Option<PathBuf>,
    /// Below which keys Traefik looks. Defaults to /traefik/.
    #[arg(
        long,
        value_name = "PREFIX",
        help_heading = "etcd",
        hide_short_help = true
    )]
    traefik_prefix: Option<String>,
    /// Below which keys only we look. Defaults to /jupyterhub/.
    #[arg(
        long,
        value_name = "PREFIX",
        help_heading = "etcd",
        hide_short_help = true
    )]
    jupyterhub_prefix: Option<String>,

    /// Where Traefik's API is; several times for several Traefiks. Without it changes are stored,
    /// and no Traefik is asked.
    #[arg(long, value_name = "URL", help_heading = "Traefik")]
    api_url: Vec<String>,
    /// How many of several Traefiks have to serve a change. Defaults to all.
    #[arg(
        long,
        value_name = "COUNT",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    quorum: Option<usize>,
    /// The user name for the API. Defaults to jupyterhub.
    #[arg(long, value_name = "NAME", help_heading = "Traefik")]
    api_user: Option<String>,
    /// A file with the password for the API. Defaults to $TRAEFIK_API_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = "Traefik")]
    api_password_file: Option<PathBuf>,
    /// The CA that the API's certificate is from, in PEM. Defaults to the usual ones.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    api_ca_file: Option<PathBuf>,
    /// The certificate to show to the API, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    api_cert_file: Option<PathBuf>,
    /// The private key for it, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    api_key_file: Option<PathBuf>,
    /// The entrypoint that routes are served on. All routes of a store are served on one: another
    /// name moves them all. Defaults to the stored one, else to http or https as the public URL
    /// begins.
    #[arg(long, value_name = "NAME", help_heading = "Traefik")]
    entrypoint: Option<String>,
    /// The program. Defaults to traefik on PATH.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Traefik",
        hide_short_help = true
    )]
    traefik_bin: Option<PathBuf>,

    /// How many seconds a change may take until it is served. Defaults to 30.
    #[arg(long, value_name = "SECONDS", help_heading = "Time limits")]
    timeout: Option<Seconds>,
    /// How many seconds one request to the API may take. Defaults to 5.
    #[arg(
        long,
        value_name = "SECONDS",
        help_heading = "Time limits",
        hide_short_help = true
    )]
    api_timeout: Option<Seconds>,
    /// How many seconds to wait for another writer of the file. Defaults to 10.
    #[arg(
        long,
        value_name = "SECONDS",
        help_heading = "Time limits",
        hide_short_help = true
    )]
    lock_timeout: Option<Seconds>,

    /// Where a Traefik that is started listens. Defaults to http://127.0.0.1:8000.
    #[arg(
        long,
        value_name = "URL",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    public_url: Option<String>,
    /// The entrypoint that the API is served on. Defaults to auth_api.
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    api_entrypoint: Option<String>,
    /// How many seconds Traefik waits between two changes. Defaults to 0.
    #[arg(
        long,
        value_name = "SECONDS",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    throttle: Option<Seconds>,
    /// What Traefik logs: TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC. Defaults to ERROR.
    #[arg(
        long,
        value_name = "LEVEL",
        help_heading = "A Traefik that is started",
        hide_short_help = true
    )]
    log_level: Option<String>,
}

/// A time that is written as seconds.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Seconds(Duration);

/// Everything that was told, with what is in the files that it names.
pub(super) struct Told {
    settings: Settings,
    pub(super) store: Store,
    api_password: Option<String>,
    api_tls: Tls,
    /// The files that passwords were read from, and those with private keys.
    pub(super) secret_files: Vec<PathBuf>,
}

impl Settings {
    /// Puts the options over the configuration file's, and reads what they name.
    pub(super) fn told(self) -> Result<Told, Failure> {
        let file = self.file()?;
        let mut secret_files = Vec::new();
        let mut password = |option: &Option<PathBuf>, variable, configured: &Option<PathBuf>| {
            let mut from_file = |path: &PathBuf| {
                secret_files.push(path.clone());
                password_in(path).map(Some)
            };
            match (option, configured) {
                (Some(path), _) => from_file(path),
                (None, configured) => match (password_from(variable)?, configured) {
                    (None, Some(path)) => from_file(path),
                    (password, _) => Ok(password),
                },
            }
        };
        let api_password = password(
            &self.api_password_file,
            "TRAEFIK_API_PASSWORD",
            &file.api_password_file,
        )?;
        let etcd_password = password(
            &self.etcd_password_file,
            "ETCD_PASSWORD",
            &file.etcd_password_file,
        )?;
        let settings = self.over(file);
        for key in [&settings.etcd_key_file, &settings.api_key_file] {
            secret_files.extend(key.clone());
        }
        Ok(Told {
            store: settings.store(etcd_password)?,
            api_tls: tls(
                "api",
                &settings.api_ca_file,
                &settings.api_cert_file,
                &settings.api_key_file,
            )?,
            api_password,
            secret_files,
            settings,
        })
    }

    /// The configuration file, if there is one. Names of files in it are relative to its folder.
    fn file(&self) -> Result<Self, Failure> {
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
            // What is wrong with it is told with the file's name.
            let line = |why| Failure::usage(format!("{}: {why}", path.display()));
            Store::parse(text).map_err(line)?;
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
    fn over(self, file: Self) -> Self {
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

    fn store(&self, password: Option<String>) -> Result<Store, Failure> {
        let Some(text) = &self.backend else {
            return Err(Failure::usage(format!(
                "say where routes are kept: --backend {SYNTAX}, or `backend` in the configuration \
                 file"
            )));
        };
        let mut store = Store::parse(text).map_err(Failure::usage)?;
        if store.is_etcd() {
            store = store.tls(tls(
                "etcd",
                &self.etcd_ca_file,
                &self.etcd_cert_file,
                &self.etcd_key_file,
            )?);
            if let Some(user) = &self.etcd_user {
                let password = password.ok_or_else(|| {
                    Failure::usage(
                        "etcd-user needs a password: --etcd-password-file, or $ETCD_PASSWORD",
                    )
                })?;
                store = store.user(user, password);
            }
        }
        if let Some(prefix) = &self.traefik_prefix {
            store = store.traefik_prefix(prefix);
        }
        if let Some(prefix) = &self.jupyterhub_prefix {
            store = store.jupyterhub_prefix(prefix);
        }
        if let Some(Seconds(timeout)) = self.lock_timeout {
            store = store.lock_timeout(timeout);
        }
        Ok(store)
    }
}

impl Told {
    /// Where the Traefiks' APIs are.
    pub(super) fn api_urls(&self) -> &[String] {
        &self.settings.api_url
    }

    /// The entrypoint that was asked for.
    pub(super) fn entrypoint(&self) -> Option<&str> {
        self.settings.entrypoint.as_deref()
    }

    /// The API at each URL.
    pub(super) fn apis(&self) -> traefik_router::Result<Vec<Api>> {
        let api = |url| {
            let mut api = Api::with_tls(url, &self.api_tls)?;
            if let Some(Seconds(timeout)) = self.settings.api_timeout {
                api = api.timeout(timeout);
            }
            if let Some(password) = &self.api_password {
                let user = self.settings.api_user.as_deref().unwrap_or("jupyterhub");
                api = api.basic_auth(user, password);
            }
            Ok(api)
        };
        self.api_urls().iter().map(api).collect()
    }

    /// Whether as many Traefiks as have to serve a change answer, and have this entrypoint.
    pub(super) fn check_apis(&self, entrypoint: Option<&str>) -> Result<(), Failure> {
        let apis = self.apis()?;
        let needed = self.settings.quorum.unwrap_or(apis.len());
        let check = |api: &Api| {
            let known = api
                .entrypoints()
                .map_err(|error| Failure::before_change(&error))?;
            match entrypoint {
                Some(name) if known.iter().all(|known| known.name != name) => {
                    let names: Vec<_> = known.into_iter().map(|known| known.name).collect();
                    Err(Failure::usage(format!(
                        "nothing was changed: Traefik at {} has no entrypoint {name:?}; it has {}",
                        api.url(),
                        names.join(", ")
                    )))
                }
                _ => Ok(()),
            }
        };
        let (fine, failures): (Vec<_>, Vec<_>) = apis.iter().map(check).partition(Result::is_ok);
        match failures.into_iter().find_map(Result::err) {
            Some(failure) if fine.len() < needed => Err(failure),
            _ => Ok(()),
        }
    }

    /// The library's options, as they were told.
    pub(super) fn builder(&self) -> traefik_router::Result<Builder> {
        let Settings {
            quorum,
            api_user,
            entrypoint,
            traefik_bin,
            timeout,
            api_timeout,
            public_url,
            api_entrypoint,
            throttle,
            log_level,
            ..
        } = &self.settings;
        let builder = Router::builder(self.store.open()?)
            .traefik_api_urls(self.api_urls())
            .traefik_api_tls(self.api_tls.clone())
            .enable_setup_dynamic_config(false);
        let builder = with(builder, quorum, |to, &quorum| to.traefik_quorum(quorum));
        let builder = with(builder, api_user, Builder::traefik_api_username);
        let builder = with(builder, &self.api_password, Builder::traefik_api_password);
        let builder = with(builder, entrypoint, Builder::traefik_entrypoint);
        let builder = with(builder, traefik_bin, Builder::traefik_bin);
        let builder = with(builder, timeout, |to, time| to.check_route_timeout(time.0));
        let builder = with(builder, api_timeout, |to, time| {
            to.traefik_api_timeout(time.0)
        });
        let builder = with(builder, public_url, Builder::public_url);
        let builder = with(builder, api_entrypoint, Builder::traefik_api_entrypoint);
        let builder = with(builder, throttle, |to, time| {
            to.traefik_providers_throttle_duration(time.0)
        });
        Ok(with(builder, log_level, Builder::traefik_log_level))
    }
}

fn with<'a, T>(
    builder: Builder,
    value: &'a Option<T>,
    set: impl FnOnce(Builder, &'a T) -> Builder,
) -> Builder {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

fn password_in(path: &Path) -> Result<String, Failure> {
    let text = read(path)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.contains('\n') {
        let message = format!("{} must hold one line, the password", path.display());
        return Err(Failure::usage(message));
    }
    Ok(password.into())
}

fn password_from(variable: &str) -> Result<Option<String>, Failure> {
    match env::var(variable) {
        Ok(password) => Ok(Some(password).filter(|password| !password.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        // Its own text shows the value.
        Err(env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("${variable} is not UTF-8")))
        }
    }
}

fn tls(
    whose: &str,
    ca: &Option<PathBuf>,
    cert: &Option<PathBuf>,
    key: &Option<PathBuf>,
) -> Result<Tls, Failure> {
    let mut tls = Tls::new();
    if let Some(ca) = ca {
        tls = tls.ca_pem(read(ca)?);
    }
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(tls.client_pem(read(cert)?, read(key)?)),
        (None, None) => Ok(tls),
        _ => Err(Failure::usage(format!(
            "{whose}-cert-file and {whose}-key-file go together"
        ))),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("can't read {}: {error}", path.display())))
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
