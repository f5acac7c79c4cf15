//! The settings of a command, with what is in the files that they name.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use traefik_router::traefik::Api;
use traefik_router::{Backend, Builder, Router, Tls};

use super::options::Settings;
use crate::store::{Credentials, SYNTAX, Store};

/// The resolved settings.
pub(crate) struct Resolved {
    pub(crate) settings: Settings,
    pub(crate) json: bool,
    pub(crate) store: Store,
    api_password: Option<String>,
    api_tls: Tls,
    /// Environment variables for a Traefik that is started.
    traefik_env: Vec<(String, String)>,
    /// The files that passwords were read from, and those with private keys.
    pub(crate) secret_files: Vec<PathBuf>,
}

impl Settings {
    /// Reads the files that the settings name. `pushes` says that routes are pushed where no store is named.
    ///
    /// # Errors
    /// Says which setting or file is wrong, without what is in it.
    pub(crate) fn resolve(self, pushes: bool) -> Result<Resolved, String> {
        let mut urls: Vec<_> = (self.api_url.iter())
            .map(|url| url.trim_end_matches('/'))
            .collect();
        urls.sort_unstable();
        if urls.windows(2).any(|pair| pair[0] == pair[1]) {
            // It is not shown: there may be a password in it.
            return Err("--api-url: the same URL is given twice".into());
        }
        let api_password = match self.api_url.is_empty() {
            true => None,
            false => password(self.api_password_file.as_deref(), "TRAEFIK_API_PASSWORD")?,
        };
        if self.api_user.is_some() && api_password.is_none() {
            let needed = "TRAEFIK_API_PASSWORD beside it, or --api-password-file";
            return Err(format!("--api-user needs {needed}"));
        }
        let files = [
            &self.etcd_password_file,
            &self.api_password_file,
            &self.etcd_key_file,
            &self.redis_password_file,
            &self.redis_key_file,
            &self.api_key_file,
            &self.traefik_env_file,
        ];
        Ok(Resolved {
            json: self.json.unwrap_or_default(),
            store: self.store(pushes)?,
            api_password,
            api_tls: tls(
                self.api_ca_file.as_ref(),
                self.api_cert_file.as_ref(),
                self.api_key_file.as_ref(),
            )?
            .danger_skip_validation(self.api_insecure.unwrap_or_default()),
            traefik_env: (self
                .traefik_env_file
                .as_deref()
                .map(variables)
                .transpose()?)
            .unwrap_or_default(),
            secret_files: files.into_iter().flatten().cloned().collect(),
            settings: self,
        })
    }

    fn store(&self, pushes: bool) -> Result<Store, String> {
        let mut store = match (&self.backend, pushes) {
            (Some(text), _) => Store::parse(text).map_err(|why| format!("--backend: {why}"))?,
            (None, true) => Store::pushed(),
            (None, false) => {
                return Err(format!(
                    "say where routes are kept: --backend {SYNTAX}, or `backend` in the \
                     configuration file"
                ));
            }
        };
        // Those of another store than this one are not set here.
        let users = [
            (&self.etcd_user, &self.etcd_password_file, "etcd"),
            (&self.redis_user, &self.redis_password_file, "redis"),
        ];
        for (name, file, option) in users {
            let Some(name) = name else { continue };
            let variable = option.to_uppercase();
            let password = password(file.as_deref(), &format!("{variable}_PASSWORD"))?;
            let missing = format!(
                "--{option}-user or {variable}_USERNAME needs {variable}_PASSWORD beside it, or \
                 --{option}-password-file"
            );
            store.user = Some(Credentials {
                name: name.clone(),
                password: password.ok_or(missing)?,
            });
        }
        store.tls = tls(
            self.etcd_ca_file.as_ref().or(self.redis_ca_file.as_ref()),
            self.etcd_cert_file
                .as_ref()
                .or(self.redis_cert_file.as_ref()),
            self.etcd_key_file.as_ref().or(self.redis_key_file.as_ref()),
        )?
        .danger_skip_validation(self.etcd_insecure.unwrap_or_default());
        store.traefik_prefix.clone_from(&self.traefik_prefix);
        store.jupyterhub_prefix.clone_from(&self.jupyterhub_prefix);
        store.redis_change_list.clone_from(&self.redis_change_list);
        store.redis_replicas = self.redis_replicas;
        store.lock_timeout = self.lock_timeout;
        Ok(store)
    }
}

