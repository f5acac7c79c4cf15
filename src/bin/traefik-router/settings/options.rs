//! The options that commands share. They are the configuration file's keys as well.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, Args, Command};
use traefik_router::{Nested, RouteSpec};

const ETCD: &str = "etcd";
const REDIS: &str = "Redis";
const KEYS: &str = "Keys in etcd or Redis";
pub(super) const TRAEFIK: &str = "Traefik";
const LIMITS: &str = "Time limits";
/// Where the help begins to list shared options: below a command's own.
const BEHIND_OWN: usize = 100;

/// The ids of options that go together, separated by spaces.
const STORE: &str = "config backend etcd_user etcd_password_file etcd_ca_file etcd_cert_file \
                     etcd_key_file etcd_insecure redis_user redis_password_file redis_ca_file \
                     redis_cert_file redis_key_file redis_change_list redis_replicas traefik_prefix host";
pub(crate) const API: &str = "api_url api_user api_password_file api_ca_file api_cert_file api_key_file api_insecure api_timeout";
pub(crate) const SERVING: &str = "quorum timeout";
const SAID: &str = "quiet verbose";
/// What `chp` takes only where it attaches.
const ATTACHED: &str = "quorum public_url api_entrypoint";

/// A command of each kind, by the options that it takes.
const COMMANDS: [&str; 8] = [
    "list", "add", "setup", "status", "doctor", "static", "dynamic", "chp",
];

/// The options that have an effect for a command.
fn taken_by(command: &str) -> &'static [&'static str] {
    match command {
        "list" | "get" | "resolve" | "export" | "watch" => &[STORE, SAID, "jupyterhub_prefix json"],
        "status" => &[STORE, API, SAID, "jupyterhub_prefix json"],
        "doctor" => &[
            STORE,
            API,
            SAID,
            "jupyterhub_prefix json entrypoint public_url traefik_bin",
        ],
        "setup" => &[
            STORE,
            API,
            SAID,
            SERVING,
            "jupyterhub_prefix json entrypoint api_entrypoint public_url nested_routers lock_timeout",
        ],
        "add" | "apply" | "delete" | "clear" => &[
            STORE,
            API,
            SAID,
            SERVING,
            "jupyterhub_prefix json no_wait entrypoint public_url nested_routers lock_timeout",
        ],
        "static" => &[
            STORE,
            SAID,
            "api_url entrypoint public_url api_entrypoint throttle timeout log_level jupyterhub_prefix",
        ],
        "dynamic" => &[
            SAID,
            "config backend api_url api_user api_password_file api_entrypoint",
        ],
        "chp" => &[
            STORE,
            API,
            ATTACHED,
            "external jupyterhub_prefix nested_routers lock_timeout commit_wait traefik_bin entrypoint traefik_env_file",
        ],
        _ => &[],
    }
}

fn contains(options: &[&str], id: &str) -> bool {
    options
        .iter()
        .any(|options| options.split(' ').any(|option| option == id))
}

/// The option without which another one has no effect for a command, where that differs by command.
pub(super) fn partner(command: &str, option: &str) -> Option<&'static str> {
    match (command, option) {
        ("static", "timeout") => Some("throttle"),
        ("add" | "apply" | "delete" | "clear" | "setup" | "doctor", "public_url") => {
            Some("api_url")
        }
        ("doctor", "entrypoint") => Some("api_url"),
        ("add" | "apply" | "delete" | "clear" | "setup", "timeout") => Some("api_url"),
        ("add" | "apply" | "delete" | "clear" | "setup" | "status", "api_timeout") => {
            Some("api_url")
        }
        ("chp", option) if contains(&[API, ATTACHED], option) => Some("external"),
        _ => None,
    }
}

/// The options one of which another option needs for some command to use it. `None` if a command uses it
/// without any.
pub(super) fn partners(option: &str) -> Option<Vec<&'static str>> {
    let takers = COMMANDS
        .iter()
        .filter(|name| contains(taken_by(name), option));
    let partners = takers.map(|command| partner(command, option));
    let mut partners = partners.collect::<Option<Vec<_>>>()?;
    partners.dedup();
    Some(partners)
}

/// A program with the options that its commands share.
pub(crate) fn shared_by(program: Command) -> Command {
    program.mut_subcommands(|command| match command.has_subcommands() {
        true => shared_by(command),
        false => complete(command),
    })
}

