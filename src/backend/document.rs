//! A whole table as the dynamic configuration that Traefik's REST provider takes: JSON, made of lines that
//! are kept.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::lines::Lines;
use super::record::{Header, parse};
use super::{Commit, Contents};
use crate::config::dynamic::{READY, RECORDS, RECORDS_TEXT, marker, ready_router};
use crate::config::text::{Entries as _, Json, json_line};
use crate::error::Result;
use crate::route::Table;

/// A store that Traefik does not read. A Router sends its table to Traefik's REST provider.
pub trait Pushed {
    /// What to send, as the last commit left it.
    ///
    /// # Errors
    /// If the store can't be read.
    fn document(&self) -> Result<Document>;

    /// Begins a new generation of the same table, so that Traefiks load it once more. It is later than the generations
    /// that Traefiks show: `others` has the records that each of them shows. Records that can't be read are ignored.
    ///
    /// # Errors
    /// If the store can't be written.
    fn renew(&self, others: &[String]) -> Result<Commit>;

    /// Whether the table of these records, which a Traefik shows, is an earlier state of this one. Records that
    /// can't be read are another program's.
    ///
    /// # Errors
    /// If the store can't be read.
    fn is_later_than(&self, records: &str) -> Result<bool>;

    /// Takes over the table that Traefiks still have: of each of them the records of its [`Document`]. The latest of
    /// these tables is used. If this store has a later state of it, it keeps that. With `replace` it ignores tables of
    /// other names, tables that can't be read, and a table of its own name if it has routes already. The store's next
    /// generation is later than all that were found.
    ///
    /// # Errors
    /// - [`InUse`](crate::ErrorKind::InUse) if one is another table than this store is for, or if this
    ///   store has routes already; and if another Router pushes this store.
    /// - [`Corrupt`](crate::ErrorKind::Corrupt) if records can't be read, without `replace`.
    fn resume(&self, found: &[String], replace: bool) -> Result<()>;
}

/// A dynamic configuration to send, whole.
#[derive(Clone)]
#[non_exhaustive]
pub struct Document {
    /// The commit that it brings.
    pub commit: Commit,
    /// JSON, as Traefik's REST provider takes it.
    pub body: Arc<Vec<u8>>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body may hold secrets.
        f.debug_struct("Document")
            .field("commit", &self.commit)
            .field("bytes", &self.body.len())
            .finish()
    }
}

impl Document {
    /// The commit that `body` brings, which is JSON as Traefik's REST provider takes it.
    pub fn new(commit: Commit, body: Vec<u8>) -> Self {
        Self {
            commit,
            body: Arc::new(body),
        }
    }

    /// What a store with the table of these records would hold.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if they are damaged.
    pub(crate) fn contents(records: &str) -> Result<Contents> {
        let found = table_of(records)?;
        Ok(found.map_or_else(Contents::default, |(header, table)| header.contents(table)))
    }

    /// The table of these lines, under this header. It has about so many bytes.
    pub(super) fn of(header: &Header, lines: &Lines<Json>, bytes: usize) -> Self {
        let mut json = Writer(String::with_capacity(bytes + (8 << 10)));
        let mut config = match header.config() {
            Value::Object(config) => config,
            _ => Map::new(),
        };
        let mut http = take(&mut config, "http");
        let mut routers = take(&mut http, "routers");
        let (router, ready) = ready_router(&header.marker, header.entrance());
        routers.insert(header.marker.clone(), router);
        json.open("");
        json.open("\"http\":");
        json.open("\"routers\":");
        json.values(&routers);
        lines.routers().for_each(|router| json.entry(router));
        json.close();
        if !lines.routes().is_empty() || http.contains_key("services") {
            json.open("\"services\":");
            json.values(&take(&mut http, "services"));
            lines.services().for_each(|service| json.entry(service));
            json.close();
        }
        json.open("\"middlewares\":");
        json.values(&take(&mut http, "middlewares"));
        json.entry(&Json.entry(&header.marker, &marker(header.generation)));
        json.entry(&Json.entry(READY, &ready));
        lines.middlewares().for_each(|own| json.entry(own));
        json.records(header, lines);
        json.close();
        json.values(&http);
        json.close();
        json.values(&config);
        json.close();
        Self::new(header.commit(), json.0.into_bytes())
    }
}

/// The table of records, as Traefik shows them; `None` where there are none. A record has no `'`, and no `}{`.
pub(super) fn table_of(records: &str) -> Result<Option<(Header, Table)>> {
    let records = records.replace('\'', "\"").replace("}{", "}\n{");
    parse(records.lines())
}

/// Writes maps as JSON.
struct Writer(String);

impl Writer {
    /// Begins a map, behind its name and a colon.
    fn open(&mut self, name: &str) {
        self.entry(name);
        self.0.push('{');
    }

    fn close(&mut self) {
        self.0.push('}');
    }

    fn entry(&mut self, entry: &str) {
        if !self.0.is_empty() && !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.0.push_str(entry);
    }

    fn values(&mut self, values: &Map<String, Value>) {
        for (name, value) in values {
            self.entry(&Json.entry(name, value));
        }
    }

    /// What we keep for ourselves, as a header of a middleware that no router uses: Traefik's API shows it. It is one
    /// text, since Traefik takes longer to load many.
    fn records(&mut self, header: &Header, lines: &Lines<Json>) {
        self.open(&format!("\"{RECORDS}\":"));
        self.open("\"headers\":");
        self.open("\"customRequestHeaders\":");
        self.entry(&format!("\"{RECORDS_TEXT}\":\""));
        self.0.push_str(&Json.record(json_line(header)));
        lines.records().for_each(|record| self.0.push_str(record));
        self.0.push('"');
        for _ in 0..3 {
            self.close();
        }
    }
}

/// Takes a map out of a map.
fn take(from: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match from.remove(key) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::MemoryBackend;
    use super::*;
    use crate::Router;
    use crate::error::ErrorKind;

    #[test]
    fn records_become_the_table_again() {
        let memory = MemoryBackend::new();
        let router = Router::builder(memory.clone()).offline().unwrap();
        for (n, data) in [
            json!(null),
            json!({}),
            json!([{}, {}]),
            json!({"'": "it's", "\"": "\"}{\""}),
            json!({"}{": ["\\", "\\\"", "\\'", "\\\\'"]}),
            json!("'}{'"),
            json!("\n}\n{\n"),
            json!("{{ é 😀 }}"),
        ]
        .into_iter()
        .enumerate()
        {
            router
                .add_route(format!("/'{n}"), "http://t", data)
                .unwrap();
        }
        let document = memory.document().unwrap();
        let body: Value = serde_json::from_slice(&document.body).unwrap();
        let records = &body["http"]["middlewares"][RECORDS]["headers"]["customRequestHeaders"];
        let records = records[RECORDS_TEXT].as_str().unwrap();
        let (header, table) = table_of(records).unwrap().unwrap();
        assert_eq!(header.commit(), document.commit);
        assert_eq!(table, router.get_all_routes().unwrap());
    }

    #[test]
    fn later_table_is_not_resumed() {
        let later = "{'format':2}".to_string();
        let memory = MemoryBackend::new();
        let error = memory.resume(&[later], false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("a later version"), "{error}");
    }
}
