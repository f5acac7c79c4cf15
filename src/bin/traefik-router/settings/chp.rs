//! configurable-http-proxy's options and variables, and those that only `chp` has beside them.

use std::env;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, value_parser};
use log::LevelFilter;
use serde_json::Value;
use traefik_router::read_config;

use super::options::TRAEFIK;

const REQUESTS: &str = "Requests";
const REST_API: &str = "REST API";
const TARGETS: &str = "Routes and targets";
const ERROR_PAGES: &str = "Error pages";
const METRICS: &str = "Metrics";
const STORED: &str = "Stored routes";

/// Run as JupyterHub's proxy, in place of configurable-http-proxy: its REST API, with Traefik as the proxy.
#[derive(Args)]
#[command(args_override_self = true)]
pub(crate) struct Options {
    /// Address to listen on for requests; '' means all.
    #[arg(long, default_value = "", help_heading = REQUESTS)]
    pub(crate) ip: String,
    /// Port to listen on for requests.
    #[arg(long, default_value_t = 8000, value_parser = value_parser!(u16).range(1..), help_heading = REQUESTS)]
    pub(crate) port: u16,
    /// Unix socket to listen on instead; the program relays its connections to Traefik.
    #[arg(long, value_name = "PATH", help_heading = REQUESTS)]
    pub(crate) socket: Option<PathBuf>,
    /// Private key for HTTPS (PEM).
    #[arg(long, value_name = "FILE", requires = "ssl_cert", help_heading = REQUESTS)]
    pub(crate) ssl_key: Option<PathBuf>,
    /// Certificate for HTTPS (PEM).
    #[arg(long, value_name = "FILE", requires = "ssl_key", help_heading = REQUESTS)]
    pub(crate) ssl_cert: Option<PathBuf>,
    /// CA of the clients' certificates (PEM).
    #[arg(long, value_name = "FILE", help_heading = REQUESTS)]
    pub(crate) ssl_ca: Option<PathBuf>,
    /// Require certificates of clients.
    #[arg(long, requires_all = ["ssl_ca", "ssl_key"], help_heading = REQUESTS)]
    pub(crate) ssl_request_cert: bool,
    /// Has no effect: with --ssl-request-cert, clients without a certificate of --ssl-ca are always refused.
    #[arg(long, help_heading = REQUESTS)]
    pub(crate) ssl_reject_unauthorized: bool,
    #[arg(long, hide = true)]
    pub(crate) ssl_protocol: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) ssl_ciphers: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) ssl_allow_rc4: bool,
    #[arg(long, hide = true)]
    pub(crate) ssl_dhparam: Option<PathBuf>,

    /// Address to listen on for the REST API; '' means all.
    #[arg(long, default_value = "localhost", help_heading = REST_API)]
    pub(crate) api_ip: String,
    /// Port to listen on for the REST API [default: --port plus 1].
    #[arg(long, help_heading = REST_API)]
    pub(crate) api_port: Option<u16>,
    /// Unix socket to listen on for the REST API instead.
    #[arg(long, value_name = "PATH", help_heading = REST_API)]
    pub(crate) api_socket: Option<PathBuf>,
    /// Private key for the REST API (PEM).
    #[arg(long, value_name = "FILE", requires = "api_ssl_cert", help_heading = REST_API)]
    pub(crate) api_ssl_key: Option<PathBuf>,
    /// Certificate for the REST API (PEM).
    #[arg(long, value_name = "FILE", requires = "api_ssl_key", help_heading = REST_API)]
    pub(crate) api_ssl_cert: Option<PathBuf>,
    /// CA of the certificates of the REST API's clients (PEM).
    #[arg(long, value_name = "FILE", help_heading = REST_API)]
    pub(crate) api_ssl_ca: Option<PathBuf>,
    /// Require certificates of the REST API's clients.
    #[arg(long, requires_all = ["api_ssl_ca", "api_ssl_key"], help_heading = REST_API)]
    pub(crate) api_ssl_request_cert: bool,
    /// Has no effect: with --api-ssl-request-cert, clients without a certificate of --api-ssl-ca are always refused.
    #[arg(long, help_heading = REST_API)]
    pub(crate) api_ssl_reject_unauthorized: bool,

    /// Private key to show to targets (PEM).
    #[arg(long, value_name = "FILE", requires = "client_ssl_cert", help_heading = TARGETS)]
    pub(crate) client_ssl_key: Option<PathBuf>,
    /// Certificate to show to targets (PEM).
    #[arg(long, value_name = "FILE", requires = "client_ssl_key", help_heading = TARGETS)]
    pub(crate) client_ssl_cert: Option<PathBuf>,
    /// CA of the targets' certificates (PEM).
    #[arg(long, value_name = "FILE", help_heading = TARGETS)]
    pub(crate) client_ssl_ca: Option<PathBuf>,
    /// Has no effect: a TLS client always checks the server, unless --insecure is given.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) client_ssl_request_cert: bool,
    /// Has no effect: a TLS client always checks the server, unless --insecure is given.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) client_ssl_reject_unauthorized: bool,

    /// The target of requests that match no other route.
    #[arg(long, value_name = "URL", help_heading = TARGETS)]
    pub(crate) default_target: Option<String>,
    /// URL of a server with error pages: it gets requests for /404?url=… and /503?url=….
    #[arg(long, value_name = "URL", conflicts_with = "error_path", help_heading = ERROR_PAGES)]
    pub(crate) error_target: Option<String>,
    /// Folder of error pages: 404.html, 503.html, error.html.
    #[arg(long, value_name = "DIR", help_heading = ERROR_PAGES)]
    pub(crate) error_path: Option<PathBuf>,
    /// Port on which HTTP is redirected to HTTPS.
    #[arg(long, value_name = "PORT", help_heading = REQUESTS)]
    pub(crate) redirect_port: Option<u16>,
    /// Port that --redirect-port redirects to [default: --port].
    #[arg(long, value_name = "PORT", help_heading = REQUESTS)]
    pub(crate) redirect_to: Option<u16>,
    /// Take the first part of a route's path as its host.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) host_routing: bool,
    /// Write the process id to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// What to log: debug, info, warn or error.
    #[arg(
        id = "chp_log_level",
        long = "log-level",
        value_parser = level, default_value = "info",
        value_name = "LEVEL"
    )]
    pub(crate) log_level: LevelFilter,

    #[arg(long, hide = true)]
    pub(crate) no_x_forward: bool,
    /// Do not put a target's path in front of the request's.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) no_prepend_path: bool,
    /// Do not pass the path of a route on to its target.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) no_include_prefix: bool,
    #[arg(long, hide = true)]
    pub(crate) auto_rewrite: bool,
    /// Send the target's host in the Host header instead of the request's.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) change_origin: bool,
    #[arg(long, hide = true)]
    pub(crate) protocol_rewrite: Option<String>,
    /// Header to add to requests, NAME:VALUE; may be given several times.
    #[arg(long, value_name = "HEADER", action = clap::ArgAction::Append, help_heading = TARGETS)]
    custom_header: Vec<String>,
    /// Do not check the certificates of targets.
    #[arg(long, help_heading = TARGETS)]
    pub(crate) insecure: bool,
    #[arg(id = "chp_timeout", long = "timeout", hide = true)]
    pub(crate) timeout: Option<u64>,
    /// How long a target may take to begin its answer, in milliseconds [default: for ever].
    #[arg(long, value_name = "MS", help_heading = TARGETS)]
    pub(crate) proxy_timeout: Option<u64>,
    /// How long a connection without a request stays open, in milliseconds [default: 180000].
    #[arg(long, value_name = "MS", help_heading = REQUESTS)]
    pub(crate) keep_alive_timeout: Option<u64>,
    #[arg(long, hide = true)]
    pub(crate) storage_backend: Option<String>,

    /// Address to listen on for metrics; '' means all.
    #[arg(long, default_value = "", help_heading = METRICS)]
    pub(crate) metrics_ip: String,
    /// Port to serve Prometheus metrics on [default: none].
    #[arg(long, help_heading = METRICS)]
    pub(crate) metrics_port: Option<u16>,
    /// Unix socket to serve metrics on.
    #[arg(long, value_name = "PATH", help_heading = METRICS)]
    pub(crate) metrics_socket: Option<PathBuf>,

    /// A TOML or YAML file with more static configuration for Traefik, merged over the one that this program writes.
    #[arg(long, value_name = "FILE", value_parser = traefik_config, help_heading = TRAEFIK)]
    pub(crate) extra_static_config: Option<Value>,
    /// A TOML or YAML file with more dynamic configuration for Traefik, merged over the one that this program writes.
    #[arg(long, value_name = "FILE", value_parser = traefik_config, help_heading = TRAEFIK)]
    pub(crate) extra_dynamic_config: Option<Value>,

    /// Begin with the stored routes instead of none.
    #[arg(long, requires = "backend", help_heading = STORED)]
    pub(crate) keep_routes: bool,
    /// Delete the stored routes at the start, even if another program serves them.
    #[arg(long, requires = "backend", conflicts_with = "keep_routes", help_heading = STORED)]
    pub(crate) replace_served_routes: bool,
}