fn complete(command: Command) -> Command {
    let name = command.get_name().to_string();
    let all = Settings::augment_args(Command::new(""));
    let numbered = all.get_arguments().enumerate();
    numbered.fold(command, |command, (place, arg)| {
        let id = arg.get_id().as_str();
        let arg = arg.clone().display_order(BEHIND_OWN + place);
        match (contains(taken_by(&name), id), partner(&name, id)) {
            // A command must know the ids of all options, or clap panics where the settings are read.
            (false, _) => command.group(ArgGroup::new(arg.get_id())),
            // --api-url implies it.
            (true, Some("external")) if id == "api_url" => command.arg(arg),
            (true, Some("external")) => command.arg(arg.requires("api_url")),
            (true, Some(partner)) => command.arg(arg.requires(partner)),
            (true, None) => command.arg(arg),
        }
    })
}

/// The keys that a configuration file may have.
pub(super) fn keys() -> Vec<Arg> {
    let all = Settings::augment_args(Command::new(""));
    let is_key = |arg: &&Arg| arg.get_action().takes_values() && arg.get_id() != "config";
    all.get_arguments().filter(is_key).cloned().collect()
}

/// The store that an option needs, where `backend` is none that it has an effect for.
pub(super) fn needed_store(option: &Arg, backend: Option<&str>) -> Option<&'static str> {
    let (needed, kinds): (_, &[_]) = match (option.get_id().as_str(), option.get_help_heading()) {
        (_, Some(ETCD)) => ("etcd:URL", &["etcd:"]),
        (_, Some(REDIS)) => ("redis:URL", &["redis:", "redis+sentinel:"]),
        (_, Some(KEYS)) => (
            "etcd:URL or redis:URL",
            &["etcd:", "redis:", "redis+sentinel:"],
        ),
        ("lock_timeout", _) => ("toml:FILE or yaml:FILE", &["toml:", "yaml:"]),
        _ => return None,
    };
    let is_one = |backend: &str| kinds.iter().any(|kind| backend.starts_with(kind));
    (!backend.is_some_and(is_one)).then_some(needed)
}

