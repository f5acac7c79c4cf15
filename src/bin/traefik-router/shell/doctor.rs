//! `traefik-router doctor`

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use traefik_router::{Backend as _, Finding, Level};

use super::output::{GREEN, Output, Progress, RED, YELLOW, counted, shown};
use crate::failure::{FAILED, Failure};
use crate::needs;
use crate::settings::Resolved;
use crate::wording::for_shell;

pub(super) const HELP: &str = "\
Examples:
  traefik-router doctor --backend toml:rules.toml --api-url http://127.0.0.1:8099
  traefik-router doctor --chp --backend push --api-url http://127.0.0.1:8099
  traefik-router doctor --json | jq '.findings[] | select(.level == \"problem\")'

Changes no routes; on Redis it sets and deletes one key. Exits with 1 if it finds a problem. A warning is not a
problem.";

pub(super) fn run(resolved: &Resolved, chp: bool) -> Result<ExitCode, Failure> {
    let progress = Progress::show("looking");
    let mut findings: Vec<_> = resolved
        .secret_files
        .iter()
        .filter_map(|file| secret(file))
        .collect();
    let worded = |mut finding: Finding| {
        finding.message = for_shell(&finding.message);
        finding.advice = finding.advice.as_deref().map(for_shell);
        finding
    };
    findings.extend(resolved.builder()?.diagnose().into_iter().map(worded));
    if chp {
        findings.extend(for_chp(resolved)?);
    }
    findings.extend(unasked(resolved));
    drop(progress);
    let count = |level| findings.iter().filter(|one| one.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let output = Output::new();
    if resolved.json {
        output.json(&json!({
            "findings": findings,
            "problems": problems,
            "warnings": warnings,
        }))?;
    } else {
        for finding in &findings {
            output.text(&lines(&output, finding))?;
        }
        output.line(&format!(
            "\n{}, {}",
            counted(problems, "problem"),
            counted(warnings, "warning")
        ))?;
    }
    Ok(ExitCode::from(if problems == 0 { 0 } else { FAILED }))
}

/// The column where messages begin.
const MESSAGE: usize = 24;

fn lines(output: &Output, finding: &Finding) -> String {
    let level = format!("{:<7}", finding.level);
    let level = match finding.level {
        Level::Ok => output.styled(&level, GREEN),
        Level::Warning => output.styled(&level, YELLOW),
        Level::Problem => output.styled(&level, RED),
        _ => level,
    };
    let wrapped = |text: &str| output.wrapped(&shown(text), MESSAGE);
    let mut lines = format!(
        "{level}  {:<13}  {}\n",
        finding.check,
        wrapped(&finding.message)
    );
    if let Some(advice) = &finding.advice {
        lines.push_str(&format!("{:MESSAGE$}{}\n", "", wrapped(advice)));
    }
    lines
}

/// Whether others can read a file with a secret.
fn secret(file: &Path) -> Option<Finding> {
    let metadata = fs::metadata(file).ok()?;
    let shown = file.display();
    Some(match readable_by_others(&metadata) {
        true => Finding::new(
            Level::Warning,
            "permissions",
            format!("{shown} holds a secret, and others can read it"),
        )
        .advice(format!("chmod 600 {shown}")),
        false => Finding::new(
            Level::Ok,
            "permissions",
            format!("{shown} is not readable by others"),
        ),
    })
}

fn readable_by_others(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o044 != 0
}

/// What the Traefiks lack of what `chp` needs. One that does not answer, or does not have the entrypoint, is
/// reported already.
fn for_chp(resolved: &Resolved) -> Result<Vec<Finding>, Failure> {
    let settings = &resolved.settings;
    let stored = resolved.store.open()?.inspect().ok().flatten();
    let stored = stored.map(|stored| stored.entrypoint);
    let stored = stored.filter(|name| settings.entrypoint.is_none() && !name.is_empty());
    let name = stored.as_deref();
    let name = name.unwrap_or_else(|| settings.entrypoint_or_default());
    let mut findings = Vec::new();
    for api in resolved.apis()? {
        let Ok(entrypoints) = api.entrypoints() else {
            continue;
        };
        let ours = entrypoints.iter().find(|one| one.name == name);
        let checked = ours.map(|ours| needs::check(&api, ours));
        findings.extend(checked.transpose()?.into_iter().flatten());
    }
    Ok(findings)
}

fn unasked(resolved: &Resolved) -> Option<Finding> {
    resolved.settings.api_url.is_empty().then(|| {
        let message = "no Traefik was asked: no --api-url was given";
        Finding::new(Level::Note, "api", message)
            .advice("give it to see whether what is stored is served")
    })
}
