//! What a key-value store holds, and what may be wrong with it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::flatten::unflatten;
use super::{KvBackend, KvStore, legacy};
use crate::backend::Contents;
use crate::config::dynamic::API_GUARDS;
use crate::config::merge;
use crate::error::{ErrorKind, Result};
use crate::finding::Finding;
use crate::route::Change;

impl<S: KvStore> KvBackend<S> {
    pub(super) fn contents(&self) -> Result<Option<Contents>> {
        self.keys.check()?;
        let own = self.store.read_tree(&self.keys.own_tree())?;
        let legacy = legacy::read(&self.keys, &*self.store)?;
        if own.is_empty() && legacy.is_empty() {
            return Ok(None);
        }
        let mut contents = self.parse(&own)?.contents();
        let mut config = self.config()?;
        merge(&mut config, &contents.config);
        contents.config = config;
        contents.legacy_routes = legacy.len();
        for (route, _) in legacy {
            if contents.routes.get(&route.spec).is_none() {
                contents.routes.apply(&Change::from(route));
            }
        }
        Ok(Some(contents))
    }

    /// The API's guard and the default certificate that are stored, by any program.
    fn config(&self) -> Result<Value> {
        let mut config = json!({});
        let guards = API_GUARDS.map(|name| format!("{}/", self.keys.http("middlewares", name)));
        let certificate = self.keys.default_certificate();
        for tree in guards.into_iter().chain([certificate]) {
            let found = self.store.read_tree(&tree)?;
            let pairs: BTreeMap<&str, &str> = found
                .iter()
                .map(|(key, entry)| (&**key, &*entry.value))
                .collect();
            merge(&mut config, &unflatten(self.keys.traefik(), pairs));
        }
        Ok(config)
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let trees = [self.keys.traefik(), &self.keys.private_tree()];
        let asked = (self.keys.check())
            .and_then(|()| self.store.check(&trees))
            // A table that can't be read is another finding.
            .and_then(|()| self.read_state().map_or(Ok(()), |state| state.check_root()));
        let mut findings = self.store.diagnose();
        findings.push(match asked {
            Ok(()) => Finding::ok(
                "prefixes",
                format!(
                    "the keys below {}/ and {}/ can be read",
                    self.keys.traefik(),
                    self.keys.private()
                ),
            ),
            // Its message says what to set.
            Err(error) if error.kind() == ErrorKind::InvalidConfig => {
                Finding::problem("prefixes", error.to_string())
            }
            Err(error) => Finding::problem("prefixes", error.to_string()).advice(format!(
                "check the URLs and the user; its role must grant reading and writing {0:?} as a \
                 prefix (without a slash behind) and {1:?}",
                self.keys.traefik(),
                self.keys.private_tree()
            )),
        });
        findings
    }
}
