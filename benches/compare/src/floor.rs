//! The floor: how long Traefik itself takes from the commit until its API shows it.
//!
//! A Traefik set up as the library sets it up, with the very text or keys that the library writes
//! for the same table. A sample is one bare rename, bare transactions or a bare PUT, and then the
//! tightest polling. In Redis the marker does not prove the rest, so that the routers are polled for, too. Nothing here
//! uses the library while the clock runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kit::{Connection, Process, ports};
use serde_json::{Value, json};
use traefik_router::{Backend as _, Change, MemoryBackend, Router};

use crate::Result;
use crate::cpu::Meter;
use crate::ours::{self, PUSH, other, route};
use crate::server::{CHANGE_LIST, REDIS_LIST, Server};

const GENERATION: &str = "X-Traefik-Router-Generation";
/// How many operations etcd takes in a transaction.
const OPERATIONS: usize = 127;

const RELOAD: &str = "reload";
/// The middleware that holds what the library keeps for itself. A bare PUT does without.
const RECORDS: &str = "traefik-router-records";

/// What the floor is to be like.
pub(super) struct Plan<'a> {
    pub(super) backend: &'a str,
    pub(super) routes: usize,
    /// How many routes come at once, for each size of batch.
    pub(super) bulk: &'a [usize],
    pub(super) folder: &'a Path,
    pub(super) traefik: &'a Path,
    pub(super) server: Option<Server>,
    /// The static configuration that the library wrote: its text, folder and ports (routes, API,
    /// the server).
    pub(super) theirs: (&'a str, &'a Path, [u16; 3]),
}

pub(super) struct Floor {
    api: Connection,
    marker: String,
    generation: u64,
    store: Store,
    pub(super) cpu: Meter,
    _traefik: Process,
}

/// What each command writes.
enum Store {
    File {
        path: PathBuf,
        texts: BTreeMap<String, String>,
    },
    Keys {
        server: Server,
        /// To etcd's gateway.
        connection: Box<Connection>,
        /// What goes before each change in Redis.
        first: Vec<Vec<String>>,
        steps: BTreeMap<String, Vec<Operation>>,
    },
    /// To the REST provider, behind the API's password.
    Push { bodies: BTreeMap<String, String> },
}

/// A key and the value to put there; a key to delete.
#[derive(Clone)]
struct Operation {
    key: String,
    value: Option<String>,
}

