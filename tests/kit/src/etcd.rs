//! Real etcd servers: a free port each, their data in a temporary folder. They are killed when they are
//! dropped, or when this process ends.

mod network;
mod users;

use std::env::temp_dir;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ports;
use crate::process::{Process, send_signal};
use crate::tools::ETCD;
use network::Network;
pub use users::{Grant, add_user, enable_auth, forget_tokens};

/// The paths of the files that etcd needs to speak TLS.
#[derive(Debug)]
pub struct TlsFiles {
    /// Its certificate.
    pub cert: String,
    /// The certificate's private key.
    pub key: String,
    /// Asks for client certificates by this CA.
    pub client_ca: Option<String>,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
    /// What the nodes' peers reach them by, where that is more than a port.
    network: Option<Network>,
}

#[derive(Debug)]
struct Node {
    command: Command,
    process: Option<Process>,
    url: String,
    log: PathBuf,
}

/// The URL of an etcd that all tests of this process share. It ends with the process.
pub fn shared_url() -> &'static str {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&ETCD.path())).url()
}

const LOOPBACK: &str = "127.0.0.1";

/// A free port at each of these hosts.
fn addresses(hosts: &[&str]) -> Vec<(String, u16)> {
    let address = |host: &&str| (host.to_string(), ports::free());
    hosts.iter().map(address).collect()
}

impl Cluster {
    /// A cluster of one node.
    pub fn start(binary: &Path) -> Self {
        Self::with(binary, 1, &[], None)
    }

    /// A cluster of one node which flushes its data to the disk that `folder` is on.
    pub fn durable(binary: &Path, folder: &Path) -> Self {
        let args = ["--unsafe-no-fsync=false"];
        Self::over(binary, folder, &addresses(&[LOOPBACK]), None, &args, None)
    }

    /// A cluster with this many nodes and these further arguments for each of them.
    pub fn with(binary: &Path, count: usize, args: &[&str], tls: Option<&TlsFiles>) -> Self {
        let peers = addresses(&vec![LOOPBACK; count]);
        Self::over(binary, &temp_dir(), &peers, None, args, tls)
    }

    /// A cluster with a node at each of these hosts.
    pub fn at(binary: &Path, hosts: &[&str], args: &[&str]) -> Self {
        Self::over(binary, &temp_dir(), &addresses(hosts), None, args, None)
    }

    /// A cluster whose nodes can be cut off from each other.
    pub fn with_network(binary: &Path, count: usize, args: &[&str]) -> Self {
        let peers = addresses(&vec![LOOPBACK; count]);
        let ports: Vec<u16> = peers.iter().map(|(_, port)| *port).collect();
        let network = Some(Network::new(&ports));
        Self::over(binary, &temp_dir(), &peers, network, args, None)
    }

