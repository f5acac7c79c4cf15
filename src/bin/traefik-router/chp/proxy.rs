//! The proxy as a whole: Traefik, the REST API, the pages, the metrics.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use traefik_router::{Backend as _, ErrorKind, Route, Router, traefik};

use super::activity::{self, Activity, Counters};
use super::api::{self, Api};
use super::attached::{Attaching, attach};
use super::config::{Config, Place, metrics_path, shared_service_config, started_transport};
use super::folder::Folder;
use super::metrics::Metrics;
use super::monitor::Monitor;
use super::pages::{self, Pages, Source};
use super::relay::{self, Relays};
use super::routes::{Routes, Rules, socket_of, without_query};
use super::server::{Handler, Listener, at_most, serve, threads, tls};
use crate::failure::Failure;
use crate::settings::{ChpOptions, Resolved, Settings};

/// How many connections each of our servers keeps open.
const API_CONNECTIONS: usize = 512;
const PAGE_CONNECTIONS: usize = 256;
const METRICS_CONNECTIONS: usize = 32;
/// How long running requests may go on once the program is to end.
const GRACE: Duration = Duration::from_millis(200);
/// How long the store may take to tell others that this program has ended.
const WITHDRAWAL: Duration = Duration::from_millis(500);
/// How often to look whether Traefik runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// How often Traefik is started again within [`TRIES_WITHIN`], and how often in a row without serving,
/// before we give up.
const TRIES: usize = 6;
const TRIES_WITHIN: Duration = Duration::from_secs(60);
/// How often to look whether the certificate was renewed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
const API_ENTRYPOINT: &str = "chp_api";

/// What the program waits for.
pub(super) enum Event {
    Started(Box<Proxy>),
    /// SIGTERM or SIGINT, by its number.
    Signal(i32),
    Failed(Failure),
}

pub(super) struct Proxy {
    routes: Arc<Routes>,
    ended: Arc<AtomicBool>,
    /// The socket files to remove.
    sockets: Vec<PathBuf>,
}

