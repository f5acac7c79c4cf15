//! What a check of a set-up has found.

use std::fmt;

use serde::Serialize;

/// One thing that [`Builder::diagnose`](crate::Builder::diagnose) has looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How it is.
    pub level: Level,
    /// What was looked at, in a word or two that stay the same: `traefik`, `api`, `generation`.
    pub check: &'static str,
    /// What was found.
    pub message: String,
    /// What to do about it, if anything.
    pub advice: Option<String>,
}

/// How a [`Finding`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// As it should be.
    Ok,
    /// For information: it can't be checked from here.
    Note,
    /// Routes are served, but slower or less safely than they could be.
    Warning,
    /// Routes are not served as they are stored, or can't be changed.
    Problem,
}

impl Finding {
    /// A finding without advice.
    pub fn new(level: Level, check: &'static str, message: impl Into<String>) -> Self {
        Self {
            level,
            check,
            message: message.into(),
            advice: None,
        }
    }

    /// Says what to do about it.
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(crate) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, message)
    }

    pub(crate) fn warning(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, message)
    }

    pub(crate) fn problem(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Problem, check, message)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}
