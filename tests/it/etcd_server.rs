//! Real etcd servers for tests: a free port each, their data in a temporary folder, ended on drop.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use traefik_router::etcd::Client;

use crate::support::network::Network;
pub(crate) use crate::support::ports::free as free_port;
use crate::support::send_signal;

const MISSING: &str = "etcd was not found: run 'cargo xtask tools', or set ETCD_BIN";

/// The servers to test with: `ETCD_BIN`, or the one on the PATH, or both that `xtask` fetches.
pub(crate) fn binaries() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("ETCD_BIN") {
        return vec![path.into()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut on_path = std::env::split_paths(&path).map(|folder| folder.join("etcd"));
    if let Some(found) = on_path.find(|file| file.is_file()) {
        return vec![found];
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let both = ["etcd-3.4/etcd", "etcd-3.5/etcd"].map(|name| tools.join(name));
    assert!(both.iter().all(|file| file.is_file()), "{MISSING}");
    both.into()
}

/// The files that etcd needs to speak TLS.
// Only the tests of that feature make them.
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Asks for client certificates by this CA.
    pub(crate) client_ca: Option<PathBuf>,
}

/// A running cluster; one node unless told otherwise.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
    /// What the nodes' peers reach them by, where that is more than a port.
    network: Option<Network>,
}

struct Node {
    command: Command,
    child: Option<Child>,
    url: String,
    log: PathBuf,
}

/// Tells an etcd where it listens and which cluster it belongs to. The disk of a test machine is no
/// concern of these tests.
pub(crate) fn listen(command: &mut Command, url: &str, peer: &str, cluster: &str) {
    command
        .args(["--listen-client-urls", url, "--advertise-client-urls", url])
        .args(["--listen-peer-urls", peer])
        .args(["--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", cluster, "--unsafe-no-fsync"]);
}

const LOOPBACK: &str = "127.0.0.1";

/// A free port at each of these hosts.
fn addresses(hosts: &[&str]) -> Vec<(String, u16)> {
    let address = |host: &&str| (host.to_string(), free_port());
    hosts.iter().map(address).collect()
}

impl Cluster {
    pub(crate) fn start(binary: &Path) -> Self {
        Self::with(binary, 1, &[], None)
    }

    pub(crate) fn with(binary: &Path, count: usize, args: &[&str], tls: Option<&TlsFiles>) -> Self {
        Self::over(binary, &addresses(&vec![LOOPBACK; count]), None, args, tls)
    }

    /// A cluster with a node at each of these hosts.
    pub(crate) fn at(binary: &Path, hosts: &[&str], args: &[&str]) -> Self {
        Self::over(binary, &addresses(hosts), None, args, None)
    }

    /// A cluster whose nodes can be cut off from each other.
    pub(crate) fn with_network(binary: &Path, count: usize, args: &[&str]) -> Self {
        let peers = addresses(&vec![LOOPBACK; count]);
        let ports: Vec<u16> = peers.iter().map(|(_, port)| *port).collect();
        Self::over(binary, &peers, Some(Network::new(&ports)), args, None)
    }

