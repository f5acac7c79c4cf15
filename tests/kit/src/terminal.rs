//! What programs print: colours where they are wanted, durations, errors.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

/// Bold, for titles.
pub fn bold(text: &str) -> String {
    painted("1", text)
}

/// Red, for what failed.
pub fn red(text: &str) -> String {
    painted("31", text)
}

/// Green, for what is well.
pub fn green(text: &str) -> String {
    painted("32", text)
}

/// Dim, for what matters less.
pub fn dim(text: &str) -> String {
    painted("2", text)
}

fn painted(code: &str, text: &str) -> String {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if unwanted || !std::io::stdout().is_terminal() {
        text.into()
    } else {
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A duration as a person reads it: `4.2 ms`, `12 s`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s >= 10.0 => format!("{s:.0} s"),
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.1} ms", s * 1e3),
    }
}

/// Prints the error of a program, and returns its exit code.
#[allow(clippy::print_stderr, reason = "it is for programs for a terminal")]
pub fn exit_code(done: Result<(), impl Display>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error}", red("error:"));
            ExitCode::FAILURE
        }
    }
}
