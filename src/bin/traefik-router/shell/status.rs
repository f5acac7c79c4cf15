//! `traefik-router status`

use std::process::ExitCode;

use serde_json::{Value, json};
use traefik_router::Backend as _;
use traefik_router::backend::Contents;
use traefik_router::traefik::{Api, Version};

use super::Common;
use super::failure::{FAILED, Failure};
use super::output::Output;

pub(super) const HELP: &str = "\
Examples:
  traefik-router status --backend toml:rules.toml --api-url http://127.0.0.1:8099
  traefik-router status --json | jq .healthy

Exits with 1 if a Traefik does not answer, or does not serve what is stored.";

/// What one Traefik says.
struct Answer {
    url: String,
    said: traefik_router::Result<(Version, Option<u64>)>,
}

pub(super) fn run(common: Common) -> Result<ExitCode, Failure> {
    let told = common.settings.told()?;
    let backend = told.store.open()?;
    let stored = backend.inspect()?;
    let marker = stored.as_ref().and_then(|stored| stored.commit.as_ref());
    let marker = marker.map(|commit| format!("{}@{}", commit.marker, backend.provider()));
    let ask = |api: &Api| Answer {
        url: api.url().into(),
        said: api.version().and_then(|version| {
            let generation = match &marker {
                Some(marker) => api.generation(marker)?,
                None => None,
            };
            Ok((version, generation))
        }),
    };
    let answers: Vec<_> = told.apis()?.iter().map(ask).collect();
    let healthy = stored.is_some() && answers.iter().all(|answer| answer.is_current(&stored));
    let output = Output::new();
    if common.json {
        let traefiks: Vec<_> = answers.iter().map(|one| one.to_json(&stored)).collect();
        output.json(&json!({
            "store": {
                "place": told.store.to_string(),
                "routes": stored.as_ref().map(|stored| stored.routes.len()),
                "generation": generation(&stored),
            },
            "traefiks": traefiks,
            "healthy": healthy,
        }))?;
    } else {
        output.line(&match &stored {
            Some(stored) => {
                let count = stored.routes.len();
                let plural = if count == 1 { "" } else { "s" };
                format!("{count} route{plural} in {}", told.store)
            }
            None => format!("no table of routes in {}", told.store),
        })?;
        if answers.is_empty() {
            output.line("no Traefik was asked: no --api-url was given")?;
        } else {
            let rows: Vec<_> = answers.iter().map(|one| one.to_row(&stored)).collect();
            output.table(["TRAEFIK", "VERSION", "SINCE", "STATE"], &rows)?;
        }
    }
    Ok(ExitCode::from(if healthy { 0 } else { FAILED }))
}

fn generation(stored: &Option<Contents>) -> Option<u64> {
    let commit = stored.as_ref()?.commit.as_ref()?;
    Some(commit.generation)
}

impl Answer {
    fn is_current(&self, stored: &Option<Contents>) -> bool {
        match &self.said {
            Ok((_, loaded)) => *loaded >= generation(stored),
            Err(_) => false,
        }
    }

    fn to_row(&self, stored: &Option<Contents>) -> [String; 4] {
        match &self.said {
            Ok((version, loaded)) => [
                self.url.clone(),
                version.version.clone(),
                version.start_date.clone(),
                match loaded {
                    _ if generation(stored).is_none() => "answers".into(),
                    _ if self.is_current(stored) => "serves what is stored".into(),
                    Some(_) => "serves what was stored before".into(),
                    None => "has loaded nothing of this store".into(),
                },
            ],
            Err(error) => {
                let dash = || "-".to_string();
                [self.url.clone(), dash(), dash(), error.to_string()]
            }
        }
    }

    fn to_json(&self, stored: &Option<Contents>) -> Value {
        let said = self.said.as_ref().ok();
        json!({
            "url": self.url,
            "version": said.map(|(version, _)| &version.version),
            "since": said.map(|(version, _)| &version.start_date),
            "generation": said.and_then(|(_, loaded)| *loaded),
            "current": self.is_current(stored),
            "error": self.said.as_ref().err().map(ToString::to_string),
        })
    }
}
