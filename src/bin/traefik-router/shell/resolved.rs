//! A command's settings, resolved from its options, the environment and the files that these name.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use traefik_router::traefik::Api;
use traefik_router::{Builder, Router, Tls};

use super::failure::Failure;
use super::settings::{Seconds, Settings};
use crate::store::{SYNTAX, Store};

/// The resolved settings, with what is in the files that they name.
pub(super) struct Resolved {
    settings: Settings,
    pub(super) store: Store,
    api_password: Option<String>,
    api_tls: Tls,
    /// The files that passwords were read from, and those with private keys.
    pub(super) secret_files: Vec<PathBuf>,
}

impl Settings {
    /// Puts the options over the configuration file's, and reads what they name.
    pub(super) fn resolve(self) -> Result<Resolved, Failure> {
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
        Ok(Resolved {
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
                        "--etcd-user needs a password: --etcd-password-file, or $ETCD_PASSWORD",
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

impl Resolved {
    /// Where the Traefiks' APIs are.
    pub(super) fn api_urls(&self) -> &[String] {
        &self.settings.api_url
    }

    /// Whether an option says where requests for all routes come in.
    pub(super) fn may_move_routes(&self) -> bool {
        self.settings.entrypoint.is_some() || self.settings.public_url.is_some()
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

    /// The library's options, as they were resolved.
    pub(super) fn builder(&self) -> traefik_router::Result<Builder> {
        let Settings {
            quorum,
            api_user,
            entrypoint,
            nested_routers,
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
        let builder = with(builder, nested_routers, |to, &when| {
            to.nested_routers(when.into())
        });
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
            "--{whose}-cert-file and --{whose}-key-file go together"
        ))),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("can't read {}: {error}", path.display())))
}
