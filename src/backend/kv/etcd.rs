//! etcd as the store of a table.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::store::{provider_tls, text_entry};
use super::{Entry, KvStore, Transaction};
use crate::config::MAX_WAIT;
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::{
    Client, Compare, Identity, Is, KeyValue, MAX_OPS, Op, Range, Txn, WatchRange, Watcher,
};
use crate::finding::Finding;
use crate::http::Tls;
use crate::sync::unpoisoned;
use crate::url;

const ENDPOINTS: &str = "endpoints";

/// How large a request etcd takes by default is 1.5 MiB; some of it is not ours.
const MAX_BYTES: usize = 1_400_000;
/// A watch may wait for a revision that an etcd which was restored comes to only later.
const LONGEST_WATCH: Duration = Duration::from_secs(5);
/// Some ten thousand revisions.
const CATCH_UP: Duration = Duration::from_secs(20);
/// etcd 3.4 forgets a token that is not used for five minutes, and Traefik never gets a new one.
const HEARTBEAT: Duration = Duration::from_secs(120);

/// etcd 3.4 or later, as the [`KvStore`] of a [`KvBackend`](super::KvBackend).
///
/// ```no_run
/// use traefik_router::{Etcd, KvBackend, Router};
///
/// # fn main() -> traefik_router::Result<()> {
/// let etcd = Etcd::new(["http://127.0.0.1:2379"])?.user("hub", "secret");
/// let router = Router::builder(KvBackend::new(etcd))
///     .traefik_api_urls(["http://10.0.0.1:8099", "http://10.0.0.2:8099"])
///     .traefik_api_password("another secret")
///     .attach()?;
/// router.add_route("/user/zoe/", "http://10.0.0.7:8888", ())?;
/// # Ok(())
/// # }
/// ```
pub struct Etcd {
    client: Client,
    urls: Vec<String>,
    user: Option<(String, String)>,
    tls: Tls,
    max_operations: usize,
    max_bytes: usize,
    heartbeat: Duration,
    catch_up: Duration,
    /// The watch that [`KvStore::wait`] goes on with, and the key it is for.
    watch: Mutex<Option<(String, Watcher)>>,
    /// The leases of the keys that are kept alive.
    leases: Mutex<HashMap<String, i64>>,
}