/// The options that commands share.
#[derive(Args, Default)]
pub(crate) struct Settings {
    /// Return once the change is stored, without asking any Traefik whether it serves it.
    #[arg(long, action = ArgAction::SetTrue, conflicts_with_all = API.split(' ').chain(SERVING.split(' ')).chain(["public_url"]))]
    pub(crate) no_wait: Option<bool>,
    /// Print JSON, for programs.
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) json: Option<bool>,
    /// Print only the requested output, and errors: no progress, no warnings, no report of a change.
    #[arg(short, long, action = ArgAction::SetTrue, conflicts_with = "verbose")]
    pub(crate) quiet: Option<bool>,
    /// Log each step on standard error.
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub(crate) verbose: Option<bool>,
    /// A TOML file with further options. Defaults to $TRAEFIK_ROUTER_CONFIG, then to traefik-router.toml in the
    /// current folder, if it exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to say about options that have no effect.
    #[arg(skip)]
    pub(crate) remarks: Vec<String>,

    /// Where routes are kept: toml:FILE, yaml:FILE, etcd:URL[,URL…], redis:URL, redis+sentinel:MASTER,URL[,URL…] or
    /// push. push (only for `chp`, `config` and `doctor`) keeps them in the memory of the program that sends them to
    /// Traefik. It is the default of `chp`, `config … --chp` and `doctor --chp`.
    #[arg(long, value_name = "STORE")]
    pub(crate) backend: Option<String>,
    /// Limit the table to this host, so that several tables can share a Traefik. Routes match requests to this host
    /// only; write them without the host, as they are shown. Defaults to any host.
    #[arg(long, value_name = "HOST", value_parser = host, hide_short_help = true)]
    pub(crate) host: Option<String>,
    /// The user of etcd. Defaults to $ETCD_USERNAME.
    #[arg(long, value_name = "NAME", help_heading = ETCD, hide_short_help = true)]
    pub(crate) etcd_user: Option<String>,
    /// A file with the password of etcd's user. Without it the password is read from $ETCD_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = ETCD, requires = "etcd_user", hide_short_help = true)]
    pub(crate) etcd_password_file: Option<PathBuf>,
    /// The CA of etcd's certificate, in PEM. Defaults to the public CAs that are built into this program.
    #[arg(long, value_name = "FILE", help_heading = ETCD, hide_short_help = true)]
    pub(crate) etcd_ca_file: Option<PathBuf>,
    /// The certificate to show to etcd, in PEM.
    #[arg(long, value_name = "FILE", help_heading = ETCD, requires = "etcd_key_file", hide_short_help = true)]
    pub(crate) etcd_cert_file: Option<PathBuf>,
    /// The private key of --etcd-cert-file, in PEM.
    #[arg(long, value_name = "FILE", help_heading = ETCD, requires = "etcd_cert_file", hide_short_help = true)]
    pub(crate) etcd_key_file: Option<PathBuf>,
    /// Do not check etcd's certificate.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = ETCD, hide_short_help = true)]
    pub(crate) etcd_insecure: Option<bool>,
    /// The user of Redis; `default` if Redis has only a password. Defaults to $REDIS_USERNAME.
    #[arg(long, value_name = "NAME", help_heading = REDIS, hide_short_help = true)]
    pub(crate) redis_user: Option<String>,
    /// A file with the password of Redis's user. Without it the password is read from $REDIS_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = REDIS, requires = "redis_user", hide_short_help = true)]
    pub(crate) redis_password_file: Option<PathBuf>,
    /// The CA of Redis's certificate, in PEM. Defaults to the public CAs that are built into this program.
    #[arg(long, value_name = "FILE", help_heading = REDIS, hide_short_help = true)]
    pub(crate) redis_ca_file: Option<PathBuf>,
    /// The certificate to show to Redis, in PEM.
    #[arg(long, value_name = "FILE", help_heading = REDIS, requires = "redis_key_file", hide_short_help = true)]
    pub(crate) redis_cert_file: Option<PathBuf>,
    /// The private key of --redis-cert-file, in PEM.
    #[arg(long, value_name = "FILE", help_heading = REDIS, requires = "redis_cert_file", hide_short_help = true)]
    pub(crate) redis_key_file: Option<PathBuf>,
    /// A key below --traefik-prefix, such as traefik/changed, for a list that changes with each commit. If Redis
    /// notifies of lists only (notify-keyspace-events Kl), Traefik then reads the table a few times for each commit,
    /// instead of twice for each key. Defaults to none.
    #[arg(long, value_name = "KEY", help_heading = REDIS, hide_short_help = true)]
    pub(crate) redis_change_list: Option<String>,
    /// How many replicas of Redis must have a change before it counts as stored. Defaults to 0.
    #[arg(long, value_name = "COUNT", help_heading = REDIS, hide_short_help = true)]
    pub(crate) redis_replicas: Option<usize>,
    /// The prefix of the keys that Traefik reads. Defaults to traefik.
    #[arg(long, value_name = "PREFIX", help_heading = KEYS, hide_short_help = true)]
    pub(crate) traefik_prefix: Option<String>,
    /// The prefix of the keys that only this program reads. Defaults to jupyterhub.
    #[arg(long, value_name = "PREFIX", help_heading = KEYS, hide_short_help = true)]
    pub(crate) jupyterhub_prefix: Option<String>,

    /// The URL of Traefik's API. Give it once for each Traefik. With it `chp` attaches to these Traefiks and starts
    /// none. Without it the other commands ask no Traefik.
    #[arg(long, value_name = "URL", help_heading = TRAEFIK)]
    pub(crate) api_url: Vec<String>,
    /// Attach to the Traefiks at --api-url, which run already, and start none. --api-url on the command line implies
    /// this; `api-url` in the configuration file does not.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", requires_if("true", "api_url"), help_heading = TRAEFIK)]
    pub(crate) external: Option<bool>,
    /// How many of several Traefiks have to serve a change. Defaults to all.
    #[arg(long, value_name = "COUNT", help_heading = TRAEFIK, requires = "api_url", hide_short_help = true)]
    pub(crate) quorum: Option<usize>,
    /// The user name for Traefik's API. Defaults to jupyterhub.
    #[arg(long, value_name = "NAME", help_heading = TRAEFIK, requires = "api_url")]
    pub(crate) api_user: Option<String>,
    /// A file with the password for Traefik's API. Without it the password is read from $TRAEFIK_API_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK, requires = "api_url")]
    pub(crate) api_password_file: Option<PathBuf>,
    /// The CA of the certificate of Traefik's API, in PEM. Defaults to the public CAs that are built into this program.
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK, requires = "api_url", hide_short_help = true)]
    pub(crate) api_ca_file: Option<PathBuf>,
    /// The certificate to show to Traefik's API, in PEM.
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK, requires = "api_key_file", hide_short_help = true)]
    pub(crate) api_cert_file: Option<PathBuf>,
    /// The private key of --api-cert-file, in PEM.
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK, requires_all = ["api_url", "api_cert_file"], hide_short_help = true)]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Do not check the certificate of Traefik's API.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", requires = "api_url", help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) api_insecure: Option<bool>,
    /// The entrypoint that routes are served on. All routes of a table use the same entrypoint: another name moves all
    /// of them. Defaults to the stored one, else to http or https, like the scheme of --public-url.
    #[arg(long, value_name = "NAME", help_heading = TRAEFIK)]
    pub(crate) entrypoint: Option<String>,
    /// Whether routers are nested, so that requests are served as fast with thousands of routes as with a few: auto,
    /// always, or never for Traefik before 3.6. It applies to the whole table. Defaults to what is stored.
    #[arg(long, value_name = "WHEN", value_parser = nested, help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) nested_routers: Option<Nested>,
    /// The Traefik binary. Defaults to $TRAEFIK_BIN, then to traefik beside this program, then to traefik on PATH.
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) traefik_bin: Option<PathBuf>,

    /// How many seconds Traefik may take to serve a change, once it is stored. To store it takes --lock-timeout at most
    /// in a file; in etcd or Redis several requests, each of 10 seconds at most. Defaults to 30.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = LIMITS)]
    pub(crate) timeout: Option<Duration>,
    /// How many seconds one request to Traefik's API may take. Defaults to 5.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = LIMITS, hide_short_help = true)]
    pub(crate) api_timeout: Option<Duration>,
    /// How many seconds to wait for another writer of the file. Only for toml: and yaml:. Defaults to 10.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = LIMITS, hide_short_help = true)]
    pub(crate) lock_timeout: Option<Duration>,
    /// How many seconds a change of `chp` waits at most for other changes, so that they share one reload of Traefik.
    /// With 0 none waits. Defaults to 0.25.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = LIMITS, hide_short_help = true)]
    pub(crate) commit_wait: Option<Duration>,

    /// The URL that requests come in at. If it is given, a change counts as served only once it is served at this
    /// URL. With several --api-url this is not checked: the option then only says whether requests come by HTTPS.
    /// Defaults to http://127.0.0.1:8000, which is not checked.
    #[arg(long, value_name = "URL", help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) public_url: Option<String>,
    /// The entrypoint that Traefik's API is served on. Defaults to auth_api.
    #[arg(long, value_name = "NAME", help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) api_entrypoint: Option<String>,
    /// How many seconds Traefik waits between two changes. Defaults to 0.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) throttle: Option<Duration>,
    /// What Traefik logs: TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC. Defaults to ERROR.
    #[arg(long, value_name = "LEVEL", help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) log_level: Option<String>,
    /// A file with environment variables for a Traefik that is started, one NAME=VALUE a line. Their values may be
    /// secrets.
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK, hide_short_help = true)]
    pub(crate) traefik_env_file: Option<PathBuf>,
}

