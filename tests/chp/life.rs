//! The proxy starts, ends, and brings its Traefik back.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use kit::process::{is_alive, send_signal};
use kit::{Echo, eventually, ports};

use crate::support::Proxy;
use crate::support::proxy::ours;

#[test]
fn signal_ends_program_and_traefik() {
    for name in ["TERM", "INT"] {
        let mut proxy = Proxy::start(&[]);
        let echo = Echo::websocket();
        proxy.add("/ws", &echo.url());
        let stream = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        let url = format!("ws://127.0.0.1:{}/ws/kernel", proxy.port);
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        socket.send("hello".into()).unwrap();
        assert_eq!(socket.read().unwrap().to_text().unwrap(), "hello");
        let traefik = proxy.traefik();
        let begun = Instant::now();
        proxy.signal(name);
        assert!(proxy.wait_for_end().success());
        println!("SIG{name} to the end: {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(!is_alive(traefik));
    }
}

/// As a supervisor may that blocks signals for itself.
#[test]
fn blocked_signal_ends_program() {
    let ours = ours();
    let mut command = Command::new("env");
    command.args(["--block-signal=TERM", "--block-signal=INT"]);
    command.arg(ours.get_program()).arg("chp");
    for (name, value) in ours.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut proxy = Proxy::spawn(command, &[]);
    proxy.wait_until_ready();
    let traefik = proxy.traefik();
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    eventually("Traefik has ended", || !is_alive(traefik));
}

/// Traefik takes no such path.
#[test]
fn non_unicode_path_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder
        .path()
        .join(std::ffi::OsString::from_vec(b"\xff".to_vec()));
    std::fs::create_dir(&odd).unwrap();
    let store = ["--backend", "toml:rules.toml"];
    for (variable, arguments) in [("TMPDIR", &[][..]), ("X", &store)] {
        let mut command = ours();
        command.arg("chp").current_dir(&odd).env(variable, &odd);
        let mut proxy = Proxy::spawn(command, arguments);
        assert!(!proxy.wait_for_end().success());
        eventually("it says why", || proxy.log().contains("not UTF-8"));
        assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
    }
    let mut command = ours();
    command
        .args(["config", "static"])
        .args(store)
        .current_dir(&odd);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("not UTF-8") && !text.contains("panicked"),
        "{text}"
    );
}

#[test]
fn kill_ends_traefik_too() {
    let mut proxy = Proxy::start(&[]);
    let traefik = proxy.traefik();
    proxy.signal("KILL");
    proxy.wait_for_end();
    eventually("Traefik has ended", || !is_alive(traefik));
}

#[test]
fn next_start_removes_leftovers() {
    let temp = tempfile::tempdir().unwrap();
    let folders = || {
        let entries = std::fs::read_dir(temp.path()).unwrap().flatten();
        let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
        folders.sort();
        folders
    };
    let start = || {
        let there = |command: &mut Command| {
            command.env("TMPDIR", temp.path());
        };
        Proxy::start_with(there, &[])
    };
    let make_old = || {
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        for folder in folders() {
            let folder = std::fs::File::open(folder).unwrap();
            folder.set_modified(long_ago).unwrap();
        }
    };
    let mut killed = start();
    let left = folders();
    killed.signal("KILL");
    killed.wait_for_end();
    let alive = start();
    assert_eq!(folders().len(), 2, "a young one stays");
    make_old();
    let mut last = start();
    assert_eq!(folders().len(), 2);
    assert!(!folders().contains(&left[0]));
    alive.add("/x", &Echo::start().url());
    last.signal("TERM");
    assert!(last.wait_for_end().success());
    assert_eq!(folders().len(), 1, "its own goes with it");
}

#[test]
fn killed_traefik_restarts_with_routes() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::start());
    proxy.add("/x", &echo.url());
    let first = proxy.traefik();
    send_signal(first, "KILL");
    eventually("another Traefik serves", || {
        ports::is_open(proxy.port) && proxy.log().contains("was started again")
    });
    assert_ne!(proxy.traefik(), first);
    assert_eq!(proxy.through("/x/y").landed(), Some(echo.port));
    proxy.add("/z", &echo.url());
    assert_eq!(proxy.through("/z").landed(), Some(echo.port));
}

