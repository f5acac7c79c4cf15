//! What the manifests in `packaging/kubernetes` run, as processes of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::etcd::Cluster;
use kit::process::Process;
use kit::tools::{ETCD, TRAEFIK, workspace};
use kit::{Echo, client, eventually, ports};
use serde_json::Value;
use tempfile::TempDir;
use traefik_router::read_config;

use crate::support::Proxy;
use crate::support::proxy::{TOKEN, ours};

const PASSWORD: &str = "made-up-password-of-the-api-of-32-letters";

/// The resources of these manifests.
struct Manifests(Vec<Value>);

impl Manifests {
    fn read(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.yaml");
        let mut resources = Vec::new();
        for name in names {
            let manifest = workspace().join("packaging/kubernetes").join(name);
            for one in fs::read_to_string(manifest).unwrap().split("\n---\n") {
                fs::write(&file, one).unwrap();
                resources.push(read_config(&file).unwrap());
            }
        }
        Self(resources)
    }

    fn resource(&self, kind: &str, name: &str) -> &Value {
        let is_it = |one: &&Value| one["kind"] == kind && one["metadata"]["name"] == name;
        self.0.iter().find(is_it).unwrap()
    }

    fn container(&self, kind: &str, name: &str, group: &str, container: &str) -> &Value {
        let pod = &self.resource(kind, name)["spec"]["template"]["spec"];
        let all = pod[group].as_array().unwrap();
        all.iter().find(|one| one["name"] == container).unwrap()
    }
}

/// What stands for the cluster's names and paths.
type Here = Vec<(String, String)>;

fn replaced(text: &str, here: &Here) -> String {
    here.iter()
        .fold(text.into(), |text, (there, here)| text.replace(there, here))
}

/// The command of a container, and its environment.
fn command(container: &Value, here: &Here) -> Command {
    let words = ["command", "args"].map(|key| container[key].as_array().cloned());
    let words: Vec<_> = words.into_iter().flatten().flatten().collect();
    let words = words
        .iter()
        .map(|word| replaced(word.as_str().unwrap(), here));
    let words: Vec<_> = words.collect();
    let (program, traefik) = (ours(), TRAEFIK.path());
    let mut command = Command::new(match &*words[0] {
        "traefik-router" => program.get_program(),
        "traefik" => traefik.as_os_str(),
        other => other.as_ref(),
    });
    command.args(&words[1..]);
    let environment = container["env"].as_array();
    for one in environment.into_iter().flatten() {
        let secret = match one["valueFrom"]["secretKeyRef"]["key"].as_str().unwrap() {
            "api-password" => PASSWORD,
            "proxy-token" => TOKEN,
            other => panic!("{other}"),
        };
        command.env(one["name"].as_str().unwrap(), secret);
    }
    command
}

/// The name of the port and the path that a probe asks. The container has to have that port.
fn probe<'a>(container: &'a Value, probe: &str) -> (&'a str, &'a str) {
    let asked = &container[probe]["httpGet"];
    let (port, path) = (
        asked["port"].as_str().unwrap(),
        asked["path"].as_str().unwrap(),
    );
    let ports = container["ports"].as_array().unwrap();
    assert!(ports.iter().any(|one| one["name"] == port), "{container}");
    (port, path)
}

/// One of the two pods of Traefik.
struct Pod {
    web: u16,
    folder: PathBuf,
    here: Here,
    traefik: Option<Process>,
}

impl Pod {
    /// Runs what configures Traefik, then Traefik.
    fn start(manifests: &Manifests, folder: &Path, number: usize, api: u16, here: &Here) -> Self {
        let (web, folder) = (ports::free(), folder.join(format!("pod-{number}")));
        let [settings, own] = ["settings", "traefik"].map(|name| folder.join(name));
        fs::create_dir_all(&settings).unwrap();
        fs::create_dir(&own).unwrap();
        let mut all = vec![
            ("/etc/traefik-router".into(), settings.display().to_string()),
            ("/etc/traefik".into(), own.display().to_string()),
            (":8000".into(), format!("127.0.0.1:{web}")),
            ("http://:8099".into(), format!("http://127.0.0.1:{api}")),
        ];
        all.extend(here.iter().cloned());
        let script = &manifests.resource("ConfigMap", "traefik-router")["data"]["configure"];
        let script = replaced(script.as_str().unwrap(), &all);
        fs::write(settings.join("configure"), script).unwrap();
        let configure =
            manifests.container("StatefulSet", "traefik", "initContainers", "configure");
        let mut configure = command(configure, &all);
        let programs = Path::new(ours().get_program())
            .parent()
            .unwrap()
            .to_path_buf();
        let path = std::env::var_os("PATH").unwrap();
        let path = [programs].into_iter().chain(std::env::split_paths(&path));
        configure.env("PATH", std::env::join_paths(path).unwrap());
        assert!(configure.status().unwrap().success());
        let mut pod = Self {
            web,
            folder,
            here: all,
            traefik: None,
        };
        pod.run(manifests);
        pod
    }

