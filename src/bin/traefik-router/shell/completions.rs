//! `traefik-router completions`: clap's script, and routespecs from the store that the command line names.

use clap::Command;
pub(super) use clap_complete::Shell;

/// Whether the first argument of `routes NAME` is a routespec.
const TAKE_ROUTESPEC: [&str; 4] = ["get", "add", "delete", "resolve"];

/// The script for a shell.
pub(super) fn script(shell: Shell, mut program: Command) -> String {
    // The generator panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "traefik-router", &mut script);
    // clap_complete 4.6 has two spellings of a name with a dash in its script for bash, and completes no subcommand.
    let script =
        String::from_utf8_lossy(&script).replace("traefik__subcmd__router", "traefik__router");
    let more = match shell {
        Shell::Bash => include_str!("completions/routes.bash"),
        Shell::Zsh => include_str!("completions/routes.zsh"),
        Shell::Fish => include_str!("completions/routes.fish"),
        _ => return script,
    };
    let list = options(&program, &["list"]);
    let valued = options(&program, &TAKE_ROUTESPEC);
    let more = (more.replace("@COMMANDS@", &TAKE_ROUTESPEC.join(" ")))
        .replace("@LIST@", &list)
        .replace("@VALUED@", &valued);
    match (shell, script.split_once('\n')) {
        // Its first line says what it completes, and its last ones do it. Only routespecs have this hint.
        (Shell::Zsh, Some((first, rest))) => {
            let rest = rest.replace(":_urls'", ":_traefik-router_routes'");
            format!("{first}\n{more}{rest}")
        }
        _ => format!("{script}\n{more}"),
    }
}

/// The options of these commands that a value follows, separated by spaces.
fn options(program: &Command, names: &[&str]) -> String {
    let routes = program.find_subcommand("routes");
    let commands = names
        .iter()
        .filter_map(|name| routes?.find_subcommand(name));
    let options = commands
        .flat_map(Command::get_arguments)
        .filter(|option| option.get_action().takes_values() && !option.is_require_equals_set());
    let mut options: Vec<_> = options
        .filter_map(|option| Some(format!("--{}", option.get_long()?)))
        .collect();
    options.sort();
    options.dedup();
    options.join(" ")
}