impl Floor {
    /// Lets the library fill the store and make each change once, to see what it writes.
    pub(super) fn start(mut plan: Plan<'_>) -> Result<Self> {
        let (public, api) = (ports::free(), ports::free());
        let url = plan.server.as_ref().map(Server::url);
        let memory = MemoryBackend::new();
        let builder = || -> Result<_> {
            Ok(match plan.backend {
                PUSH => Router::builder(memory.clone()),
                backend => {
                    let store = ours::store(backend, plan.folder, url.as_deref())?;
                    Router::builder(store)
                }
            })
        };
        let (text, folder, ports) = plan.theirs;
        let moved = |text: &str| {
            let [from, to] = [folder, plan.folder].map(|folder| folder.display().to_string());
            text.replace(&from, &to)
        };
        copy_own(&plan, folder, &moved)?;
        builder()?.offline()?.apply([])?;

        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut text = moved(text);
        let port = plan.server.as_ref().map_or(0, Server::port);
        for (theirs, own) in ports.into_iter().zip([public, api, port]) {
            text = text.replace(&at(theirs), &at(own));
        }
        let config = plan.folder.join("static.toml");
        fs::write(&config, text)?;
        let mut traefik = start_traefik(&plan, &config);
        traefik.wait_until("Traefik answers", || {
            Connection::new(api, None).get("/api/version").is_ok()
        });

        let router = builder()?
            .public_url(format!("http://127.0.0.1:{public}"))
            .traefik_api_url(format!("http://127.0.0.1:{api}"))
            .traefik_api_password(ours::PASSWORD)
            .check_route_timeout(ours::LONGEST_RELOAD)
            .attach()?;
        let credentials = format!("jupyterhub:{}", ours::PASSWORD);
        let store = match plan.server.take() {
            Some(server) => record_keys(&plan, &router, server)?,
            None if plan.backend == PUSH => record_push(&plan, &router, &memory)?,
            None => record_file(&plan, &router)?,
        };
        let mut api = Connection::new(api, Some(&credentials));
        let (_, list) = api.get("/api/http/middlewares")?;
        let list: serde_json::Value = serde_json::from_slice(list)?;
        let marker = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|middleware| middleware["name"].as_str())
            .find(|name| name.starts_with("traefik-router-generation"))
            .ok_or("Traefik shows no marker")?;
        Ok(Self {
            marker: format!("/api/http/middlewares/{}", marker.replace('@', "%40")),
            api,
            generation: router.delete_route("/nothing/")?.generation,
            store,
            cpu: Meter::new(traefik.id())?,
            _traefik: traefik,
        })
    }

    /// One reload of the table as `command` has left it: nothing but the generation changes.
    pub(super) fn reload(&mut self, command: &str) -> Result<f64> {
        match self.store {
            Store::File { .. } | Store::Push { .. } => self.sample(command),
            Store::Keys { .. } => self.sample(RELOAD),
        }
    }

    /// As `drop_notifications` of its server.
    pub(super) fn drop_notifications(&self) {
        if let Store::Keys { server, .. } = &self.store {
            server.drop_notifications();
        }
    }

    /// A sample in which the file waits for the disk as the library's does.
    pub(super) fn sample_flushed(&mut self, command: &str) -> Result<f64> {
        self.sample_with(command, true)
    }

    /// Does what `command` stands for; the milliseconds until the API shows it.
    pub(super) fn sample(&mut self, command: &str) -> Result<f64> {
        self.sample_with(command, false)
    }

    fn sample_with(&mut self, command: &str, flush: bool) -> Result<f64> {
        self.generation += 1;
        let generation = self.generation.to_string();
        let start = match &mut self.store {
            Store::Push { bodies } => {
                let body = bodies.get(command).ok_or("no such command")?;
                let body = with_generation(body, &generation)?;
                let start = Instant::now();
                let (status, answer) = self.api.put("/api/providers/rest", body.as_bytes())?;
                if status != 200 {
                    return Err(String::from_utf8_lossy(answer).into());
                }
                start
            }
            Store::File { path, texts } => {
                let text = texts.get(command).ok_or("no such command")?;
                let text = with_generation(text, &generation)?;
                let temp = path.with_extension("floor");
                let start = Instant::now();
                fs::write(&temp, text)?;
                if flush {
                    File::open(&temp)?.sync_all()?;
                }
                fs::rename(&temp, &path)?;
                if let Some(folder) = path.parent().filter(|_| flush) {
                    File::open(folder)?.sync_all()?;
                }
                start
            }
            Store::Keys {
                server: Server::Redis(server),
                first,
                steps,
                ..
            } => {
                let steps = steps.get(command).ok_or("no such command")?;
                let commands: Vec<_> = first
                    .iter()
                    .cloned()
                    .chain(commands(steps, &generation))
                    .collect();
                let start = Instant::now();
                server.transact(&commands);
                start
            }
            Store::Keys {
                connection, steps, ..
            } => {
                let steps = steps.get(command).ok_or("no such command")?;
                let bodies = transactions(steps, &generation);
                let start = Instant::now();
                for body in bodies {
                    let (status, answer) = connection.post("/v3/kv/txn", &body)?;
                    if status != 200 {
                        return Err(String::from_utf8_lossy(answer).into());
                    }
                }
                start
            }
        };
        let wanted = format!("\"{generation}\"");
        let routers = self.routers_of(command);
        let mut is_loaded = false;
        loop {
            if !is_loaded {
                let (status, body) = self.api.get(&self.marker)?;
                is_loaded = status == 200 && contains(body, wanted.as_bytes());
            }
            if is_loaded && self.serves(&routers)? {
                return Ok(start.elapsed().as_secs_f64() * 1e3);
            }
            let elapsed = start.elapsed();
            if elapsed > ours::LONGEST_RELOAD {
                return Err(format!("{command}: Traefik does not load it").into());
            }
            // Each poll takes CPU from the reload that it waits for.
            std::thread::sleep((elapsed / 100).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        }
    }
}

impl Floor {
    /// The routers that a command sets in Redis: the marker does not prove that Traefik has read them.
    fn routers_of(&self, command: &str) -> BTreeSet<String> {
        let Store::Keys {
            server: Server::Redis(_),
            steps,
            ..
        } = &self.store
        else {
            return BTreeSet::new();
        };
        let set = steps.get(command).into_iter().flatten();
        let set = set.filter(|operation| operation.value.is_some());
        let name = |operation: &Operation| {
            let name = operation.key.strip_prefix("traefik/http/routers/")?;
            Some(format!("{}@redis", name.split('/').next()?))
        };
        set.filter_map(name).collect()
    }

