//! What programs print: styled text, durations, errors.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

/// Styles are left out where they are not wanted: outside a terminal, and with NO_COLOR.
pub use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};

/// Bold, for titles.
pub fn bold(text: &str) -> String {
    styled(Style::new().bold(), text)
}

/// Red, for what failed.
pub fn red(text: &str) -> String {
    styled(AnsiColor::Red.on_default(), text)
}

/// Green, for what is well.
pub fn green(text: &str) -> String {
    styled(AnsiColor::Green.on_default(), text)
}

/// Dim, for what matters less.
pub fn dim(text: &str) -> String {
    styled(Style::new().dimmed(), text)
}

/// Text for [`println!`] and [`eprintln!`] of this module.
fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
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
pub fn exit_code(done: Result<(), impl Display>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error}", red("error:"));
            ExitCode::FAILURE
        }
    }
}
