//! What is logged at any level, what errors say and what `Debug` shows hold no secret.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kit::etcd::Cluster;
use kit::tools::ETCD;
use kit::{Ca, Echo};
use serde_json::{Value, json};
use traefik_router::backend::{Entry, KvStore, MemoryStore, Transaction};
use traefik_router::etcd::Client;
use traefik_router::traefik::Api;
use traefik_router::{Backend as _, Builder, Etcd, KvBackend, MemoryBackend, Router, Tls};

use crate::etcd_backend::tls::etcdctl;
use crate::support::child::Actor;
use crate::support::logger::{keep_log, logged};
use crate::support::{Kind, Rig};

const API_PASSWORD: &str = "bH7qzXw2Kd9TmVtR4cYs";
const WRONG_PASSWORD: &str = "uN3fGpQ8jLe5WxDaZ6ok";
const ETCD_PASSWORD: &str = "rJ4vBnMy7ScH2XtPq9gw";
const IN_ENVIRONMENT: &str = "eK8dTzFh3LmYp6VsRw2x";
const IN_DATA: &str = "yC5wQbGj9NrXk7DvHt3z";
const IN_A_URL: &str = "iP6sLxUf4ZaMq8EbJn2t";

/// There is one logger a process, and the other tests of this one need none.
#[test]
fn output_holds_no_secret() {
    assert!(Actor::start("blabber", &Value::Null).finish());
}

pub(crate) fn blab() {
    keep_log(log::LevelFilter::Trace);

    let key = Mutex::default();
    let shown = [
        with_a_file(),
        pushed(),
        with_etcd(&key),
        with_a_store(),
        refused(),
    ]
    .concat();
    let key = key.into_inner().unwrap();
    let secrets = [
        API_PASSWORD.into(),
        STANDARD.encode(format!("jupyterhub:{API_PASSWORD}")),
        hash(API_PASSWORD),
        WRONG_PASSWORD.into(),
        STANDARD.encode(format!("jupyterhub:{WRONG_PASSWORD}")),
        ETCD_PASSWORD.into(),
        STANDARD.encode(ETCD_PASSWORD),
        key,
        IN_ENVIRONMENT.into(),
        IN_DATA.into(),
        IN_A_URL.into(),
        "PRIVATE KEY".into(),
    ];
    let [open, apart] = [false, true].map(logged);
    assert!(open.contains("traefik_router"), "nothing was heard");
    for text in [&shown, &open] {
        for secret in &secrets {
            let found = text.lines().find(|line| shows(line, secret));
            assert!(found.is_none(), "{secret} in {found:?}");
        }
    }
    // What was kept apart does hold some: the test hears them.
    assert!(sent(&apart).contains(&secrets[1]), "not kept apart");
}

/// Whether ten characters of it are there: a long line may have been cut.
fn shows(line: &str, secret: &str) -> bool {
    let parts = secret.as_bytes().windows(10);
    parts
        .map(|part| std::str::from_utf8(part).unwrap())
        .any(|part| line.contains(part))
}

/// What ureq logs of what went over the wire, put together from rows of 16 bytes.
fn sent(log: &str) -> String {
    let rows = log
        .lines()
        .filter(|line| line.starts_with("ureq_proto::util "));
    rows.map(|row| &row[row.len() - 16..]).collect()
}

fn hash(password: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    STANDARD.encode(digest)
}

fn marked(builder: Builder) -> Builder {
    builder
        .traefik_api_password(API_PASSWORD)
        .traefik_env("SECRET", IN_ENVIRONMENT)
        .traefik_log_level("TRACE")
}

/// The life of a Router, and what is shown of it on the way.
fn live(rig: &Rig, builder: impl Fn() -> Builder) -> String {
    let mut shown = format!("{:?}", marked(builder()));
    shown += &marked(builder()).static_config_text(false).unwrap();
    shown += &format!("{:?}", marked(builder()).diagnose());
    let router = marked(builder()).start().unwrap();
    let echo = Echo::start();
    let data = json!({"token": IN_DATA});
    shown += &format!("{:?}", router.add_route("/a/", echo.url(), data.clone()));
    shown += &format!("{:?}", router.add_route("/a/", "ftp://h", data.clone()));
    shown += &format!("{router:?} {:?}", router.status());
    shown += &format!("{:?}", marked(builder()).diagnose());
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    files_are_the_owners(rig);

    let other = builder()
        .traefik_api_password(WRONG_PASSWORD)
        .enable_setup_dynamic_config(false);
    let error = other.attach().unwrap_err();
    shown += &format!("{error} {error:?}");
    router.stop().unwrap();
    let error = router.add_route("/b/", echo.url(), data).unwrap_err();
    shown + &format!("{error} {error:?} {router:?} {:?}\n", router.status())
}

