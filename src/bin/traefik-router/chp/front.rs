//! Where the program listens: for JupyterHub, for monitoring, and for the Traefik that it has started.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::api::{self, Api};
use super::monitor::Monitor;
use super::pages::Pages;
use super::relay;
use super::server::{Handler, Listener, serve, tls};
use crate::failure::Failure;
use crate::settings::ChpOptions;

/// How many connections each of our servers keeps open.
const API_CONNECTIONS: usize = 512;
pub(super) const PAGE_CONNECTIONS: usize = 256;
const METRICS_CONNECTIONS: usize = 32;

/// Where we listen for those who run us.
pub(super) struct Front {
    api: Vec<Listener>,
    api_tls: Option<Arc<rustls::ServerConfig>>,
    metrics: Vec<Listener>,
}

/// Where the started Traefik listens for requests, and where we listen for that Traefik.
pub(super) struct Local {
    pages: TcpListener,
    pub(super) pages_at: SocketAddr,
    /// Where Traefik listens for requests.
    pub(super) public: (String, u16),
    /// What is relayed to there.
    socket: Option<Listener>,
}

impl Front {
    pub(super) fn listen_for_api(&mut self, options: &ChpOptions) -> Result<(), Failure> {
        self.api = match &options.api_socket {
            Some(path) => vec![listen_on_socket("--api-socket", path)?],
            None => listen_on_port("--api-port", &options.api_ip, options.api_port())?,
        };
        Ok(())
    }

    /// Listens for metrics, and not for the REST API yet.
    pub(super) fn listen(options: &ChpOptions) -> Result<Self, Failure> {
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

    pub(super) fn serve_monitor(
        &mut self,
        threads: &Handle,
        monitor: &Arc<Monitor>,
    ) -> io::Result<()> {
        let (listeners, monitor) = (std::mem::take(&mut self.metrics), Arc::clone(monitor));
        let handler = Handler::new(None, move |request, _| monitor.answer(request));
        serve(threads, listeners, METRICS_CONNECTIONS, None, handler)
    }

    pub(super) fn serve(self, threads: &Handle, api: Arc<Api>) -> io::Result<()> {
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
    pub(super) fn listen(options: &ChpOptions) -> Result<Self, Failure> {
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

    pub(super) fn serve(self, threads: &Handle, pages: Pages) -> io::Result<()> {
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

pub(super) fn free_port() -> Result<u16, Failure> {
    Ok(loopback()?.1.port())
}