impl Resolved {
    /// The API at each URL.
    pub(crate) fn apis(&self) -> traefik_router::Result<Vec<Api>> {
        let api = |url| {
            let mut api = Api::with_tls(url, &self.api_tls)?;
            if let Some(timeout) = self.settings.api_timeout {
                api = api.timeout(timeout);
            }
            if let Some(password) = &self.api_password {
                let user = self.settings.api_user.as_deref().unwrap_or("jupyterhub");
                api = api.basic_auth(user, password);
            }
            Ok(api)
        };
        self.settings.api_url.iter().map(api).collect()
    }

    /// A Router's builder with the options that all commands give to one.
    pub(crate) fn router(&self, backend: Box<dyn Backend>) -> Builder {
        let nested = self.settings.nested_routers;
        let to = with(Router::builder(backend), nested, Builder::nested_routers);
        let to = with(to, self.settings.host.as_ref(), Builder::host);
        let to = with(to, self.settings.commit_wait, Builder::commit_wait);
        let bin = self.settings.traefik_bin.clone().or_else(traefik_beside);
        let to = with(to, bin, Builder::traefik_bin);
        let variables = self.traefik_env.iter();
        variables.fold(to, |to, (name, value)| to.traefik_env(name, value))
    }

    /// A builder for Traefiks that run already.
    pub(crate) fn builder(&self) -> traefik_router::Result<Builder> {
        let from = &self.settings;
        let to = self
            .router(self.store.open()?)
            .traefik_api_urls(&from.api_url)
            .traefik_api_tls(self.api_tls.clone())
            .enable_setup_dynamic_config(false);
        let to = with(to, from.quorum, Builder::traefik_quorum);
        let to = with(to, from.api_user.as_ref(), Builder::traefik_api_username);
        let to = with(
            to,
            self.api_password.as_ref(),
            Builder::traefik_api_password,
        );
        let to = with(to, from.entrypoint.as_ref(), Builder::traefik_entrypoint);
        let to = with(to, from.timeout, Builder::check_route_timeout);
        let to = with(to, from.api_timeout, Builder::traefik_api_timeout);
        let to = with(to, from.public_url.as_ref(), Builder::public_url);
        let to = with(
            to,
            from.api_entrypoint.as_ref(),
            Builder::traefik_api_entrypoint,
        );
        let to = with(
            to,
            from.throttle,
            Builder::traefik_providers_throttle_duration,
        );
        Ok(with(
            to,
            from.log_level.as_ref(),
            Builder::traefik_log_level,
        ))
    }
}

/// The file `traefik` in the folder of this program: a Python environment has both in one folder, which need
/// not be on PATH.
fn traefik_beside() -> Option<PathBuf> {
    let program = env::current_exe().ok()?.with_file_name("traefik");
    program.is_file().then_some(program)
}

fn with<T>(builder: Builder, value: Option<T>, set: fn(Builder, T) -> Builder) -> Builder {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

/// The password in a file, else in a variable.
fn password(file: Option<&Path>, variable: &str) -> Result<Option<String>, String> {
    let Some(path) = file else {
        return match env::var(variable) {
            // Its own text shows the value.
            Err(env::VarError::NotUnicode(_)) => Err(format!("${variable} is not UTF-8")),
            password => Ok(password.ok().filter(|password| !password.is_empty())),
        };
    };
    let text = read(path)?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() || password.contains('\n') {
        true => Err(format!(
            "{} must hold one line, the password",
            path.display()
        )),
        false => Ok(Some(password.into())),
    }
}

fn tls(ca: Option<&PathBuf>, cert: Option<&PathBuf>, key: Option<&PathBuf>) -> Result<Tls, String> {
    let mut tls = Tls::new();
    if let Some(ca) = ca {
        tls = tls.ca_pem(read(ca)?);
    }
    if let (Some(cert), Some(key)) = (cert, key) {
        tls = tls.client_pem(read(cert)?, read(key)?);
    }
    Ok(tls)
}

/// The variables in a file. Empty lines and those that begin with `#` say nothing.
fn variables(path: &Path) -> Result<Vec<(String, String)>, String> {
    let text = read(path)?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let variable = |(at, line): (usize, &str)| match line.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!(
            "{}: line {}: give NAME=VALUE",
            path.display(),
            at + 1
        )),
    };
    lines.map(variable).collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}
