//! The command line: configurable-http-proxy's options, and ours.

use std::path::PathBuf;

use clap::Args;

use crate::store::Nesting;

/// Stand in for configurable-http-proxy: JupyterHub's REST API for routes, served by Traefik.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub(crate) struct Options {
    /// Address to listen on for requests; '' means all.
    #[arg(long, default_value = "")]
    pub(super) ip: String,
    /// Port to listen on for requests.
    #[arg(long, default_value_t = 8000)]
    pub(super) port: u16,
    /// Unix socket to listen on instead, through a relay.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Private key for HTTPS (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) ssl_key: Option<PathBuf>,
    /// Certificate for HTTPS (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) ssl_cert: Option<PathBuf>,
    /// CA of the clients' certificates (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) ssl_ca: Option<PathBuf>,
    /// Require certificates of clients.
    #[arg(long)]
    pub(super) ssl_request_cert: bool,
    /// Refuse clients whose certificate is not signed by the CA; always so with --ssl-request-cert.
    #[arg(long)]
    pub(super) ssl_reject_unauthorized: bool,
    #[arg(long, hide = true)]
    pub(super) ssl_protocol: Option<String>,
    #[arg(long, hide = true)]
    pub(super) ssl_ciphers: Option<String>,
    #[arg(long, hide = true)]
    pub(super) ssl_allow_rc4: bool,
    #[arg(long, hide = true)]
    pub(super) ssl_dhparam: Option<PathBuf>,

    /// Address to listen on for the REST API; '' means all.
    #[arg(long, default_value = "localhost")]
    pub(super) api_ip: String,
    /// Port to listen on for the REST API [default: --port plus 1].
    #[arg(long)]
    pub(super) api_port: Option<u16>,
    /// Unix socket to listen on for the REST API instead.
    #[arg(long, value_name = "PATH")]
    pub(super) api_socket: Option<PathBuf>,
    /// Private key for the REST API (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) api_ssl_key: Option<PathBuf>,
    /// Certificate for the REST API (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) api_ssl_cert: Option<PathBuf>,
    /// CA of the certificates of the REST API's clients (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) api_ssl_ca: Option<PathBuf>,
    /// Require certificates of the REST API's clients.
    #[arg(long)]
    pub(super) api_ssl_request_cert: bool,
    /// Refuse clients whose certificate is not signed by the CA; always so with
    /// --api-ssl-request-cert.
    #[arg(long)]
    pub(super) api_ssl_reject_unauthorized: bool,

    /// Private key to show to targets (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) client_ssl_key: Option<PathBuf>,
    /// Certificate to show to targets (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) client_ssl_cert: Option<PathBuf>,
    /// CA of the targets' certificates (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) client_ssl_ca: Option<PathBuf>,
    /// Has no effect: a TLS client always checks the server.
    #[arg(long)]
    pub(super) client_ssl_request_cert: bool,
    /// Has no effect: a TLS client always checks the server, unless --insecure is given.
    #[arg(long)]
    pub(super) client_ssl_reject_unauthorized: bool,

    /// Where requests go that no other route is for.
    #[arg(long, value_name = "URL")]
    pub(super) default_target: Option<String>,
    /// Server of error pages: asked for /404?url=… and /503?url=….
    #[arg(long, value_name = "URL", conflicts_with = "error_path")]
    pub(super) error_target: Option<String>,
    /// Folder of error pages: 404.html, 503.html, error.html.
    #[arg(long, value_name = "DIR")]
    pub(super) error_path: Option<PathBuf>,
    /// Port on which HTTP is redirected to HTTPS.
    #[arg(long, value_name = "PORT")]
    pub(super) redirect_port: Option<u16>,
    /// Port that --redirect-port redirects to [default: --port].
    #[arg(long, value_name = "PORT")]
    pub(super) redirect_to: Option<u16>,
    /// Take the first part of a route's path as its host.
    #[arg(long)]
    pub(super) host_routing: bool,
    /// Write the process id to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// What to log: debug, info, warn or error.
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub(super) log_level: String,

    #[arg(long, hide = true)]
    pub(super) no_x_forward: bool,
    /// Do not put a target's path in front of the request's.
    #[arg(long)]
    pub(super) no_prepend_path: bool,
    #[arg(long, hide = true)]
    pub(super) no_include_prefix: bool,
    #[arg(long, hide = true)]
    pub(super) auto_rewrite: bool,
    /// Send the target's host in the Host header instead of the request's.
    #[arg(long)]
    pub(super) change_origin: bool,
    #[arg(long, hide = true)]
    pub(super) protocol_rewrite: Option<String>,
    /// Header to add to requests, NAME:VALUE; may be given several times.
    #[arg(long, value_name = "HEADER", action = clap::ArgAction::Append)]
    pub(super) custom_header: Vec<String>,
    /// Do not check the certificates of targets.
    #[arg(long)]
    pub(super) insecure: bool,
    #[arg(long, hide = true)]
    pub(super) timeout: Option<u64>,
    /// How long a target may take to begin its answer, in milliseconds [default: for ever].
    #[arg(long, value_name = "MS")]
    pub(super) proxy_timeout: Option<u64>,
    /// How long a connection without a request stays open, in milliseconds [default: 180000].
    #[arg(long, value_name = "MS")]
    pub(super) keep_alive_timeout: Option<u64>,
    #[arg(long, hide = true)]
    pub(super) storage_backend: Option<String>,

    /// Address to listen on for metrics; '' means all.
    #[arg(long, default_value = "")]
    pub(super) metrics_ip: String,
    /// Port to serve Prometheus metrics on [default: none].
    #[arg(long)]
    pub(super) metrics_port: Option<u16>,
    /// Unix socket to serve metrics on.
    #[arg(long, value_name = "PATH")]
    pub(super) metrics_socket: Option<PathBuf>,

    /// Where routes are kept: toml:FILE, yaml:FILE or etcd:URL[,URL…] [default: a file of its own].
    #[arg(long, value_name = "STORE")]
    pub(super) backend: Option<String>,
    /// Begin with the routes in the store instead of none.
    #[arg(long)]
    pub(super) keep_routes: bool,
    /// Begin with no routes even where another program serves those in the store.
    #[arg(long, conflicts_with = "keep_routes")]
    pub(super) replace_served_routes: bool,
    /// Whether routers stand below others in Traefik. Never is for Traefik before 3.6.
    #[arg(long, value_name = "WHEN")]
    pub(super) nested_routers: Option<Nesting>,
    /// The Traefik to start: a path, or a name on PATH.
    #[arg(
        long,
        env = "TRAEFIK_BIN",
        default_value = "traefik",
        value_name = "PROGRAM"
    )]
    pub(super) traefik_bin: PathBuf,
}

