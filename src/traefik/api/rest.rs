//! Traefik's REST provider: sending it a table, and what it has loaded.

use std::time::Duration;

use serde_json::Value;

use super::Api;
use super::answers::Middleware;
use crate::config::dynamic::{RECORDS, RECORDS_TEXT, REST_SERVICE};
use crate::error::{Error, ErrorKind, Result};

/// Where the REST provider takes a table.
const REST_PATH: &str = "/api/providers/rest";

/// What Traefik's REST provider has loaded.
#[derive(Debug)]
pub(crate) enum RestContent {
    Nothing,
    /// A table, with the records of its [`Document`](crate::backend::Document).
    Table(String),
    /// Something that is not of this crate.
    Other,
}

impl Api {
    /// Gives the REST provider a dynamic configuration, whole, as JSON. Traefik has taken it then, and loads
    /// it afterwards. It may take so much `more` time than other requests, and not more than is `left`.
    pub(crate) fn push(&self, document: &[u8], more: Duration, left: Duration) -> Result<()> {
        let timeout = (self.timeout + more).min(left);
        let answer = self.http.put(REST_PATH, document, timeout)?;
        match answer.status {
            200 => Ok(()),
            400 => {
                let why = String::from_utf8_lossy(&answer.body);
                let message = format!(
                    "{}{REST_PATH} refuses the table: {}",
                    self.url(),
                    why.trim()
                );
                Err(Error::new(ErrorKind::Refused, message))
            }
            404 => Err(no_rest_router(self.url())),
            _ => self.read::<Value>(REST_PATH, answer).map(drop),
        }
    }

    /// Fails unless Traefik takes a table from us, and from nobody without the API's password.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) with what to change, and as [`version`](Self::version).
    pub(crate) fn check_rest(&self) -> Result<()> {
        let is_there = |kind: &str| Ok(self.named::<Value>(kind, REST_SERVICE, None)?.is_some());
        if !is_there("services")? {
            if self.version_if_there()?.is_none() {
                let message = format!(
                    "{}/api/version answers 404: the router for Traefik's API is not loaded (yet), or the \
                     API is somewhere else",
                    self.url()
                );
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            return Err(Error::invalid(format!(
                "Traefik at {} has no REST provider: add `providers.rest` to its static configuration \
                 (`traefik-router config static` prints one)",
                self.url()
            )));
        }
        if is_there("routers")? {
            return Err(Error::invalid(format!(
                "Traefik at {} takes a table from anybody: take `insecure` out of `providers.rest` in its \
                 static configuration, and give {REST_SERVICE} a router behind a password \
                 (`traefik-router config dynamic` prints one)",
                self.url()
            )));
        }
        let nobody = Self {
            http: self.http.clone().anonymous(),
            timeout: self.timeout,
        };
        if nobody.probe_rest().is_ok() {
            return Err(Error::invalid(format!(
                "Traefik at {} takes a table from anybody who knows this URL: guard the router of \
                 {REST_SERVICE} by a password (`traefik-router config dynamic` prints one)",
                self.url()
            )));
        }
        self.probe_rest()
    }

    /// Fails unless the REST provider reads what we send. It is sent what is no JSON, and so loads nothing: with a
    /// throttle even `{}`, which it skips, would take the place of a table that is yet to be loaded.
    fn probe_rest(&self) -> Result<()> {
        let answer = self.http.put(REST_PATH, b"?", self.timeout)?;
        match answer.status {
            400 => Ok(()),
            404 => Err(no_rest_router(self.url())),
            200 => Err(Error::new(
                ErrorKind::Protocol,
                format!("{}{REST_PATH} did not answer as Traefik does", self.url()),
            )),
            _ => self.read::<Value>(REST_PATH, answer).map(drop),
        }
    }

    /// What the REST provider has loaded.
    pub(crate) fn rest_content(&self) -> Result<RestContent> {
        let records = format!("{RECORDS}@rest");
        if let Some(middleware) = self.named::<Middleware>("middlewares", &records, None)? {
            let settings = Value::from(middleware.settings);
            let records = settings["headers"]["customRequestHeaders"][RECORDS_TEXT].as_str();
            return Ok(records.map_or(RestContent::Other, |text| RestContent::Table(text.into())));
        }
        for kind in [
            "http/routers",
            "http/services",
            "http/middlewares",
            "tcp/routers",
            "tcp/services",
            "tcp/middlewares",
            "udp/routers",
            "udp/services",
        ] {
            // The search finds what is in a rule, too.
            let is_rest = |one: &Value| one["name"].as_str().is_some_and(|n| n.ends_with("@rest"));
            let mut is_found = false;
            self.each_page(&format!("/api/{kind}"), "search=@rest&", 100, |page| {
                is_found = page.iter().any(is_rest);
                !is_found
            })?;
            if is_found {
                return Ok(RestContent::Other);
            }
        }
        Ok(RestContent::Nothing)
    }
}

fn no_rest_router(url: &str) -> Error {
    let message = format!(
        "{url}{REST_PATH} answers 404: Traefik has no REST provider (`providers.rest` in its static \
         configuration), or the API's entrypoint has no router for {REST_SERVICE} \
         (`traefik-router config dynamic` prints one)"
    );
    Error::new(ErrorKind::InvalidConfig, message)
}
