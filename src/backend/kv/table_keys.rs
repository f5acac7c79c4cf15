//! A table as keys: which keys stand for it, and what a change does to them. Does no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::flatten::flatten;
use super::{Entry, Step, Transaction};
use crate::backend::record::{Header, parse_line};
use crate::backend::{Commit, Setup};
use crate::config::dynamic::{entries, marker, router, service};
use crate::config::text::json_line;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Change, Route, Table, Target, marker_name, service_name};

/// How many commits the header remembers.
const RECENT: usize = 16;

/// Where the keys of a table are.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    traefik: String,
    private: String,
}

impl Keys {
    pub(super) fn new(traefik: &str, private: &str) -> Self {
        let bare = |prefix: &str| prefix.trim_matches('/').to_string();
        Self {
            traefik: bare(traefik),
            private: bare(private),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        for (option, prefix) in [
            ("traefik_prefix", &self.traefik),
            ("jupyterhub_prefix", &self.private),
        ] {
            if prefix.split('/').any(str::is_empty) || prefix.chars().any(char::is_control) {
                return refuse(format!(
                    "{option} {prefix:?} has an empty part or a control character"
                ));
            }
        }
        // Traefik watches all keys that begin with its root, whether a slash follows or not.
        if self.private.starts_with(&self.traefik) {
            return refuse(format!(
                "jupyterhub_prefix {:?} begins with traefik_prefix {:?}, so that Traefik would \
                 reload for keys that are not its own; choose another one",
                self.private, self.traefik
            ));
        }
        Ok(())
    }

    pub(super) fn traefik(&self) -> &str {
        &self.traefik
    }

    pub(super) fn private(&self) -> &str {
        &self.private
    }

    /// What keeps the names of this table apart from those of others.
    pub(super) fn namespace(&self) -> &str {
        if self.private == "jupyterhub" {
            ""
        } else {
            &self.private
        }
    }

    pub(super) fn private_tree(&self) -> String {
        format!("{}/", self.private)
    }

    pub(super) fn default_certificate(&self) -> String {
        format!("{}/tls/stores/default/", self.traefik)
    }

    /// Where jupyterhub-traefik-proxy keeps its routes.
    pub(super) fn legacy_tree(&self) -> String {
        format!("{}/routes/", self.private)
    }

    /// All that only we read.
    pub(super) fn own_tree(&self) -> String {
        format!("{}/traefik-router/", self.private)
    }

    pub(super) fn header(&self) -> String {
        format!("{}header", self.own_tree())
    }

    /// A key that stands for nothing.
    pub(super) fn scratch(&self) -> String {
        format!("{}scratch", self.own_tree())
    }

    fn route(&self, router: &str) -> String {
        format!("{}routes/{router}", self.own_tree())
    }

    pub(super) fn http(&self, part: &str, name: &str) -> String {
        format!("{}/http/{part}/{name}", self.traefik)
    }
}

/// The table as it is stored, and as changes leave it.
pub(super) struct TableKeys {
    keys: Keys,
    version: u64,
    header: Header,
    table: Table,
    /// How many routes use a service.
    users: HashMap<String, usize>,
}

impl TableKeys {
    /// Reads what is below [`Keys::own_tree`].
    pub(super) fn parse(keys: &Keys, tree: &BTreeMap<String, Entry>) -> Result<Self> {
        let at = |key: &str, error: Error| error.context(format!("key {key}"));
        let header_key = keys.header();
        let (version, header) = match tree.get(&header_key) {
            None => (
                0,
                Header::new(keys.namespace(), marker_name(keys.namespace())),
            ),
            Some(entry) => {
                let header = parse_line(&entry.value).map_err(|error| at(&header_key, error))?;
                (entry.version, header)
            }
        };
        let routes = keys.route("");
        let table = tree
            .iter()
            .filter(|(key, _)| key.starts_with(&routes))
            .map(|(key, entry)| parse_line::<Route>(&entry.value).map_err(|error| at(key, error)))
            .collect::<Result<Table>>()?;
        let mut users = HashMap::new();
        for route in &table {
            *users
                .entry(service_name(keys.namespace(), &route.target))
                .or_default() += 1;
        }
        Ok(Self {
            keys: keys.clone(),
            version,
            header,
            table,
            users,
        })
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether this is the table with this header. A store that was restored may come to the same
    /// version again.
    pub(super) fn is_at(&self, header: Option<&Entry>) -> bool {
        match header {
            None => self.version == 0,
            Some(header) => {
                header.version == self.version && header.value == json_line(&self.header)
            }
        }
    }

    pub(super) fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn commit(&self) -> Commit {
        self.header.commit()
    }

    /// About how much the header adds to each transaction.
    pub(super) fn header_bytes(&self) -> usize {
        json_line(&self.header).len() + 512
    }

    /// Makes a change, and says what it does to the keys.
    pub(super) fn apply(&mut self, change: &Change) -> Result<Transaction> {
        let mut transaction = Transaction::new();
        let old = self.table.get(change.spec()).cloned();
        if let Change::Set(route) = change {
            let config = router(self.keys.namespace(), route);
            let value = json!({
                "rule": config.rule,
                "priority": config.priority,
                "service": config.service,
                "entryPoints": [self.header.entrypoint],
            });
            flatten(
                &self.keys.http("routers", &config.name),
                &value,
                &mut transaction.set,
            )?;
            self.use_service(&config.service, &route.target, &mut transaction)?;
            transaction
                .set
                .insert(self.keys.route(&config.name), json_line(&**route));
        } else if let Some(old) = &old {
            let config = router(self.keys.namespace(), old);
            for part in ["rule", "priority", "service", "entryPoints/0"] {
                let router = self.keys.http("routers", &config.name);
                transaction.delete.insert(format!("{router}/{part}"));
            }
            transaction.delete.insert(self.keys.route(&config.name));
        }
        if let Some(old) = old {
            self.leave_service(&old.target, &mut transaction)?;
        }
        self.table.apply(change);
        Ok(transaction)
    }

    fn use_service(&mut self, name: &str, target: &Target, into: &mut Transaction) -> Result<()> {
        let users = self.users.entry(name.into()).or_default();
        *users += 1;
        if *users == 1 {
            let mut next = Transaction::new();
            flatten(
                &self.keys.http("services", name),
                &service(target, &self.header.service),
                &mut next.set,
            )?;
            into.then(next);
        }
        Ok(())
    }

    fn leave_service(&mut self, target: &Target, into: &mut Transaction) -> Result<()> {
        let name = service_name(self.keys.namespace(), target);
        let users = self.users.entry(name.clone()).or_default();
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.users.remove(&name);
            let mut gone = BTreeMap::new();
            flatten(
                &self.keys.http("services", &name),
                &service(target, &self.header.service),
                &mut gone,
            )?;
            into.then(Transaction {
                delete: gone.into_keys().collect(),
                ..Transaction::new()
            });
        }
        Ok(())
    }

