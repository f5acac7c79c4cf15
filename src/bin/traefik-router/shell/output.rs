//! What goes to the terminal, or through a pipe to another program.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{process, thread};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::tcgetwinsize;
use serde::Serialize;

use crate::wording::speaks;

const BOLD: Style = Style::new().bold();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default();

/// Whether only what is asked for is printed, and errors.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Prints no progress, no warnings and no reports from now on.
pub(super) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Standard output.
pub(super) struct Output {
    colour: bool,
    /// How many characters a line of the terminal takes. A pipe takes any number.
    width: Option<usize>,
}

impl Output {
    /// Coloured on a terminal, unless the environment says otherwise.
    pub(super) fn new() -> Self {
        Self {
            colour: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            width: (tcgetwinsize(io::stdout()).ok()).map(|size| size.ws_col.into()),
        }
    }

    pub(super) fn plain() -> Self {
        Self {
            colour: false,
            width: None,
        }
    }

    pub(super) fn text(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    pub(super) fn line(&self, line: &str) -> io::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// A line on what was done.
    pub(super) fn report(&self, line: &str) -> io::Result<()> {
        match is_quiet() {
            true => Ok(()),
            false => self.line(line),
        }
    }

    /// JSON, in which nothing can speak to a terminal.
    pub(super) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.safe_line(&serde_json::to_string_pretty(value)?)
    }

    /// The same on one line.
    pub(super) fn json_line(&self, value: &impl Serialize) -> io::Result<()> {
        self.safe_line(&serde_json::to_string(value)?)
    }

    fn safe_line(&self, text: &str) -> io::Result<()> {
        self.line(&safe_json(text))
    }

    pub(super) fn styled(&self, text: &str, style: Style) -> String {
        match self.colour {
            true => format!("{style}{text}{style:#}"),
            false => text.into(),
        }
    }

    /// A text that begins in this column, broken at words where the terminal's line ends.
    pub(super) fn wrapped(&self, text: &str, begin: usize) -> String {
        // On a narrow terminal words are left to it.
        let Some(width) = self.width.filter(|width| *width >= begin + 30) else {
            return text.into();
        };
        let mut wrapped = String::new();
        let mut column = begin;
        for word in text.split(' ') {
            let length = word.chars().count();
            if column > begin && column + 1 + length > width {
                wrapped.push_str(&format!("\n{:begin$}", ""));
                column = begin;
            } else if column > begin {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(word);
            column += length;
        }
        wrapped
    }

    /// Columns that are as wide as their widest cell; the last one is as wide as it likes.
    pub(super) fn table<const N: usize>(
        &self,
        header: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| row.each_ref().map(|cell| shown(cell)))
            .collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(header[column].chars().count())
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let padded = |row: &[String; N]| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths[..N - 1]) {
                line.push_str(cell);
                let gap = width - cell.chars().count() + 2;
                line.extend(std::iter::repeat_n(' ', gap));
            }
            line.push_str(&row[N - 1]);
            line.trim_end().to_string()
        };
        let header = padded(&header.map(str::to_string));
        let mut text = self.styled(&header, BOLD) + "\n";
        for row in &rows {
            text.push_str(&padded(row));
            text.push('\n');
        }
        self.text(&text)
    }
}

/// Ends the process, from a thread, once nobody reads its standard output. A write would show that too, but there
/// may be nothing to write for hours.
pub(super) fn end_with_reader() {
    thread::spawn(|| {
        let stdout = io::stdout();
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut polled, None) == Err(Errno::INTR) {}
        if polled[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::HUP)
        {
            process::exit(0);
        }
    });
}

/// So many of something: `1 route`, `2 routes`.
pub(super) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// JSON with the same meaning, in which nothing can speak to a terminal.
pub(super) fn safe_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            char if speaks(char) && char != '\n' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            char => safe.push(char),
        }
    }
    safe
}

/// A text in which nothing can speak to a terminal.
pub(super) fn shown(text: &str) -> String {
    let escaped = |char| match speaks(char) {
        true => char.escape_unicode().to_string(),
        false => char.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// Tells what went wrong. There is nobody to tell that this did not work either.
pub(super) fn complain(message: &str) {
    let lines: Vec<_> = message.lines().map(shown).collect();
    let lines = lines.join("\n");
    drop(writeln!(anstream::stderr(), "{RED}error:{RED:#} {lines}"));
}

/// Prints what the user may want to change, on standard error.
pub(super) fn warn(message: &str) {
    if is_quiet() {
        return;
    }
    let message = shown(message);
    drop(writeln!(
        anstream::stderr(),
        "{YELLOW}warning:{YELLOW:#} {message}"
    ));
}

/// Prints a log record on standard error.
pub(super) fn print_log(level: &str, message: &str) {
    let message = shown(message);
    drop(writeln!(anstream::stderr(), "{level}: {message}"));
}

/// A line on the terminal for as long as something lasts.
pub(super) struct Progress(bool);

impl Progress {
    pub(super) fn show(doing: &str) -> Self {
        let terminal = !is_quiet()
            && io::stderr().is_terminal()
            && env::var_os("TERM").is_none_or(|t| t != "dumb");
        if terminal {
            drop(write!(io::stderr(), "{doing} …"));
        }
        Self(terminal)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0 {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_words() {
        let output = |width| Output {
            colour: false,
            width,
        };
        let text = "a route is served once a Traefik has it";
        assert_eq!(output(None).wrapped(text, 4), text);
        assert_eq!(output(Some(20)).wrapped(text, 4), text);
        assert_eq!(
            output(Some(34)).wrapped(text, 4),
            "a route is served once a\n    Traefik has it"
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = "a\u{1b}[31m\u{9b}b\nc\u{202e}é";
        assert_eq!(shown(text), "a\\u{1b}[31m\\u{9b}b\\u{a}c\\u{202e}é");
        let json = safe_json("{\n\"\u{9b}\u{202e}é\"}");
        assert_eq!(json, "{\n\"\\u009b\\u202eé\"}");
    }
}
