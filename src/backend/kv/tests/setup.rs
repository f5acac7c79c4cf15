//! Opening a table with a setup: what is stored, and what is refused.

use serde_json::json;

use super::{add, faulty, with_api};
use crate::backend::kv::{KvBackend, KvStore as _, Transaction};
use crate::backend::{Backend as _, Setup};
use crate::config::dynamic::certificate;
use crate::error::{ErrorKind, Stored};
use crate::route::Nested;

#[test]
fn foreign_api_router_stays() {
    let backend = faulty(None, None);
    let store = backend.store().store.clone();
    let mut transaction = Transaction::new();
    let key = |part: &str| format!("traefik/http/routers/theirs/{part}");
    for (part, value) in [
        ("rule", "PathPrefix(`/api`)"),
        ("service", "api@internal"),
        ("middlewares/0", "auth_api"),
    ] {
        transaction.set.insert(key(part), value.into());
    }
    store.transact(&transaction).unwrap();
    let before = store.dump();
    let error = backend
        .open(&with_api("secret"), &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("theirs"), "{error}");
    assert_eq!(*error.stored(), Stored::Nothing);
    assert_eq!(store.dump(), before);
    // Without our API router, nothing is in the way.
    backend
        .open(&Setup::new("http"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    let now = store.dump();
    assert!(
        before
            .iter()
            .all(|(key, value)| now.get(key) == Some(value))
    );
}

#[test]
fn api_router_replacement_is_explicit() {
    let backend = faulty(None, None);
    let store = backend.store().store.clone();
    let open = |password: &str, replace_api| {
        let setup = Setup {
            replace_api,
            ..with_api(password)
        };
        backend.open(&setup, &mut |_, _| Ok(Vec::new())).map(drop)
    };
    let users = || {
        let keys = store.dump();
        keys["traefik/http/middlewares/traefik-router-api-auth/basicAuth/users/0"].clone()
    };
    open("one", false).unwrap();
    let first = users();
    assert!(open("two", false).is_err());
    assert_eq!(users(), first);
    open("two", true).unwrap();
    assert_ne!(users(), first);
}

#[test]
fn only_one_default_certificate_stored() {
    let elsewhere = Setup {
        certificate_elsewhere: true,
        ..Setup::new("http")
    };
    let key = "traefik/tls/stores/default/defaultCertificate/certFile";
    // By hand, or by a Router with that option.
    let by_hand = faulty(None, None);
    let mut transaction = Transaction::new();
    transaction.set.insert(key.into(), "theirs".into());
    by_hand.store().store.transact(&transaction).unwrap();
    let before = by_hand.store().store.dump();
    let error = by_hand
        .open(&elsewhere, &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert!(error.to_string().contains(key), "{error}");
    assert_eq!(by_hand.store().store.dump(), before);

    let ours = faulty(None, None);
    let setup = Setup {
        extra: Some(certificate("/ours.pem")),
        ..Setup::new("http")
    };
    ours.open(&setup, &mut |_, _| Ok(Vec::new())).unwrap();
    let before = ours.store().store.dump();
    assert_eq!(before[key], "/ours.pem");
    ours.open(&elsewhere, &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert_eq!(ours.store().store.dump(), before);
}

#[test]
fn unset_options_keep_stored_values() {
    let backend = faulty(None, None);
    let setup = Setup {
        tls: Some(true),
        middleware: Some("pages".into()),
        nested: Some(Nested::Never),
        service: Some(json!({"passHostHeader": false})),
        extra: Some(certificate("/x")),
        ..Setup::new("web")
    };
    let opened = backend.open(&setup, &mut |_, _| Ok(vec![add(1)])).unwrap();
    let before = backend.store().store.dump();
    let keeps = Setup {
        default_entrypoint: "http".into(),
        knows_parents: Some(true),
        ..Setup::default()
    };
    let other = KvBackend::new(backend.store().store.clone());
    let again = other.open(&keeps, &mut |_, _| Ok(Vec::new())).unwrap();
    assert_eq!(again.generation, opened.generation);
    assert_eq!(backend.store().store.dump(), before);
}