#[test]
fn repeatedly_killed_traefik_ends_program() {
    let mut proxy = Proxy::start(&[]);
    let mut killed = 0;
    eventually("it has given up", || {
        let traefik = proxy.traefik();
        if traefik != killed && is_alive(traefik) {
            send_signal(traefik, "KILL");
            killed = traefik;
        }
        proxy.log().contains("giving up")
    });
    assert!(!proxy.wait_for_end().success());
}

/// A Traefik that can be made to end as soon as it is started, or to run without inotify, so that its
/// file provider does not start and it serves nothing. It notes when that was.
struct Moody(tempfile::TempDir);

impl Moody {
    fn new() -> Self {
        let moody = Self(tempfile::tempdir().unwrap());
        let traefik = ours().get_envs().find_map(|(name, value)| {
            let value = value.filter(|_| name == "TRAEFIK_BIN")?;
            Some(value.to_str()?.to_string())
        });
        let script = format!(
            "#!/bin/sh\ncd {}\ntraefik={}\n\
             [ -e ended ] || [ -e deaf ] || exec \"$traefik\" \"$@\"\n\
             if [ -e deaf ]; then\n\
             date +%s%N >> deaf\n\
             exec unshare --map-root-user sh -c \
             'echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"' sh \"$traefik\" \"$@\"\n\
             fi\n\
             date +%s%N >> ended\necho out of order >&2\nexit 3\n",
            moody.0.path().display(),
            traefik.unwrap()
        );
        std::fs::write(moody.program(), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(moody.program(), mode).unwrap();
        moody
    }

    fn program(&self) -> std::path::PathBuf {
        self.0.path().join("traefik")
    }

    fn ends_at_once(&self, so: bool) {
        self.notes("ended", so);
    }

    fn serves_nothing(&self, so: bool) {
        self.notes("deaf", so);
    }

    fn notes(&self, what: &str, so: bool) {
        let noted = self.0.path().join(what);
        if so {
            std::fs::write(noted, "").unwrap();
        } else {
            std::fs::remove_file(noted).unwrap();
        }
    }

    /// When it was started and ended at once.
    fn ends(&self) -> Vec<Duration> {
        self.noted("ended")
    }

    /// When it was started and served nothing.
    fn deaf_starts(&self) -> Vec<Duration> {
        self.noted("deaf")
    }

    fn noted(&self, what: &str) -> Vec<Duration> {
        let noted = std::fs::read_to_string(self.0.path().join(what)).unwrap();
        let times = noted.lines().map(|line| line.parse().unwrap());
        times.map(Duration::from_nanos).collect()
    }

    fn start_proxy(&self) -> Proxy {
        let there = |command: &mut Command| {
            command.env("TRAEFIK_BIN", self.program());
        };
        Proxy::start_with(there, &[])
    }
}

#[test]
fn crash_loop_backs_off() {
    let moody = Moody::new();
    let mut proxy = moody.start_proxy();
    moody.ends_at_once(true);
    send_signal(proxy.traefik(), "KILL");
    eventually("it has failed twice", || moody.ends().len() > 1);
    assert_eq!(proxy.get("").status, 200, "the REST API answers meanwhile");
    assert!(!proxy.wait_for_end().success());
    let log = proxy.log();
    assert!(log.contains("giving up"), "{log}");
    assert!(log.contains("out of order"), "its last words: {log}");
    let ends = moody.ends();
    assert_eq!(ends.len(), 6, "{ends:?}");
    let pauses: Vec<_> = ends.windows(2).map(|two| two[1] - two[0]).collect();
    let least = (1..).map(|n| Duration::from_millis(200) * (1 << n));
    assert!(
        pauses
            .iter()
            .zip(least)
            .all(|(pause, least)| *pause >= least),
        "{pauses:?}"
    );
}

#[test]
fn traefik_serving_nothing_ends_program() {
    let moody = Moody::new();
    let mut proxy = moody.start_proxy();
    moody.serves_nothing(true);
    send_signal(proxy.traefik(), "KILL");
    eventually("it was started twice", || moody.deaf_starts().len() > 1);
    assert_eq!(proxy.get("").status, 200, "the REST API answers meanwhile");
    eventually("it has given up", || proxy.log().contains("giving up"));
    assert!(!proxy.wait_for_end().success());
    let log = proxy.log();
    assert!(log.contains("Cannot start the provider"), "{log}");
    assert!(!log.contains("was started again"), "{log}");
    let starts = moody.deaf_starts();
    assert_eq!(starts.len(), 6, "{starts:?}");
}

#[test]
fn serving_resumes_after_serving_nothing() {
    let (moody, echo) = (Moody::new(), Echo::start());
    let proxy = moody.start_proxy();
    proxy.add("/x", &echo.url());
    moody.serves_nothing(true);
    send_signal(proxy.traefik(), "KILL");
    eventually("it was started twice", || moody.deaf_starts().len() > 1);
    moody.serves_nothing(false);
    eventually("it serves", || proxy.log().contains("was started again"));
    assert_eq!(proxy.through("/x/y").landed(), Some(echo.port));
}

#[test]
fn serving_resumes_after_crash_loop() {
    let (moody, echo) = (Moody::new(), Echo::start());
    let proxy = moody.start_proxy();
    proxy.add("/x", &echo.url());
    moody.ends_at_once(true);
    send_signal(proxy.traefik(), "KILL");
    eventually("it has failed twice", || moody.ends().len() > 1);
    moody.ends_at_once(false);
    eventually("it serves", || {
        ports::is_open(proxy.port) && proxy.log().contains("was started again")
    });
    assert_eq!(proxy.through("/x/y").landed(), Some(echo.port));
}

#[test]
fn restart_begins_without_routes() {
    let folder = tempfile::tempdir().unwrap();
    let echo = Echo::start();
    for (backend, ending) in [("toml", "toml"), ("yaml", "yml")] {
        let store = format!(
            "{backend}:{}",
            folder.path().join(format!("r.{ending}")).display()
        );
        let stop = |mut proxy: Proxy| {
            proxy.signal("TERM");
            assert!(proxy.wait_for_end().success());
        };
        let proxy = Proxy::start(&["--backend", &store]);
        proxy.add("/x", &echo.url());
        stop(proxy);
        let proxy = Proxy::start(&["--backend", &store, "--keep-routes"]);
        assert_eq!(proxy.through("/x").landed(), Some(echo.port));
        assert_eq!(proxy.get("/x").json()["target"], echo.url());
        stop(proxy);
        let proxy = Proxy::start(&["--backend", &store, "--default-target", &echo.url()]);
        let routes = proxy.get("").json();
        assert_eq!(
            routes.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["/"]
        );
        assert_eq!(proxy.through("/any").landed(), Some(echo.port));
        stop(proxy);
    }
}

#[test]
fn configurable_http_proxys_name_works() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("configurable-http-proxy");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_traefik-router"), &name).unwrap();
    let mut command = Command::new(&name);
    for (key, value) in ours().get_envs() {
        command.env(key, value.unwrap());
    }
    let help = Command::new(&name).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    assert!(
        help.contains("Usage: configurable-http-proxy [OPTIONS]\n"),
        "{help}"
    );
    let pid_file = folder.path().join("pid");
    let option = format!("--pid-file={}", pid_file.display());
    let mut proxy = Proxy::spawn(command, &[&option]);
    proxy.wait_until_ready();
    let written = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(written, proxy.child.id().to_string());
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    assert!(!pid_file.exists());
}