impl Etcd {
    /// etcd at these URLs, one or several of one cluster: `http://127.0.0.1:2379`.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if there is none, one is not such a URL, or
    /// some begin with `http` and others with `https`.
    pub fn new<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Result<Self> {
        let urls: Vec<String> = urls.into_iter().map(Into::into).collect();
        let secure = urls
            .iter()
            .filter(|url| url.starts_with("https://"))
            .count();
        if secure != 0 && secure != urls.len() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "etcd's URLs must all begin with http:// or all with https://; Traefik takes no \
                 mixture",
            ));
        }
        Ok(Self {
            client: Client::new(urls.clone())?,
            urls,
            user: None,
            tls: Tls::new(),
            max_operations: MAX_OPS,
            max_bytes: MAX_BYTES,
            heartbeat: HEARTBEAT,
            catch_up: CATCH_UP,
            watch: Mutex::new(None),
            leases: Mutex::default(),
        })
    }

    /// The user that this program and a started Traefik log in as. Its role must grant reading and
    /// writing the keys below `jupyterhub/` and the range from `traefik` to `traefil`, or those of the prefixes
    /// that are set: Traefik asks without a slash behind. Defaults to none.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let (name, password) = (name.into(), password.into());
        self.client = self.client.user(&name, &password);
        self.user = Some((name, password));
        self
    }

    /// The TLS options of this program and of a started Traefik, if the URLs begin with `https`.
    /// Defaults to full validation under the roots of [`Tls::new`](crate::Tls::new).
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if a certificate or key is not PEM.
    pub fn tls(mut self, tls: Tls) -> Result<Self> {
        self.client = self.client.tls(&tls)?;
        self.tls = tls;
        Ok(self)
    }

    /// How long one call to etcd may take, over all of its URLs. Defaults to 10 seconds.
    ///
    /// Calls of [`Router::get_route`](crate::Router::get_route) and the like that come together share
    /// one question. On an etcd that hangs, each of them fails within this time; within twice this
    /// time, if etcd begins to hang while they wait. For a change see
    /// [`conflict_timeout`](super::KvBackend::conflict_timeout) and
    /// [`check_route_timeout`](crate::Builder::check_route_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.timeout(timeout);
        self
    }

    /// How many operations etcd takes in one transaction (its `--max-txn-ops`). More of them are
    /// nested, which etcd still does in one step. Defaults to 128, as etcd does.
    pub fn max_operations(mut self, operations: usize) -> Self {
        self.max_operations = operations;
        self
    }

    /// How large a transaction may be, as [`Transaction::bytes`] counts: somewhat below etcd's
    /// `--max-request-bytes`, which is 1.5 MiB by default. A larger batch goes in several
    /// transactions. Defaults to 1,400,000 bytes.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How often to write the generation again, unchanged, for Traefiks that watch an etcd 3.4
    /// with a user: that etcd forgets a token after five minutes without use, and Traefik never
    /// asks for another one. A thread does it for as long as the backend lives, and only where
    /// there is a user and etcd is older than 3.5. Zero turns it off. Defaults to 2 minutes.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// How long to write revisions to an etcd that was restored from an older state. Traefik notices no change
    /// before etcd has as many revisions as it had. The first commit that finds this out writes them, and takes
    /// that much longer. If the time is not enough, a warning is logged, and Traefik must be restarted. Defaults
    /// to 20 seconds.
    pub fn catch_up_timeout(mut self, timeout: Duration) -> Self {
        self.catch_up = timeout.min(MAX_WAIT);
        self
    }

    /// What etcd itself reports as wrong.
    fn alarms(&self) -> impl Iterator<Item = Finding> {
        // One that does not answer is another finding.
        let status = self.client.status().ok();
        let errors = status.into_iter().flat_map(|status| status.errors);
        errors.map(|error| {
            let message = format!("etcd reports {}", error.trim());
            Finding::problem("alarm", message).advice(
                "`etcdctl alarm list` shows all alarms; if etcd is full (NOSPACE), it refuses writes: compact it, \
                 defragment it and run `etcdctl alarm disarm`, or raise its --quota-backend-bytes",
            )
        })
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        unpoisoned(self.leases.lock())
    }
}

impl KvStore for Etcd {
    fn provider(&self) -> &str {
        "etcd"
    }

    fn static_config(&self, root: &str) -> Result<Value> {
        let bare = |url: &String| {
            let (_, authority, path) = url::split(url);
            format!("{authority}{}", path.trim_end_matches('/'))
        };
        let endpoints: Vec<_> = self.urls.iter().map(bare).collect();
        let mut etcd = json!({"endpoints": endpoints, "rootKey": root});
        if let Some((name, password)) = &self.user {
            etcd["username"] = json!(name);
            etcd["password"] = json!(password);
        }
        if self.urls.iter().any(|url| url.starts_with("https://")) {
            etcd["tls"] = provider_tls(&self.tls);
        }
        Ok(json!({"providers": {"etcd": etcd}}))
    }

    fn check(&self, prefixes: &[&str]) -> Result<()> {
        for prefix in prefixes {
            // All of it at once, as Traefik will ask for.
            self.client.range(&Range::prefix(prefix).count_only(true))?;
        }
        Ok(())
    }

    fn diagnose(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.alarms().collect();
        if self.urls.len() == 1 {
            return findings;
        }
        let mut known: Option<(&str, Identity)> = None;
        for (url, said) in self.client.identify_endpoints() {
            let checked = match said {
                Ok(identity) => match known {
                    Some((first, other)) if other.cluster != identity.cluster => {
                        let message = format!("{url} is of another cluster than {first}");
                        Finding::problem(ENDPOINTS, message).advice("give the URLs of one cluster")
                    }
                    Some((first, other)) if other.member == identity.member => {
                        let message = format!("{url} says that it is the same member as {first}");
                        Finding::warning(ENDPOINTS, message).advice(
                            "give one URL of each member; where these are two etcds that know nothing of \
                             each other, give one alone",
                        )
                    }
                    _ => {
                        known = known.or(Some((url, identity)));
                        continue;
                    }
                },
                Err(error) => Finding::warning(ENDPOINTS, error.to_string())
                    .advice("the others are asked in its place"),
            };
            findings.push(checked);
        }
        findings
    }

