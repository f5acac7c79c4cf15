//! Any answer of an etcd, to every kind of request: a value or an error, in bounded time.

#![no_main]

use std::time::Duration;

use fuzz::answers;
use libfuzzer_sys::fuzz_target;
use traefik_router::etcd::{Client, Op, Range, Txn, WatchRange};
use traefik_router::{Backend as _, Etcd, KvBackend};

const WAIT: Duration = Duration::from_millis(20);

fuzz_target!(|input: (u8, u8, bool, &[u8])| {
    let (call, status, user, body) = input;
    let status = [200, 200, 200, 400, 401, 403, 412, 429, 500, 503][usize::from(status) % 10];
    let url = answers(status, "", body);
    let client = Client::new([&url]).expect("a URL").timeout(WAIT);
    let client = if user { client.user("u", "p") } else { client };
    match call % 10 {
        0 => drop(client.get("k")),
        1 => drop(client.get_prefix("k")),
        2 => drop(client.put("k", "v")),
        3 => drop(client.delete("k")),
        4 => drop(client.status()),
        5 => drop(client.lease_grant(WAIT)),
        6 => drop(client.lease_keep_alive(1)),
        7 => drop(client.txn(&transaction())),
        8 => watch(&client),
        _ => table(&url),
    }
});

fn transaction() -> Txn {
    let range = Op::range(Range::prefix("k"));
    let inner = Txn::new([Op::put("k", "v"), Op::delete("l")]).or_else([range.clone()]);
    Txn::new([range, Op::txn(inner)])
}

fn watch(client: &Client) {
    if let Ok(mut watch) = client.watch(WatchRange::prefix("k")) {
        for _ in 0..8 {
            if !matches!(watch.next(Duration::ZERO), Ok(Some(_))) {
                break;
            }
        }
    }
}

/// The same answers as a table's keys.
fn table(url: &str) {
    let etcd = Etcd::new([url]).expect("a URL").timeout(WAIT);
    let backend = KvBackend::new(etcd);
    drop(backend.read());
    drop(backend.inspect());
}