    /// Whether there is nothing of what this setup has stored.
    pub(super) fn lacks(&self, setup: &Setup) -> bool {
        let is_empty = |base: &Value| base.as_object().is_none_or(serde_json::Map::is_empty);
        self.version == 0
            || is_empty(&self.header.base)
                && setup.base.as_ref().is_some_and(|base| !is_empty(base))
    }

    /// Stores a setup; see [`Backend::open`](crate::Backend::open). `certificate` says whether a
    /// default one is stored, ours or another's.
    pub(super) fn set_up(&mut self, setup: &Setup, certificate: bool) -> Result<Vec<Step>> {
        let ours = self.header.base.pointer("/tls/stores/default").is_some();
        let base = setup.base_over(&self.header.base, certificate && !ours);
        entries(&base)?;
        let mut steps = self.replace_base(base)?;
        if let Some(service) = &setup.service {
            if *service != self.header.service {
                steps.extend(self.replace_services(service)?);
            }
        }
        if self.header.entrypoint != setup.entrypoint {
            self.header.entrypoint.clone_from(&setup.entrypoint);
            for route in &self.table {
                let name = router(self.keys.namespace(), route).name;
                let mut transaction = Transaction::new();
                let key = format!("{}/entryPoints/0", self.keys.http("routers", &name));
                transaction.set.insert(key, setup.entrypoint.clone());
                steps.push(Step {
                    spec: Some(route.spec.clone()),
                    transaction,
                });
            }
        }
        Ok(steps)
    }

