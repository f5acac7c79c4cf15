//! Redis or Valkey as the store of a table.

mod client;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, RedisConnectionInfo, RedisError, cmd};
use serde_json::{Value, json};

use self::client::Client;
use super::store::{provider_tls, text_entry};
use super::{Entry, KvStore, Transaction};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::finding::{Finding, Level};
use crate::http::Tls;
use crate::sync::unpoisoned;

/// A hash of the version of each key that was set; under the empty name the last version that was given.
/// Traefik hears nothing of it, since it begins as no prefix does.
const VERSIONS: &str = "router-versions";
/// What the scripts begin with.
const CALL: &str = include_str!("call.lua");
const COMMIT: &str = include_str!("commit.lua");
const READ: &str = include_str!("read.lua");
const GET: &str = "return {call('GET', KEYS[2]), call('HGET', KEYS[1], KEYS[2]) or '1'}";
/// Raises the last version to the given one.
const CATCH_UP: &str = "
if tonumber(call('HGET', KEYS[1], '') or '0') < tonumber(ARGV[1]) then
  call('HSET', KEYS[1], '', ARGV[1])
end";

/// How long Redis may take to notify of a change.
const NOTIFICATION: Duration = Duration::from_millis(500);
/// The finding on what Traefik hears.
const NOTIFICATIONS: &str = "notifications";

/// Redis 7 or later, or Valkey, as the [`KvStore`] of a [`KvBackend`](super::KvBackend). Needs the feature
/// `redis`.
///
/// ```no_run
/// use traefik_router::{KvBackend, Redis, Router};
///
/// # fn main() -> traefik_router::Result<()> {
/// let redis = Redis::new("redis://127.0.0.1:6379")?.user("hub", "secret");
/// let router = Router::builder(KvBackend::new(redis))
///     .traefik_api_urls(["http://10.0.0.1:8099", "http://10.0.0.2:8099"])
///     .traefik_api_password("another secret")
///     .attach()?;
/// router.add_route("/user/zoe/", "http://10.0.0.7:8888", ())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Redis {
    client: Client,
    tls: Tls,
    max_bytes: usize,
    /// The list that changes with each commit.
    change_list: Option<String>,
    /// How many replicas must have a commit.
    replicas: usize,
    /// Whether a transaction may have been made that no replica has yet.
    is_unsure: AtomicBool,
    /// Whether Redis notified of a change when it was last checked, and whether Traefik may make it do so.
    notifies: Mutex<Option<Notifies>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notifies {
    Yes,
    OnceTraefikStarts,
    No,
}

