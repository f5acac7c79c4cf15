//! The syntax of a file with routes.

use std::path::Path;

use clap::ValueEnum;
use traefik_router::TableSyntax;

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Syntax {
    Toml,
    Yaml,
    Json,
}

impl Syntax {
    /// What the file's ending says.
    pub(super) fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl From<Syntax> for TableSyntax {
    fn from(syntax: Syntax) -> Self {
        match syntax {
            Syntax::Toml => Self::Toml,
            Syntax::Yaml => Self::Yaml,
            Syntax::Json => Self::Json,
        }
    }
}