#[test]
fn unix_sockets_serve_as_ports() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    let [public, api] = ["public", "api"].map(|name| folder.path().join(name));
    let mut command = ours();
    command.args(["chp", "--socket", public.to_str().unwrap()]);
    command.args(["--api-socket", api.to_str().unwrap()]);
    let mut proxy = Proxy::spawn(command, &[]);
    let ask = |path: &std::path::Path, head: &str, body: &str| {
        let mut stream = UnixStream::connect(path).unwrap();
        let length = body.len();
        let token = crate::support::proxy::TOKEN;
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: h\r\nAuthorization: token {token}\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    eventually("it listens", || {
        UnixStream::connect(&public).is_ok() && UnixStream::connect(&api).is_ok()
    });
    assert!(ask(&api, "GET /api/routes", "").starts_with("HTTP/1.1 200 "));
    // A target on a Unix socket, too.
    let target = folder.path().join("target");
    let listener = std::os::unix::net::UnixListener::bind(&target).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(stream.read(&mut [0; 4096]));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix"));
        }
    });
    let url = format!(
        "http+unix://{}",
        target.to_str().unwrap().replace('/', "%2F")
    );
    let posted = ask(
        &api,
        "POST /api/routes/x",
        &format!("{{\"target\": \"{url}\"}}"),
    );
    assert!(posted.starts_with("HTTP/1.1 201 "), "{posted}");
    assert!(
        ask(&api, "GET /api/routes/x", "").contains(&url),
        "it is answered as it was given"
    );
    assert!(ask(&public, "GET /x/y", "").ends_with("unix"));
    assert!(ask(&public, "GET /_chp_healthz", "").ends_with("{\"status\":\"OK\"}"));
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    assert!(!public.exists() && !api.exists());
}

