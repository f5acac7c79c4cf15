//! Users of an etcd, their permissions and their tokens.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::raw;

/// A kind of permission, and the keys that it is for: from the first on, up to the second.
pub type Grant = (&'static str, &'static str, &'static str);

/// Adds a user with the password `pw-NAME` and a role of the same name.
pub fn add_user(url: &str, name: &str, grants: &[Grant]) {
    let post = |path: &str, body: Value| raw(url, path, body, None);
    let user = json!({"name": name, "password": format!("pw-{name}")});
    post("/v3/auth/user/add", user);
    post("/v3/auth/role/add", json!({"name": name}));
    post("/v3/auth/user/grant", json!({"user": name, "role": name}));
    for (kind, from, to) in grants {
        let [from, to] = [from, to].map(|key| STANDARD.encode(key));
        let permission = json!({"permType": kind, "key": from, "range_end": to});
        let body = json!({"name": name, "perm": permission});
        post("/v3/auth/role/grant", body);
    }
}

/// Turns authentication on: `root`, and `reader` with the role to read `open/`.
pub fn enable_auth(url: &str) {
    add_user(url, "root", &[]);
    add_user(url, "reader", &[("READ", "open/", "open0")]);
    raw(url, "/v3/auth/enable", json!({}), None);
}

/// Makes etcd forget the tokens of these users: a new password does, even if it is the old one. (A
/// restart need not: replaying the log brings them back.)
pub fn forget_tokens(url: &str, users: &[&str]) {
    let root = json!({"name": "root", "password": "pw-root"});
    let login = raw(url, "/v3/auth/authenticate", root, None);
    for user in users {
        let body = json!({"name": user, "password": format!("pw-{user}")});
        raw(url, "/v3/auth/user/changepw", body, login["token"].as_str());
    }
}