impl Redis {
    /// The Redis at this URL: `redis://127.0.0.1:6379`, with `/2` behind it for database 2; `rediss://` for
    /// TLS. Port and database default to 6379 and 0.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is not such a URL.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Ok(Self::with(Client::new(url.as_ref())?))
    }

    /// A master that Sentinel watches: `["redis://a:26379", "redis://b:26379"]`, `"mymaster"`. `urls` are those of the
    /// Sentinels; a user in them is for the Sentinels. `master` is the name of the master. With `rediss` all
    /// connections use TLS. While there is no master, calls wait for one, for [`timeout`](Self::timeout) at most.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is not such a URL, or there is none.
    pub fn sentinel<S: AsRef<str>>(
        urls: impl IntoIterator<Item = S>,
        master: impl AsRef<str>,
    ) -> Result<Self> {
        let urls: Vec<_> = urls.into_iter().collect();
        let urls: Vec<_> = urls.iter().map(AsRef::as_ref).collect();
        Ok(Self::with(Client::sentinel(&urls, master.as_ref())?))
    }

    fn with(client: Client) -> Self {
        Self {
            client,
            tls: Tls::new(),
            max_bytes: 1 << 20,
            change_list: None,
            replicas: 0,
            is_unsure: AtomicBool::new(false),
            notifies: Mutex::default(),
        }
    }

    /// The user that this program and a started Traefik log in as. A Redis that has only a password has the user
    /// `default`. Defaults to the one in the URL.
    pub fn user(mut self, name: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        self.client = self.client.user(name.as_ref(), password.as_ref());
        self
    }

    /// The number of the database, for this program and for a started Traefik. Defaults to the one in the URL.
    pub fn database(mut self, number: u32) -> Self {
        self.client = self.client.database(number);
        self
    }

    /// The TLS options of this program and of a started Traefik, if the URL begins with `rediss`. Defaults to
    /// full validation under the roots of [`Tls::new`](crate::Tls::new).
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if a certificate or key is not PEM.
    pub fn tls(mut self, tls: Tls) -> Result<Self> {
        self.client = self.client.tls(&tls)?;
        self.tls = tls;
        Ok(self)
    }

    /// How long a call may take, with a new connection where it needs one. How long a name takes to resolve is up to
    /// the system, and an answer that comes bit by bit may take longer. Defaults to 10 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.timeout(timeout);
        self
    }

    /// How large a transaction may be, as [`Transaction::bytes`] counts. A larger batch goes in several
    /// transactions. Redis answers nobody else while it makes one. Defaults to 1 MiB, some 1,000 routes.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// A key below Traefik's `rootKey` for a list that changes with each commit: `traefik/changed`. If Redis
    /// notifies of lists only (`notify-keyspace-events Kl`), Traefik reads everything a few times for each commit,
    /// and not twice for each key. Then forbid `CONFIG` to Traefik's user: Traefik would reset
    /// `notify-keyspace-events`. A key that is not below `rootKey` is refused with the first change. Defaults to none.
    pub fn change_list(mut self, key: impl Into<String>) -> Self {
        self.change_list = Some(key.into());
        self
    }

    /// How many replicas must have a commit before it counts as stored (`WAIT`). If they do not confirm it within half
    /// of [`timeout`](Self::timeout), the call fails with [`Unavailable`](crate::ErrorKind::Unavailable); the commit
    /// is [stored](crate::Stored::All). It can still be lost: if the master is cut off, or if a replica without
    /// the commit becomes the master. Defaults to 0.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Makes a transaction and waits for the replicas.
    fn commit(&self, command: &Cmd) -> Result<u64> {
        let done = self.client.run_replicated(command, self.replicas);
        // It may be its own change, made over a connection that broke, that a second try stumbles on.
        let is_unsure = match &done {
            Ok((made, _)) => *made == 0,
            Err(error) => *error.stored() == Stored::Unknown,
        };
        if is_unsure {
            self.is_unsure.store(true, Ordering::Relaxed);
        }
        let (made, have) = done?;
        match made == 0 || have >= self.replicas {
            true => Ok(made),
            false => Err(self.too_few(have).with_stored(Stored::All)),
        }
    }

    /// After a transaction of which that is not known, waits until replicas have all that the server has.
    fn become_sure(&self) -> Result<()> {
        if self.replicas == 0 || !self.is_unsure.load(Ordering::Relaxed) {
            return Ok(());
        }
        // `WAIT` waits for what its own connection has written.
        let mut touch = cmd("HINCRBY");
        touch.arg(VERSIONS).arg("").arg(0);
        let (_, have) = self.client.run_replicated(&touch, self.replicas)?;
        if have < self.replicas {
            return Err(self.too_few(have));
        }
        self.is_unsure.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn too_few(&self, have: usize) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "Redis at {}: {have} of {} needed replicas confirmed the change: see which are connected, or lower \
                 `replicas`",
                self.client.address(),
                self.replicas
            ),
        )
    }

    /// What to set where Redis notifies nobody.
    fn advice(&self) -> String {
        let classes = match self.change_list {
            Some(_) => "Kl",
            None => "K$g",
        };
        format!(
            "set its `notify-keyspace-events` to \"{classes}\", or more, in redis.conf or in the settings of a \
             managed server"
        )
    }

    /// Whether Redis notifies of a change to `key`, which is set and deleted for that.
    fn notifies(&self, key: &str) -> Result<Notifies> {
        let failed = |error: RedisError| self.client.error(&error, false);
        let database = self.client.settings().db();
        let mut connection = self.client.connect(Instant::now() + NOTIFICATION)?;
        let mut listener = connection.as_pubsub();
        let event = self.change_list.as_deref().unwrap_or(key);
        listener
            .subscribe(format!("__keyspace@{database}__:{event}"))
            .map_err(failed)?;
        let mut there = Transaction::new();
        there.set.insert(key.into(), "1".into());
        self.transact(&there)?;
        listener
            .set_read_timeout(Some(NOTIFICATION))
            .map_err(failed)?;
        let heard = listener.get_message();
        let mut gone = Transaction::new();
        gone.delete.insert(key.into());
        self.transact(&gone)?;
        match heard {
            Ok(_) => Ok(Notifies::Yes),
            Err(error) if error.is_timeout() => {
                let mut setting = cmd("CONFIG");
                setting.arg("GET").arg("notify-keyspace-events");
                // Where it may be read it may be set, but for a user who was given just that.
                Ok(match self.client.ask::<redis::Value>(&setting) {
                    Ok(_) => Notifies::OnceTraefikStarts,
                    Err(_) => Notifies::No,
                })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The value that a line of `INFO` gives to `name`.
    fn info(&self, section: &str, name: &str) -> Option<String> {
        let text: String = self.client.ask(cmd("INFO").arg(section)).ok()?;
        let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
        lines.find_map(|(label, value)| (label == name).then(|| value.into()))
    }
}

/// A script over these keys; the first of them has the versions.
fn script(text: &str, keys: &[&str]) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg([CALL, text].concat());
    command.arg(keys.len()).arg(keys);
    command
}

/// A pattern of the keys that begin with `prefix`.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if "*?[]\\^-".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + "*"
}

