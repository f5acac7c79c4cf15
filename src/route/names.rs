//! Names of routers and services in Traefik: for people to recognise, and never the same twice.
//! Tables with different namespaces share no name.
//!
//! The hash comes first: Traefik's key-value providers look a name up by comparing it with all
//! others from its first letter on. With 10,000 routes that halves the time of a reload.

use ring::digest::{Context, SHA256};

use super::{Route, RouteSpec, Target};

const HASH: usize = 16;
const MAX_SLUG: usize = 40;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The router of a route. Traefik's key-value providers ignore case, so the slug alone would let
/// two users meet; the hash keeps them apart.
pub(crate) fn router_name(namespace: &str, spec: &RouteSpec) -> String {
    name(namespace, spec.as_str())
}

/// The service of a route. Routes with the same servers and settings share it: each service costs Traefik about
/// as much as a router whenever it loads a configuration.
pub(crate) fn service_name(namespace: &str, route: &Route) -> String {
    if !route.has_special_service() {
        return target_service_name(namespace, &route.target);
    }
    if route.has_own_service() {
        return router_name(namespace, &route.spec);
    }
    let settings = serde_json::json!([route.servers(), route.service_map()]);
    let target = route.target.as_str();
    named(namespace, &format!("{target}\n{settings}"), target)
}

/// The service of routes that ask for nothing but this target.
pub(crate) fn target_service_name(namespace: &str, target: &Target) -> String {
    name(namespace, target.as_str())
}

/// The router that these routes stand below.
pub(crate) fn parent_name(namespace: &str, group: &str) -> String {
    name(namespace, &format!("all {group}"))
}

/// The router below it that takes what the others leave.
pub(crate) fn fallback_name(namespace: &str, group: &str) -> String {
    name(namespace, &format!("rest {group}"))
}

/// Whether a router or service with this name may be one of a table's routes.
pub(crate) fn is_like_a_name(name: &str) -> bool {
    let is_hash = |hash: &str| hash.len() == HASH && hash.bytes().all(|b| BASE32.contains(&b));
    name.split_once('-').is_some_and(|(hash, _)| is_hash(hash))
}

/// The middleware that carries the generation of a key-value store's table, with what tells the
/// table from others.
pub(crate) fn marker_name(unique: &str) -> String {
    format!("traefik-router-generation-{unique}")
}

fn name(namespace: &str, text: &str) -> String {
    named(namespace, text, text)
}

/// The hash of `text`, and what people recognise it by.
fn named(namespace: &str, text: &str, readable: &str) -> String {
    let readable = readable
        .split_once("://")
        .map_or(readable, |(_, rest)| rest);
    let mut name = String::with_capacity(HASH + 1 + MAX_SLUG);
    push_hash(namespace, text, &mut name);
    name.push('-');
    push_slug(readable, &mut name);
    if name.ends_with('-') {
        name.push_str("root");
    }
    name
}

/// The lower-case letters and digits of `text`, with one dash in place of all else between them.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    push_slug(text, &mut slug);
    slug
}

fn push_slug(text: &str, out: &mut String) {
    let begin = out.len();
    for byte in text.bytes() {
        if out.len() - begin == MAX_SLUG {
            break;
        }
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte.to_ascii_lowercase()));
        } else if out.len() > begin && !out.ends_with('-') {
            out.push('-');
        }
    }
    let end = out[begin..].trim_end_matches('-').len();
    out.truncate(begin + end);
}

/// 80 bits of SHA-256 in base 32: no user can choose a name that is another one's.
fn push_hash(namespace: &str, text: &str, out: &mut String) {
    let mut context = Context::new(&SHA256);
    if !namespace.is_empty() {
        context.update(namespace.as_bytes());
        context.update(b"\n");
    }
    context.update(text.as_bytes());
    let digest = context.finish();
    let bits = digest.as_ref()[..HASH * 5 / 8]
        .iter()
        .fold(0_u128, |bits, &byte| bits << 8 | u128::from(byte));
    let letters = (0..HASH).rev();
    out.extend(letters.map(|i| char::from(BASE32[(bits >> (5 * i)) as usize & 31])));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_unique() {
        let name = |spec: &str| router_name("", &RouteSpec::new(spec).unwrap());
        assert!(
            name("/user/Zoë Q/").ends_with("-user-zo-c3-ab-20q"),
            "{}",
            name("/user/Zoë Q/")
        );
        assert!(name("/").ends_with("-root"));
        assert!(name("h.x/a").ends_with("-h-x-a"));
        assert_ne!(name("/UserA/"), name("/usera/"));
        let root = RouteSpec::new("/").unwrap();
        assert_ne!(router_name("", &root), router_name("other", &root));
        let long = name(&"/x".repeat(500));
        assert_eq!(long.len(), MAX_SLUG - 1 + 17);
        assert!(
            long.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        );
        let route = |spec: &str| Route::new(spec, "http://127.0.0.1:9001").unwrap();
        let service = |route: Route| service_name("", &route);
        let plain = service(route("/a/"));
        assert!(plain.ends_with("-127-0-0-1-9001"), "{plain}");
        assert_eq!(plain, service(route("/b/").middleware("m").unwrap()));
        let two = |spec: &str, weight| service(route(spec).server("http://t", weight).unwrap());
        assert!(two("/a/", 1).ends_with("-127-0-0-1-9001"));
        assert_eq!(two("/a/", 1), two("/b/", 1));
        let sticky = service(route("/a/").sticky_cookie("c").unwrap());
        let all = [
            plain,
            two("/a/", 1),
            two("/a/", 2),
            sticky,
            service(route("/a/").own_service()),
        ];
        for (n, name) in all.iter().enumerate() {
            assert!(!all[..n].contains(name), "{all:?}");
        }
        assert_eq!(all[4], router_name("", &route("/a/").spec));
    }
}
