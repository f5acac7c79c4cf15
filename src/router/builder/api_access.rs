//! Traefik's API: how it is guarded, and how it is asked.

use super::Builder;
use crate::config::dynamic::{self, ApiAccess};
use crate::error::{Error, Result};
use crate::traefik::Api;

impl Builder {
    /// How to guard an API that we set up.
    pub(super) fn api_access(&self, password: &str) -> Result<ApiAccess> {
        Ok(ApiAccess {
            entrypoint: self.api_entrypoint.clone(),
            username: self.username()?,
            password: password.into(),
            given: self.api_password.is_some(),
            password_hash: self.password_hash(password)?,
            metrics: self.metrics_router,
        })
    }

    pub(super) fn username(&self) -> Result<String> {
        let name = &self.api_username;
        let refused = |c: char| c.is_control() || ":,\u{2551}".contains(c);
        if name.is_empty() || name.trim() != name || name.chars().any(refused) {
            return Err(Error::invalid(
                "`traefik_api_username` must not be empty, begin or end with a space, or contain ':', \
                 ',', '\u{2551}' or control characters: Traefik would read another name",
            ));
        }
        Ok(name.clone())
    }

    pub(super) fn password_hash(&self, password: &str) -> Result<String> {
        if let Some(hash) = &self.api_hashed_password {
            return Ok(hash.clone());
        }
        #[cfg(feature = "bcrypt")]
        if let Some(cost) = self.bcrypt_cost {
            return match bcrypt::hash(password, cost) {
                Ok(hash) => Ok(hash),
                Err(error) => Err(Error::invalid("`bcrypt_cost`").with_source(error)),
            };
        }
        Ok(dynamic::fast_hash(password))
    }

    pub(super) fn apis(&self, password: Option<&str>) -> Result<Vec<Api>> {
        let api = |url| {
            let api = Api::with_tls(url, &self.api_tls)?.timeout(self.api_timeout);
            Ok(match password {
                Some(password) => api.basic_auth(&self.api_username, password),
                None => api,
            })
        };
        self.api_urls.iter().map(api).collect()
    }
}
