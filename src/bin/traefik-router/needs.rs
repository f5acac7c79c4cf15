//! What Traefik needs of its static configuration to behave as configurable-http-proxy does: `chp` gives it
//! to the Traefik that it starts, `config static --chp` prints it for others, and `doctor --chp` looks for it.

use serde_json::{Value, json};
use traefik_router::traefik::{Api, EntryPoint};
use traefik_router::{ErrorKind, Finding, Level, Result};

/// Where the API's entrypoint has Traefik's metrics.
pub(crate) const METRICS: &str = "/metrics";

/// A setting of an entrypoint.
struct Need {
    /// Where it stands below the entrypoint, as in a JSON pointer. Traefik's API shows it there, too.
    path: &'static str,
    value: Value,
    /// What Traefik does where its API shows nothing there.
    default: Value,
    level: Level,
    /// What happens to requests without it.
    breaks: &'static str,
}

fn needs() -> [Need; 4] {
    // Names may hold any of these.
    let characters = json!({
        "allowEncodedSlash": true,
        "allowEncodedBackSlash": true,
        "allowEncodedSemicolon": true,
        "allowEncodedPercent": true,
        "allowEncodedQuestionMark": true,
        "allowEncodedHash": true,
    });
    [
        Need {
            path: "/http/encodedCharacters",
            value: characters.clone(),
            // Traefik 3.6.4 to 3.6.6 allow none, and do not show it.
            default: characters,
            level: Level::Problem,
            breaks: "requests with one of these characters, encoded, in their path are refused with 400, so \
                     that users who have one in their name can't reach their server",
        },
        Need {
            path: "/http/sanitizePath",
            value: json!(false),
            default: json!(true),
            level: Level::Warning,
            breaks: "`//` in the path of a request becomes `/` on its way to the target",
        },
        Need {
            path: "/http/encodeQuerySemicolons",
            value: json!(true),
            default: json!(false),
            level: Level::Warning,
            breaks: "a parameter with `;` in a query arrives as two",
        },
        Need {
            path: "/forwardedHeaders/insecure",
            value: json!(true),
            default: json!(false),
            level: Level::Warning,
            breaks: "what a proxy in front says in X-Forwarded-Proto and the like does not reach the targets, \
                     so that JupyterHub takes HTTPS for HTTP",
        },
    ]
}

/// The settings of an entrypoint for requests.
pub(crate) fn entrypoint() -> Value {
    let mut entrypoint = json!({});
    for need in needs() {
        set(&mut entrypoint, need.path, need.value);
    }
    entrypoint
}

/// The static configuration of a Traefik with this entrypoint for requests.
pub(crate) fn static_config(name: &str) -> Value {
    json!({
        "entryPoints": {name: entrypoint()},
        "metrics": {"prometheus": {
            "manualRouting": true,
            "addEntryPointsLabels": false,
            "addServicesLabels": false,
            "addRoutersLabels": true,
            // Nobody looks at them, and each bucket is a line for each router.
            "buckets": [60.0],
        }},
    })
}

/// What an external Traefik has set of this for requests, and what it lacks.
///
/// # Errors
/// If its API does not answer.
pub(crate) fn check(api: &Api, entrypoint: &EntryPoint) -> Result<Vec<Finding>> {
    let url = api.url();
    let name = &entrypoint.name;
    let mut shown = json!({
        "http": entrypoint.http,
        "forwardedHeaders": entrypoint.forwarded_headers,
    });
    if shown
        .pointer("/forwardedHeaders/trustedIPs")
        .is_some_and(|ips| *ips != json!([]))
    {
        // Then the proxies in front are known.
        set(&mut shown, "/forwardedHeaders/insecure", json!(true));
    }
    let mut findings = Vec::new();
    for need in needs() {
        let is_set = shown.pointer(need.path).unwrap_or(&need.default);
        let lacking: Vec<_> = leaves(&need.value)
            .filter(|(part, value)| is_set.pointer(part).unwrap_or(&json!(false)) != *value)
            .map(|(part, value)| {
                let path = format!("{}{part}", need.path).replace('/', ".");
                format!("entryPoints.{name}{path} = {value}")
            })
            .collect();
        if lacking.is_empty() {
            continue;
        }
        let message = format!("the entrypoint {name:?} of {url}: {}", need.breaks);
        findings.push(Finding::new(need.level, CHECK, message).advice(format!(
            "set {} in its static configuration",
            lacking.join(", ")
        )));
    }
    let suits = findings.is_empty();
    findings.extend(uncounted(api)?);
    if suits && findings.iter().all(|one| one.level == Level::Note) {
        let message = format!("the entrypoint {name:?} of {url} suits `chp`");
        findings.push(Finding::new(Level::Ok, CHECK, message));
    }
    Ok(findings)
}

/// What keeps `chp` from knowing which routes are used.
fn uncounted(api: &Api) -> Result<Option<Finding>> {
    let url = api.url();
    let odd: String;
    let (why, advice) = if api.overview()?["features"]["metrics"] != "Prometheus" {
        let advice = "set metrics.prometheus in its static configuration as `traefik-router config static \
                      --chp` prints it";
        ("counts no requests", advice)
    } else {
        match api.metrics(METRICS) {
            // The API's own router is counted by now.
            Ok(text) if text.contains(COUNTER) => return Ok(None),
            // Traefik shows no counter before it has counted something.
            Ok(text) if !text.contains(REQUESTS) => {
                let message = format!(
                    "{url} has counted no request yet, so that it can't be seen whether it counts them \
                     for each router"
                );
                let advice = "look again after the first request";
                return Ok(Some(
                    Finding::new(Level::Note, CHECK, message).advice(advice),
                ));
            }
            Ok(_) => (
                "counts requests, but not for each router",
                "set metrics.prometheus.addRoutersLabels = true in its static configuration",
            ),
            Err(error) if error.kind() == ErrorKind::Protocol => (
                "has no router for its metrics beside that of its API",
                "`traefik-router setup --chp` stores one, and `config dynamic --chp` prints one",
            ),
            Err(error) => {
                odd = format!("does not send its metrics ({error})");
                (
                    &*odd,
                    "give them a router on the API's entrypoint, behind the API's password",
                )
            }
        }
    };
    let message =
        format!("{url} {why}, so `chp` can't report to JupyterHub when a route was last used");
    Ok(Some(
        Finding::new(Level::Warning, CHECK, message).advice(advice),
    ))
}

const CHECK: &str = "chp";
/// What Traefik counts of requests, for whatever it counts.
const REQUESTS: &str = "_requests_total{";
/// What Traefik counts for each router.
const COUNTER: &str = "traefik_router_requests_total{";

/// The single settings of a value, each with where it stands in it.
fn leaves(value: &Value) -> impl Iterator<Item = (String, &Value)> {
    let parts = value.as_object();
    let single = parts.is_none().then(|| (String::new(), value));
    let parts = parts.into_iter().flatten();
    (parts.map(|(name, value)| (format!("/{name}"), value))).chain(single)
}

/// Puts a value into a tree, below maps that are made where there are none.
fn set(tree: &mut Value, path: &str, value: Value) {
    let parts = path.split('/').skip(1);
    let place = parts.fold(tree, |tree, part| &mut tree[part]);
    *place = value;
}
