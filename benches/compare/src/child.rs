//! A side that is a process of its own: a command a line, an answer of JSON a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::Result;

/// Ends when this is dropped, or when we end: its input closes then.
pub(super) struct Child {
    name: &'static str,
    process: Process,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Its first answer.
    pub(super) ready: Value,
}

impl Child {
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (commands, answers) = (process.stdin.take(), process.stdout.take());
        let answers = BufReader::new(answers.ok_or("no output")?);
        let mut child = Self {
            name,
            process,
            commands,
            answers,
            ready: Value::Null,
        };
        child.ready = child.answer()?;
        Ok(child)
    }

    pub(super) fn ask(&mut self, command: &str) -> Result<Value> {
        let input = self.commands.as_mut().ok_or("it has ended")?;
        writeln!(input, "{command}")?;
        self.answer()
            .map_err(|error| format!("{command}: {error}").into())
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("{} has ended", self.name).into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("{}: {error}", self.name).into()),
            None => Ok(answer),
        }
    }

    /// Ends it.
    pub(super) fn close(&mut self) {
        drop(self.commands.take());
        if let Err(error) = self.process.wait() {
            eprintln!("{}: {error}", self.name);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.close();
    }
}
