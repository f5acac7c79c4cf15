//! The configuration file. Its keys are options without their dashes.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args as _, Command};
use toml_edit::{Document, TomlError, Value};

use super::options::{self, Settings, needed_store};
use crate::store::Store;

/// The file that is read where none is named.
const DEFAULT: &str = "traefik-router.toml";

pub(super) struct File {
    path: PathBuf,
    /// What it says, by the options' ids.
    keys: BTreeMap<String, Key>,
}

struct Key {
    line: usize,
    values: Vec<OsString>,
}

impl File {
    /// Reads the file that is named, or the default one if it is there. Names of files in it are
    /// relative to its folder.
    pub(super) fn read(named: Option<PathBuf>) -> Result<Self, String> {
        let is_named = named.is_some();
        let path = named.unwrap_or_else(|| DEFAULT.into());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if !is_named && error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                let path = path.display();
                return Err(format!("can't read the configuration file {path}: {error}"));
            }
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let keys = parse(&text, folder).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, keys })
    }

    pub(super) fn values(&self, option: &str) -> &[OsString] {
        self.keys.get(option).map_or(&[], |key| &key.values)
    }

    /// Why a key can't stand there, with its place. `None` if it does not.
    pub(super) fn refusal(&self, option: &str, why: &str) -> Option<String> {
        let (path, line) = (self.path.display(), self.keys.get(option)?.line);
        let name = option.replace('_', "-");
        Some(format!("{path}: line {line}: `{name}` {why}"))
    }
}

/// Reads a configuration file. The error names the line, and never shows it: a password may stand there
/// by mistake.
fn parse(text: &str, folder: &Path) -> Result<BTreeMap<String, Key>, String> {
    let line_at = |start: usize| text[..start.min(text.len())].matches('\n').count() + 1;
    let in_line = |start: usize, why: &str| format!("line {}: {}", line_at(start), why.trim_end());
    let document = Document::parse(text).map_err(|error: TomlError| {
        let start = error.span().map_or(0, |span| span.start);
        in_line(start, error.message())
    })?;
    let options = options::keys();
    let backend = document.get("backend").and_then(|item| item.as_str());
    let mut keys = BTreeMap::new();
    for (key, item) in document.iter() {
        let span = document.key(key).and_then(|key| key.span());
        let start = span.map_or(0, |span| span.start);
        let fail = |why: &str| in_line(start, why);
        let option = options.iter().find(|option| option.get_long() == Some(key));
        let Some(option) = option else {
            return Err(fail(&format!("unknown field `{}`", key.escape_debug())));
        };
        let found: Option<Vec<_>> = match (item.as_value(), option.get_action()) {
            (Some(Value::Array(list)), ArgAction::Append) => {
                list.iter().map(|value| scalar(option, value)).collect()
            }
            (Some(value), ArgAction::Set) => scalar(option, value).map(|text| vec![text]),
            _ => None,
        };
        let found = found
            .ok_or_else(|| fail(&format!("invalid type of `{key}`: give {}", wanted(option))))?;
        if let Some(why) = found.iter().find_map(|value| refusal(option, value)) {
            return Err(fail(&why));
        }
        if let (Some(store), true) = (needed_store(option, backend), backend.is_some()) {
            let why = format!("`{key}` has no effect without `backend = \"{store}\"`");
            return Err(fail(&why));
        }
        let found = found
            .into_iter()
            .map(|value| rebased(option, value, folder));
        let key = Key {
            line: line_at(start),
            values: found.collect(),
        };
        keys.insert(option.get_id().to_string(), key);
    }
    Ok(keys)
}

/// A value as it would stand on the command line, if it has the right type.
fn scalar(option: &Arg, value: &Value) -> Option<String> {
    let (is_number, is_bool) = (is_number(option), is_bool(option));
    match value {
        Value::Boolean(truth) if is_bool => Some(truth.value().to_string()),
        Value::String(text) if !is_number && !is_bool => Some(text.value().clone()),
        Value::Integer(number) if is_number => Some(number.value().to_string()),
        Value::Float(number) if is_number => Some(number.value().to_string()),
        _ => None,
    }
}

fn is_number(option: &Arg) -> bool {
    is_a(option, &["COUNT", "SECONDS"])
}

fn is_bool(option: &Arg) -> bool {
    is_a(option, &["BOOL"])
}

