//! The proxy as a whole: Traefik, the REST API, the pages, the metrics.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use traefik_router::{Backend as _, ErrorKind, Route, Router, traefik};

use super::activity::{Activity, Counters};
use super::api::Api;
use super::attached::{Attaching, attach};
use super::config::{Config, Place, metrics_path, shared_service_config, started_transport};
use super::folder::Folder;
use super::front::{Front, Local, PAGE_CONNECTIONS, free_port};
use super::monitor::Monitor;
use super::pages::{self, Pages, Source};
use super::relay::Relays;
use super::routes::{Routes, Rules, socket_of, without_query};
use super::server::{at_most, threads, tls};
use super::watch::{keep_looking, watch_over};
use crate::failure::Failure;
use crate::settings::{ChpOptions, Resolved, Settings};
use crate::url;

/// How long running requests may go on once the program is to end.
const GRACE: Duration = Duration::from_millis(200);
/// How long the store may take to tell others that this program has ended.
const WITHDRAWAL: Duration = Duration::from_millis(500);
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
                    // Of its own, since no route has it as a target.
                    source: error_pages(options, &Relays::new(threads.clone()))?,
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
            watch_over(&routes, &metrics, &ended, move |failure| {
                events.send(Event::Failed(failure)).ok();
            });
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

fn error_pages(options: &ChpOptions, relays: &Relays) -> Result<Source, Failure> {
    if let Some(folder) = &options.error_path {
        return Ok(Source::Folder(folder.clone()));
    }
    let Some(target) = &options.error_target else {
        return Ok(Source::BuiltIn);
    };
    let mut url = match socket_of(target) {
        None => match url::split(target) {
            (Some("http" | "https"), authority, _) if url::is_server(authority) => target.clone(),
            _ => {
                return Err(Failure::usage(
                    "--error-target: this is not a URL that can be asked; give http://HOST:PORT/PATH, \
                     https://HOST:PORT/PATH or http+unix://SOCKET/PATH, with a slash in SOCKET as %2F",
                ));
            }
        },
        Some((socket, path)) => {
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