    /// Gives every service another configuration beside its server.
    fn replace_services(&mut self, more: &Value) -> Result<Vec<Step>> {
        let old = std::mem::replace(&mut self.header.service, more.clone());
        let mut done = HashSet::new();
        let mut steps = Vec::new();
        for route in &self.table {
            let name = service_name(self.keys.namespace(), &route.target);
            let key = self.keys.http("services", &name);
            if !done.insert(name) {
                continue;
            }
            let (mut gone, mut transaction) = (BTreeMap::new(), Transaction::new());
            flatten(&key, &service(&route.target, &old), &mut gone)?;
            let value = service(&route.target, more);
            flatten(&key, &value, &mut transaction.set)?;
            gone.retain(|key, _| !transaction.set.contains_key(key));
            transaction.delete = gone.into_keys().collect();
            steps.push(Step {
                spec: Some(route.spec.clone()),
                transaction,
            });
        }
        Ok(steps)
    }

    /// Takes our setup out again.
    pub(super) fn tear_down(&mut self) -> Result<Vec<Step>> {
        self.replace_base(json!({}))
    }

    fn replace_base(&mut self, base: Value) -> Result<Vec<Step>> {
        let old = self.base_keys(&self.header.base)?;
        let new = self.base_keys(&base)?;
        self.header.base = base;
        let mut transaction = Transaction::new();
        transaction.delete = old
            .into_keys()
            .filter(|key| !new.contains_key(key))
            .collect();
        transaction.set = new;
        Ok(vec![Step {
            spec: None,
            transaction,
        }])
    }

    fn base_keys(&self, base: &Value) -> Result<BTreeMap<String, String>> {
        let mut keys = BTreeMap::new();
        if base.as_object().is_some_and(|base| !base.is_empty()) {
            flatten(&self.keys.traefik, base, &mut keys)?;
        }
        Ok(keys)
    }

    /// Completes a transaction with the next generation, and with the condition that nobody else
    /// has committed since. Returns what tells it from all others.
    /// Unless it is the `last` of several, the turn stays with the writer.
    pub(super) fn seal(
        &mut self,
        writer: &str,
        last: bool,
        transaction: &mut Transaction,
    ) -> Result<String> {
        self.header.advance();
        let seal = format!("{writer}:{}", self.header.generation);
        self.header.turn = (!last).then(|| seal.clone());
        self.header.recent.insert(0, seal.clone());
        self.header.recent.truncate(RECENT);
        let marker_key = self.keys.http("middlewares", &self.header.marker);
        flatten(
            &marker_key,
            &marker(self.header.generation),
            &mut transaction.set,
        )?;
        transaction
            .set
            .insert(self.keys.header(), json_line(&self.header));
        transaction.expect = Some((self.keys.header(), self.version));
        Ok(seal)
    }

    /// Whose turn it is, if that is another writer than this one.
    pub(super) fn turn_of_another(&self, writer: &str) -> Option<&str> {
        let turn = self.header.turn.as_deref()?;
        (turn.split(':').next() != Some(writer)).then_some(turn)
    }

    /// Takes the turn, or gives it back. Traefik hears nothing of it.
    pub(super) fn take_turn(&mut self, writer: Option<&str>) -> Transaction {
        self.header.turn = writer.map(|writer| format!("{writer}:{}", self.version));
        let mut transaction = Transaction::new();
        transaction
            .set
            .insert(self.keys.header(), json_line(&self.header));
        transaction.expect = Some((self.keys.header(), self.version));
        transaction
    }

    /// The keys of the marker, given the header's text.
    pub(super) fn marker_of(keys: &Keys, header: &str) -> Result<BTreeMap<String, String>> {
        let header: Header = parse_line(header)?;
        let mut marker_keys = BTreeMap::new();
        let key = keys.http("middlewares", &header.marker);
        flatten(&key, &marker(header.generation), &mut marker_keys)?;
        Ok(marker_keys)
    }

    /// Whether the header's text knows of the commit with this seal.
    pub(super) fn header_has(text: &str, seal: &str) -> bool {
        parse_line::<Header>(text).is_ok_and(|header| header.recent.iter().any(|one| one == seal))
    }

    /// Removes the last keys of an empty table.
    pub(super) fn removal(&self) -> Transaction {
        let marker = self.keys.http("middlewares", &self.header.marker);
        let mut transaction = Transaction::new();
        transaction.delete.insert(self.keys.header());
        transaction.delete_trees.insert(format!("{marker}/"));
        transaction.expect = Some((self.keys.header(), self.version));
        transaction
    }
}