    /// A node for each of these addresses, where it listens for its peers.
    fn over(
        binary: &Path,
        peers: &[(String, u16)],
        network: Option<Network>,
        args: &[&str],
        tls: Option<&TlsFiles>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let count = peers.len();
        let own = |n: usize| format!("http://{}:{}", peers[n].0, peers[n].1);
        let peer = |n: usize| match &network {
            Some(network) => network.urls[n].clone(),
            None => own(n),
        };
        let members: Vec<String> = (0..count).map(|n| format!("n{n}={}", peer(n))).collect();
        let node = |n: usize| {
            let url = format!("{scheme}://{}:{}", peers[n].0, free_port());
            let mut command = Command::new(binary);
            command
                .args(["--name", &format!("n{n}")])
                .arg("--data-dir")
                .arg(folder.path().join(format!("n{n}")))
                .args(["--bcrypt-cost", "4"])
                .args(args);
            listen(&mut command, &url, &peer(n), &members.join(","));
            // Of an option that is given twice the last one counts.
            command.args(["--listen-peer-urls", &own(n)]);
            if let Some(tls) = tls {
                command
                    .arg("--cert-file")
                    .arg(&tls.cert)
                    .arg("--key-file")
                    .arg(&tls.key);
                if let Some(ca) = &tls.client_ca {
                    command
                        .arg("--client-cert-auth")
                        .arg("--trusted-ca-file")
                        .arg(ca);
                }
            }
            let log = folder.path().join(format!("n{n}.log"));
            Node {
                command,
                child: None,
                url,
                log,
            }
        };
        let nodes = (0..count).map(node).collect();
        let mut cluster = Self {
            nodes,
            folder,
            network,
        };
        (0..count).for_each(|n| cluster.nodes[n].spawn());
        (0..count).for_each(|n| cluster.nodes[n].wait());
        cluster
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    pub(crate) fn url(&self) -> &str {
        &self.nodes[0].url
    }

    /// A client for all nodes, without user and without certificates.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.urls()).expect("URLs of ours")
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node whose data is lost.
    pub(crate) fn restore_empty(&mut self, node: usize) {
        self.nodes[node].kill();
        fs::remove_dir_all(self.folder.path().join(format!("n{node}"))).unwrap();
        self.restart(node);
    }

    /// Copies the data of a node, which is stopped for that.
    pub(crate) fn back_up(&mut self, node: usize) {
        self.nodes[node].kill();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(self.folder.path().join(format!("n{node}")))
            .arg(self.folder.path().join(format!("backup{node}")))
            .status();
        assert!(copied.unwrap().success());
        self.restart(node);
    }

    /// Starts a node with the data that it had when it was backed up.
    pub(crate) fn restore(&mut self, node: usize) {
        self.nodes[node].kill();
        let data = self.folder.path().join(format!("n{node}"));
        fs::remove_dir_all(&data).unwrap();
        fs::rename(self.folder.path().join(format!("backup{node}")), data).unwrap();
        self.restart(node);
    }

    pub(crate) fn restart(&mut self, node: usize) {
        self.nodes[node].kill();
        self.nodes[node].spawn();
        self.nodes[node].wait();
    }

    /// Stops a node where it stands, or lets it go on: its connections stay, and nothing answers.
    pub(crate) fn freeze(&self, node: usize, frozen: bool) {
        let child = self.nodes[node].child.as_ref().expect("it runs");
        send_signal(child.id(), if frozen { "STOP" } else { "CONT" });
    }

    /// Cuts a node off from its peers, not from its clients; or nobody.
    pub(crate) fn cut_off(&self, node: Option<usize>) {
        let network = self.network.as_ref().expect("a cluster with a network");
        let id = |node: usize| {
            let status = Client::new([self.nodes[node].url.as_str()])
                .unwrap()
                .status();
            (node, status.unwrap().member)
        };
        network.cut_off(node.map(id));
    }

    /// Which node leads.
    pub(crate) fn leader(&self) -> usize {
        let leads = |node: &Node| {
            let status = Client::new([node.url.as_str()]).unwrap().status().unwrap();
            status.leader == status.member
        };
        self.nodes.iter().position(leads).expect("a leader")
    }
}

impl Node {
    fn spawn(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        self.command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(self.command.spawn().expect("etcd could not be started"));
    }

    /// Until it says that it serves; its clients' port may want certificates we don't have.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let address = self.url.rsplit('/').next().unwrap();
        loop {
            let child = self.child.as_mut().expect("it was started");
            let ended = child.try_wait().expect("a child of ours");
            let late = Instant::now() > deadline;
            if ended.is_some() || late {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                panic!("etcd did not start ({ended:?}):\n{log}");
            }
            // It opens the port once it has joined the cluster.
            if TcpStream::connect(address).is_ok() && self.is_healthy() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_healthy(&self) -> bool {
        if self.url.starts_with("https") {
            return true;
        }
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(2)))
            .build()
            .into();
        let answer = agent.get(format!("{}/health", self.url)).call();
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks the gateway for what the client has no function for.
pub(crate) fn raw(url: &str, path: &str, body: Value, token: Option<&str>) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent
        .post(format!("{url}{path}"))
        .content_type("application/json");
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let mut answer = request.send(body.to_string()).expect("etcd answers");
    let text = answer.body_mut().read_to_string().expect("etcd answers");
    assert_eq!(answer.status(), 200, "{path}: {text}");
    serde_json::from_str(&text).expect("etcd answers with JSON")
}

/// A kind of permission, and the keys that it is for: from the first on, up to the second.
pub(crate) type Grant = (&'static str, &'static str, &'static str);

/// Adds a user with the password `pw-NAME` and a role of the same name.
pub(crate) fn add_user(url: &str, name: &str, grants: &[Grant]) {
    let post = |path: &str, body: Value| raw(url, path, body, None);
    let user = json!({"name": name, "password": format!("pw-{name}")});
    post("/v3/auth/user/add", user);
    post("/v3/auth/role/add", json!({"name": name}));
    post("/v3/auth/user/grant", json!({"user": name, "role": name}));
    for (kind, from, to) in grants {
        let [from, to] = [from, to].map(|key| STANDARD.encode(key));
        let permission = json!({"permType": kind, "key": from, "range_end": to});
        let body = json!({"name": name, "perm": permission});
        post("/v3/auth/role/grant", body);
    }
}

/// Turns authentication on: `root`, and `reader` with the role to read `open/`.
pub(crate) fn enable_auth(url: &str) {
    add_user(url, "root", &[]);
    add_user(url, "reader", &[("READ", "open/", "open0")]);
    raw(url, "/v3/auth/enable", json!({}), None);
}

/// Makes etcd forget the tokens of these users: a new password does, even if it is the old one. (A
/// restart need not: replaying the log brings them back.)
pub(crate) fn forget_tokens(url: &str, users: &[&str]) {
    let root = json!({"name": "root", "password": "pw-root"});
    let login = raw(url, "/v3/auth/authenticate", root, None);
    for user in users {
        let body = json!({"name": user, "password": format!("pw-{user}")});
        raw(url, "/v3/auth/user/changepw", body, login["token"].as_str());
    }
}