impl KvStore for Redis {
    fn provider(&self) -> &str {
        "redis"
    }

    fn static_config(&self, root: &str) -> Result<Value> {
        let settings = self.client.settings();
        let mut redis = json!({"endpoints": self.client.endpoints(), "rootKey": root});
        let log_in = |config: &mut Value, settings: &RedisConnectionInfo| {
            for (key, value) in [
                ("username", settings.username()),
                ("password", settings.password()),
            ] {
                if let Some(value) = value {
                    config[key] = json!(value);
                }
            }
        };
        log_in(&mut redis, settings);
        if let Some((master, settings)) = self.client.sentinel_settings() {
            redis["sentinel"] = json!({"masterName": master});
            log_in(&mut redis["sentinel"], settings);
        }
        if settings.db() != 0 {
            redis["db"] = json!(settings.db());
        }
        if self.client.has_tls() {
            redis["tls"] = provider_tls(&self.tls);
        }
        Ok(json!({"providers": {"redis": redis}}))
    }

    /// A key of the last prefix is set and deleted, so that a user who may not write, and a Redis that notifies
    /// nobody, are found out before anything is stored.
    fn check(&self, prefixes: &[&str]) -> Result<()> {
        let key = |prefix: &str| format!("{}/traefik-router/check", prefix.trim_end_matches('/'));
        if let (Some(list), Some(root)) = (&self.change_list, prefixes.first()) {
            let below = list
                .strip_prefix(*root)
                .and_then(|rest| rest.strip_prefix('/'));
            if below.is_none_or(str::is_empty) {
                return Err(Error::invalid(format!(
                    "`change_list` {list:?} is not below Traefik's prefix, so that Traefik would not hear of \
                     changes: name a key such as {root}/changed"
                )));
            }
        }
        for prefix in prefixes {
            self.get(&key(prefix))?;
        }
        let Some(prefix) = prefixes.last() else {
            return Ok(());
        };
        let notifies = self.notifies(&key(prefix))?;
        let address = self.client.address();
        match notifies {
            Notifies::Yes => {}
            Notifies::OnceTraefikStarts => log::info!(
                "Redis at {address} notifies nobody of changes yet: Traefik sets `notify-keyspace-events` \
                 when it starts"
            ),
            Notifies::No => log::warn!(
                "Redis at {address} notifies nobody of changes, so that Traefik does not load them, and its \
                 settings may not be changed: {}",
                self.advice()
            ),
        }
        *unpoisoned(self.notifies.lock()) = Some(notifies);
        Ok(())
    }

