//! TOML or YAML.

use std::path::Path;

use serde_json::Value;

use super::pieces::{Entries, Field, Piece, push_line};
use super::toml;
use super::tree::Node;
#[cfg(feature = "yaml")]
use super::yaml;
use crate::error::{Error, Result};

/// The syntax of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Toml,
    #[cfg(feature = "yaml")]
    Yaml,
}

impl Syntax {
    /// The syntax that the file's ending names.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        let problem = match ending {
            "toml" => return Ok(Self::Toml),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => return Ok(Self::Yaml),
            #[cfg(not(feature = "yaml"))]
            "yaml" | "yml" => "YAML needs the feature \"yaml\", which this build lacks",
            _ => "the name must end in .toml, .yaml or .yml",
        };
        Err(Error::invalid(format!("{}: {problem}", path.display())))
    }

    /// Reads a file. The error is what is wrong and in which line.
    pub(crate) fn parse(self, text: &str) -> Result<Node, String> {
        match self {
            Self::Toml => toml::parse(text),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::parse(text),
        }
    }

    /// A whole document of this value.
    pub(crate) fn document(self, value: &Value) -> String {
        match self {
            Self::Toml => toml::document(value),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::document(value),
        }
    }

    /// Adds lines of [`entry`](Entries::entry) to `out`, as entries of one map. The lines are indented by
    /// so many spaces.
    pub(crate) fn push_entries<'a>(
        self,
        lines: impl Iterator<Item = &'a str> + Clone,
        indent: usize,
        out: &mut String,
    ) {
        match self {
            Self::Toml => lines.for_each(|line| push_line(line, indent, out)),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::push_entries(lines, indent, out),
        }
    }

    /// What opens and closes a text of many lines under `name`. The lines must be ASCII, without
    /// `'`; they are indented by two spaces more than `indent`.
    pub(crate) fn long_text(self, name: &str) -> (String, &'static str) {
        match self {
            Self::Toml => (format!("{name} = '''\n"), "'''\n"),
            #[cfg(feature = "yaml")]
            Self::Yaml => (format!("{name}: |\n"), ""),
        }
    }

    /// The same configuration, rewritten so that entries can be added to the map at each of
    /// `paths`.
    pub(super) fn opened(self, text: &str, paths: &[&[String]]) -> Result<String, String> {
        match self {
            Self::Toml => toml::opened(text, paths),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::opened(text, paths),
        }
    }

    /// Sections with the keys that lead to them.
    #[cfg_attr(
        not(feature = "yaml"),
        expect(unused_variables, reason = "TOML is not indented")
    )]
    pub(super) fn nested<P: Clone>(
        self,
        sections: &[(&[String], &[P])],
        indent: usize,
    ) -> Vec<Piece<P>> {
        match self {
            Self::Toml => toml::nested(sections),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::nested(sections, indent),
        }
    }
}

impl Entries for Syntax {
    const HAS_DEFAULTS: bool = true;

    fn entry(&self, name: &str, value: &Value) -> String {
        match self {
            Self::Toml => toml::entry(name, value),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::entry(name, value),
        }
    }

    fn map_entry<'f>(
        &self,
        name: &str,
        fields: impl Iterator<Item = (&'f str, Field<'f>)>,
    ) -> String {
        match self {
            Self::Toml => toml::map_entry(name, fields),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::map_entry(name, fields),
        }
    }

    fn record(&self, line: String) -> String {
        line
    }
}
