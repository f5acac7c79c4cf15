//! The library's words for those who use this program: the library names its settings, and each command
//! names its own options.

/// A setting of the library, and the option that it is here.
type Table = &'static [(&'static str, &'static str)];

const SHELL: Table = &[
    (
        "ca_pem",
        "--api-ca-file, for the store --etcd-ca-file or --redis-ca-file",
    ),
    (
        "client_pem",
        "--api-cert-file and --api-key-file, for the store --etcd-cert-file and --etcd-key-file, or \
         --redis-cert-file and --redis-key-file",
    ),
    ("change_list", "--redis-change-list"),
    ("check_route_timeout", "--timeout"),
    ("enable_setup_dynamic_config", "traefik-router setup"),
    ("host", "--host"),
    ("jupyterhub_prefix", "--jupyterhub-prefix"),
    ("nested_routers", "--nested-routers"),
    ("public_url", "--public-url"),
    ("replicas", "--redis-replicas"),
    ("traefik_api_entrypoint", "--api-entrypoint"),
    ("traefik_api_password", "--api-password-file"),
    ("traefik_api_url", "--api-url"),
    ("traefik_api_urls", "--api-url"),
    ("traefik_api_username", "--api-user"),
    ("traefik_bin", "--traefik-bin"),
    ("traefik_entrypoint", "--entrypoint"),
    ("traefik_log_level", "--log-level"),
    ("traefik_prefix", "--traefik-prefix"),
    ("traefik_providers_throttle_duration", "--throttle"),
    ("traefik_quorum", "--quorum"),
];

const CHP: Table = &[
    (
        "ca_pem",
        "--etcd-ca-file or --redis-ca-file, for Traefik --api-ca-file",
    ),
    (
        "client_pem",
        "--etcd-cert-file and --etcd-key-file, or --redis-cert-file and --redis-key-file, for Traefik \
         --api-cert-file and --api-key-file",
    ),
    ("change_list", "--redis-change-list"),
    ("extra_dynamic_config", "--extra-dynamic-config"),
    ("extra_static_config", "--extra-static-config"),
    ("host", "--host"),
    ("jupyterhub_prefix", "--jupyterhub-prefix"),
    ("nested_routers", "--nested-routers"),
    (
        "public_url",
        "--ip and --port, or --public-url beside --api-url",
    ),
    ("replicas", "--redis-replicas"),
    ("ssl", "--ssl-cert and --ssl-key"),
    ("traefik_env", "--traefik-env-file"),
    ("traefik_api_entrypoint", "--api-entrypoint"),
    ("traefik_api_password", "--api-password-file"),
    ("traefik_api_url", "--api-url"),
    ("traefik_api_urls", "--api-url"),
    ("traefik_api_username", "--api-user"),
    ("traefik_bin", "--traefik-bin"),
    ("traefik_entrypoint", "--entrypoint"),
    ("traefik_log_level", "--log-level"),
    ("traefik_prefix", "--traefik-prefix"),
    ("traefik_quorum", "--quorum"),
];

/// A message of the library, for `routes`, `status`, `doctor` and `config`.
pub(crate) fn for_shell(message: &str) -> String {
    worded(message, SHELL)
}

/// The same for `chp`.
pub(crate) fn for_chp(message: &str) -> String {
    worded(message, CHP)
}

fn worded(message: &str, table: Table) -> String {
    let mut worded = message.to_string();
    for (setting, option) in table {
        worded = worded.replace(&format!("`{setting}`"), option);
    }
    worded
}

/// Whether a character is for the terminal: a control character, or one that turns the direction of writing.
pub(crate) fn speaks(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use clap::Command;

    use super::*;

    /// Settings that only programs choose.
    const OF_PROGRAMS: [&str; 8] = [
        "bcrypt_cost",
        "cancelled_by",
        "extra_service_config",
        "initial_routes",
        "replace_api_router",
        "replace_pushed_table",
        "static_config_file",
        "traefik_api_hashed_password",
    ];
    /// Settings that only `chp` has options for.
    const NOT_IN_SHELL: [&str; 3] = ["extra_dynamic_config", "extra_static_config", "traefik_env"];
    /// Settings that `chp` chooses itself.
    const OF_CHP: [&str; 3] = [
        "check_route_timeout",
        "enable_setup_dynamic_config",
        "traefik_providers_throttle_duration",
    ];

    /// What stands between backticks in the messages of the library.
    fn settings(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("bin") {
                settings(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                let parts = code.flat_map(|line| line.split('`').skip(1).step_by(2));
                let is_name = |part: &&str| {
                    part.contains('_') && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                };
                found.extend(parts.filter(is_name).map(Into::into));
            }
        }
    }

    #[test]
    fn every_named_setting_is_translated() {
        let mut found = BTreeSet::new();
        settings(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        assert!(found.contains("traefik_bin"), "{found:?}");
        for (table, chosen) in [(SHELL, &NOT_IN_SHELL[..]), (CHP, &OF_CHP)] {
            let mut unknown = found.clone();
            let options = table.iter().map(|(setting, _)| setting);
            for setting in options.chain(chosen).chain(&OF_PROGRAMS) {
                unknown.remove(*setting);
            }
            assert_eq!(unknown, BTreeSet::new());
        }
    }

    /// The options of a command and of those below it.
    fn longs(command: &Command) -> BTreeSet<String> {
        let own = command.get_arguments().filter_map(|arg| arg.get_long());
        let below = command.get_subcommands().flat_map(longs);
        own.map(Into::into).chain(below).collect()
    }

    #[test]
    fn every_option_exists() {
        let program = crate::program();
        for (commands, table) in [
            (&["routes", "doctor", "config"][..], SHELL),
            (&["chp"], CHP),
        ] {
            let commands = commands
                .iter()
                .map(|name| program.find_subcommand(name).unwrap());
            let longs: BTreeSet<_> = commands.flat_map(longs).collect();
            for (_, option) in table {
                let words = option.split([' ', ',']);
                for long in words.filter_map(|word| word.strip_prefix("--")) {
                    assert!(longs.contains(long), "{long}");
                }
            }
        }
    }

    #[test]
    fn settings_become_options() {
        let message = "check `check_route_timeout`, and `ssl`";
        assert_eq!(for_shell(message), "check --timeout, and `ssl`");
        assert_eq!(
            for_chp(message),
            "check `check_route_timeout`, and --ssl-cert and --ssl-key"
        );
    }
}