    fn diagnose(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match *unpoisoned(self.notifies.lock()) {
            None => {}
            Some(Notifies::Yes) => findings.push(Finding::ok(
                NOTIFICATIONS,
                "Redis notifies of changes, which Traefik waits for",
            )),
            Some(Notifies::OnceTraefikStarts) => findings.push(Finding::ok(
                NOTIFICATIONS,
                "Redis notifies nobody of changes yet; Traefik sets that when it starts",
            )),
            Some(Notifies::No) => findings.push(
                Finding::problem(
                    NOTIFICATIONS,
                    "Redis notifies nobody of changes, so that Traefik does not load them",
                )
                .advice(self.advice()),
            ),
        }
        let mut save = cmd("CONFIG");
        save.arg("GET").arg("save");
        let save: Result<(String, String)> = self.client.ask(&save);
        let appends = self.info("persistence", "aof_enabled").as_deref() != Some("0");
        let lost = match save {
            _ if appends => None,
            Ok((_, points)) if points.is_empty() => Some(Finding::warning(
                "persistence",
                "Redis writes nothing to a disk: a restart loses all routes",
            )),
            Ok(_) => None,
            Err(_) => Some(Finding::new(
                Level::Note,
                "persistence",
                "Redis appends no changes to a disk, and our user may not ask whether it saves them",
            )),
        };
        findings.extend(lost.map(|finding| finding.advice("set `appendonly yes`")));
        let policy = self.info("memory", "maxmemory_policy").unwrap_or_default();
        let limit = self.info("memory", "maxmemory").unwrap_or_default();
        if policy.starts_with("allkeys-") && limit != "0" {
            findings.push(
                Finding::warning(
                    "eviction",
                    format!(
                        "Redis deletes keys when its memory is full ({policy}), routes among them"
                    ),
                )
                .advice("set `maxmemory-policy noeviction`"),
            );
        }
        findings
    }

    /// Traefik lists the keys and then reads them: it can miss a key that was added in between.
    fn is_read_at_once(&self) -> bool {
        false
    }

    fn has_empty_values(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.become_sure()?;
        let (value, version): (Option<Vec<u8>>, u64) =
            self.client.ask(&script(GET, &[VERSIONS, key]))?;
        let entry = value.map(|value| text_entry("Redis", key.into(), value, version));
        Ok(entry.transpose()?.map(|(_, entry)| entry))
    }

    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
        let mut command = script(READ, &[VERSIONS]);
        command.arg(pattern(prefix));
        let found: Vec<(Vec<u8>, Vec<u8>, u64)> = self.client.ask(&command)?;
        let entry = |(key, value, version)| text_entry("Redis", key, value, version);
        found.into_iter().map(entry).collect()
    }

    /// A script and not `WATCH` with `MULTI`: it is one question instead of two, it compares where the value
    /// is, and it may leave out keys that exist.
    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        let (expected, version, value) = match &transaction.expect {
            None => (VERSIONS, String::new(), ""),
            Some((key, None)) => (&**key, "0".into(), ""),
            Some((key, Some(entry))) => (&**key, entry.version.to_string(), &*entry.value),
        };
        let mut keys = vec![VERSIONS, expected];
        keys.extend(transaction.set.keys().map(String::as_str));
        keys.extend(transaction.delete.iter().map(String::as_str));
        let mut command = script(COMMIT, &keys);
        command.arg(version).arg(value).arg(transaction.set.len());
        transaction.set.values().for_each(|value| {
            command.arg(value);
        });
        command.arg(self.change_list.as_deref().unwrap_or_default());
        transaction.delete_trees.iter().for_each(|prefix| {
            command.arg(pattern(prefix));
        });
        let made = self.commit(&command)?;
        Ok((made != 0).then_some(made))
    }

    fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    fn is_behind(&self, _key: &str, version: u64) -> Result<bool> {
        let last: Option<u64> = self.client.ask(cmd("HGET").arg(VERSIONS).arg(""))?;
        Ok(last.unwrap_or(0) < version)
    }

    /// A Redis that was restored counts its versions on from those that were known.
    fn catch_up(&self, _scratch: &str, version: u64) -> Result<()> {
        self.client.run(script(CATCH_UP, &[VERSIONS]).arg(version))
    }

    fn announce(&self, key: &str, ttl: Duration) -> Result<bool> {
        let mut set = cmd("SET");
        set.arg(key).arg("1").arg("PX").arg(ttl.as_millis() as u64);
        self.client.run::<()>(&set)?;
        Ok(true)
    }

    fn withdraw(&self, key: &str) -> Result<()> {
        self.client.run(cmd("DEL").arg(key))
    }
}