impl Settings {
    /// The entrypoint of routes for which nothing is stored.
    pub(crate) fn entrypoint_or_default(&self) -> &str {
        let is_https = |url: &String| url.starts_with("https://");
        match &self.entrypoint {
            Some(name) => name,
            None if self.public_url.as_ref().is_some_and(is_https) => "https",
            None => "http",
        }
    }

    /// Whether the Traefiks are external. Only `chp` has a choice.
    pub(crate) fn attaches(&self) -> bool {
        !self.api_url.is_empty()
    }
}

fn host(name: &str) -> Result<String, String> {
    let spec = RouteSpec::new(name).map_err(|error| error.to_string())?;
    match (spec.host(), spec.path()) {
        (Some(host), "/") if !host.starts_with('*') => Ok(host.into()),
        _ => Err("give one host's name alone, as in hub.example.org".into()),
    }
}

fn nested(when: &str) -> Result<Nested, &'static str> {
    match when {
        "auto" => Ok(Nested::Auto),
        "always" => Ok(Nested::Always),
        "never" => Ok(Nested::Never),
        _ => Err("give auto, always or never"),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    let time = Duration::try_from_secs_f64(seconds);
    time.map_err(|_| format!("{seconds} is no number of seconds"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn guide_has_every_option() {
        let guide = include_str!("../../../../docs/shell.md");
        for option in keys() {
            let option = option.get_long().unwrap();
            assert!(guide.contains(&format!("`{option}`")), "{option}");
        }
    }

    #[test]
    fn every_option_has_a_command() {
        let all = Settings::augment_args(Command::new(""));
        let known: BTreeSet<_> = all
            .get_arguments()
            .map(|arg| arg.get_id().as_str())
            .collect();
        let taken = COMMANDS.iter().flat_map(|command| taken_by(command));
        assert_eq!(
            taken
                .flat_map(|options| options.split(' '))
                .collect::<BTreeSet<_>>(),
            known
        );
    }
}