/// Options that have no effect, and why.
const NO_EQUAL: [(&str, &str); 8] = [
    ("ssl-protocol", "Traefik accepts TLS 1.2 and later"),
    ("ssl-ciphers", "Traefik chooses the ciphers"),
    ("ssl-allow-rc4", "Traefik has no RC4"),
    ("ssl-dhparam", "Traefik has no finite-field Diffie-Hellman"),
    ("no-x-forward", "Traefik always sets X-Forwarded headers"),
    ("timeout", "Traefik has no bound on a client's silence"),
    ("client-ssl-request-cert", CHECKED),
    ("client-ssl-reject-unauthorized", CHECKED),
];
const CHECKED: &str = "the certificates of targets are checked unless --insecure is given";
/// Options that have no effect if another one is given, or is not given.
const DEPENDENT: [(&str, bool, &str); 12] = [
    ("ssl-ca", false, "ssl-request-cert"),
    ("ssl-reject-unauthorized", false, "ssl-request-cert"),
    ("api-ssl-ca", false, "api-ssl-request-cert"),
    ("api-ssl-reject-unauthorized", false, "api-ssl-request-cert"),
    ("redirect-to", false, "redirect-port"),
    ("metrics-ip", false, "metrics-port"),
    ("ip", true, "socket"),
    ("api-ip", true, "api-socket"),
    ("api-port", true, "api-socket"),
    ("metrics-port", true, "metrics-socket"),
    ("client-ssl-ca", true, "insecure"),
    ("port", true, "socket"),
];
/// Options that are refused, and why.
const NOT_SUPPORTED: [(&str, &str); 3] = [
    ("auto-rewrite", NO_REWRITE),
    ("protocol-rewrite", NO_REWRITE),
    (
        "storage-backend",
        "it names a JavaScript class; use --backend",
    ),
];
/// Options that have no effect on external Traefiks.
const OF_STARTED: [&str; 12] = [
    "ip",
    "port",
    "socket",
    "ssl-key",
    "ssl-cert",
    "ssl-ca",
    "ssl-request-cert",
    "ssl-reject-unauthorized",
    "redirect-port",
    "redirect-to",
    "keep-alive-timeout",
    "error-path",
];
/// Options that are refused with external Traefiks, and why.
const NOT_ATTACHED: [(&str, &str); 7] = [
    ("keep-routes", "the routes are always kept"),
    ("replace-served-routes", "the routes are always kept"),
    ("traefik-bin", NOT_STARTED),
    ("traefik-env-file", NOT_STARTED),
    ("extra-static-config", NOT_STARTED),
    ("client-ssl-key", NO_KEY),
    ("client-ssl-cert", NO_KEY),
];
const NOT_STARTED: &str = "no Traefik is started";
const NO_KEY: &str =
    "the private key would be stored with the routes, for external Traefiks to read";