    fn get(&self, key: &str) -> Result<Option<Entry>> {
        let found = self.client.get(key)?;
        let entry = found.map(entry).transpose()?;
        Ok(entry.map(|(_, entry)| entry))
    }

    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
        let found = self.client.get_prefix(prefix)?;
        found.kvs.into_iter().map(entry).collect()
    }

    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        let ops = (transaction
            .set
            .iter()
            .map(|(key, value)| Op::put(key, value)))
        .chain(transaction.delete.iter().map(Op::delete))
        .chain(transaction.delete_trees.iter().map(Op::delete_prefix));
        let mut txn = Txn::pack(ops, self.max_operations)?;
        if let Some((key, entry)) = &transaction.expect {
            let version = entry.as_ref().map_or(0, |entry| entry.version);
            txn = txn.when(Compare::mod_revision(key, Is::Equal, revision(version)));
            if let Some(entry) = entry {
                txn = txn.when(Compare::value(key, Is::Equal, &entry.value));
            }
        }
        let result = self.client.txn(&txn)?;
        Ok(result.succeeded.then_some(result.revision.unsigned_abs()))
    }

    fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// An etcd that was restored empty counts its revisions from 1 again, while Traefik goes on to
    /// wait for the next one that it knew: it hears nothing before they are as many again.
    fn catch_up(&self, scratch: &str, version: u64) -> Result<()> {
        let deadline = Instant::now() + self.catch_up;
        while self.client.put(scratch, "")? <= revision(version) {
            if Instant::now() >= deadline {
                log::warn!(
                    "etcd was restored from an older state, too far back for Traefik to hear of \
                     changes: restart Traefik"
                );
                break;
            }
        }
        self.client.delete(scratch)?;
        Ok(())
    }

    fn is_behind(&self, key: &str, version: u64) -> Result<bool> {
        let now = self.client.range(&Range::key(key))?;
        Ok(now.revision < revision(version))
    }

    fn wait(&self, key: &str, version: u64, timeout: Duration) -> Result<()> {
        let from = revision(version) + 1;
        // Others who wait meanwhile open watches of their own.
        let slot = || unpoisoned(self.watch.lock());
        let kept = slot()
            .take()
            .filter(|(watched, watch)| watched == key && watch.revision() <= from);
        let mut watch = match kept {
            Some((_, watch)) => watch,
            None => self
                .client
                .watch(WatchRange::key(key).from_revision(from))?,
        };
        match watch.next(timeout.min(LONGEST_WATCH)) {
            // The next one begins from what is stored then.
            Ok(None) if timeout >= LONGEST_WATCH => Ok(()),
            Ok(_) => {
                *slot() = Some((key.into(), watch));
                Ok(())
            }
            // What changed is read anyway; the next watch begins from there.
            Err(error) if error.kind() == ErrorKind::Compacted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn announce(&self, key: &str, ttl: Duration) -> Result<bool> {
        let known = self.leases().get(key).copied();
        if let Some(id) = known {
            match self.client.lease_keep_alive(id) {
                // It has ended.
                Err(error) if error.kind() == ErrorKind::Store => {}
                kept => return kept.map(|_| true),
            }
        }
        let lease = self.client.lease_grant(ttl)?;
        self.client
            .txn(&Txn::new([Op::put_leased(key, "", lease.id)]))?;
        self.leases().insert(key.into(), lease.id);
        Ok(true)
    }

    fn withdraw(&self, key: &str) -> Result<()> {
        let lease = self.leases().remove(key);
        lease.map_or(Ok(()), |id| self.client.lease_revoke(id))
    }

    fn heartbeat(&self) -> Result<Option<Duration>> {
        if self.user.is_none() || self.heartbeat.is_zero() {
            return Ok(None);
        }
        let version = self.client.status()?.version;
        let mut parts = version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(u32::MAX));
        let old = (parts.next(), parts.next()) < (Some(3), Some(5));
        Ok(old.then_some(self.heartbeat))
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("urls", &self.urls)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

fn entry(pair: KeyValue) -> Result<(String, Entry)> {
    let version = pair.mod_revision.unsigned_abs();
    text_entry("etcd", pair.key, pair.value, version)
}

/// etcd counts revisions from 1 on, and 0 stands for a key that is not there.
fn revision(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
