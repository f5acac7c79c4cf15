//! A Traefik that is started again, and runs without serving anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use kit::process::{processes_naming, send_signal};
use kit::tools::TRAEFIK;
use kit::{Echo, eventually};
use traefik_router::{Builder, ErrorKind, FileBackend, ProcessStatus, Router};

use crate::support::{Kind, Rig, on_each_backend_and_push};

on_each_backend_and_push! {
    traefik_without_inotify_is_restarted,
    stop_ends_a_running_revival,
    replaced_folder_restarts_traefik,
}

/// A Traefik that can be started without inotify, so that its file provider never starts, or late. Its
/// starts are counted.
struct Moody {
    rig: Rig,
    echo: Echo,
    router: Router,
}

impl Moody {
    fn start(kind: Kind) -> Self {
        let patience = Duration::from_secs(5);
        Self::start_over(kind, |rig| rig.builder().check_route_timeout(patience))
    }

    fn start_over(kind: Kind, builder: impl FnOnce(&Rig) -> Builder) -> Self {
        let (rig, echo) = (Rig::new(kind), Echo::start());
        let traefik = TRAEFIK.path();
        let script = format!(
            "#!/bin/sh\n\
             traefik='{}'\n\
             [ \"$1\" = version ] && exec \"$traefik\" version\n\
             cd '{}'\n\
             echo started >> starts\n\
             [ ! -e late ] || sleep 3\n\
             [ -e no-inotify ] || exec \"$traefik\" \"$@\"\n\
             exec unshare --map-root-user sh -c \
             'echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"' sh \"$traefik\" \"$@\"\n",
            traefik.display(),
            rig.folder.display()
        );
        let program = rig.path("moody");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let router = builder(&rig).traefik_bin(program).start().unwrap();
        router.add_route("/a/", echo.url(), ()).unwrap();
        Self { rig, echo, router }
    }

    fn mood(&self, mood: &str) -> PathBuf {
        self.rig.path(mood)
    }

    fn starts(&self) -> usize {
        let starts = fs::read_to_string(self.rig.path("starts")).unwrap();
        starts.lines().count()
    }

    fn pid(&self) -> u32 {
        match self.router.status().process {
            Some(ProcessStatus::Running { pid, .. }) => pid,
            other => panic!("{other:?}"),
        }
    }

    fn kill(&self, pid: u32) {
        send_signal(pid, "KILL");
        eventually("it has ended", || {
            matches!(
                self.router.status().process,
                Some(ProcessStatus::Ended { .. })
            )
        });
    }

    fn is_served(&self) -> bool {
        self.rig.landed("h", "/a/x") == Some(self.echo.port)
    }
}

fn traefik_without_inotify_is_restarted(kind: Kind) {
    let moody = Moody::start(kind);
    let router = &moody.router;
    fs::write(moody.mood("no-inotify"), "").unwrap();
    moody.kill(moody.pid());
    for starts in 2..4 {
        let error = router.revive().unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Process, "it runs: {error}");
        assert_eq!(moody.starts(), starts, "{error}");
        assert!(!router.status().is_healthy());
    }
    // What runs is one Traefik that serves nothing.
    let Some(ProcessStatus::NotServing { pid, .. }) = router.status().process else {
        panic!("{:?}", router.status());
    };
    // It ends as well.
    moody.kill(pid);
    router.revive().unwrap_err();
    assert_eq!(moody.starts(), 4);

    fs::remove_file(moody.mood("no-inotify")).unwrap();
    assert!(router.revive().unwrap());
    assert!(moody.is_served() && router.status().is_healthy());
    assert!(!router.revive().unwrap(), "it serves");

    // Of several who revive it at once one does.
    moody.kill(moody.pid());
    let revived = std::thread::scope(|scope| {
        let callers = [(); 4].map(|()| scope.spawn(|| router.revive().unwrap()));
        callers.map(|caller| caller.join().unwrap())
    });
    assert_eq!(revived.iter().filter(|revived| **revived).count(), 1);
    assert_eq!(moody.starts(), 6);
    assert!(moody.is_served());
}

/// Without the store nobody can say whether it serves. It is not ended for that.
#[test]
fn locked_store_restarts_nothing() {
    let moody = Moody::start_over(Kind::Toml, |rig| {
        let backend = FileBackend::new(rig.rules());
        rig.builder_over(backend.lock_timeout(Duration::from_millis(200)))
    });
    let router = &moody.router;
    moody.kill(moody.pid());
    let lock = fs::File::open(moody.rig.path("rules.toml.lock")).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    for _ in 0..2 {
        let error = router.revive().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    }
    fs2::FileExt::unlock(&lock).unwrap();
    assert!(router.revive().unwrap());
    assert_eq!(moody.starts(), 2);
    assert!(moody.is_served());
}

/// A Traefik that was given up on and then served a change is left alone.
#[test]
fn late_traefik_is_not_restarted() {
    let patience = Duration::from_secs(1);
    let moody = Moody::start_over(Kind::Toml, |rig| {
        rig.builder().check_route_timeout(patience)
    });
    let router = &moody.router;
    fs::write(moody.mood("late"), "").unwrap();
    moody.kill(moody.pid());
    router.revive().unwrap_err();
    assert!(!router.status().is_healthy());
    eventually("a change is served", || {
        router.add_route("/b/", moody.echo.url(), ()).is_ok()
    });
    assert!(router.status().is_healthy());
    assert!(!router.revive().unwrap());
    assert_eq!(moody.starts(), 2);
    assert!(moody.is_served());
}

fn stop_ends_a_running_revival(kind: Kind) {
    let moody = Moody::start(kind);
    let router = &moody.router;
    fs::write(moody.mood("late"), "").unwrap();
    moody.kill(moody.pid());
    std::thread::scope(|scope| {
        let reviving = scope.spawn(|| router.revive());
        eventually("it is started", || moody.starts() == 2);
        router.stop().unwrap();
        let error = reviving.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Process, "{error}");
    });
    let error = router.revive().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process, "{error}");
    assert_eq!(router.status().process, Some(ProcessStatus::Stopped));
    let folder = moody.rig.folder.to_str().unwrap();
    eventually("nothing runs", || processes_naming(folder).is_empty());
}

fn replaced_folder_restarts_traefik(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    let router = rig.start();
    router.add_route("/a/", echo.url(), ()).unwrap();
    let config = rig.path("traefik.toml");
    let written = fs::read_to_string(&config).unwrap();
    fs::remove_file(&config).unwrap();
    assert!(!router.revive().unwrap());
    assert_eq!(fs::read_to_string(&config).unwrap(), written);
    fs::remove_dir_all(&rig.folder).unwrap();
    fs::create_dir(&rig.folder).unwrap();
    assert!(router.revive().unwrap());
    assert!(!router.revive().unwrap());
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    router.add_route("/b/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
    router.stop().unwrap();
    assert!(!config.exists());
}