const NO_REWRITE: &str = "Traefik does not rewrite Location headers";

/// A line for each of configurable-http-proxy's options that is given and has no effect. `attaches` says
/// whether the Traefiks are external.
///
/// # Errors
/// Names an option that is not supported, or has a value that is none.
pub(super) fn remarks(
    command: &Command,
    given: &ArgMatches,
    attaches: bool,
) -> Result<Vec<String>, String> {
    let is_given = |long: &str| {
        let mut options = command.get_arguments();
        let option = options.find(|option| option.get_long() == Some(long));
        let source = option.and_then(|option| given.value_source(option.get_id().as_str()));
        source == Some(ValueSource::CommandLine)
    };
    if let Some((option, why)) = NOT_SUPPORTED.iter().find(|(option, _)| is_given(option)) {
        return Err(format!("--{option} is not supported: {why}"));
    }
    let headers = given.get_many::<String>("custom_header");
    for text in headers.into_iter().flatten() {
        check_header(text).map_err(|why| format!("--custom-header: {why}"))?;
    }
    let not_attached = NOT_ATTACHED.iter().filter(|_| attaches);
    if let Some((option, why)) = not_attached
        .into_iter()
        .find(|(option, _)| is_given(option))
    {
        return Err(format!("--{option} is not supported with --api-url: {why}"));
    }
    let no_equal = NO_EQUAL.map(|(option, why)| (option, why.to_string()));
    let of_started = OF_STARTED.into_iter().filter(|_| attaches);
    let of_started = of_started.map(|option| (option, "--api-url names external Traefiks".into()));
    let dependent = DEPENDENT
        .iter()
        .filter(|(_, is_idle_with, other)| is_given(other) == *is_idle_with)
        .filter(|(option, ..)| !attaches || !OF_STARTED.contains(option));
    let dependent = dependent.map(|(option, is_idle_with, other)| {
        let not = if *is_idle_with { "" } else { "not " };
        (*option, format!("--{other} is {not}given"))
    });
    // The port of the REST API follows --port.
    let is_needed =
        |option: &str| option == "port" && !is_given("api-port") && !is_given("api-socket");
    let idle = no_equal
        .into_iter()
        .chain(of_started)
        .chain(dependent)
        .filter(|(option, _)| is_given(option) && !is_needed(option));
    Ok(idle
        .map(|(option, why)| format!("--{option}: {why}; the option has no effect"))
        .collect())
}