#[test]
fn port_in_use_is_reported() {
    let taken = ports::listen();
    let port = taken.local_addr().unwrap().port().to_string();
    for option in ["--port", "--api-port"] {
        let mut command = ours();
        command.arg("chp");
        let mut proxy = Proxy::spawn(command, &[option, &port]);
        assert!(!proxy.wait_for_end().success());
        eventually("it says so", || proxy.log().contains(&port));
    }
}

/// Asks the REST API until it has logged far more than a pipe and the queue for it hold; returns how
/// often.
fn fill_the_log(proxy: &Proxy) -> usize {
    let path = format!("/{}", "x".repeat(4000));
    for number in 0..1000 {
        let begun = Instant::now();
        assert_eq!(proxy.get(&path).status, 404);
        assert!(begun.elapsed() < Duration::from_secs(5), "{number}");
    }
    1000
}

#[test]
fn unread_log_blocks_nothing() {
    let mut command = ours();
    command.args(["chp", "--log-level", "debug"]);
    let (mut proxy, output) = Proxy::spawn_unread(command, &[]);
    proxy.wait_until_ready();
    let echo = Echo::start();
    let asked = fill_the_log(&proxy);
    proxy.add("/x", &echo.url());
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
    proxy.read(output);
    let dropped = || {
        let log = proxy.log();
        let line = log
            .lines()
            .find(|line| line.contains("log lines were dropped"));
        let number = line?.split("warn: ").nth(1)?.split(' ').next()?;
        Some(number.parse::<usize>().unwrap())
    };
    eventually("it says what was dropped", || dropped().is_some());
    let (log, dropped) = (proxy.log(), dropped().unwrap());
    let written = log.matches("404 GET").count();
    assert!((1..asked).contains(&dropped), "{dropped}");
    assert!(written + dropped >= asked, "{written} and {dropped}");
    proxy.add("/y", &echo.url());
    eventually("it goes on", || proxy.log().contains("Route added /y"));
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    eventually("it has the last words", || {
        proxy.log().contains("Terminated")
    });
}

#[test]
fn signal_works_with_unread_log() {
    let mut command = ours();
    command.args(["chp", "--log-level", "debug"]);
    let (mut proxy, _unread) = Proxy::spawn_unread(command, &[]);
    proxy.wait_until_ready();
    fill_the_log(&proxy);
    let begun = Instant::now();
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// A proxy whose private folder is where others clean up.
fn start_in(temp: &tempfile::TempDir, arguments: &[&str]) -> (Proxy, std::path::PathBuf) {
    let there = |command: &mut Command| {
        command.env("TMPDIR", temp.path());
    };
    let proxy = Proxy::start_with(there, arguments);
    let mut entries = std::fs::read_dir(temp.path()).unwrap().flatten();
    (proxy, entries.next().unwrap().path())
}

/// What is in the folder, but for the locks by which several programs on one store know of each other.
fn files_of(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| {
        !file
            .extension()
            .is_some_and(|ending| ending == "serving" || ending == "started")
    });
    files.sort();
    files
}

/// Changes are answered and served.
#[track_caller]
fn is_whole(proxy: &Proxy, echo: &Echo, name: &str) {
    proxy.add(name, &echo.url());
    assert_eq!(proxy.through(name).landed(), Some(echo.port), "{name}");
    assert_eq!(proxy.through("/first").landed(), Some(echo.port), "{name}");
    assert_eq!(proxy.rest("DELETE", name, "").status, 204, "{name}");
    assert_eq!(proxy.through(name).landed(), None, "{name}");
}