    fn serves(&mut self, routers: &BTreeSet<String>) -> Result<bool> {
        if routers.is_empty() {
            return Ok(true);
        }
        let enabled = "/api/http/routers?status=enabled&per_page=1000000";
        let path = match routers.first().filter(|_| routers.len() == 1) {
            Some(one) => format!("/api/http/routers/{}", one.replace('@', "%40")),
            None => enabled.into(),
        };
        let (status, body) = self.api.get(&path)?;
        if status != 200 {
            return Ok(false);
        }
        let shown: Value = serde_json::from_slice(body)?;
        let shown = match &shown {
            Value::Array(all) => all.iter().collect(),
            one => vec![one],
        };
        let shown = shown
            .into_iter()
            .filter(|router| router["status"] == "enabled");
        let names: BTreeSet<_> = shown.filter_map(|router| router["name"].as_str()).collect();
        Ok(routers.iter().all(|name| names.contains(&**name)))
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

fn start_traefik(plan: &Plan<'_>, config: &Path) -> Process {
    let mut command = Command::new(plan.traefik);
    command.arg(format!("--configFile={}", config.display()));
    if std::env::var_os("GOGC").is_none() {
        // As the library starts it.
        command.env("GOGC", "400");
    }
    Process::start(&mut command, &plan.folder.join("traefik.log"))
}

/// Gives this Traefik what the library has for its own beside the routes: in files that only it reads,
/// or the certificate among the routes.
fn copy_own(plan: &Plan<'_>, from: &Path, moved: &dyn Fn(&str) -> String) -> Result {
    let rules = ours::rules(plan.backend, plan.folder);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_os_string();
    let mut pem = name(&rules);
    pem.push(".pem");
    for file in [
        "traefik.private.toml".into(),
        "traefik.private.toml.pem".into(),
        pem.clone(),
    ] {
        if let Ok(text) = fs::read_to_string(from.join(&file)) {
            fs::write(plan.folder.join(&file), moved(&text))?;
        }
    }
    if plan.server.is_none() && plan.backend != PUSH {
        let pem = plan.folder.join(pem);
        let certificate = match plan.backend {
            "yaml" => format!(
                "tls:\n  stores:\n    default:\n      defaultCertificate: {{certFile: {pem:?}, keyFile: {pem:?}}}\n"
            ),
            _ => format!(
                "[tls.stores.default.defaultCertificate]\ncertFile = {pem:?}\nkeyFile = {pem:?}\n"
            ),
        };
        fs::write(rules, certificate)?;
    }
    Ok(())
}

/// Has the library make each change once; `look` sees the store after it.
fn record(plan: &Plan<'_>, router: &Router, look: &mut dyn FnMut(&str) -> Result) -> Result {
    let n = plan.routes;
    let base = || (0..n).map(|n| route(n, n)).collect::<Result<Vec<_>>>();
    router.reconcile(base()?)?;
    look("base")?;
    router.apply([Change::from(route(n, n)?)])?;
    look("add")?;
    router.apply([Change::from(route(n, other(n))?)])?;
    look("change")?;
    router.delete_route(route(n, n)?.spec)?;
    look("delete")?;
    for count in plan.bulk {
        let changes = (n + 1..=n + count).map(|n| Ok(Change::from(route(n, n)?)));
        router.apply(changes.collect::<Result<Vec<_>>>()?)?;
        look(&format!("bulk {count}"))?;
        router.reconcile(base()?)?;
        look("reset")?;
    }
    Ok(())
}

fn record_file(plan: &Plan<'_>, router: &Router) -> Result<Store> {
    let path = ours::rules(plan.backend, plan.folder);
    let mut texts = BTreeMap::new();
    record(plan, router, &mut |command| {
        texts.insert(command.to_string(), fs::read_to_string(&path)?);
        Ok(())
    })?;
    Ok(Store::File { path, texts })
}

fn record_push(plan: &Plan<'_>, router: &Router, memory: &MemoryBackend) -> Result<Store> {
    let pushed = memory.pushed().ok_or("a store that is not pushed")?;
    let mut bodies = BTreeMap::new();
    record(plan, router, &mut |command| {
        let mut config: Value = serde_json::from_slice(&pushed.document()?.body)?;
        let middlewares = config["http"]["middlewares"].as_object_mut();
        let records = middlewares.and_then(|all| all.remove(RECORDS));
        records.ok_or("the library pushes no records")?;
        bodies.insert(command.to_string(), config.to_string());
        Ok(())
    })?;
    Ok(Store::Push { bodies })
}

fn record_keys(plan: &Plan<'_>, router: &Router, server: Server) -> Result<Store> {
    let (mut before, mut steps) = (BTreeMap::<String, String>::new(), BTreeMap::new());
    record(plan, router, &mut |command| {
        let now = server.traefik_keys()?;
        let put = now
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(*value))
            .map(|(key, value)| (key, Some(value.clone())));
        let gone = before.keys().filter(|key| !now.contains_key(*key));
        let step = put.chain(gone.map(|key| (key, None)));
        let step = step.map(|(key, value)| Operation {
            key: key.clone(),
            value,
        });
        let step = in_order(step.collect());
        let marker = step.iter().filter(|step| step.key.ends_with(GENERATION));
        steps.insert(RELOAD.into(), marker.cloned().collect());
        steps.insert(command.to_string(), step);
        before = now;
        server.drop_notifications();
        Ok(())
    })?;
    let notify = [
        ["RPUSH", CHANGE_LIST, "x"].as_slice(),
        &["LPOP", CHANGE_LIST],
    ];
    let notify = notify.map(|command| command.iter().map(ToString::to_string).collect());
    Ok(Store::Keys {
        connection: Box::new(Connection::new(server.port(), None)),
        server,
        first: match plan.backend {
            REDIS_LIST => notify.into(),
            _ => Vec::new(),
        },
        steps,
    })
}

/// What Redis is to do, in one transaction.
fn commands(operations: &[Operation], generation: &str) -> Vec<Vec<String>> {
    let command = |operation: &Operation| match &operation.value {
        _ if operation.key.ends_with(GENERATION) => {
            vec!["SET".into(), operation.key.clone(), generation.into()]
        }
        Some(value) => vec!["SET".into(), operation.key.clone(), value.clone()],
        None => vec!["DEL".into(), operation.key.clone()],
    };
    operations.iter().map(command).collect()
}

/// Services before the routers that use them; when routers go, after them. The marker comes last.
fn in_order(mut operations: Vec<Operation>) -> Vec<Operation> {
    operations.sort_by_key(|operation| {
        let key = &operation.key;
        let is_service = key.starts_with("traefik/http/services/");
        (
            key.ends_with(GENERATION),
            is_service == operation.value.is_none(),
            key.clone(),
        )
    });
    operations
}

/// As few transactions as etcd takes, none of which splits a router.
fn transactions(operations: &[Operation], generation: &str) -> Vec<Vec<u8>> {
    let entry = |operation: &Operation| {
        let end = operation.key.match_indices('/').nth(3);
        operation.key[..end.map_or(operation.key.len(), |(at, _)| at)].to_string()
    };
    let mut lists: Vec<Vec<Value>> = vec![Vec::new()];
    for group in operations.chunk_by(|a, b| entry(a) == entry(b)) {
        if lists
            .last()
            .is_some_and(|list| list.len() + group.len() > OPERATIONS)
        {
            lists.push(Vec::new());
        }
        let list = group.iter().map(|operation| {
            let key = STANDARD.encode(&operation.key);
            match &operation.value {
                _ if operation.key.ends_with(GENERATION) => {
                    json!({"request_put": {"key": key, "value": STANDARD.encode(generation)}})
                }
                Some(value) => {
                    json!({"request_put": {"key": key, "value": STANDARD.encode(value)}})
                }
                None => json!({"request_delete_range": {"key": key}}),
            }
        });
        if let Some(last) = lists.last_mut() {
            last.extend(list);
        }
    }
    lists
        .into_iter()
        .map(|list| json!({"success": list}).to_string().into_bytes())
        .collect()
}

fn with_generation(text: &str, generation: &str) -> Result<String> {
    let after = text.find(GENERATION).ok_or("no marker in the file")? + GENERATION.len();
    let is_digit = |c: char| c.is_ascii_digit();
    let start = after + text[after..].find(is_digit).ok_or("no generation")?;
    let end = start + text[start..].find(|c| !is_digit(c)).ok_or("no end")?;
    Ok([&text[..start], generation, &text[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_keep_routers_whole() {
        let operation = |n: usize| Operation {
            key: format!("traefik/http/routers/r{}/part{}", n / 4, n % 4),
            value: Some(String::new()),
        };
        let operations: Vec<_> = (0..400).map(operation).collect();
        let lists: Vec<usize> = transactions(&operations, "1")
            .iter()
            .filter_map(|body| {
                let body: Value = serde_json::from_slice(body).ok()?;
                Some(body["success"].as_array()?.len())
            })
            .collect();
        assert_eq!(lists, [124, 124, 124, 28]);
    }
}
