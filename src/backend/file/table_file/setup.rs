//! What a setup changes of a file: its header, and what started Traefiks need in it.

use serde_json::{Value, json};

use super::TableFile;
use crate::backend::Setup;
use crate::backend::record::Header;
use crate::config::dynamic::{
    self, ApiAccess, Own, api_part, api_routers, entries, has_default_certificate, is_api_name,
    without_api,
};
use crate::config::merge;
use crate::config::text::Node;
use crate::error::{Error, ErrorKind, Result};

impl TableFile {
    /// Takes over a setup; see [`Backend::open`](crate::Backend::open). `certificate` is the file
    /// for a certificate, and `shared` says whether other started Traefiks need what is stored.
    pub(in crate::backend::file) fn set_up(
        &mut self,
        setup: &Setup,
        certificate: &str,
        shared: bool,
    ) -> Result<()> {
        let before = self.header.clone();
        let tree = self.tree.to_value();
        if setup.api.is_some() && !setup.replace_api {
            let mut all = tree.clone();
            merge(&mut all, &self.header.config());
            let named = |api: &ApiAccess| {
                let names = api_routers(&all, &api.entrypoint);
                let others = names
                    .first()
                    .filter(|_| !api.is_let_in_by(&self.header.base));
                others.map(ToString::to_string)
            };
            if let Some(name) = setup.api.as_ref().and_then(named) {
                return Err(Error::invalid(format!(
                    "the file has a router for Traefik's API, {name}, and Traefik does not serve it"
                )));
            }
        }
        self.header.set_up(setup, self.table.has_parents())?;
        if let Some(own) = &setup.own {
            self.header.own =
                self.own_config(own, &tree, certificate, shared, setup.replace_api)?;
            self.header.own = self.without_theirs(&self.header.own)?;
        }
        if setup.extra.is_some() || setup.api.is_some() {
            self.header.base = self.without_theirs(&self.header.base)?;
        }
        if self.header != before || !self.is_written {
            self.write_table_anew();
            // Fails now, and not at the first route, if routes can't be added.
            self.frames = [None, None];
            self.weave(true)?;
        }
        Ok(())
    }

    /// Removes the API router of jupyterhub-traefik-proxy, whose routes are taken over.
    fn drop_legacy_api(&mut self) -> Result<()> {
        let is_api = |path: &[&str]| match path {
            ["http", "routers" | "middlewares", name] => is_api_name(name),
            _ => false,
        };
        self.set_foreign(self.tree.text_without(&self.foreign, &is_api))
    }

    /// The configuration that a started Traefik needs in this file, beside `theirs`, what others have written there.
    /// Where it is `shared`, it has what other started Traefiks need as well.
    fn own_config(
        &mut self,
        own: &Own,
        theirs: &Value,
        certificate: &str,
        shared: bool,
        replace_api: bool,
    ) -> Result<Value> {
        let stored = match shared {
            true => self.header.own.clone(),
            false => json!({}),
        };
        let mut config = json!({});
        let on = &*own.api.entrypoint;
        let mut by_hand = api_routers(theirs, on);
        if self.legacy_routes > 0 {
            by_hand.retain(|name| !is_api_name(name));
            self.drop_legacy_api()?;
        }
        if let Some(name) = by_hand.first() {
            if !own.api.given {
                return Err(Error::invalid(format!(
                    "the file has a router for Traefik's API already, {name}, and its password was not \
                     given (`traefik_api_password`)"
                )));
            }
        } else if let Some(name) = api_routers(&self.header.base, on).first() {
            if replace_api {
                without_api(&mut self.header.base);
                config = own.api.config(&self.ending);
            } else if !own.api.is_let_in_by(&self.header.base) {
                return Err(Error::invalid(format!(
                    "the file has a router for the API of Traefiks that others run, {name}, with \
                     another user name or password; give the same ones (`traefik_api_username`, \
                     `traefik_api_password`), or set `replace_api_router` if no such Traefik is left"
                )));
            }
        } else if shared {
            if !own.api.is_let_in_by(&stored) {
                return Err(in_use(
                    "another program serves this file with a Traefik that it has started, and with \
                     another user name, password or entrypoint of its API (`traefik_api_username`, \
                     `traefik_api_password`, `traefik_api_entrypoint`); a file has \
                     one for all: keep the routes in etcd, where each has its own, or give both \
                     programs the same"
                        .into(),
                ));
            }
            config = api_part(&stored);
        } else {
            config = own.api.config(&self.ending);
        }
        let has_one = self.has_neighbours_certificate
            || self.tree.get(&["tls", "stores", "default"]).is_some()
            || has_default_certificate(&self.header.base);
        if !own.certificate.made_up || !has_one {
            merge(&mut config, &dynamic::certificate(certificate));
        }
        merge(&mut config, &own.extra);
        for entry in entries(&stored)? {
            let path = [&*entry.section, &[entry.name]].concat();
            let pointer = format!("/{}", path.join("/"));
            match config.pointer(&pointer) {
                Some(ours) if ours != entry.value => {
                    return Err(in_use(format!(
                        "another program serves this file with a Traefik that it has started, and \
                         sets {} to something else than this one does; keep the routes in etcd, \
                         where each Traefik has its own configuration",
                        path.join(".")
                    )));
                }
                Some(_) => {}
                None => merge(&mut config, &nest(&path, entry.value)),
            }
        }
        Ok(config)
    }

    /// `base` without the entries that others have written into the file already.
    fn without_theirs(&self, base: &Value) -> Result<Value> {
        let mut ours = json!({});
        for entry in entries(base)? {
            let path = [&*entry.section, &[entry.name]].concat();
            match self.tree.get(&path).map(Node::to_value) {
                None => merge(&mut ours, &nest(&path, entry.value)),
                Some(theirs) if theirs == *entry.value => {}
                Some(_) => {
                    return Err(Error::invalid(format!(
                        "the file already sets {} to something else than the extra dynamic \
                         configuration does; remove it from one of them",
                        path.join(".")
                    )));
                }
            }
        }
        Ok(ours)
    }

    /// Takes over the header of what the file was before another program replaced it by one
    /// without our table.
    pub(in crate::backend::file) fn inherit(&mut self, old: &Header) -> Result<()> {
        if self.header.generation > 0 {
            return Ok(());
        }
        self.inherited = true;
        if self.legacy_routes > 0 && old.own != json!({}) {
            self.drop_legacy_api()?;
        }
        self.header = Header {
            created: self.header.created,
            base: self.without_theirs(&old.base)?,
            own: self.without_theirs(&old.own)?,
            ..old.clone()
        };
        self.write_table_anew();
        self.frames = [None, None];
        self.weave(true)?;
        Ok(())
    }

    /// Takes back what a setup has made of the header.
    pub(in crate::backend::file) fn take_back(
        &mut self,
        before: &Header,
        made: &Header,
    ) -> Result<()> {
        self.header.take_back(before, made);
        self.write_table_anew();
        self.frames = [None, None];
        self.weave(true)?;
        Ok(())
    }

    /// Takes out what only started Traefiks need; says whether there was any.
    pub(in crate::backend::file) fn tear_down(&mut self) -> bool {
        self.frames = [None, None];
        let own = std::mem::replace(&mut self.header.own, json!({}));
        own != json!({})
    }
}

/// A value under these keys.
fn nest(path: &[&str], value: &Value) -> Value {
    let nest = |value, key: &&str| json!({ *key: value });
    path.iter().rev().fold(value.clone(), nest)
}

fn in_use(why: String) -> Error {
    Error::new(ErrorKind::InUse, why)
}
