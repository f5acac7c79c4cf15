//! The settings of all commands. They are parsed once, from the command line, the environment and the
//! configuration file, and resolved once.

mod chp;
mod file;
mod options;
mod resolved;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind, Result};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error, FromArgMatches as _};

pub(crate) use self::chp::Options as ChpOptions;
use self::file::File;
pub(crate) use self::options::{API, SERVING, Settings, shared_by};
use self::options::{keys, needed_store, partner, partners};
pub(crate) use self::resolved::Resolved;

/// Parses a command line. What the environment and the configuration file say is put before the options
/// on it, where it does not say the same: so clap checks all of it.
pub(crate) fn parse(program: &Command, arguments: &[OsString]) -> Result<(ArgMatches, Settings)> {
    let lenient = program.clone().ignore_errors(true);
    let given = lenient.try_get_matches_from(arguments)?;
    let (depth, command, given) = innermost(program, &given);
    let with = |added: &[(String, OsString)]| {
        let mut all = arguments.to_vec();
        all.splice(
            depth..depth,
            added.iter().map(|(_, argument)| argument.clone()),
        );
        program.clone().try_get_matches_from(all)
    };
    let mut file = None;
    let mut all = Vec::new();
    if command.get_arguments().any(|arg| arg.get_id() == "config") {
        let named = given.get_one::<PathBuf>("config").cloned();
        let read = File::read(named.or_else(|| variable("TRAEFIK_ROUTER_CONFIG").map(Into::into)));
        let read = file.insert(read.map_err(refused)?);
        all = added(command, given, read)?;
    }
    let matches = with(&all).map_err(|error| {
        let missing = missing(&error);
        let has_urls = (file.as_ref()).is_some_and(|file| !file.values("api_url").is_empty());
        if has_urls && command.get_name() == "chp" && missing.iter().any(|one| one.starts_with("--api-url")) {
            let message = "`chp` uses `api-url` of the configuration file only with --external: give --external, or \
                           --api-url";
            return refused(message.into());
        }
        let Some(first) = missing.first().filter(|_| with(&[]).is_ok()) else {
            return error;
        };
        let needs_it = |one: &&(String, OsString)| {
            let alone = with(std::slice::from_ref(*one));
            alone.is_err_and(|error| self::missing(&error).contains(first))
        };
        let key = all.iter().find(needs_it);
        let why = format!("needs {} beside it", missing.join(" and "));
        let refusal = key.and_then(|(option, _)| file.as_ref()?.refusal(option, &why));
        refusal.map_or(error, refused)
    })?;
    let mut settings = Settings::from_arg_matches(innermost(program, &matches).2)?;
    if command.get_name() == "chp" {
        let is_called = given.value_source("api_url") == Some(ValueSource::CommandLine);
        if is_called && given.get_one("external") == Some(&false) {
            let message = "--external=false conflicts with --api-url, which attaches to external Traefiks: remove \
                           one of them";
            return Err(refused(message.into()));
        }
        settings.remarks = chp::remarks(command, given, settings.attaches()).map_err(refused)?;
    }
    Ok((matches, settings))
}

/// The options that go together with those that are given, and are not given.
fn missing(error: &Error) -> Vec<String> {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => {
            missing.clone()
        }
        _ => Vec::new(),
    }
}

/// The command that was called, and the place of its options on the command line.
fn innermost<'a>(
    program: &'a Command,
    given: &'a ArgMatches,
) -> (usize, &'a Command, &'a ArgMatches) {
    let (mut depth, mut innermost, mut matches) = (1, program, given);
    while let Some((name, below)) = matches.subcommand() {
        innermost = innermost.find_subcommand(name).unwrap_or(innermost);
        (depth, matches) = (depth + 1, below);
    }
    (depth, innermost, matches)
}

/// The options that are not on the command line, and have an effect beside those that are, with their ids.
fn added(command: &Command, given: &ArgMatches, file: &File) -> Result<Vec<(String, OsString)>> {
    let source = |id: &str| given.value_source(id);
    let excluded: Vec<_> = (command.get_arguments())
        .filter(|option| source(option.get_id().as_str()) == Some(ValueSource::CommandLine))
        .flat_map(|option| command.get_arg_conflicts_with(option))
        .map(Arg::get_id)
        .collect();
    let backend = given.get_one::<String>("backend").map(String::as_str);
    let backend = backend.or_else(|| file.values("backend").first()?.to_str());
    let attaches = attaches(given, file);
    let has = |partner: &str| match partner {
        "external" => attaches,
        _ => source(partner).is_some() || !file.values(partner).is_empty(),
    };
    let mut added = Vec::new();
    for option in keys() {
        let id = option.get_id().as_str();
        let name = option.get_long().unwrap_or_default();
        if !command.get_arguments().any(|taken| taken.get_id() == id) {
            continue;
        }
        match (source(id), needed_store(&option, backend)) {
            (Some(ValueSource::CommandLine), Some(store)) => {
                let message = format!("--{name} has no effect without --backend {store}");
                return Err(refused(message));
            }
            (None, None) => {}
            _ => continue,
        }
        let lacks_partner = partner(command.get_name(), id).is_some_and(|partner| !has(partner));
        if let (true, Some(why)) = (lacks_partner, unused(file, id)) {
            return Err(refused(why));
        }
        let values = match (id, variable_of(id).and_then(variable)) {
            _ if lacks_partner || excluded.contains(&option.get_id()) => Vec::new(),
            ("external", _) => attaches.then(|| "true".into()).into_iter().collect(),
            // A password in the environment comes before the file that the configuration names.
            ("etcd_password_file" | "redis_password_file" | "api_password_file", Some(_)) => {
                Vec::new()
            }
            (_, Some(value)) => vec![value],
            (_, None) => file.values(id).to_vec(),
        };
        for value in values {
            let mut argument = OsString::from(format!("--{name}="));
            argument.push(value);
            added.push((id.to_string(), argument));
        }
    }
    Ok(added)
}

/// Whether `chp` attaches to external Traefiks.
fn attaches(given: &ArgMatches, file: &File) -> bool {
    let explicit = given.try_get_one::<bool>("external").ok().flatten();
    let is_called = given.value_source("api_url") == Some(ValueSource::CommandLine);
    let explicit = explicit.copied().or(is_called.then_some(true));
    explicit.unwrap_or_else(|| file.values("external").iter().any(|value| value == "true"))
}

/// Why a key of the file has no effect for any command.
fn unused(file: &File, option: &str) -> Option<String> {
    let needed = partners(option)?;
    if needed
        .iter()
        .any(|partner| !file.values(partner).is_empty())
    {
        return None;
    }
    let needed: Vec<_> = (needed.iter())
        .map(|partner| format!("`{}`", partner.replace('_', "-")))
        .collect();
    file.refusal(
        option,
        &format!("has no effect without {}", needed.join(" or ")),
    )
}

fn variable_of(option: &str) -> Option<&'static str> {
    match option {
        "etcd_user" => Some("ETCD_USERNAME"),
        "etcd_password_file" => Some("ETCD_PASSWORD"),
        "redis_user" => Some("REDIS_USERNAME"),
        "redis_password_file" => Some("REDIS_PASSWORD"),
        "api_password_file" => Some("TRAEFIK_API_PASSWORD"),
        "traefik_bin" => Some("TRAEFIK_BIN"),
        _ => None,
    }
}

/// The environment's variable, unless it is empty.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn refused(message: String) -> Error {
    Error::raw(ErrorKind::InvalidValue, message + "\n")
}