fn is_a(option: &Arg, names: &[&str]) -> bool {
    let name = option.get_value_names().unwrap_or_default().first();
    name.is_some_and(|name| names.contains(&name.as_str()))
}

/// The type that a key's value must have.
fn wanted(option: &Arg) -> &'static str {
    match option.get_action() {
        ArgAction::Append => "a list of strings, as in [\"…\"]",
        _ if is_number(option) => "a number",
        _ if is_bool(option) => "true or false",
        _ => "a string, in quotes",
    }
}

/// Why an option does not take a value, without the value.
fn refusal(option: &Arg, value: &str) -> Option<String> {
    if option.get_id() == "backend" {
        return Store::parse(value).err();
    }
    let line = format!("--{}={value}", option.get_long().unwrap_or_default());
    let command = Settings::augment_args(Command::new(""));
    let error = command.try_get_matches_from(["", &line]).err()?;
    // What else has to be given is checked together with the command line.
    let is_wrong = error.kind() != ErrorKind::MissingRequiredArgument;
    let why = error.source().map(ToString::to_string);
    is_wrong.then(|| why.unwrap_or("no value is given".into()))
}

fn rebased(option: &Arg, value: String, folder: &Path) -> OsString {
    let is_file = option.get_value_names().unwrap_or_default() == ["FILE"];
    // A program's bare name is looked for on PATH.
    let is_bare = option.get_id() == "traefik_bin" && Path::new(&value).components().count() == 1;
    match value.split_once(':') {
        Some((kind, file)) if option.get_id() == "backend" && matches!(kind, "toml" | "yaml") => {
            let mut store = OsString::from(format!("{kind}:"));
            store.push(folder.join(file));
            store
        }
        _ if is_file && !is_bare => folder.join(value).into(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_line_is_not_shown() {
        for (text, expected) in [
            (
                "backend = \"toml:x.toml\"\npassword = \"hunter2\"\n",
                "line 2: unknown field `password`",
            ),
            ("\n\nhunter2\n", "line 3: "),
            ("timeout = -1\n", "line 1: -1 is no number of seconds"),
            (
                "timeout = \"soon\"\n",
                "line 1: invalid type of `timeout`: give a number",
            ),
            (
                "api-url = \"http://x\"\n",
                "line 1: invalid type of `api-url`: give a list of strings, as in [\"…\"]",
            ),
            (
                "external = 1\n",
                "line 1: invalid type of `external`: give true or false",
            ),
            (
                "backend = 1\n",
                "line 1: invalid type of `backend`: give a string, in quotes",
            ),
            ("config = \"x\"\n", "line 1: unknown field `config`"),
            ("json = true\n", "line 1: unknown field `json`"),
            ("[api-url]\nx = 1\n", "line 1: invalid type"),
            (
                "nested-routers = \"hunter2\"\n",
                "line 1: give auto, always or never",
            ),
            (
                "backend = \"etcd:http://u:hunter2@h\"\n",
                "line 1: user name and password ",
            ),
            (
                "etcd-user = \"hunter2\"\nbackend = \"yaml:x.yml\"\n",
                "line 1: `etcd-user` has no effect without `backend = \"etcd:URL\"`",
            ),
        ] {
            let error = parse(text, Path::new("")).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn paths_follow_the_configuration_file() {
        let text = "backend = \"toml:rules.toml\"\napi-user = \"a\"\ntimeout = 5\n\
                    traefik-bin = \"traefik\"\napi-ca-file = \"ca.pem\"\napi-url = [\"b\", \"c\"]\n";
        let keys = parse(text, Path::new("/etc/x")).unwrap();
        for (option, expected) in [
            ("backend", &["toml:/etc/x/rules.toml"][..]),
            ("api_user", &["a"]),
            ("timeout", &["5"]),
            ("traefik_bin", &["traefik"]),
            ("api_ca_file", &["/etc/x/ca.pem"]),
            ("api_url", &["b", "c"]),
        ] {
            assert_eq!(keys[option].values, expected, "{option}");
        }
        for store in [
            "push",
            "etcd:http://h",
            "redis:redis://h",
            "redis+sentinel:m,redis://h",
        ] {
            let keys = parse(&format!("backend = {store:?}\n"), Path::new("/etc/x")).unwrap();
            assert_eq!(keys["backend"].values, [store]);
        }
    }
}