fn files_are_the_owners(rig: &Rig) {
    let mut with_secrets = 0;
    for name in rig.files() {
        let path = rig.path(&name);
        let text = std::fs::read_to_string(&path).unwrap();
        let secrets = [&hash(API_PASSWORD), ETCD_PASSWORD, IN_DATA, "PRIVATE KEY"];
        if secrets.into_iter().any(|secret| text.contains(secret)) {
            with_secrets += 1;
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
    assert!(with_secrets > 0, "{:?}", rig.files());
}

fn with_a_file() -> String {
    let rig = Rig::new(Kind::Toml);
    let shown = live(&rig, || rig.builder());
    // A file that says what is wrong with it.
    rig.write_rules(&format!("password = \"{IN_DATA}\n"));
    let offline = rig.builder().offline().unwrap();
    let error = offline.apply([]).unwrap_err();
    shown + &format!("{error} {error:?}\n")
}

fn pushed() -> String {
    let rig = Rig::new(Kind::Push);
    let store = MemoryBackend::new();
    let shown = live(&rig, || rig.builder_over(store.clone()));
    let document = store.pushed().unwrap().document().unwrap();
    assert!(String::from_utf8_lossy(&document.body).contains(IN_DATA));
    shown
        + &marked(rig.builder()).dynamic_config_text(false).unwrap()
        + &format!("{store:?} {document:?}\n")
}

fn with_etcd(client_key: &Mutex<String>) -> String {
    let ca = Ca::generate();
    let binary = ETCD.path();
    let cluster = Cluster::with(&binary, 1, &[], Some(&ca.sign_for_etcd(true)));
    let root = format!("root:{ETCD_PASSWORD}");
    etcdctl(&binary, &cluster, &ca, &["user", "add", &root]);
    etcdctl(&binary, &cluster, &ca, &["auth", "enable"]);
    let [cert, key] = ca.sign();
    // The first line is the same in all keys.
    *client_key.lock().unwrap() = key.lines().nth(2).unwrap().into();
    let tls = Tls::new().ca_pem(ca.pem.as_str()).client_pem(cert, key);
    let etcd = |password: &str| {
        let etcd = Etcd::new(cluster.urls()).unwrap().tls(tls.clone()).unwrap();
        KvBackend::new(etcd.timeout(Duration::from_secs(5)).user("root", password))
    };
    let rig = Rig::new(Kind::Toml);
    let mut shown = format!("{tls:?} {:?}", etcd(ETCD_PASSWORD));
    shown += &live(&rig, || rig.builder_over(etcd(ETCD_PASSWORD)));
    let error = rig.builder_over(etcd(WRONG_PASSWORD)).start().unwrap_err();
    shown + &format!("{error} {error:?}\n")
}

/// A store of somebody else's, which shows whatever it is handed.
#[derive(Debug)]
struct Spy(MemoryStore);

static SEEN: Mutex<String> = Mutex::new(String::new());

fn seen(what: &dyn std::fmt::Debug) {
    *SEEN.lock().unwrap() += &format!("{what:?}\n");
}

impl KvStore for Spy {
    fn provider(&self) -> &str {
        self.0.provider()
    }

    fn static_config(&self, root: &str) -> traefik_router::Result<Value> {
        self.0.static_config(root)
    }

    fn check(&self, prefixes: &[&str]) -> traefik_router::Result<()> {
        self.0.check(prefixes)
    }

    fn get(&self, key: &str) -> traefik_router::Result<Option<Entry>> {
        self.0.get(key).inspect(|entry| seen(entry))
    }

    fn read_tree(&self, prefix: &str) -> traefik_router::Result<BTreeMap<String, Entry>> {
        self.0.read_tree(prefix).inspect(|entries| seen(entries))
    }

    fn transact(&self, transaction: &Transaction) -> traefik_router::Result<Option<u64>> {
        seen(transaction);
        self.0.transact(transaction)
    }
}

fn with_a_store() -> String {
    let store = MemoryStore::new();
    let backend = || KvBackend::new(Spy(store.clone()));
    let rig = Rig::new(Kind::Toml);
    // No Traefik reads this store. What has to be there before Traefik starts is stored.
    let builder = marked(rig.builder_over(backend())).traefik_bin(rig.path("none"));
    seen(&builder.start().unwrap_err());
    assert!(store.dump().is_empty());
    let router = Router::builder(backend()).offline().unwrap();
    let mut watch = router.watch().unwrap();
    router
        .add_route("/a/", "http://h", json!({"token": IN_DATA}))
        .unwrap();
    seen(&router);
    seen(&backend().inspect().unwrap());
    assert_eq!(watch.next(Duration::from_secs(20)).unwrap().len(), 1);
    let stored: String = store.dump().into_values().collect();
    assert!(stored.contains(IN_DATA), "the test hears of it");
    let etcd = Client::new(["http://127.0.0.1:1"]).unwrap();
    seen(&etcd.user("hub", ETCD_PASSWORD));
    let api = Api::new("http://127.0.0.1:1").unwrap();
    seen(&api.basic_auth("jupyterhub", API_PASSWORD));
    std::mem::take(&mut *SEEN.lock().unwrap())
}

/// Secrets where none belong: what refuses them does not repeat them.
fn refused() -> String {
    let url = format!("http://user:{IN_A_URL}@127.0.0.1:1");
    let rig = Rig::new(Kind::Toml);
    let offline = rig.builder().offline().unwrap();
    let errors = [
        Etcd::new([&url]).unwrap_err(),
        traefik_router::traefik::Api::new(&url).unwrap_err(),
        rig.builder().traefik_api_url(&url).start().unwrap_err(),
        rig.builder().traefik_api_url(&url).attach().unwrap_err(),
        rig.builder().public_url(&url).start().unwrap_err(),
        offline.add_route("/", &url, ()).unwrap_err(),
        (rig.builder()
            .traefik_api_hashed_password(API_PASSWORD)
            .start())
        .unwrap_err(),
        Router::builder(rig.backend())
            .traefik_api_username(format!("a:{API_PASSWORD}"))
            .start()
            .unwrap_err(),
    ];
    errors
        .iter()
        .map(|error| format!("{error} {error:?}\n"))
        .collect()
}
