//! The configuration of a Traefik, as text.

use serde_json::{Value, json};

use super::Builder;
use crate::config::static_config::StaticConfig;
use crate::config::text::{Entries as _, Syntax};
use crate::config::{dynamic, merge};
use crate::error::{Error, Result};
use crate::router::certificate::made_up;
use crate::router::listen::Listen;

/// What Traefik's providers of stores have that is secret.
const SECRETS: [&str; 4] = ["/password", "/sentinel/password", "/tls/key", "/token"];

impl Builder {
    /// What [`start`](Self::start) would write to [`static_config_file`](Self::static_config_file), without the
    /// comment that marks the file as the Router's and without the reference to the private file. For a store that is
    /// pushed it names [`dynamic_config_file`](Self::dynamic_config_file) instead. The file is neither written nor
    /// read: its name only selects the syntax. Unless `with_secrets` is `true`,
    /// `REDACTED` stands for the store's passwords, token and private key.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) as [`start`](Self::start), or as
    /// [`Backend::static_config`](crate::Backend::static_config).
    pub fn static_config_text(&self, with_secrets: bool) -> Result<String> {
        self.check_options()?;
        let syntax = Syntax::of(&self.static_config_file)?;
        let (public, api) = self.listens()?;
        let entrypoint = self.default_entrypoint(&public)?;
        self.check_entrypoints(&entrypoint)?;
        let mut provider = self.backend.static_config()?;
        if self.backend.pushed().is_some() {
            let file = crate::atomic::utf8(&self.dynamic_config_file)?;
            let file = json!({"filename": file, "watch": true});
            merge(&mut provider, &json!({"providers": {"file": file}}));
        }
        let mut config = self.static_config(&public, &api, &entrypoint, provider);
        let provider = format!("/providers/{}", self.backend.provider());
        for secret in SECRETS {
            if let Some(value) = config.pointer_mut(&format!("{provider}{secret}")) {
                if !with_secrets {
                    *value = json!("REDACTED");
                }
            }
        }
        Ok(syntax.document(&config))
    }

    /// The dynamic configuration that an external Traefik needs for a pushed table: routers for its API and
    /// its REST provider, with [`traefik_api_password`](Self::traefik_api_password), a generated default certificate,
    /// which no client trusts, and [`extra_dynamic_config`](Self::extra_dynamic_config). It is for the file that
    /// [`dynamic_config_file`](Self::dynamic_config_file) names. Unless `with_secrets` is `true`, `REDACTED` stands
    /// for the password's hash and the certificate.
    ///
    /// Remove `tls.stores` if another provider of that Traefik sets the default certificate: Traefik drops both if
    /// two set one. Without a default certificate, a change takes some 40 ms more, since Traefik generates one each
    /// time.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if an option is not acceptable, if there is no
    /// password, or if Traefik reads the store by itself.
    pub fn dynamic_config_text(&self, with_secrets: bool) -> Result<String> {
        self.check_options()?;
        let syntax = Syntax::of(&self.dynamic_config_file)?;
        if self.backend.pushed().is_none() {
            return Err(Error::invalid(
                "Traefik reads its dynamic configuration from this store; only a table that is pushed needs \
                 a file beside it",
            ));
        }
        let Some(password) = &self.api_password else {
            return Err(Error::invalid(
                "anybody who may push a table controls Traefik: set a password (`traefik_api_password`)",
            ));
        };
        let mut api = self.api_access(password)?;
        if !with_secrets {
            api.password_hash = "REDACTED".into();
        }
        let mut config = api.config("");
        merge(&mut config, &api.rest_config());
        // Without a default certificate Traefik makes one up at each change. It takes the text of one, too.
        let pem = match with_secrets {
            true => made_up()?.pem,
            false => "REDACTED".into(),
        };
        merge(&mut config, &dynamic::certificate(&pem));
        if let Some(extra) = &self.extra_dynamic_config {
            merge(&mut config, extra);
        }
        let text = syntax.document(&config);
        if !text.contains("{{") {
            return Ok(text);
        }
        // Traefik would run it as a template. Entries hold none, but are hard to read.
        let parts = config.as_object().into_iter().flatten();
        Ok(parts.map(|(name, part)| syntax.entry(name, part)).collect())
    }

    pub(super) fn static_config(
        &self,
        public: &Listen,
        api: &Listen,
        entrypoint: &str,
        provider: Value,
    ) -> Value {
        let config = StaticConfig {
            entrypoint: public.entrypoint(entrypoint),
            api: api.entrypoint(&self.api_entrypoint),
            throttle: self.throttle,
            grace: self.stop_timeout,
            log_level: &self.log_level,
            provider,
            extra: &self.extra_static_config,
        };
        config.to_value()
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use crate::{KvBackend, Redis, Router};

    #[test]
    fn passwords_of_stores_are_redacted() {
        let redis = Redis::sentinel(["redis://zoe:s3cret-one@h:26379"], "themaster").unwrap();
        let redis = redis.user("hub", "s3cret-two");
        let builder = Router::builder(KvBackend::new(redis));
        let whole = builder.static_config_text(true).unwrap();
        assert_eq!(whole.matches("s3cret").count(), 2, "{whole}");
        let shown = builder.static_config_text(false).unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(shown.matches("REDACTED").count(), 2, "{shown}");
    }
}
