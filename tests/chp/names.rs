//! Names as JupyterHub writes them: each reaches its own server and no other.

use std::collections::BTreeMap;

use kit::Echo;

use crate::support::Proxy;

/// Percent-encodes all but letters, digits and `keep`.
fn quoted(text: &str, keep: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte);
    let encoded = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

const CHARACTERS: &str = "!#$%&'()*+,/:;=?@[]~ é日";

#[test]
fn every_character_keeps_users_apart() {
    let proxy = Proxy::start(&[]);
    let root = Echo::start();
    proxy.add("", &root.url());
    let names = CHARACTERS
        .chars()
        .flat_map(|one| [format!("a{one}b"), format!("{one}x{one}")]);
    let mut servers = BTreeMap::new();
    for name in names {
        let echo = Echo::start();
        // JupyterHub quotes the name, and then sends the path unchanged.
        proxy.add(&format!("/user/{}", quoted(&name, "@~-_.")), &echo.url());
        servers.insert(name, echo);
    }
    for (name, echo) in &servers {
        let encoded = quoted(name, "");
        assert_eq!(
            proxy.through(&format!("/user/{encoded}/x")).landed(),
            Some(echo.port),
            "{name}"
        );
        assert_eq!(
            proxy.through(&format!("/user/{encoded}")).landed(),
            Some(echo.port),
            "{name}"
        );
        let lower = encoded.to_lowercase();
        assert_eq!(
            proxy.through(&format!("/user/{lower}/")).landed(),
            Some(echo.port),
            "{name}"
        );
        let decoded_once = quoted(name, "!$&'()*+,:;=@~");
        assert_eq!(
            proxy
                .through(&format!("/user/{decoded_once}/x?a=b"))
                .landed(),
            Some(echo.port),
            "{name} as {decoded_once}"
        );
        // A longer name is another's, and so is one that begins like it.
        for other in [format!("/user/{encoded}x/"), format!("/user/x{encoded}/")] {
            assert_eq!(proxy.through(&other).landed(), Some(root.port), "{other}");
        }
    }
    let answer = proxy.get("").json();
    for (name, echo) in &servers {
        assert_eq!(
            answer[format!("/user/{name}")]["target"],
            echo.url(),
            "{name}"
        );
        let path = format!("/user/{}", quoted(name, "@~-_."));
        assert_eq!(proxy.rest("DELETE", &path, "").status, 204, "{name}");
        let landed = proxy.through(&format!("{path}/x")).landed();
        assert_eq!(landed, Some(root.port), "{name} is deleted");
    }
}

#[test]
fn path_begins_with_the_host() {
    let proxy = Proxy::start(&["--host-routing"]);
    let [root, hub, user] = [(); 3].map(|()| Echo::start());
    proxy.add("", &root.url());
    proxy.add("/hub.example.org", &hub.url());
    proxy.add("/zoe.example.org/user/zoe", &user.url());
    let landed = |host, path| kit::client::get(proxy.port, host, path).landed();
    assert_eq!(landed("hub.example.org:8000", "/hub/home"), Some(hub.port));
    assert_eq!(landed("zoe.example.org", "/user/zoe/lab"), Some(user.port));
    assert_eq!(landed("zoe.example.org", "/other"), Some(root.port));
    assert_eq!(
        landed("other.example.org", "/user/zoe/lab"),
        Some(root.port)
    );
    let routes = proxy.get("").json();
    let keys: Vec<_> = routes.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["/", "/hub.example.org", "/zoe.example.org/user/zoe"]);
    assert_eq!(proxy.rest("DELETE", "/hub.example.org", "").status, 204);
    assert_eq!(landed("hub.example.org", "/hub/home"), Some(root.port));
}

/// JupyterHub's `extra_routes` with a host before a path that begins with a slash.
#[test]
fn host_and_path_are_joined() {
    let proxy = Proxy::start(&["--host-routing"]);
    let (root, echo) = (Echo::start(), Echo::start());
    proxy.add("", &root.url());
    let posted = "/example.com//has%20space/@";
    proxy.add(posted, &echo.url());
    let landed = |path| kit::client::get(proxy.port, "example.com", path).landed();
    assert_eq!(landed("/has%20space/@/x"), Some(echo.port));
    assert_eq!(landed("/has%20space/%40"), Some(echo.port));
    assert_eq!(landed("/other"), Some(root.port));
    let routes = proxy.get("").json();
    let keys: Vec<_> = routes.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["/", "/example.com//has space/@"]);
    let answer = proxy.get(posted).json();
    let answer: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(answer, ["host", "last_activity", "target"]);
    assert_eq!(proxy.rest("DELETE", posted, "").status, 204);
    assert_eq!(landed("/has%20space/@/x"), Some(root.port));
    // It is the same route.
    proxy.add("/example.com/has%20space/@", &echo.url());
    assert_eq!(proxy.get(posted).status, 200);
    let routes = proxy.get("").json();
    assert!(routes.get("/example.com/has space/@").is_some(), "{routes}");
}

#[test]
fn semicolon_stays_in_query_value() {
    let proxy = Proxy::start(&[]);
    let root = Echo::start();
    proxy.add("", &root.url());
    let answer = proxy.through("/x?a=1;b=2").echo();
    assert!(answer.to_string().contains("/x?a=1%3Bb=2"), "{answer}");
}