impl Options {
    /// What is asked for and has no equal in Traefik: a line for each option, for the log.
    pub(super) fn without_effect(&self) -> Vec<&'static str> {
        let checks = [
            (
                self.ssl_protocol.is_some(),
                "--ssl-protocol: Traefik accepts TLS 1.2 and later",
            ),
            (
                self.ssl_ciphers.is_some(),
                "--ssl-ciphers: Traefik chooses the ciphers",
            ),
            (self.ssl_allow_rc4, "--ssl-allow-rc4: Traefik has no RC4"),
            (
                self.ssl_dhparam.is_some(),
                "--ssl-dhparam: Traefik has no finite-field Diffie-Hellman",
            ),
            (
                self.no_x_forward,
                "--no-x-forward: Traefik always sets X-Forwarded headers",
            ),
            (
                self.timeout.is_some(),
                "--timeout: Traefik has no bound on the silence of a client",
            ),
        ];
        let asked = checks.into_iter().filter(|(asked, _)| *asked);
        asked.map(|(_, line)| line).collect()
    }

    /// Why these options can't be served at all.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let checks = [
            (
                self.no_include_prefix,
                "--no-include-prefix is not supported: every request reaches its target with its \
                 whole path",
            ),
            (
                self.auto_rewrite,
                "--auto-rewrite is not supported: Traefik does not rewrite Location headers",
            ),
            (
                self.protocol_rewrite.is_some(),
                "--protocol-rewrite is not supported: Traefik does not rewrite Location headers",
            ),
            (
                self.storage_backend.is_some(),
                "--storage-backend is not supported: it names a JavaScript class; use --backend \
                 toml:FILE, yaml:FILE or etcd:URL",
            ),
            (
                self.redirect_port.is_some() && !self.is_https(),
                "--redirect-port needs --ssl-key and --ssl-cert",
            ),
            (
                self.ssl_key.is_some() != self.ssl_cert.is_some(),
                "--ssl-key and --ssl-cert go together",
            ),
            (
                self.api_ssl_key.is_some() != self.api_ssl_cert.is_some(),
                "--api-ssl-key and --api-ssl-cert go together",
            ),
            (
                self.client_ssl_key.is_some() != self.client_ssl_cert.is_some(),
                "--client-ssl-key and --client-ssl-cert go together",
            ),
            (
                self.ssl_request_cert && self.ssl_ca.is_none(),
                "--ssl-request-cert needs --ssl-ca",
            ),
            (
                self.api_ssl_request_cert && self.api_ssl_ca.is_none(),
                "--api-ssl-request-cert needs --api-ssl-ca",
            ),
        ];
        let found = checks.into_iter().find(|(wrong, _)| *wrong);
        found.map(|(_, message)| message)
    }

    pub(super) fn is_https(&self) -> bool {
        self.ssl_key.is_some()
    }

    pub(super) fn api_port(&self) -> u16 {
        self.api_port.unwrap_or(self.port.saturating_add(1))
    }
}