impl Proxy {
    /// Starts everything; returns when Traefik serves and the REST API answers. A Traefik is started where
    /// there is a private `folder` for it; else external ones are attached to, unless that is `cancelled`.
    ///
    /// # Errors
    /// Says what can't be started, and why.
    pub(super) fn start(
        options: &ChpOptions,
        settings: Settings,
        folder: Option<Arc<Folder>>,
        cancelled: &Arc<AtomicBool>,
        events: Sender<Event>,
    ) -> Result<Self, Failure> {
        for line in &settings.remarks {
            log::warn!("{line}");
        }
        let token = ChpOptions::auth_token().map_err(Failure::usage)?;
        if token.is_none() {
            log::warn!("REST API is not authenticated: set CONFIGPROXY_AUTH_TOKEN");
        }
        let resolved = settings.resolve(true).map_err(Failure::usage)?;
        if resolved.store.is_pushed() && (options.keep_routes || options.replace_served_routes) {
            let why = "routes that are pushed end with this program, and no other one serves them";
            return Err(Failure::usage(format!(
                "--keep-routes and --replace-served-routes need another --backend: {why}"
            )));
        }
        if options.host_routing && resolved.settings.host.is_some() {
            let why =
                "--host limits the table to one host, and with --host-routing each user has a host";
            return Err(Failure::usage(format!(
                "--host and --host-routing conflict: {why}; remove one of them"
            )));
        }
        // A URL with a password in it is refused before it is logged.
        let apis = resolved.apis()?;
        announce(&resolved);
        let mut front = Front::listen(options)?;
        if folder.is_some() {
            options.check_ports().map_err(Failure::usage)?;
            check_files(options).map_err(Failure::usage)?;
            front.listen_for_api(options)?;
        }
        let local = folder
            .as_ref()
            .map(|_| Local::listen(options))
            .transpose()?;
        let threads = threads()
            .map_err(|error| Failure::failed(format!("no threads for connections: {error}")))?;
        let failed = |error: io::Error| Failure::failed(format!("can't listen: {error}"));
        let monitor = Arc::new(Monitor::default());
        // Before Traefik is awaited, so that the program is known to be alive meanwhile.
        front.serve_monitor(&threads, &monitor).map_err(failed)?;
        let rules = Rules {
            host_routing: options.host_routing,
            no_prepend_path: options.no_prepend_path,
            no_include_prefix: options.no_include_prefix,
            relays: local.as_ref().map(|_| Relays::new(threads.clone())),
        };
        let default = (options.default_target.iter())
            .map(|target| {
                let data = Map::from_iter([("target".to_string(), Value::from(&**target))]);
                rules
                    .route("/", data, target)
                    .map_err(|error| Failure::usage(format!("--default-target: {error}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let (router, counters) = match (local, &folder) {
            (Some(local), Some(folder)) => {
                let pages = Pages {
                    source: error_pages(options, &rules)?,
                    secret: crate::random::hex::<16>().map_err(Failure::failed)?,
                };
                let started =
                    start_traefik(options, &resolved, folder.path(), &local, &pages, default)?;
                local.serve(&threads, pages).map_err(failed)?;
                started
            }
            _ => {
                let attaching = Attaching {
                    options,
                    resolved: &resolved,
                    apis,
                    cancelled,
                };
                attach(attaching, |router| {
                    router.apply(default.into_iter().map(Into::into))?;
                    // A client that waits for the port finds the API ready.
                    front.listen_for_api(options)
                })?
            }
        };
        let repairs = folder.is_some() || !resolved.store.is_pushed();
        let (activity, new_names) = Activity::new(counters);
        let routes = Arc::new(Routes {
            router,
            rules,
            activity,
            folder,
            repairs,
        });
        let metrics = Arc::clone(&monitor.metrics);
        monitor.routes.set(Arc::clone(&routes)).ok();
        let api = Arc::new(Api {
            routes: Arc::clone(&routes),
            metrics: Arc::clone(&metrics),
            token,
        });
        front.serve(&threads, api).map_err(failed)?;
        let ended = Arc::new(AtomicBool::new(false));
        if routes.folder.is_some() {
            watch_over(&routes, &metrics, &ended, events);
        }
        keep_looking(&routes, &ended, new_names);
        report(options, &resolved.settings);
        for traefik in routes.router.status().traefiks {
            match traefik.answer {
                Ok(answer) => log::info!("Traefik at {}: {}", traefik.url, answer.version.version),
                Err(error) => log::warn!("{error}"),
            }
        }
        let own = options.socket.as_ref().filter(|_| routes.folder.is_some());
        let sockets = [
            own,
            options.api_socket.as_ref(),
            options.metrics_socket.as_ref(),
        ];
        Ok(Self {
            routes,
            ended,
            sockets: sockets.into_iter().flatten().cloned().collect(),
        })
    }

    /// Ends the Traefik that was started, and removes its files. External Traefiks keep serving.
    pub(super) fn stop(&self) -> Result<(), String> {
        self.ended.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            if let Err(error) = std::fs::remove_file(socket) {
                log::warn!("{}: {error}", socket.display());
            }
        }
        // Without it there is nothing to write to. Traefik ends with this program.
        self.routes.restore_folder()?;
        if self.routes.folder.is_some() {
            return self.routes.router.stop().map_err(|error| error.to_string());
        }
        let (tell, done) = mpsc::channel();
        let routes = Arc::clone(&self.routes);
        std::thread::spawn(move || {
            if let Err(error) = routes.router.stop() {
                log::warn!("{error}");
            }
            tell.send(()).ok();
        });
        // A store that is away is not waited for: others then learn it later.
        done.recv_timeout(WITHDRAWAL).ok();
        Ok(())
    }
}

/// Where we listen for those who run us.
struct Front {
    api: Vec<Listener>,
    api_tls: Option<Arc<rustls::ServerConfig>>,
    metrics: Vec<Listener>,
}

/// Where the started Traefik listens for requests, and where we listen for that Traefik.
struct Local {
    pages: TcpListener,
    pages_at: SocketAddr,
    /// Where Traefik listens for requests.
    public: (String, u16),
    /// What is relayed to there.
    socket: Option<Listener>,
}

impl Front {
    fn listen_for_api(&mut self, options: &ChpOptions) -> Result<(), Failure> {
        self.api = match &options.api_socket {
            Some(path) => vec![listen_on_socket("--api-socket", path)?],
            None => listen_on_port("--api-port", &options.api_ip, options.api_port())?,
        };
        Ok(())
    }

    /// Listens for metrics, and not for the REST API yet.
    fn listen(options: &ChpOptions) -> Result<Self, Failure> {
        let metrics = match (&options.metrics_socket, options.metrics_port) {
            (Some(path), _) => vec![listen_on_socket("--metrics-socket", path)?],
            (None, Some(port)) => listen_on_port("--metrics-port", &options.metrics_ip, port)?,
            (None, None) => Vec::new(),
        };
        let api_tls = match (&options.api_ssl_cert, &options.api_ssl_key) {
            (Some(cert), Some(key)) => {
                let config = tls::config(&tls::Files {
                    cert,
                    key,
                    client_ca: options
                        .api_ssl_ca
                        .as_deref()
                        .filter(|_| options.api_ssl_request_cert),
                });
                Some(config.map_err(|error| {
                    Failure::usage(format!(
                        "--api-ssl-cert, --api-ssl-key, --api-ssl-ca: {error}"
                    ))
                })?)
            }
            _ => None,
        };
        Ok(Self {
            api: Vec::new(),
            api_tls,
            metrics,
        })
    }

    fn serve_monitor(&mut self, threads: &Handle, monitor: &Arc<Monitor>) -> io::Result<()> {
        let (listeners, monitor) = (std::mem::take(&mut self.metrics), Arc::clone(monitor));
        let handler = Handler::new(None, move |request, _| monitor.answer(request));
        serve(threads, listeners, METRICS_CONNECTIONS, None, handler)
    }

    fn serve(self, threads: &Handle, api: Arc<Api>) -> io::Result<()> {
        let guard = Arc::clone(&api);
        let handler = Handler::new(Some(api::MAX_BODY), move |request, body| {
            api.answer(request, body)
        });
        let handler = handler.refusing(move |request| guard.refuse(request));
        let tls = self.api_tls.as_ref();
        serve(threads, self.api, API_CONNECTIONS, tls, handler)
    }
}

impl Local {
    fn listen(options: &ChpOptions) -> Result<Self, Failure> {
        let socket = options
            .socket
            .as_deref()
            .map(|path| listen_on_socket("--socket", path));
        let socket = socket.transpose()?;
        let public = match &socket {
            Some(_) => ("127.0.0.1".into(), free_port()?),
            None => (options.ip.clone(), options.port),
        };
        let (pages, pages_at) = loopback()?;
        Ok(Self {
            pages,
            pages_at,
            public,
            socket,
        })
    }

    fn serve(self, threads: &Handle, pages: Pages) -> io::Result<()> {
        let handler = Handler::new(None, move |request, _| pages.answer(request));
        let listener = vec![Listener::Tcp(self.pages)];
        serve(threads, listener, PAGE_CONNECTIONS, None, handler)?;
        if let Some(socket) = self.socket {
            let public = SocketAddr::from(([127, 0, 0, 1], self.public.1));
            relay::to_port(threads, socket, public)?;
        }
        Ok(())
    }
}

/// Starts Traefik with the routes that there are to begin with. Says where its counters are, too.
fn start_traefik(
    options: &ChpOptions,
    resolved: &Resolved,
    folder: &Path,
    local: &Local,
    pages: &Pages,
    default: Vec<Route>,
) -> Result<(Router, Vec<Counters>), Failure> {
    let traefik_api = format!("http://127.0.0.1:{}", free_port()?);
    let api = traefik::Api::new(&traefik_api)?;
    let counters = vec![Counters::new(api, metrics_path(&pages.secret))];
    let backend = resolved.store.open()?;
    let stored = backend.inspect()?;
    let shared = options.keep_routes && backend.is_served()?;
    if let Some(stored) = stored.as_ref().filter(|_| shared) {
        let checked = shared_service_config(options, &stored.service, &started_transport());
        checked.map_err(Failure::failed)?;
    }
    let named = resolved.settings.entrypoint.as_deref();
    let stored = stored.map(|stored| stored.entrypoint);
    let config = Config::new(
        options,
        &Place {
            listen: (&local.public.0, local.public.1),
            pages: local.pages_at,
            secret: &pages.secret,
            entrypoint: named.or(stored.as_deref()),
            api_entrypoint: API_ENTRYPOINT,
        },
    );
    let config = config.map_err(Failure::usage)?;
    let mut builder = resolved
        .router(backend)
        .public_url(config.public_url)
        .traefik_api_url(traefik_api)
        .traefik_api_entrypoint(API_ENTRYPOINT)
        .extra_static_config(config.static_config)
        .extra_dynamic_config(config.dynamic_config)
        .static_config_file(folder.join("traefik.toml"))
        .traefik_log_level(if log::log_enabled!(log::Level::Debug) {
            "INFO"
        } else {
            "ERROR"
        })
        .stop_timeout(GRACE);
    if let Some(name) = named {
        builder = builder.traefik_entrypoint(name);
    }
    if !shared {
        builder = builder.extra_service_config(config.service_config);
    }
    if let (Some(cert), Some(key)) = (&options.ssl_cert, &options.ssl_key) {
        builder = builder.ssl(cert, key);
    }
    if options.keep_routes {
        let router = builder.start()?;
        router.apply(default.into_iter().map(Into::into))?;
        return Ok((router, counters));
    }
    let started = builder
        .initial_routes(default)
        .replace_served_routes(options.replace_served_routes)
        .start();
    let router = started.map_err(|error| match error.kind() {
        ErrorKind::InUse if !options.replace_served_routes => Failure::failed(format!(
            "{error} (--keep-routes uses the stored routes, --replace-served-routes deletes them)"
        )),
        _ => error.into(),
    })?;
    Ok((router, counters))
}

/// Refuses files that Traefik could not read: it would start without them, and fail at the requests.
fn check_files(options: &ChpOptions) -> Result<(), String> {
    let clients_ca = options
        .ssl_ca
        .as_deref()
        .filter(|_| options.ssl_request_cert);
    let targets_ca = options
        .client_ssl_ca
        .as_deref()
        .filter(|_| !options.insecure);
    for (option, file) in [
        ("--ssl-ca", clients_ca),
        ("--client-ssl-ca", targets_ca),
        ("--client-ssl-cert", options.client_ssl_cert.as_deref()),
    ] {
        if let Some(file) = file {
            tls::certificates(file).map_err(|error| format!("{option}: {error}"))?;
        }
    }
    if let Some(key) = &options.client_ssl_key {
        std::fs::File::open(key)
            .map_err(|error| format!("--client-ssl-key: {}: {error}", key.display()))?;
    }
    Ok(())
}

fn error_pages(options: &ChpOptions, rules: &Rules) -> Result<Source, Failure> {
    if let Some(folder) = &options.error_path {
        return Ok(Source::Folder(folder.clone()));
    }
    let Some(target) = &options.error_target else {
        return Ok(Source::BuiltIn);
    };
    let mut url = match (socket_of(target), &rules.relays) {
        (None, _) | (_, None) => match crate::url::split(target) {
            (Some("http" | "https"), authority, _) if !authority.is_empty() => target.clone(),
            _ => {
                return Err(Failure::usage(
                    "--error-target: this is not a URL that can be asked; give http://HOST:PORT/PATH, \
                     https://HOST:PORT/PATH or http+unix://SOCKET/PATH, with a slash in SOCKET as %2F",
                ));
            }
        },
        (Some((socket, path)), Some(relays)) => {
            let address = relays
                .to(socket)
                .map_err(|error| Failure::failed(format!("--error-target {target}: {error}")))?;
            format!("http://{address}{path}")
        }
    };
    if !url.ends_with('/') {
        url.push('/');
    }
    let agent = pages::agent(&url, options).map_err(Failure::usage)?;
    Ok(Source::Server {
        url,
        agent,
        fetches: Semaphore::new(at_most(PAGE_CONNECTIONS) / 2),
    })
}

/// Starts Traefik again whenever it has ended, until it ends too often or does not serve.
fn watch_over(
    routes: &Arc<Routes>,
    metrics: &Arc<Metrics>,
    ended: &Arc<AtomicBool>,
    events: Sender<Event>,
) {
    let (routes, metrics, ended) = (Arc::clone(routes), Arc::clone(metrics), Arc::clone(ended));
    std::thread::spawn(move || {
        let mut tries: Vec<Instant> = Vec::new();
        // A failed start can take more than 10 s, so that six of them may not fit into a minute.
        let mut failures = 0;
        let mut renewed = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(WATCH_INTERVAL);
            let revive = || {
                let revived = routes.or_repaired(Router::revive);
                revived.map_err(|error| error.to_string())
            };
            let failure = match routes.restore_folder().and_then(|()| revive()) {
                Ok(false) => {
                    failures = 0;
                    if renewed.elapsed() >= RENEWAL_INTERVAL {
                        renewed = Instant::now();
                        if let Err(error) = routes.or_repaired(Router::renew_certificate) {
                            log::error!("{error}");
                        }
                    }
                    continue;
                }
                Ok(true) => {
                    log::warn!("Traefik was started again");
                    metrics.restarted();
                    None
                }
                Err(error) => Some(error),
            };
            if ended.load(Ordering::Relaxed) {
                return;
            }
            match &failure {
                Some(error) => {
                    log::error!("Traefik can't be started again: {error}");
                    failures += 1;
                }
                None => failures = 0,
            }
            tries.retain(|then| then.elapsed() < TRIES_WITHIN);
            tries.push(Instant::now());
            let why = match (failures, tries.len()) {
                (TRIES.., _) => format!("could not be started again {TRIES} times in a row"),
                (_, TRIES..) => format!("has ended {TRIES} times within a minute"),
                _ => {
                    std::thread::sleep(WATCH_INTERVAL * (1 << tries.len().max(failures)));
                    continue;
                }
            };
            let failure = Failure::failed(format!("Traefik {why}; giving up"));
            events.send(Event::Failed(failure)).ok();
            return;
        }
    });
}

/// Looks from time to time which routes are used, so that nobody's use is found out much later.
fn keep_looking(routes: &Arc<Routes>, ended: &Arc<AtomicBool>, new_names: Receiver<()>) {
    let (routes, ended) = (Arc::clone(routes), Arc::clone(ended));
    std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            match routes.or_repaired(Router::get_all_routes) {
                Ok(table) => {
                    routes.activity.look_up_names(&table);
                    routes.activity.of(&routes.router, &table);
                }
                Err(error) => log::debug!("{error}"),
            }
            new_names.recv_timeout(activity::INTERVAL).ok();
        }
    });
}

