//! Whether the options are acceptable.

use super::Builder;
use crate::config::dynamic;
use crate::error::{Error, Result};
use crate::route::check_service_config;

impl Builder {
    /// Refuses options that are wrong with any store.
    pub(super) fn check_options(&self) -> Result<()> {
        for (option, config) in [
            ("extra_dynamic_config", self.extra_dynamic_config.as_ref()),
            ("extra_service_config", self.extra_service_config.as_ref()),
            ("extra_static_config", Some(&self.extra_static_config)),
        ] {
            if config.is_some_and(|config| !config.is_object()) {
                return Err(Error::invalid(format!(
                    "`{option}` must be a map, as Traefik documents it"
                )));
            }
        }
        if let Some(config) = &self.extra_dynamic_config {
            dynamic::entries(config)?;
        }
        if let Some(config) = &self.extra_service_config {
            check_service_config(config)
                .map_err(|why| Error::invalid(format!("`extra_service_config`: {why}")))?;
        }
        if self.api_password.as_deref() == Some("") {
            return Err(Error::invalid(
                "`traefik_api_password` is empty, so everybody who reaches Traefik's API could use it: set a password, \
                 or leave the option out",
            ));
        }
        let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC"];
        if !levels.contains(&&*self.log_level.to_uppercase()) {
            // Traefik would start all the same, and log what it likes.
            return Err(Error::invalid(format!(
                "`traefik_log_level` {:?} is none that Traefik has: {}",
                self.log_level,
                levels.join(", ")
            )));
        }
        let all = self.api_urls.len();
        match self.quorum {
            Some(quorum) if all > 0 && !(1..=all).contains(&quorum) => {
                return Err(Error::invalid(format!(
                    "`traefik_quorum` is {quorum}: choose at least 1, and at most the number of Traefiks \
                     (`traefik_api_urls`), which is {all}"
                )));
            }
            _ => {}
        }
        for (name, value) in &self.env {
            let (name, value) = (name.as_encoded_bytes(), value.as_encoded_bytes());
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
                // They may be secrets.
                return Err(Error::invalid(
                    "`traefik_env`: the name of a variable must not be empty or contain '=', and neither the name nor \
                     the value may contain a NUL byte",
                ));
            }
        }
        if let Some(hash) = &self.api_hashed_password {
            let Some(password) = &self.api_password else {
                return Err(Error::invalid(
                    "`traefik_api_hashed_password` needs `traefik_api_password` beside it",
                ));
            };
            if !dynamic::is_password_hash(hash) {
                return Err(Error::invalid(
                    "`traefik_api_hashed_password` is no hash that Traefik takes: {SHA}, $apr1$ or \
                     bcrypt, as htpasswd writes them",
                ));
            }
            if dynamic::is_hash_of(hash, password) == Some(false) {
                return Err(Error::invalid(
                    "`traefik_api_hashed_password` is not the hash of `traefik_api_password`: Traefik would \
                     refuse that password",
                ));
            }
        }
        if !self.throttle.is_zero() && self.throttle >= self.check_route_timeout {
            return Err(Error::invalid(format!(
                "`traefik_providers_throttle_duration` is {:?}, and a change has to be served within \
                 `check_route_timeout`, {:?}: choose a shorter throttle or a longer timeout",
                self.throttle, self.check_route_timeout
            )));
        }
        self.username().map(drop)
    }
}
