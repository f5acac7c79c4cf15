//! `traefik-router status`

use std::cmp::Ordering;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use traefik_router::Backend as _;
use traefik_router::backend::Contents;
use traefik_router::traefik::{Api, RouterInfo, Version};

use super::output::{Output, counted};
use crate::failure::{FAILED, Failure};
use crate::settings::Resolved;
use crate::wording::for_shell;

pub(super) const HELP: &str = "\
Examples:
  traefik-router status --backend toml:rules.toml --api-url http://127.0.0.1:8099
  traefik-router status --json | jq .healthy

Exits with 1 if a Traefik does not answer, does not serve what is stored, or refuses a router of it.";

/// What one Traefik says.
struct Answer {
    url: String,
    said: traefik_router::Result<Said>,
}

struct Said {
    version: Version,
    /// The generation that it has loaded.
    generation: Option<u64>,
    /// Whether that is the one stored. A later one may be from before the store was put back.
    is_current: bool,
    /// The age of the stored commit that it has not loaded; zero if it has. `None` if it has loaded none, or a later
    /// one.
    lag: Option<Duration>,
    /// The routers of the table that it refuses.
    refused: Vec<RouterInfo>,
}

impl Said {
    fn words(&self, stored: Option<u64>) -> String {
        let serves = match self.generation {
            _ if stored.is_none() => return "answers".into(),
            _ if self.is_current => "serves what is stored".into(),
            None => "has loaded nothing of this store".into(),
            loaded if loaded > stored => "shows a later generation than the one stored".into(),
            Some(_) => {
                let lag = self.lag.unwrap_or_default();
                format!("serves what was stored before the last change, {lag:?} ago")
            }
        };
        match self.refused.len() {
            0 => serves,
            refused => format!(
                "{serves}, and refuses {} of the table",
                counted(refused, "router")
            ),
        }
    }
}

pub(super) fn run(resolved: &Resolved) -> Result<ExitCode, Failure> {
    let backend = resolved.store.open()?;
    let stored = backend.inspect()?;
    let marker = stored.as_ref().and_then(|stored| stored.commit.as_ref());
    let marker = marker.map(|commit| commit.marker_at(backend.provider()));
    let names = stored
        .as_ref()
        .map(|stored| stored.router_names(backend.provider()));
    let names = names.unwrap_or_default();
    let ask = |api: &Api| Answer {
        url: api.url().into(),
        said: api.version().and_then(|version| {
            let generation = match &marker {
                Some(marker) => api.generation(marker)?,
                None => None,
            };
            let newest = match generation > generation_of(&stored) {
                true => backend.last_commit()?.map(|commit| commit.generation),
                false => generation_of(&stored),
            };
            let mut refused = api.refused_routers()?;
            refused.retain(|router| names.contains_key(&router.name));
            Ok(Said {
                version,
                generation,
                is_current: generation_of(&stored) <= generation && generation <= newest,
                lag: lag(&stored, generation),
                refused,
            })
        }),
    };
    let answers: Vec<_> = resolved.apis()?.iter().map(ask).collect();
    let healthy = stored.is_some() && answers.iter().all(Answer::is_well);
    let output = Output::new();
    if resolved.json {
        let traefiks: Vec<_> = answers.iter().map(Answer::to_json).collect();
        output.json(&json!({
            "store": {
                "place": resolved.store.to_string(),
                "routes": stored.as_ref().map(|stored| stored.routes.len()),
                "generation": generation_of(&stored),
            },
            "traefiks": traefiks,
            "healthy": healthy,
        }))?;
    } else {
        output.line(&match &stored {
            Some(stored) => {
                let routes = counted(stored.routes.len(), "route");
                format!("{routes} in {}", resolved.store)
            }
            None => format!("no table of routes in {}", resolved.store),
        })?;
        if answers.is_empty() {
            output.line("no Traefik was asked: no --api-url was given")?;
        } else {
            let rows: Vec<_> = answers
                .iter()
                .map(|one| one.to_row(generation_of(&stored)))
                .collect();
            output.table(["TRAEFIK", "VERSION", "SINCE", "STATE"], &rows)?;
            let rows: Vec<_> = answers.iter().flat_map(Answer::refused).collect();
            if !rows.is_empty() {
                output.table(["TRAEFIK", "REFUSED ROUTER", "WHY"], &rows)?;
            }
        }
    }
    Ok(ExitCode::from(if healthy { 0 } else { FAILED }))
}

/// The age of the last commit, if it is later than the loaded one.
fn lag(stored: &Option<Contents>, loaded: Option<u64>) -> Option<Duration> {
    let commit = stored.as_ref()?.commit.as_ref()?;
    match commit.generation.cmp(&loaded?) {
        Ordering::Less => None,
        Ordering::Equal => Some(Duration::ZERO),
        Ordering::Greater => Some(commit.age()),
    }
}

fn generation_of(stored: &Option<Contents>) -> Option<u64> {
    let commit = stored.as_ref()?.commit.as_ref()?;
    Some(commit.generation)
}

impl Answer {
    /// Whether it serves all that is stored.
    fn is_well(&self) -> bool {
        let is_well = |said: &Said| said.is_current && said.refused.is_empty();
        self.said.as_ref().is_ok_and(is_well)
    }

    fn to_row(&self, stored: Option<u64>) -> [String; 4] {
        match &self.said {
            Ok(said) => [
                self.url.clone(),
                said.version.version.clone(),
                said.version.start_date.clone(),
                said.words(stored),
            ],
            Err(error) => {
                let dash = || "-".to_string();
                [
                    self.url.clone(),
                    dash(),
                    dash(),
                    for_shell(&error.to_string()),
                ]
            }
        }
    }

    /// A row for each router of the table that it refuses.
    fn refused(&self) -> impl Iterator<Item = [String; 3]> {
        let refused = self.said.iter().flat_map(|said| &said.refused);
        refused.map(|router| {
            let why = router.error.join("; ");
            [self.url.clone(), router.name.clone(), why]
        })
    }

    fn to_json(&self) -> Value {
        let said = self.said.as_ref().ok();
        json!({
            "url": self.url,
            "version": said.map(|said| &said.version.version),
            "since": said.map(|said| &said.version.start_date),
            "generation": said.and_then(|said| said.generation),
            "lag_ms": said.and_then(|said| said.lag).map(|lag| lag.as_millis()),
            "current": said.is_some_and(|said| said.is_current),
            "refused": said.map(|said| {
                let refused = said.refused.iter();
                let refused = refused.map(|router| json!({"name": router.name, "error": router.error}));
                refused.collect::<Vec<_>>()
            }),
            "error": self.said.as_ref().err().map(|error| for_shell(&error.to_string())),
        })
    }
}
