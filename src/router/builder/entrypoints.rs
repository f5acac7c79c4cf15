//! The entrypoints: of requests, and of the API.

use super::Builder;
use crate::backend::Contents;
use crate::error::{Error, Result};
use crate::router::listen::Listen;

const DEFAULT_PUBLIC_URL: &str = "http://127.0.0.1:8000";

impl Builder {
    pub(super) fn public(&self) -> Result<Listen> {
        let url = self.public_url.as_deref().unwrap_or(DEFAULT_PUBLIC_URL);
        Listen::parse("public_url", url)
    }

    /// Where a started Traefik listens: for requests, and with its API.
    pub(super) fn listens(&self) -> Result<(Listen, Listen)> {
        let [api_url] = &*self.api_urls else {
            return Err(Error::invalid(
                "a Traefik that is started has one API URL (`traefik_api_urls`)",
            ));
        };
        let api = Listen::parse("traefik_api_url", api_url)?.at_one_address();
        if api.tls {
            return Err(Error::invalid(
                "the API of a Traefik that is started is served without TLS; begin `traefik_api_url` \
                 with http://",
            ));
        }
        let public = self.public()?.at_one_address();
        if public.meets(&api) {
            return Err(Error::invalid(format!(
                "`public_url` and `traefik_api_url` both have port {} of one address: choose another port for one of \
                 them",
                api.port
            )));
        }
        Ok((public, api))
    }

    /// The entrypoint of a table that has none yet.
    pub(super) fn default_entrypoint(&self, public: &Listen) -> Result<String> {
        let default = if public.tls { "https" } else { "http" };
        let name = self.entrypoint.as_deref().unwrap_or(default);
        for (option, name) in [
            ("traefik_entrypoint", name),
            ("traefik_api_entrypoint", &self.api_entrypoint),
        ] {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if name.is_empty() || !name.bytes().all(is_plain) {
                return Err(Error::invalid(format!(
                    "`{option}` {name:?} is no entrypoint's name: letters, digits, '-' and '_'"
                )));
            }
        }
        Ok(name.into())
    }

    /// The entrypoint that routes are going to be served on.
    pub(super) fn entrypoint_over(&self, stored: &Contents, public: &Listen) -> Result<String> {
        let default = self.default_entrypoint(public)?;
        let name = match &self.entrypoint {
            None if !stored.entrypoint.is_empty() => stored.entrypoint.clone(),
            _ => default,
        };
        self.check_entrypoints(&name)?;
        Ok(name)
    }

    /// On one entrypoint the API would answer in place of routes.
    pub(super) fn check_entrypoints(&self, entrypoint: &str) -> Result<()> {
        if *entrypoint == self.api_entrypoint {
            return Err(Error::invalid(format!(
                "routes and Traefik's API must have entrypoints of their own, and both have \
                 {entrypoint:?} (`traefik_entrypoint`, `traefik_api_entrypoint`)"
            )));
        }
        Ok(())
    }
}