#[track_caller]
fn kill_traefik(proxy: &Proxy, echo: &Echo) {
    let killed = proxy.traefik();
    send_signal(killed, "KILL");
    eventually("another Traefik serves", || {
        proxy.traefik() != killed
            && ports::is_open(proxy.port)
            && proxy.through("/first").landed() == Some(echo.port)
    });
}

#[test]
fn routes_are_in_no_file() {
    for arguments in [&[][..], &["--backend", "push"]] {
        let (temp, echo) = (tempfile::tempdir().unwrap(), Echo::start());
        let (proxy, folder) = start_in(&temp, arguments);
        let read = || {
            let files = files_of(&folder).into_iter();
            files.map(|file| (file.clone(), std::fs::read(file).unwrap()))
        };
        let before: Vec<_> = read().collect();
        proxy.add("/marked-name", &echo.url());
        assert_eq!(proxy.through("/marked-name/x").landed(), Some(echo.port));
        assert_eq!(read().collect::<Vec<_>>(), before);
        for (file, text) in before {
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains("marked-name"), "{}", file.display());
        }
    }
}

#[test]
fn removed_private_folder_is_restored() {
    use std::os::unix::fs::PermissionsExt as _;
    let elsewhere = tempfile::tempdir().unwrap();
    let store = format!("toml:{}", elsewhere.path().join("r.toml").display());
    for arguments in [&[][..], &["--backend", &store]] {
        let (temp, echo) = (tempfile::tempdir().unwrap(), Echo::start());
        let (mut proxy, folder) = start_in(&temp, arguments);
        proxy.add("/first", &echo.url());
        let files = files_of(&folder);
        let is_made_anew = || {
            eventually("it is there again", || files_of(&folder) == files);
            let mode = folder.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        };
        std::fs::remove_dir_all(&folder).unwrap();
        is_whole(&proxy, &echo, "/at-once");
        is_made_anew();
        kill_traefik(&proxy, &echo);
        is_whole(&proxy, &echo, "/killed");
        std::fs::remove_dir_all(&folder).unwrap();
        is_made_anew();
        is_whole(&proxy, &echo, "/later");
        std::fs::remove_dir_all(&folder).unwrap();
        kill_traefik(&proxy, &echo);
        is_whole(&proxy, &echo, "/both");
        std::fs::remove_dir_all(&folder).unwrap();
        proxy.signal("TERM");
        assert!(proxy.wait_for_end().success());
        assert!(!folder.exists());
    }
}

#[test]
fn removed_private_files_are_restored() {
    let (temp, echo) = (tempfile::tempdir().unwrap(), Echo::start());
    let (mut proxy, folder) = start_in(&temp, &[]);
    proxy.add("/first", &echo.url());
    let files = files_of(&folder);
    let all = std::fs::read_dir(&folder).unwrap().flatten();
    let all: Vec<_> = all.map(|entry| entry.path()).collect();
    for file in &all {
        std::fs::remove_file(file).unwrap();
        is_whole(&proxy, &echo, "/x");
        eventually("all are there", || files_of(&folder) == files);
    }
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    kill_traefik(&proxy, &echo);
    is_whole(&proxy, &echo, "/y");
    eventually("all are there", || files_of(&folder) == files);
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    assert!(!folder.exists());
}

#[test]
fn replaced_private_folder_stays_unused() {
    let (temp, echo) = (tempfile::tempdir().unwrap(), Echo::start());
    let (mut proxy, folder) = start_in(&temp, &[]);
    let traefik = proxy.traefik();
    let others = tempfile::tempdir().unwrap();
    let link = temp.path().join("link");
    std::os::unix::fs::symlink(others.path(), &link).unwrap();
    std::fs::rename(&folder, temp.path().join("away")).unwrap();
    std::fs::rename(&link, &folder).unwrap();
    let body = format!("{{\"target\": \"{}\"}}", echo.url());
    let answer = proxy.rest("POST", "/x", &body);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("something else"), "{answer:?}");
    assert!(!proxy.wait_for_end().success());
    eventually("Traefik has ended", || !is_alive(traefik));
    assert_eq!(files_of(others.path()), Vec::<std::path::PathBuf>::new());
    assert!(folder.is_symlink());
}