fn level(name: &str) -> Result<LevelFilter, &'static str> {
    match &*name.to_lowercase() {
        "debug" | "silly" | "verbose" => Ok(LevelFilter::Debug),
        "info" | "http" => Ok(LevelFilter::Info),
        "warn" => Ok(LevelFilter::Warn),
        "error" => Ok(LevelFilter::Error),
        _ => Err("use debug, info, warn or error"),
    }
}

fn traefik_config(file: &str) -> Result<Value, String> {
    read_config(file).map_err(|error| error.to_string())
}

/// The name and the value of a header.
fn header(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.trim().split_once(':')?;
    (!name.is_empty()).then(|| (name.trim(), value.trim()))
}

/// Refuses a header with which Traefik would answer 500 to every request. The error does not show the value, which
/// may be a secret.
fn check_header(text: &str) -> Result<(), String> {
    let Some((name, value)) = header(text) else {
        // configurable-http-proxy's words.
        return Err("A colon was expected in custom header".into());
    };
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.bytes().all(is_token) {
        // What is before the colon may be a secret, too, where the real colon was forgotten.
        return Err("what is before the colon can't be the name of a header".into());
    }
    if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err(format!("the value of {name:?} has a control character"));
    }
    Ok(())
}

impl Options {
    /// The token for the REST API, if one is set.
    ///
    /// # Errors
    /// Names a variable that is not supported.
    pub(crate) fn auth_token() -> Result<Option<String>, String> {
        let passphrases =
            ["SSL_KEY", "API_SSL_KEY"].map(|key| format!("CONFIGPROXY_{key}_PASSPHRASE"));
        if let Some(name) = passphrases.iter().find(|name| env::var_os(name).is_some()) {
            return Err(format!(
                "{name} is not supported: give keys without a passphrase"
            ));
        }
        let token = env::var("CONFIGPROXY_AUTH_TOKEN").ok();
        Ok(token.filter(|token| !token.is_empty()))
    }

    /// The names and values of the headers to add to requests.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.custom_header.iter().filter_map(|text| header(text))
    }

    /// Whether requests come in by HTTPS: there is a certificate, or the extra configuration says so, as for one
    /// that Traefik gets by ACME.
    pub(crate) fn is_https(&self) -> bool {
        let extra = self.extra_static_config.as_ref();
        let tls = extra.and_then(|extra| extra.pointer("/entryPoints/https/http/tls"));
        self.ssl_key.is_some() || tls.is_some_and(|tls| !tls.is_null())
    }

    pub(crate) fn api_port(&self) -> u16 {
        self.api_port.unwrap_or(self.port.saturating_add(1))
    }

    /// Refuses two options with the same port of the same address. Traefik listens on the first two, so that
    /// another program would seem to have the port.
    pub(crate) fn check_ports(&self) -> Result<(), String> {
        let port = |socket: &Option<PathBuf>, port: Option<u16>| port.filter(|_| socket.is_none());
        let asked = [
            ("--port", &*self.ip, port(&self.socket, Some(self.port))),
            ("--redirect-port", &self.ip, self.redirect_port),
            (
                "--api-port",
                &self.api_ip,
                port(&self.api_socket, Some(self.api_port())),
            ),
            (
                "--metrics-port",
                &self.metrics_ip,
                port(&self.metrics_socket, self.metrics_port),
            ),
        ];
        let mut taken: Vec<(&str, &str, u16)> = Vec::new();
        for (option, ip, port) in asked {
            let Some(port) = port else { continue };
            let ip = match ip {
                "localhost" => "127.0.0.1",
                "0.0.0.0" | "::" => "",
                ip => ip,
            };
            let meets = |(_, other, other_port): &&(&str, &str, u16)| {
                let shares = *other == ip || other.is_empty() || ip.is_empty();
                shares && *other_port == port
            };
            if let Some((first, ..)) = taken.iter().find(meets) {
                return Err(format!(
                    "{first} and {option} are both {port}; give each a port of its own"
                ));
            }
            taken.push((option, ip, port));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without them it says where the REST API listens.
    #[test]
    fn port_is_idle_beside_sockets() {
        let program = crate::program();
        let command = program.find_subcommand("chp").unwrap();
        for (api, expected) in [
            (&[][..], &[][..]),
            (
                &["--api-port", "2"],
                &["--port: --socket is given; the option has no effect"],
            ),
            (
                &["--api-socket", "a"],
                &["--port: --socket is given; the option has no effect"],
            ),
        ] {
            let arguments = [&["chp", "--socket", "s", "--port", "1"], api].concat();
            let given = command.clone().try_get_matches_from(arguments).unwrap();
            assert_eq!(
                remarks(command, &given, false).unwrap(),
                expected,
                "{api:?}"
            );
        }
    }
}