    /// A node for each of these addresses, where it listens for its peers. Their data is in a new folder
    /// in `parent`.
    fn over(
        binary: &Path,
        parent: &Path,
        peers: &[(String, u16)],
        network: Option<Network>,
        args: &[&str],
        tls: Option<&TlsFiles>,
    ) -> Self {
        let folder = tempfile::tempdir_in(parent).expect("a temporary folder");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let count = peers.len();
        let own = |n: usize| format!("http://{}:{}", peers[n].0, peers[n].1);
        let peer = |n: usize| match &network {
            Some(network) => network.urls[n].clone(),
            None => own(n),
        };
        let members: Vec<String> = (0..count).map(|n| format!("n{n}={}", peer(n))).collect();
        let node = |n: usize| {
            let url = format!("{scheme}://{}:{}", peers[n].0, ports::free());
            let mut command = Command::new(binary);
            command
                .args(["--name", &format!("n{n}")])
                .arg("--data-dir")
                .arg(folder.path().join(format!("n{n}")))
                // Of an option that is given twice the last one counts.
                .args(["--bcrypt-cost", "4", "--unsafe-no-fsync"])
                .args(args)
                .args(["--listen-client-urls", &url])
                .args(["--advertise-client-urls", &url])
                .args(["--listen-peer-urls", &own(n)])
                .args(["--initial-advertise-peer-urls", &peer(n)])
                .args(["--initial-cluster", &members.join(",")]);
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
                process: None,
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
        (0..count).for_each(|n| cluster.spawn(n));
        cluster.nodes.iter_mut().for_each(Node::wait);
        cluster
    }

    /// The URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    /// The URL of the first node.
    pub fn url(&self) -> &str {
        &self.nodes[0].url
    }

    /// The port that the first node's clients connect to.
    pub fn port(&self) -> u16 {
        let port = self.url().rsplit(':').next().unwrap();
        port.parse().unwrap()
    }

    /// Kills a node.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node whose data is lost.
    pub fn restore_empty(&mut self, node: usize) {
        self.nodes[node].kill();
        fs::remove_dir_all(self.folder.path().join(format!("n{node}"))).unwrap();
        self.restart(node);
    }

    /// Copies the data of a node, which is stopped for that.
    pub fn back_up(&mut self, node: usize) {
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
    pub fn restore(&mut self, node: usize) {
        self.nodes[node].kill();
        let data = self.folder.path().join(format!("n{node}"));
        fs::remove_dir_all(&data).unwrap();
        fs::rename(self.folder.path().join(format!("backup{node}")), data).unwrap();
        self.restart(node);
    }

    /// Kills a node if it runs, and starts it with its data.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].kill();
        self.spawn(node);
        self.nodes[node].wait();
    }

    fn spawn(&mut self, node: usize) {
        let folder = Some(self.folder.path());
        let node = &mut self.nodes[node];
        let process = Process::start_in(&mut node.command, &node.log, folder);
        node.process = Some(process);
    }

    /// Stops a node where it stands, or lets it go on: its connections stay, and nothing answers.
    pub fn freeze(&self, node: usize, frozen: bool) {
        let process = self.nodes[node].process.as_ref().expect("it runs");
        send_signal(process.id(), if frozen { "STOP" } else { "CONT" });
    }

    /// Cuts a node off from its peers, not from its clients; or nobody.
    pub fn cut_off(&self, node: Option<usize>) {
        let network = self.network.as_ref().expect("a cluster with a network");
        let id = |node: usize| (node, self.nodes[node].status().member);
        network.cut_off(node.map(id));
    }

    /// Which node leads.
    pub fn leader(&self) -> usize {
        let leads = |node: &Node| {
            let status = node.status();
            status.leader == status.member
        };
        self.nodes.iter().position(leads).expect("a leader")
    }
}

impl Node {
    /// Until it says that it serves; its clients' port may want certificates we don't have.
    fn wait(&mut self) {
        let address = ports::address(&self.url);
        let process = self.process.as_mut().expect("it was started");
        process.wait_until("etcd serves", || {
            // It opens the port once it has joined the cluster.
            let is_healthy = || self.url.starts_with("https") || is_healthy(&self.url);
            TcpStream::connect(address).is_ok() && is_healthy()
        });
    }

    fn status(&self) -> Status {
        let status = raw(&self.url, "/v3/maintenance/status", json!({}), None);
        let id = |value: &Value| value.as_str().unwrap().parse().unwrap();
        Status {
            member: id(&status["header"]["member_id"]),
            leader: id(&status["leader"]),
        }
    }

    fn kill(&mut self) {
        self.process = None;
    }
}

/// What a node says of itself.
struct Status {
    member: u64,
    leader: u64,
}

fn is_healthy(url: &str) -> bool {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into();
    let answer = agent.get(format!("{url}/health")).call();
    answer.is_ok_and(|answer| answer.status() == 200)
}

/// Sends a request with a JSON body to the gateway of the etcd at `url`, as the user of this token; its
/// answer has to have status 200.
pub fn raw(url: &str, path: &str, body: Value, token: Option<&str>) -> Value {
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