/// Logs what runs here, where it keeps routes, and for which Traefiks.
fn announce(resolved: &Resolved) {
    let (version, store, settings) = (
        env!("CARGO_PKG_VERSION"),
        &resolved.store,
        &resolved.settings,
    );
    let traefiks = match (settings.attaches(), settings.quorum) {
        (false, _) => "for a Traefik that is started here".to_string(),
        (true, None) => format!("for Traefik at {}", settings.api_url.join(", ")),
        (true, Some(quorum)) => {
            let urls = settings.api_url.join(", ");
            format!("for Traefik at {urls}, of which {quorum} must serve a change")
        }
    };
    log::info!("traefik-router {version}: routes in {store}, {traefiks}");
}

/// Logs what is ready, in the words that configurable-http-proxy's users wait for.
fn report(options: &ChpOptions, settings: &Settings) {
    if let Some(target) = &options.default_target {
        log::info!("Route added / -> {}", without_query(target));
    }
    if let Some(from) = options.redirect_port.filter(|_| !settings.attaches()) {
        let to = options.redirect_to.unwrap_or(options.port);
        log::info!("Added HTTP to HTTPS redirection from {from} to {to}");
    }
    let scheme = |tls| if tls { "https" } else { "http" };
    let place = |socket: &Option<PathBuf>, ip: &str, port: u16| match socket {
        Some(path) => path.display().to_string(),
        None => format!("{ip}:{port}"),
    };
    let default = options.default_target.as_deref();
    let default = default.map_or("(no default)", without_query);
    match settings.attaches() {
        true => log::info!(
            "Proxying by Traefik at {} to {default}",
            settings.api_url.join(", ")
        ),
        false => log::info!(
            "Proxying {}://{} to {default}",
            scheme(options.is_https()),
            place(&options.socket, &options.ip, options.port),
        ),
    }
    log::info!(
        "Proxy API at {}://{}/api/routes",
        scheme(options.api_ssl_cert.is_some()),
        place(&options.api_socket, &options.api_ip, options.api_port())
    );
}

fn listen_on_port(option: &str, host: &str, port: u16) -> Result<Vec<Listener>, Failure> {
    Listener::tcp(host, port).map_err(|error| {
        Failure::failed(format!("{option}: can't listen on {host}:{port}: {error}"))
    })
}

fn listen_on_socket(option: &str, path: &Path) -> Result<Listener, Failure> {
    Listener::unix(path)
        .map_err(|error| Failure::failed(format!("{option} {}: {error}", path.display())))
}

fn loopback() -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    let both = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) =
        both.map_err(|error| Failure::failed(format!("no free port on 127.0.0.1: {error}")))?;
    Ok((listener, address))
}

fn free_port() -> Result<u16, Failure> {
    Ok(loopback()?.1.port())
}