    fn run(&mut self, manifests: &Manifests) {
        let container = manifests.container("StatefulSet", "traefik", "containers", "traefik");
        let log = self.folder.join("traefik.log");
        let mut traefik = Process::start(&mut command(container, &self.here), &log);
        traefik.wait_until("Traefik listens", || ports::is_open(self.web));
        self.traefik = Some(traefik);
    }
}

fn runs(store: &str, etcd: Option<&Cluster>) {
    let manifests = Manifests::read(&["hub.yaml", "traefik.yaml", store]);
    let (folder, echo): (TempDir, _) = (tempfile::tempdir().unwrap(), Echo::start());
    let apis = [(); 2].map(|()| ports::free());
    let metrics = ports::free();
    let name = |number| format!("traefik-{number}.traefik-api:8099");
    let mut here: Here = (0..2)
        .map(|number| (name(number), format!("127.0.0.1:{}", apis[number])))
        .collect();
    here.push(("http://hub:8081".into(), echo.url()));
    here.push((
        "--metrics-port=8002".into(),
        format!("--metrics-port={metrics}"),
    ));
    if let Some(etcd) = etcd {
        here.push(("http://etcd:2379".into(), etcd.url().into()));
    }
    let start = |number| Pod::start(&manifests, folder.path(), number, apis[number], &here);
    let mut pods = [0, 1].map(start);

    let settings = &manifests.resource("ConfigMap", "traefik-router")["data"]["settings.toml"];
    let file = folder.path().join("settings.toml");
    fs::write(&file, replaced(settings.as_str().unwrap(), &here)).unwrap();
    here.push((
        "/etc/traefik-router/settings.toml".into(),
        file.display().to_string(),
    ));
    let chp = manifests.container("Deployment", "hub", "containers", "chp");
    let mut proxy = Proxy::spawn(command(chp, &here), &[]);
    proxy.port = pods[0].web;
    proxy.wait_until_ready();

    let (port, ready) = probe(chp, "readinessProbe");
    assert_eq!((port, probe(chp, "livenessProbe").1), ("metrics", "/livez"));
    let ready = || client::get(metrics, "h", ready).status;
    let traefik = manifests.container("StatefulSet", "traefik", "containers", "traefik");
    let (port, healthy) = probe(traefik, "readinessProbe");
    assert_eq!(port, "http");
    let all_serve = |pods: &[Pod], path: &str| {
        for pod in pods {
            eventually("it has the routes", || {
                client::get(pod.web, "h", healthy).status == 200
                    && client::get(pod.web, "h", path).landed() == Some(echo.port)
            });
        }
    };
    proxy.add("/a", &echo.url());
    all_serve(&pods, "/a");
    assert_eq!(ready(), 200);
    // A node goes down, and another one takes its pod.
    pods[1].traefik = None;
    proxy.add("/b", &echo.url());
    assert_eq!(
        (ready(), proxy.through("/b").landed()),
        (200, Some(echo.port))
    );
    pods[1].run(&manifests);
    all_serve(&pods, "/b");
    assert_eq!(proxy.through("/none").status, 404);
    // The Hub's pod is replaced.
    drop(proxy);
    all_serve(&pods, "/a");
    let mut proxy = Proxy::spawn(command(chp, &here), &[]);
    proxy.port = pods[1].web;
    proxy.wait_until_ready();
    assert_eq!(proxy.get("").json().as_object().unwrap().len(), 2);
}

#[test]
fn pushed_routes_need_no_database() {
    runs("push.yaml", None);
}

#[test]
fn same_manifests_run_over_etcd() {
    runs("etcd.yaml", Some(&Cluster::start(&ETCD.path())));
}
